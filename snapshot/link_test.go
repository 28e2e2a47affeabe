package snapshot

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"testing"

	"snapfs/snapshot/snapshottest"
)

// linked makes a snapshot whose root has names for records, and returns the records by key.
func linkedTree(t *testing.T, w *LinkWriter, b *snapshottest.Blobs, inodes, names int) (*Tree, map[linkKey]Entry) {
	t.Helper()
	ctx := context.Background()
	r := rand.New(rand.NewPCG(5, 6))
	want := map[linkKey]Entry{}
	m := dirModel{}
	var bytes uint64
	for i := range names {
		k := linkKey{uint32(r.IntN(3)), uint64(r.IntN(inodes))*7 + 1}
		e := Entry{Type: TypeFile, FS: k.fs, Inode: k.inode, Size: int64(k.inode % 1000), Mode: 0o600, User: fmt.Sprint(k.inode % 5), Mtime: Time{-int64(k.inode), 1}}
		_, known := want[k]
		if first := w.Name(k.fs, k.inode); first == known {
			t.Fatalf("name %d of %v: first is %v", i, k, first)
		}
		if !known {
			e.Name = "ignored"
			if err := w.Set(&e); err != nil {
				t.Fatal(err)
			}
			e.Name = ""
		}
		e.Nlink = want[k].Nlink + 1
		want[k] = e
		bytes += uint64(e.Size)
		m[fmt.Sprintf("n%d", i)] = Entry{Type: TypeFile, Linked: true, FS: k.fs, Inode: k.inode}
	}
	root, records, sum, err := w.Finish(ctx, b)
	if err != nil || records != uint64(len(want)) || sum != bytes {
		t.Fatalf("%d records, %d bytes, %v; want %d, %d", records, sum, err, len(want), bytes)
	}
	tree := open(t, b, Manifest{Root: buildAsIs(t, b, m), LinkTree: root, Links: records})
	if tree.Root().Totals.Linked != uint64(names) {
		t.Fatalf("%d linked names, want %d", tree.Root().Totals.Linked, names)
	}
	return tree, want
}

func TestLinks(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct{ inodes, names, budget int }{
		"one":              {1, 1, 1000},
		"one, many names":  {1, 10_000, 1 << 20},
		"many":             {3000, 20_000, 1 << 20},
		"many and spilled": {3000, 20_000, 500},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			w := NewLinkWriter(testKey, dir)
			w.namesBudget, w.recordsBudget = c.budget, c.budget*40
			b := snapshottest.New()
			tree, want := linkedTree(t, w, b, c.inodes, c.names)
			if left, _ := os.ReadDir(dir); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
			rank := uint32(0)
			var last linkKey
			err := tree.Links(ctx, func(f Found) bool {
				k := linkKey{f.FS, f.Inode}
				if w := want[k]; f.Position != LinkBit|rank || rank > 0 && last.compare(k) >= 0 || !reflect.DeepEqual(*f.Entry, w) {
					t.Fatalf("record %d: %+v at %#x, want %+v", rank, *f.Entry, f.Position, w)
				}
				if at, err := tree.At(ctx, f.Position); err != nil || at.Entry.Inode != k.inode || at.Position != f.Position {
					t.Fatalf("at %#x: %v, %v", f.Position, at, err)
				}
				last = k
				rank++
				return true
			})
			if err != nil || int(rank) != len(want) {
				t.Fatalf("%d records, %v", rank, err)
			}
			err = tree.List(ctx, tree.Root(), 0, func(f Found) bool {
				got, err := tree.Follow(ctx, f)
				w := want[linkKey{f.FS, f.Inode}]
				w.Name = f.Name
				if err != nil || !reflect.DeepEqual(*got.Entry, w) {
					t.Fatalf("%q: %+v, %v; want %+v", f.Name, got.Entry, err, w)
				}
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tree.At(ctx, LinkBit|rank); !errors.Is(err, ErrNoPosition) {
				t.Errorf("beyond the last record: %v", err)
			}
			again, _, _, err := w.Finish(ctx, b)
			if err != nil || again != tree.LinkTree() {
				t.Errorf("finished again: %v, %v", again, err)
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLinksMissing(t *testing.T) {
	ctx := context.Background()
	b := snapshottest.New()
	w := NewLinkWriter(testKey, t.TempDir())
	defer w.Close()
	if root, n, _, err := w.Finish(ctx, b); err != nil || n != 0 || !root.IsZero() {
		t.Fatalf("empty tree: %v, %d, %v", root, n, err)
	}
	w.Name(1, 2)
	if _, _, _, err := w.Finish(ctx, b); !errors.Is(err, ErrEntry) {
		t.Errorf("names without a record: %v", err)
	}
	if err := w.Set(&Entry{Type: TypeFile, FS: 1, Inode: 2, Size: 1}); err != nil {
		t.Fatal(err)
	}
	if err := w.Set(&Entry{Type: TypeFile, FS: 1, Inode: 2, Size: 9}); err != nil {
		t.Fatal(err)
	}
	if _, n, bytes, err := w.Finish(ctx, b); err != nil || n != 1 || bytes != 9 {
		t.Errorf("%d records, %d bytes, %v", n, bytes, err)
	}
	if err := w.Set(&Entry{Type: TypeFile, FS: 1, Inode: 3}); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := w.Finish(ctx, b); !errors.Is(err, ErrEntry) {
		t.Errorf("record without names: %v", err)
	}
	if err := w.Set(&Entry{Type: TypeDir}); !errors.Is(err, ErrEntry) {
		t.Errorf("linked directory: %v", err)
	}
}

func TestMillionLinkedInodes(t *testing.T) {
	if testing.Short() {
		t.Skip("a million records")
	}
	w := NewLinkWriter(testKey, t.TempDir())
	defer w.Close()
	const n = 1_000_000
	for i := range uint64(n) {
		inode := i * 2654435761 % n // any order
		if !w.Name(0, inode) {
			t.Fatalf("inode %d is known already", inode)
		}
		if err := w.Set(&Entry{Type: TypeFile, Inode: inode, Size: 3}); err != nil {
			t.Fatal(err)
		}
	}
	for inode := range uint64(1000) {
		if w.Name(0, inode) {
			t.Fatalf("inode %d is not known", inode)
		}
	}
	_, records, bytes, err := w.Finish(context.Background(), snapshottest.New())
	if err != nil || records != n || bytes != 3*n+3000 {
		t.Fatalf("%d records, %d bytes, %v", records, bytes, err)
	}
}

func TestLinksDropped(t *testing.T) {
	ctx := context.Background()
	for _, budget := range []int{1, 3, 1000} {
		r := rand.New(rand.NewPCG(11, 12))
		w := NewLinkWriter(testKey, t.TempDir())
		defer w.Close()
		w.namesBudget, w.recordsBudget = budget, budget*50
		want := map[uint64]uint32{}
		for range 3000 {
			inode := uint64(r.IntN(40))
			if r.IntN(10) == 0 {
				w.Drop(0, inode)
				delete(want, inode)
				continue
			}
			if first := w.Name(0, inode); first != (want[inode] == 0) {
				t.Fatalf("budget %d: inode %d is first: %v", budget, inode, first)
			} else if first {
				if err := w.Set(&Entry{Type: TypeFile, Inode: inode}); err != nil {
					t.Fatal(err)
				}
			}
			want[inode]++
		}
		b := snapshottest.New()
		root, records, _, err := w.Finish(ctx, b)
		if err != nil || int(records) != len(want) {
			t.Fatalf("budget %d: %d records, %v; want %d", budget, records, err, len(want))
		}
		tree := open(t, b, Manifest{Root: Entry{Type: TypeDir}, LinkTree: root, Links: records})
		if err := tree.Links(ctx, func(f Found) bool {
			if f.Nlink != want[f.Inode] {
				t.Errorf("budget %d: inode %d has %d names, want %d", budget, f.Inode, f.Nlink, want[f.Inode])
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
	}
}
