package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"snapfs/snapshot/snapshottest"
	"snapfs/store"
)

// forger writes pages whose parts do not fit together.
type forger struct {
	t     *testing.T
	blobs *snapshottest.Blobs
}

func (f forger) put(p *page) store.ID {
	f.t.Helper()
	id, err := f.blobs.Put(context.Background(), store.KindNode, reencode(f.t, p, 0))
	if err != nil {
		f.t.Fatal(err)
	}
	return id
}

func (f forger) leaf(names ...string) store.ID {
	p := &page{kind: pageDirectory, before: make([]uint64, len(names))}
	for _, name := range names {
		p.entries = append(p.entries, Entry{Name: name, Type: TypeFile})
	}
	return f.put(p)
}

func (f forger) branches(level int, list ...branch) store.ID {
	return f.put(&page{kind: pageDirectory, level: level, branches: list, before: make([]uint64, len(list))})
}

func below(first string, id store.ID, entries uint64) branch {
	return branch{key{name: first}, id, sums{Totals: Totals{Entries: entries}}}
}

func TestHostileDirectories(t *testing.T) {
	ctx := context.Background()
	f := forger{t, snapshottest.New()}
	leaf := f.leaf("a", "b")
	for name, c := range map[string]struct {
		root    store.ID
		entries uint64
	}{
		"missing page":             {store.ID{1}, 2},
		"more entries than stated": {leaf, 1},
		"fewer entries":            {leaf, 3},
		"names out of order":       {f.leaf("b", "a"), 2},
		"a name twice":             {f.leaf("a", "a"), 2},
		"name with a slash":        {f.leaf("a", "b/c"), 2},
		"name of the parent":       {f.leaf("..", "a"), 2},
		"level with lies":          {f.branches(1, below("a", leaf, 3)), 3},
		"level skipped":            {f.branches(2, below("a", leaf, 2)), 2},
		"other first name":         {f.branches(1, below("A", leaf, 2)), 2},
		"overlapping pages":        {f.branches(1, below("a", leaf, 2), below("b", f.leaf("b", "c"), 2)), 4},
		"unordered pages":          {f.branches(1, below("b", f.leaf("b"), 1), below("a", f.leaf("a"), 1)), 2},
		"level too high":           {f.branches(9, below("a", leaf, 2)), 2},
		"too many below":           {f.branches(1, below("a", leaf, 1<<31)), 1 << 20},
		"page of content":          {f.put(&page{kind: pageContent, items: []Item{{Length: 1}}, before: make([]uint64, 1)}), 1},
		"page of links":            {f.put(&page{kind: pageLinks, entries: []Entry{{Type: TypeFile, Nlink: 2}}, before: make([]uint64, 1)}), 1},
	} {
		tree := open(t, f.blobs, Manifest{Root: Entry{Type: TypeDir, Dir: c.root, Totals: Totals{Entries: c.entries}}})
		n := 0
		if err := tree.List(ctx, tree.Root(), 0, func(Found) bool { n++; return true }); !isNode(err, store.KindNode) {
			t.Errorf("%s: listed %d entries, error %v", name, n, err)
		}
		for position := range uint32(c.entries + 2) {
			if position > 5 {
				break
			}
			if e, err := tree.At(ctx, position); err == nil && position > 0 && e.Position != position {
				t.Errorf("%s: at %d: %d", name, position, e.Position)
			}
		}
		if _, err := tree.Lookup(ctx, tree.Root(), "x"); err == nil {
			t.Errorf("%s: found what is not there", name)
		}
		err := DiffDirs(ctx, tree, tree.Root(), tree, tree.Root(), func(Totals) bool { return false }, func(Found, Found) error { return nil })
		if err == nil {
			t.Errorf("%s: compared", name)
		}
	}
}

// selfish answers every question with the same bytes, as no honest store does.
type selfish struct {
	snapshottest.Blobs
	data []byte
}

func (s *selfish) Get(context.Context, store.Kind, store.ID) ([]byte, error) { return s.data, nil }

func TestDirectoryInItself(t *testing.T) {
	ctx := context.Background()
	f := forger{t, snapshottest.New()}
	for _, totals := range []uint64{1, 2, 1 << 30} {
		id := f.put(&page{kind: pageDirectory, entries: []Entry{{Name: "a", Type: TypeDir, Dir: store.ID{1}, Totals: Totals{Entries: totals}}}, before: make([]uint64, 1)})
		data, err := f.blobs.Get(ctx, store.KindNode, id)
		if err != nil {
			t.Fatal(err)
		}
		tree := open(t, f.blobs, Manifest{Root: Entry{Type: TypeDir, Dir: id, Totals: Totals{Entries: totals + 1}}})
		tree.src = &selfish{data: data}
		if _, err := tree.At(ctx, uint32(totals+1)); err == nil {
			t.Errorf("totals %d: found an end", totals)
		}
		if _, err := tree.Walk(ctx, "a/a/a"); err == nil {
			t.Errorf("totals %d: walked in circles", totals)
		}
	}
}

func TestHostileContent(t *testing.T) {
	ctx := context.Background()
	f := forger{t, snapshottest.New()}
	items := func(list ...Item) store.ID {
		return f.put(&page{kind: pageContent, items: list, before: make([]uint64, len(list))})
	}
	chunk, _ := f.blobs.Put(ctx, store.KindChunk, []byte("four"))
	for name, e := range map[string]Entry{
		"missing chunk":       {Size: 4, Content: Content{Items: []Item{{store.ID{1}, 4}}}},
		"chunk of other size": {Size: 5, Content: Content{Items: []Item{{chunk, 5}}}},
		"shorter than stated": {Size: 5, Content: Content{Items: []Item{{chunk, 4}}}},
		"no content":          {Size: 5},
		"missing list":        {Size: 4, Content: Content{List: store.ID{1}}},
		"list of other size":  {Size: 5, Content: Content{List: items(Item{chunk, 4})}},
		"list of other holes": {Size: 4, Content: Content{List: items(Item{Length: 4}), Holes: 3}},
		"two holes":           {Size: 2, Content: Content{List: items(Item{Length: 1}, Item{Length: 1})}},
		"directory as a list": {Size: 1, Content: Content{List: f.leaf("a")}},
		"level with lies": {Size: 5, Content: Content{List: f.put(&page{kind: pageContent, level: 1, before: make([]uint64, 1),
			branches: []branch{{id: items(Item{chunk, 4}), sum: sums{Totals: Totals{Bytes: 5}}}}})}},
	} {
		e.Type = TypeFile
		tree := open(t, f.blobs, Manifest{Root: Entry{Type: TypeDir}})
		n, err := tree.ReadAt(ctx, &e, make([]byte, e.Size), 0)
		if err == nil || !errors.Is(err, ErrMalformed) && !isNode(err, store.KindChunk) && !isNode(err, store.KindNode) {
			t.Errorf("%s: read %d bytes, %v", name, n, err)
		}
	}
}

func TestHostileLinks(t *testing.T) {
	ctx := context.Background()
	f := forger{t, snapshottest.New()}
	record := func(fs uint32, inode uint64, typ Type, nlink uint32) Entry {
		return Entry{FS: fs, Inode: inode, Type: typ, Nlink: nlink}
	}
	name := Found{Entry: &Entry{Name: "n", Type: TypeFile, Linked: true, FS: 1, Inode: 5}}
	for what, records := range map[string][]Entry{
		"absent":       {record(1, 4, TypeFile, 2)},
		"other type":   {record(1, 5, TypeFIFO, 2)},
		"no names":     {record(1, 5, TypeFile, 0)},
		"out of order": {record(1, 5, TypeFile, 2), record(0, 9, TypeFile, 2)},
	} {
		m := Manifest{Root: Entry{Type: TypeDir}, Links: uint64(len(records))}
		m.LinkTree = f.put(&page{kind: pageLinks, entries: records, before: make([]uint64, len(records))})
		if _, err := open(t, f.blobs, m).Follow(ctx, name); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := open(t, f.blobs, Manifest{Root: Entry{Type: TypeDir}}).Follow(ctx, name); !errors.Is(err, ErrMalformed) {
		t.Errorf("no link tree: %v", err)
	}
	m := Manifest{Root: Entry{Type: TypeDir}, Links: 2}
	m.LinkTree = f.put(&page{kind: pageLinks, entries: []Entry{record(1, 5, TypeFile, 2)}, before: make([]uint64, 1)})
	if _, err := open(t, f.blobs, m).At(ctx, LinkBit|1); !isNode(err, store.KindNode) {
		t.Errorf("fewer records than stated: %v", err)
	}
}

func TestErrorsOfLooking(t *testing.T) {
	ctx := context.Background()
	b := snapshottest.New()
	tree := open(t, b, Manifest{Root: build(t, b, dirModel{"f": file(1), "d": dirModel{}}, 0)})
	for path, want := range map[string]error{"x": fs.ErrNotExist, "d/x": fs.ErrNotExist, "f/x": syscall.ENOTDIR, "..": fs.ErrNotExist} {
		_, err := tree.Walk(ctx, path)
		var located *PathError
		if !errors.Is(err, want) || !errors.As(err, &located) || located.Path != path {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, path := range []string{"", "/", ".", "/./", "//"} {
		if f, err := tree.Walk(ctx, path); err != nil || f.Position != 0 {
			t.Errorf("%q: %v", path, err)
		}
	}
	if _, err := tree.At(ctx, 3); !errors.Is(err, ErrNoPosition) {
		t.Errorf("beyond the last: %v", err)
	}
	file, err := tree.Walk(ctx, "f")
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.List(ctx, file, 0, func(Found) bool { return true }); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("listing a file: %v", err)
	}
	if p, err := tree.PathAt(ctx, 0); err != nil || p != "/" {
		t.Errorf("path of the root: %q, %v", p, err)
	}
}

func TestPagesAreSkipped(t *testing.T) {
	ctx := context.Background()
	m := dirModel{}
	for i := range 3000 {
		m[fmt.Sprintf("n%05d", i)] = file(i)
	}
	b := snapshottest.New()
	tree := open(t, b, Manifest{Root: build(t, b, m, 0)})
	seen := map[store.ID]bool{}
	var whole, again int
	enter := func(id store.ID, _ Totals) bool {
		known := seen[id]
		seen[id] = true
		return !known
	}
	if err := tree.Pages(ctx, tree.Root(), enter, func(Found) bool { whole++; return true }); err != nil || whole != 3000 {
		t.Fatalf("%d entries, %v", whole, err)
	}
	m["n00100"] = file(1 << 20)
	edited := open(t, b, Manifest{Root: build(t, b, m, 0)})
	if err := edited.Pages(ctx, edited.Root(), enter, func(Found) bool { again++; return true }); err != nil || again == 0 || again > maxPage {
		t.Fatalf("%d entries after one change, %v", again, err)
	}
	if err := edited.Pages(ctx, edited.Root(), enter, func(Found) bool { t.Error("seen before"); return true }); err != nil {
		t.Fatal(err)
	}
}
