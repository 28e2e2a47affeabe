package snapshot

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"snapfs/store"
)

// named is a blob as something names it.
type named struct {
	kind store.Kind
	id   store.ID
}

func referencesOf(kind store.Kind, data []byte) (list []named, err error) {
	err = References(kind, data, func(k store.Kind, id store.ID) { list = append(list, named{k, id}) })
	slices.SortFunc(list, func(a, b named) int {
		return strings.Compare(string(a.kind)+string(a.id[:]), string(b.kind)+string(b.id[:]))
	})
	return slices.Compact(list), err
}

// decodedReferences are the references of a page as its full decoding shows them.
func decodedReferences(p *page) (list []named) {
	visit := func(k store.Kind, id store.ID) {
		if !id.IsZero() {
			list = append(list, named{k, id})
		}
	}
	for i := range p.branches {
		visit(store.KindNode, p.branches[i].id)
	}
	for _, it := range p.items {
		visit(store.KindChunk, it.ID)
	}
	for i := range p.entries {
		entryReferencesOf(&p.entries[i], visit)
	}
	slices.SortFunc(list, func(a, b named) int {
		return strings.Compare(string(a.kind)+string(a.id[:]), string(b.kind)+string(b.id[:]))
	})
	return slices.Compact(list)
}

func TestReferencesOfPages(t *testing.T) {
	record := Entry{Type: TypeFile, Nlink: 2, Inode: 5, Size: 3, Content: Content{Items: []Item{{ID: store.ID{8}, Length: 3}}}, XattrsID: store.ID{4}}
	for name, p := range map[string]*page{
		"directory": {kind: pageDirectory, entries: samples(), before: make([]uint64, len(samples()))},
		"links":     {kind: pageLinks, entries: []Entry{record}, before: make([]uint64, 1)},
		"content":   {kind: pageContent, items: []Item{{ID: store.ID{1}, Length: 4}, {Length: 9}, {ID: store.ID{2}, Length: 1}}, before: make([]uint64, 3)},
		"level":     {kind: pageDirectory, level: 1, branches: []branch{below("a", store.ID{1}, 2), below("b", store.ID{2}, 1)}, before: make([]uint64, 2)},
	} {
		got, err := referencesOf(store.KindNode, reencode(t, p, 0))
		if want := decodedReferences(p); err != nil || !slices.Equal(got, want) || len(want) == 0 {
			t.Errorf("%s: %v, %v, want %v", name, got, err, want)
		}
	}
}

func TestReferencesOfManifests(t *testing.T) {
	m := Manifest{
		Dataset: "d", Parent: store.ID{99}, OriginSnapshot: store.ID{98}, LinkTree: store.ID{1}, Links: 1,
		Root:  Entry{Type: TypeDir, Dir: store.ID{2}, Totals: Totals{Entries: 1}, XattrsID: store.ID{3}},
		Above: []Entry{{Name: "/", Type: TypeDir, XattrsID: store.ID{4}}},
	}
	got, err := referencesOf(store.KindManifest, m.encode())
	want := []named{{store.KindNode, store.ID{1}}, {store.KindNode, store.ID{2}}, {store.KindXattrs, store.ID{3}}, {store.KindXattrs, store.ID{4}}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}

func TestReferencesOfOthers(t *testing.T) {
	for _, kind := range []store.Kind{store.KindChunk, store.KindXattrs} {
		if got, err := referencesOf(kind, []byte("anything")); err != nil || len(got) > 0 {
			t.Errorf("kind %d: %v, %v", kind, got, err)
		}
	}
	for _, data := range []string{"", "\x00", "anything", "\x04\x01"} {
		for _, kind := range []store.Kind{store.KindNode, 77} {
			if _, err := referencesOf(kind, []byte(data)); !errors.Is(err, ErrMalformed) {
				t.Errorf("kind %d of %q: %v", kind, data, err)
			}
		}
	}
}

// FuzzReferences: what decodes as a page gives the references that its decoding shows; nothing panics.
func FuzzReferences(f *testing.F) {
	f.Add(reencode(f, &page{kind: pageDirectory, entries: samples(), before: make([]uint64, len(samples()))}, 0))
	f.Add(reencode(f, &page{kind: pageContent, items: []Item{{ID: store.ID{1}, Length: 4}}, before: make([]uint64, 1)}, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := referencesOf(store.KindNode, data)
		_, _ = referencesOf(store.KindManifest, data)
		for _, kind := range []pageKind{pageDirectory, pageContent, pageLinks} {
			p, decodeErr := decodePage(data, kind, 0)
			if decodeErr != nil {
				continue
			}
			if want := decodedReferences(p); err != nil || !slices.Equal(got, want) {
				t.Errorf("%v, %v, want %v", got, err, want)
			}
		}
	})
}
