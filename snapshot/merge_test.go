package snapshot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"snapfs/snapshot/snapshottest"
)

// merged is what DiffDirs told about a name.
type merged struct {
	name  string
	sides string
}

func runDiffDirs(t *testing.T, b *snapshottest.Blobs, x, y dirModel, skip bool) []merged {
	t.Helper()
	a, c := open(t, b, Manifest{Root: build(t, b, x, 0)}), open(t, b, Manifest{Root: build(t, b, y, 0)})
	var got []merged
	err := DiffDirs(context.Background(), a, a.Root(), c, c.Root(), func(Totals) bool { return skip }, func(p, q Found) error {
		m := merged{}
		if p.Entry != nil {
			m = merged{p.Name, "x"}
		}
		if q.Entry != nil {
			m = merged{q.Name, m.sides + "y"}
			if want, err := c.Lookup(context.Background(), c.Root(), q.Name); err != nil || want.Position != q.Position {
				t.Fatalf("%q at %d, want %d, %v", q.Name, q.Position, want.Position, err)
			}
		}
		got = append(got, m)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestDiffDirs(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, size := range []int{0, 1, 40, 900, 20_000} {
		for _, edits := range []int{0, 1, 10, 300} {
			b := snapshottest.New()
			x := dirModel{}
			for range size {
				x[fmt.Sprintf("f%d", r.IntN(10*size))] = file(r.IntN(9))
			}
			y := maps.Clone(x)
			changed := map[string]bool{}
			for range edits {
				name := fmt.Sprintf("f%d", r.IntN(10*size+10))
				changed[name] = true
				if _, ok := y[name]; ok && r.IntN(2) == 0 {
					delete(y, name)
				} else {
					y[name] = file(1000 + r.IntN(9))
				}
			}
			var all, different []merged
			for _, name := range slices.Sorted(maps.Keys(union(x, y))) {
				m := merged{name: name}
				if _, ok := x[name]; ok {
					m.sides = "x"
				}
				if _, ok := y[name]; ok {
					m.sides += "y"
				}
				all = append(all, m)
				if !reflect.DeepEqual(x[name], y[name]) {
					different = append(different, m)
				}
			}
			if got := runDiffDirs(t, b, x, y, false); !slices.Equal(got, all) {
				t.Fatalf("size %d, %d edits: %d names, want %d", size, edits, len(got), len(all))
			}
			got := runDiffDirs(t, b, x, y, true)
			shown := map[merged]bool{}
			for i, m := range got {
				shown[m] = true
				if i > 0 && got[i-1].name >= m.name {
					t.Fatalf("%q after %q", m.name, got[i-1].name)
				}
			}
			for _, m := range different {
				if !shown[m] {
					t.Fatalf("size %d, %d edits: %v is missing", size, edits, m)
				}
			}
			if most := (len(different) + 1) * 3 * maxPage; len(got) > most || edits == 0 && len(got) > 0 {
				t.Errorf("size %d, %d edits: %d names shown", size, edits, len(got))
			}
		}
	}
}

func union(x, y dirModel) dirModel {
	m := maps.Clone(x)
	maps.Copy(m, y)
	return m
}

func TestDiffDirsStops(t *testing.T) {
	b := snapshottest.New()
	tree := open(t, b, Manifest{Root: build(t, b, dirModel{"a": file(1), "b": file(2)}, 0)})
	stop := errors.New("stop")
	n := 0
	err := DiffDirs(context.Background(), tree, tree.Root(), tree, tree.Root(), func(Totals) bool { return false }, func(Found, Found) error {
		n++
		return stop
	})
	if err != stop || n != 1 {
		t.Errorf("%v after %d names", err, n)
	}
}
