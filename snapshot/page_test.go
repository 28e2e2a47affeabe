package snapshot

import (
	"bytes"
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"snapfs/snapshot/snapshottest"
	"snapfs/store"
)

var update = flag.Bool("update", false, "write the frozen encodings anew; only for a format that was never released")

// frozenSamples are encodings that must never change.
func frozenSamples(t testing.TB) map[string][]byte {
	ctx := context.Background()
	var dir, content, links kept
	writeDir(t, &dir, 2, samples())
	c := NewContentWriter(&content, testKey)
	for i := range 6 {
		it := Item{Length: int64(i) + 1}
		if i%3 != 1 {
			it.ID = store.ID{byte(i + 1)}
		}
		if err := c.Add(ctx, it); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Finish(ctx); err != nil {
		t.Fatal(err)
	}
	w := NewLinkWriter(testKey, "")
	defer w.Close()
	for i, e := range samples() {
		if e.Type == TypeDir || e.Linked {
			continue
		}
		e.Inode = uint64(100 - i)
		w.Name(e.FS, e.Inode)
		w.Name(e.FS, e.Inode)
		if err := w.Set(&e); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, _, err := w.Finish(ctx, &links); err != nil {
		t.Fatal(err)
	}
	var xattrs kept
	if err := WriteXattrs(ctx, &xattrs, new(Entry), []Xattr{{"user.b", make([]byte, 1020)}, {"user.a", []byte{1}}}); err != nil {
		t.Fatal(err)
	}
	branches := func(kind pageKind, list ...branch) []byte {
		return reencode(t, &page{kind: kind, level: 1, branches: list, before: make([]uint64, len(list))}, 0)
	}
	return map[string][]byte{
		"directory": dir.data, "content": content.data, "links": links.data, "xattrs": xattrs.data,
		"directory-level": branches(pageDirectory, branch{key{name: "a"}, store.ID{1}, sums{Totals{3, 4, 1}, 0}}, branch{key{name: "b\xff"}, store.ID{2}, sums{Totals{1, 0, 0}, 0}}),
		"content-level":   branches(pageContent, branch{key{}, store.ID{1}, sums{Totals{0, 400, 0}, 100}}, branch{key{}, store.ID{2}, sums{Totals{0, 4, 0}, 0}}),
		"links-level":     branches(pageLinks, branch{key{inode: 5}, store.ID{1}, sums{Totals{70, 400, 0}, 0}}, branch{key{fs: 1, inode: 2}, store.ID{2}, sums{Totals{1, 4, 0}, 0}}),
		"manifest":        sampleManifest().encode(), "summary": sampleSummary().Encode(),
	}
}

// redecode decodes one of frozenSamples and encodes it again.
func redecode(t testing.TB, name string, data []byte, fs uint32) (again []byte, skipped bool, err error) {
	kind := map[string]pageKind{"directory": pageDirectory, "content": pageContent, "links": pageLinks}[strings.TrimSuffix(name, "-level")]
	switch name {
	case "manifest":
		m, skipped, err := decodeManifest(data)
		if err != nil {
			return nil, false, err
		}
		return m.encode(), skipped, nil
	case "summary":
		s, skipped, err := decodeSummary(data)
		if err != nil {
			return nil, false, err
		}
		return s.Encode(), skipped, nil
	case "xattrs":
		set, skipped, err := decodeXattrsBlob(data)
		if err != nil {
			return nil, false, err
		}
		f := store.AppendFields(nil)
		f.Bytes(xattrsList, appendXattrs(nil, set))
		return f.Encoded(), skipped, nil
	}
	p, err := decodePage(data, kind, fs)
	if err != nil {
		return nil, false, err
	}
	return reencode(t, p, fs), p.skipped, nil
}

func TestFrozenEncodings(t *testing.T) {
	for name, data := range frozenSamples(t) {
		file := filepath.Join("testdata", "frozen", name+".hex")
		if *update {
			if err := os.WriteFile(file, []byte(hex.EncodeToString(data)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		frozen, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(name, err)
		}
		if !bytes.Equal(frozen, data) {
			t.Errorf("%s: encoded\n%x, frozen\n%x", name, data, frozen)
		}
		if again, skipped, err := redecode(t, name, frozen, 2); err != nil || skipped || !bytes.Equal(again, frozen) {
			t.Errorf("%s: decoded and encoded again: %v\n%x", name, err, again)
		}
	}
}

// The cut rule must never change either: the same names would give other pages.
func TestFrozenCuts(t *testing.T) {
	b := snapshottest.New()
	const names = 20_000
	tree := largeDir(t, b, names)
	w := NewContentWriter(b, testKey)
	for i := range names {
		if err := w.Add(context.Background(), Item{store.ID{byte(i), byte(i >> 8), 1}, 7}); err != nil {
			t.Fatal(err)
		}
	}
	c, err := w.Finish(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(tree.Root().Dir, " ", c.List)
	const want = "f5e6e1f5fe5a7a140921550bcf17ae2780ce115e70fba32992215124e3c688ba 814193f2c735a2fa2ccbe90cfffcdff76ab529871e19e2bb6edb5f1afc3dac69"
	if got != want {
		t.Errorf("roots %s, want %s", got, want)
	}
}

// pagesOf lists the pages of a directory and how many records each has.
func pagesOf(t testing.TB, tree *Tree) map[store.ID]int {
	t.Helper()
	pages := map[store.ID]int{}
	var visit func(r ref)
	visit = func(r ref) {
		p, err := tree.page(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		pages[r.id] = p.len()
		for _, b := range p.branches {
			visit(ref{id: b.id, kind: p.kind, level: p.level - 1, sum: b.sum})
		}
	}
	visit(dirRef(tree.Root().Entry))
	return pages
}

// Pages are a function of the names alone, and an edit changes few of them.
func TestPagesLocal(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	m := dirModel{}
	for len(m) < 30_000 {
		m[fmt.Sprintf("%x", r.Uint64())] = file(r.IntN(100))
	}
	b := snapshottest.New()
	before := pagesOf(t, open(t, b, Manifest{Root: build(t, b, m, 0)}))
	total := 0
	for id, n := range before {
		if n > maxPage {
			t.Errorf("page %v has %d records", id, n)
		}
		total += n
	}
	t.Logf("%d pages, %d records on average", len(before), total/len(before))
	names := slices.Sorted(maps.Keys(m))
	worst, sum := 0, 0
	const rounds = 8
	for range rounds {
		edited := maps.Clone(m)
		if r.IntN(2) == 0 {
			delete(edited, names[r.IntN(len(names))])
		} else {
			edited[fmt.Sprintf("%x", r.Uint64())] = file(1)
		}
		changed := 0
		for id := range pagesOf(t, open(t, b, Manifest{Root: build(t, b, edited, 0)})) {
			if _, ok := before[id]; !ok {
				changed++
			}
		}
		worst, sum = max(worst, changed), sum+changed
	}
	t.Logf("an edit changes %.1f pages, %d at most", float64(sum)/rounds, worst)
	if worst > 12 || sum > 6*rounds {
		t.Errorf("an edit changes %d pages, up to %d", sum/rounds, worst)
	}
	other := maps.Clone(m)
	for name := range other {
		other[name] = Entry{Type: TypeSymlink, Target: strings.Repeat("x", r.IntN(200)), Size: 1}
		if r.IntN(100) > 0 {
			break // other sizes of entries must not move a cut
		}
	}
	if n := len(pagesOf(t, open(t, b, Manifest{Root: build(t, b, other, 0)}))); n != len(before) {
		t.Errorf("%d pages with other entries, %d before", n, len(before))
	}
}

func TestMillionEntries(t *testing.T) {
	if testing.Short() {
		t.Skip("a million entries")
	}
	ctx := context.Background()
	b := snapshottest.New()
	const n = 1_000_000
	tree := largeDir(t, b, n)
	if got := tree.Root().Totals.Entries; got != n {
		t.Fatalf("%d entries", got)
	}
	b.Gets = map[store.ID]int{}
	for _, i := range []int{0, 1, 499_999, n - 1} {
		tree.cache = NewCache(0)
		reads := len(b.Gets)
		name := fmt.Sprintf("libexample-%06d.so", i)
		f, err := tree.Lookup(ctx, tree.Root(), name)
		if err != nil || f.Position != uint32(i+1) {
			t.Fatalf("%s: %v at %d", name, err, f.Position)
		}
		if reads = len(b.Gets) - reads; reads > 4 {
			t.Errorf("looking up %s read %d pages", name, reads)
		}
		if at, err := tree.At(ctx, uint32(i+1)); err != nil || at.Name != name {
			t.Errorf("at %d: %v", i+1, err)
		}
	}
	count := 0
	if err := tree.List(ctx, tree.Root(), 0, func(Found) bool { count++; return true }); err != nil || count != n {
		t.Fatalf("%d listed, %v", count, err)
	}
	if used := tree.cache.used; used > defaultCache+1<<20 {
		t.Errorf("cache holds %d bytes", used)
	}
}

func FuzzDecode(f *testing.F) {
	names := []string{"content", "content-level", "directory", "directory-level", "links", "links-level", "manifest", "summary", "xattrs"}
	for name, data := range frozenSamples(f) {
		f.Add(uint8(slices.Index(names, name)), data)
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		name := names[int(which)%len(names)]
		again, skipped, err := redecode(t, name, data, 2)
		if err == nil && !skipped && !bytes.Equal(again, data) {
			t.Fatalf("%s: encoded again\n%x\n%x", name, again, data)
		}
	})
}
