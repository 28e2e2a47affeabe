package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"snapfs/snapshot/snapshottest"
	"snapfs/store"
)

var testKey = [32]byte{7}

// dirModel is a directory: names to entries, or to directories.
type dirModel map[string]any

// buildAsIs is build of a directory on file system 0 whose entries keep theirs.
func buildAsIs(t testing.TB, sink Sink, m dirModel) Entry { return buildWith(t, sink, m, 0, true) }

// build writes a model, all on one file system, and returns its entry.
func build(t testing.TB, sink Sink, m dirModel, fsIndex uint32) Entry {
	return buildWith(t, sink, m, fsIndex, false)
}

func buildWith(t testing.TB, sink Sink, m dirModel, fsIndex uint32, asIs bool) Entry {
	t.Helper()
	ctx := context.Background()
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	w := NewDirWriter(sink, testKey, fsIndex)
	for _, name := range names {
		var e Entry
		switch v := m[name].(type) {
		case Entry:
			e = v
			if !asIs {
				e.FS = fsIndex
			}
		case dirModel:
			e = buildWith(t, sink, v, fsIndex, asIs)
		}
		e.Name = name
		if err := w.Add(ctx, &e); err != nil {
			t.Fatal(err)
		}
	}
	id, totals, err := w.Finish(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return Entry{Type: TypeDir, Mode: 0o755, FS: fsIndex, Dir: id, Totals: totals}
}

// open makes a snapshot of a root entry.
func open(t testing.TB, b *snapshottest.Blobs, m Manifest) *Tree {
	t.Helper()
	ctx := context.Background()
	id, err := WriteManifest(ctx, b, &m)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := OpenTree(ctx, b, testKey, id, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func file(n int) Entry {
	return Entry{Type: TypeFile, Mode: 0o644, Inode: uint64(n) + 1, Size: int64(n), UID: uint32(n % 3), User: "u", Mtime: Time{int64(n), 5}}
}

func randomModel(r *rand.Rand, depth int) dirModel {
	m := dirModel{}
	n := []int{0, 1, 5, 70, 700, 3000}[r.IntN(6)]
	if depth == 0 {
		n = 900
	}
	for range n {
		name := fmt.Sprintf("%c%d", "abÿ\x01Z"[r.IntN(5)], r.IntN(1<<20))
		if depth < 2 && r.IntN(100) == 0 {
			m[name] = randomModel(r, depth+1)
		} else {
			m[name] = file(r.IntN(1000))
		}
	}
	return m
}

// number gives every path of a model its preorder rank.
func number(m dirModel, prefix string, next *uint32, out map[string]uint32) {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		out[prefix+"/"+name] = *next
		*next++
		if sub, ok := m[name].(dirModel); ok {
			number(sub, prefix+"/"+name, next, out)
		}
	}
}

func TestTreeAgainstModel(t *testing.T) {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(1, 2))
	for range 4 {
		m := randomModel(r, 0)
		b := snapshottest.New()
		tree := open(t, b, Manifest{Root: build(t, b, m, 3)})
		want := map[string]uint32{}
		next := uint32(1)
		number(m, "", &next, want)
		if n := tree.Root().Totals.Entries; n != uint64(next-1) {
			t.Fatalf("%d entries, want %d", n, next-1)
		}
		seen := 0
		var walk func(dir Found, path string)
		walk = func(dir Found, path string) {
			last := ""
			err := tree.List(ctx, dir, 0, func(f Found) bool {
				p := path + "/" + f.Name
				if want[p] != f.Position || f.Name <= last || f.FS != 3 {
					t.Fatalf("%s at %d on %d, want %d", p, f.Position, f.FS, want[p])
				}
				last = f.Name
				seen++
				if f.Type == TypeDir {
					walk(f, p)
				}
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		walk(tree.Root(), "")
		if seen != len(want) {
			t.Fatalf("listed %d of %d", seen, len(want))
		}
		for path, position := range want {
			if r.IntN(5) != 0 {
				continue
			}
			f, err := tree.Walk(ctx, path)
			if err != nil || f.Position != position {
				t.Fatalf("%s: %d, %v; want %d", path, f.Position, err, position)
			}
			at, err := tree.At(ctx, position)
			if err != nil || at.Name != f.Name || at.Position != position {
				t.Fatalf("at %d: %v, %v", position, at, err)
			}
			if p, err := tree.PathAt(ctx, position); err != nil || p != path {
				t.Fatalf("path at %d: %q, %v; want %q", position, p, err, path)
			}
			if _, err := tree.Walk(ctx, path+"\x00"); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("absent name: %v", err)
			}
		}
	}
}

func TestListFromAnywhere(t *testing.T) {
	ctx := context.Background()
	m := dirModel{}
	for i := range 5000 {
		m[fmt.Sprintf("n%05d", i*2)] = file(i)
	}
	m["n00100"] = dirModel{"x": file(1), "y": file(2)}
	b := snapshottest.New()
	tree := open(t, b, Manifest{Root: build(t, b, m, 0)})
	var all []Found
	collect := func(list *[]Found) func(Found) bool {
		return func(f Found) bool { *list = append(*list, f); return true }
	}
	if err := tree.List(ctx, tree.Root(), 0, collect(&all)); err != nil || len(all) != 5000 {
		t.Fatal(len(all), err)
	}
	for from := uint32(0); from < 5005; from += 7 {
		var got []Found
		if err := tree.List(ctx, tree.Root(), from, collect(&got)); err != nil {
			t.Fatal(err)
		}
		i, _ := slices.BinarySearchFunc(all, from, func(f Found, p uint32) int { return int(f.Position) - int(p) })
		if !slices.Equal(got, all[i:]) {
			t.Fatalf("from %d: %d entries, want %d", from, len(got), len(all)-i)
		}
	}
	for _, name := range []string{"", "a", "n00000", "n00001", "n04000", "n04001", "n09998", "n09999", "z"} {
		var got []Found
		if err := tree.ListFrom(ctx, tree.Root(), name, collect(&got)); err != nil {
			t.Fatal(err)
		}
		i, _ := slices.BinarySearchFunc(all, name, func(f Found, n string) int { return strings.Compare(f.Name, n) })
		if !slices.Equal(got, all[i:]) {
			t.Fatalf("from %q: %d entries, want %d", name, len(got), len(all)-i)
		}
	}
}

func TestContent(t *testing.T) {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{0, 1, 3, 4, 5, 64, 700, 5000} {
		b := snapshottest.New()
		w := NewContentWriter(b, testKey)
		var plain []byte
		var isHole []bool
		for range n {
			it := Item{Length: 1 + r.Int64N(20)}
			data := make([]byte, it.Length)
			if hole := r.IntN(4) == 0; !hole {
				for i := range data {
					data[i] = byte(1 + r.IntN(255))
				}
				it.ID, _ = b.Put(ctx, store.KindChunk, data)
			}
			plain = append(plain, data...)
			for range data {
				isHole = append(isHole, it.ID.IsZero())
			}
			if err := w.Add(ctx, it); err != nil {
				t.Fatal(err)
			}
		}
		c, err := w.Finish(ctx)
		if err != nil {
			t.Fatal(err)
		}
		e := Entry{Type: TypeFile, Size: int64(len(plain)), Content: c}
		if holes := count(isHole, true); !c.List.IsZero() && c.Holes != int64(holes) {
			t.Errorf("%d bytes of holes, want %d", c.Holes, holes)
		}
		tree := open(t, b, Manifest{Root: build(t, b, dirModel{"f": e}, 0)})
		f, err := tree.Walk(ctx, "f")
		if err != nil {
			t.Fatal(err)
		}
		readEverywhere(t, tree, f.Entry, plain, r)
		for range 200 {
			if len(plain) == 0 {
				break
			}
			off := r.IntN(len(plain))
			for _, hole := range []bool{false, true} {
				want := off
				for want < len(plain) && isHole[want] != hole {
					want++
				}
				next := tree.NextData
				if hole {
					next = tree.NextHole
				}
				got, err := next(ctx, f.Entry, int64(off))
				if want == len(plain) && !hole {
					if err != io.EOF {
						t.Fatalf("next data at %d: %d, %v; want EOF", off, got, err)
					}
				} else if err != nil || got != int64(want) {
					t.Fatalf("next (hole %v) at %d: %d, %v; want %d", hole, off, got, err, want)
				}
			}
		}
		if _, err := tree.NextHole(ctx, f.Entry, f.Size); err != io.EOF {
			t.Fatalf("hole beyond the end: %v", err)
		}
	}
}

func count(list []bool, v bool) (n int) {
	for _, x := range list {
		if x == v {
			n++
		}
	}
	return n
}

func readEverywhere(t *testing.T, tree *Tree, e *Entry, plain []byte, r *rand.Rand) {
	t.Helper()
	ctx := context.Background()
	for range 300 {
		off := r.IntN(len(plain) + 3)
		p := make([]byte, r.IntN(100))
		n, err := tree.ReadAt(ctx, e, p, int64(off))
		want := plain[min(off, len(plain)):min(off+len(p), len(plain))]
		if n != len(want) || string(p[:n]) != string(want) {
			t.Fatalf("read %d at %d: %d bytes, %v", len(p), off, n, err)
		}
		if eof := off >= len(plain) || off+len(p) > len(plain); eof != (err == io.EOF) {
			t.Fatalf("read %d at %d of %d: %v", len(p), off, len(plain), err)
		}
	}
	if _, err := tree.ReadAt(ctx, e, make([]byte, 1), -1); err != syscall.EINVAL {
		t.Fatalf("negative offset: %v", err)
	}
}
