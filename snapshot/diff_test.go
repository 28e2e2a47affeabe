package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"snapfs/snapshot/snapshottest"
	"snapfs/store"
)

// diffWorlds is Diff as one would do it without nodes.
func diffWorlds(a *world, pathA string, b *world, pathB string) []string {
	relative := func(w *world, below string) map[string]*Entry {
		m := map[string]*Entry{}
		for _, p := range w.sorted(below) {
			m[cleanPath(strings.TrimPrefix(p, below))] = w.paths[p]
		}
		return m
	}
	x, y := relative(a, pathA), relative(b, pathB)
	var all []string
	for p := range x {
		all = append(all, p)
	}
	for p := range y {
		if x[p] == nil {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, comparePaths)
	var out []string
	for _, p := range all {
		switch {
		case x[p] == nil:
			out = append(out, "added "+p)
		case y[p] == nil:
			out = append(out, "removed "+p)
		default:
			if what := attributesThatDiffer(x[p], y[p]); what != "" {
				out = append(out, "modified "+p+what)
			}
		}
	}
	return out
}

func attributesThatDiffer(x, y *Entry) (what string) {
	if x.Type == y.Type && (x.Type != TypeDir && x.Size != y.Size || fmt.Sprint(x.Content.Items, x.Target, x.Rdev) != fmt.Sprint(y.Content.Items, y.Target, y.Rdev)) {
		what += " content"
	}
	if x.Mode != y.Mode || x.Flags != y.Flags {
		what += " mode"
	}
	if x.UID != y.UID {
		what += " owner"
	}
	if x.Mtime != y.Mtime {
		what += " time"
	}
	if fmt.Sprint(x.Xattrs) != fmt.Sprint(y.Xattrs) {
		what += " xattr"
	}
	if x.Type != y.Type {
		what += " type"
	}
	return what
}

func collectDiff(t testing.TB, a *Tree, pathA string, b *Tree, pathB string) []string {
	t.Helper()
	var out []string
	err := Diff(context.Background(), a, pathA, b, pathB, func(c Change) error {
		s := c.Change + " " + c.Path
		for _, what := range c.What {
			s += " " + what
		}
		out = append(out, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sortByPath restores the order after what was a directory became something else: what was below it comes first in
// one list and last in the other.
func sortByPath(list []string) []string {
	slices.SortStableFunc(list, func(a, b string) int {
		_, a, _ = strings.Cut(a, " ")
		_, b, _ = strings.Cut(b, " ")
		return comparePaths(a, b)
	})
	return list
}

func TestDiffAgainstModel(t *testing.T) {
	for seed := range uint64(45) {
		a := newWorld(seed)
		a.grow([]int{20, 200, 2500}[seed%3])
		b := a.clone()
		for range []int{1, 5, 60}[seed/3%3] {
			b.mutate()
		}
		blobs := snapshottest.New()
		ta, tb := a.open(t, blobs), b.open(t, blobs)
		got, want := sortByPath(collectDiff(t, ta, "/", tb, "/")), sortByPath(diffWorlds(a, "/", b, "/"))
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: got\n%q\nwant\n%q", seed, got, want)
		}
		back := sortByPath(collectDiff(t, tb, "/", ta, ""))
		if want := sortByPath(diffWorlds(b, "/", a, "/")); !slices.Equal(back, want) {
			t.Fatalf("seed %d back: got\n%q\nwant\n%q", seed, back, want)
		}
		// Any two directories, or files, of the same snapshot or different ones.
		for range 5 {
			p, q := a.pick(TypeDir, TypeFile), b.pick(TypeDir, TypeFile)
			got, want := sortByPath(collectDiff(t, ta, p, tb, q)), sortByPath(diffWorlds(a, p, b, q))
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d %q %q: got\n%q\nwant\n%q", seed, p, q, got, want)
			}
		}
	}
}

func TestDiffOrder(t *testing.T) {
	a := newWorld(1)
	for _, p := range []string{"/d", "/d/x", "/d-e", "/z"} {
		a.paths[p] = a.newEntry(TypeDir)
	}
	b := a.clone()
	b.removeAll("/d")
	b.paths["/d"] = b.newEntry(TypeFile)
	b.paths["/d-e"].Mode = 0
	b.paths["/a"] = b.newEntry(TypeDir)
	b.paths["/a/b"] = b.newEntry(TypeFIFO)
	b.paths["/d"].Mtime = a.paths["/d"].Mtime
	blobs := snapshottest.New()
	got := collectDiff(t, a.open(t, blobs), "/", b.open(t, blobs), "/")
	want := []string{"added /a", "added /a/b", "modified /d type", "removed /d/x", "modified /d-e mode"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// TestDiffReads counts reads: what is shared is not read, and what is read is read once.
func TestDiffReads(t *testing.T) {
	a := newWorld(3)
	a.paths["/big"] = a.newEntry(TypeDir)
	for i := range 20_000 {
		a.paths[fmt.Sprintf("/big/%05d", i)] = a.newEntry(TypeFile)
	}
	for i := range 100 {
		dir := fmt.Sprintf("/d%03d", i)
		a.paths[dir] = a.newEntry(TypeDir)
		a.paths[dir+"/x"] = a.newEntry(TypeFile)
	}
	a.paths["/d000/link"] = a.paths["/d001/x"]

	for _, c := range []struct {
		name   string
		change func(w *world)
		reads  int // of nodes, at most
	}{
		{"nothing", func(*world) {}, 0},
		{"one file in a large directory", func(w *world) { w.paths["/big/13000"].Mode = 0 }, 10},
		{"a name added to a large directory", func(w *world) { w.paths["/big/13000x"] = w.newEntry(TypeFile) }, 12},
		{"one file of many directories", func(w *world) { w.paths["/d050/x"].Mode = 0 }, 4},
		{"a hard link's record", func(w *world) { w.paths["/d001/x"].Mode = 0 }, 5},
		{"a hard link gained a name", func(w *world) { w.paths["/d099/link"] = w.paths["/d001/x"] }, 8},
	} {
		b := a.clone()
		c.change(b)
		blobs := snapshottest.New()
		ta, tb := a.open(t, blobs), b.open(t, blobs)
		ta.cache = tb.cache
		clear(blobs.Gets)
		got, want := collectDiff(t, ta, "/", tb, "/"), diffWorlds(a, "/", b, "/")
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", c.name, got, want)
		}
		if len(blobs.Gets) > c.reads {
			t.Errorf("%s: %d nodes read, want at most %d", c.name, len(blobs.Gets), c.reads)
		}
		for id, n := range blobs.Gets {
			if n > 1 {
				t.Errorf("%s: node %s read %d times", c.name, id, n)
			}
		}
	}
}

func TestDiffErrors(t *testing.T) {
	a := newWorld(4)
	a.paths["/d"] = a.newEntry(TypeDir)
	a.paths["/d/x"] = a.newEntry(TypeFile)
	b := a.clone()
	b.paths["/d/x"].Mode = 0
	blobs := snapshottest.New()
	ta, tb := a.open(t, blobs), b.open(t, blobs)
	stop := errors.New("stop")
	if err := Diff(t.Context(), ta, "/", tb, "/", func(Change) error { return stop }); err != stop {
		t.Errorf("the caller's error: %v", err)
	}
	never := func(Change) error { t.Error("called"); return nil }
	var located *PathError
	if err := Diff(t.Context(), ta, "/nowhere", tb, "/", never); !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &located) {
		t.Errorf("missing path: %v", err)
	}
	d, err := tb.Walk(t.Context(), "/d")
	if err != nil {
		t.Fatal(err)
	}
	tb.cache = NewCache(0)
	blobs.Drop(d.Dir)
	err = Diff(t.Context(), ta, "/", tb, "/", never)
	var missing *store.MissingError
	if !errors.As(err, &located) || located.Path != "/d" || !errors.As(err, &missing) {
		t.Errorf("missing node: %v", err)
	}
}

// TestDu compares with sums over all names.
func TestDu(t *testing.T) {
	for seed := range uint64(10) {
		w := newWorld(seed)
		w.grow(300)
		blobs := snapshottest.New()
		tree := w.open(t, blobs)
		for _, p := range append(w.sorted("/")[:20], "/", w.pick(TypeDir)) {
			var wantEntries, wantBytes uint64
			for _, q := range w.sorted(p) {
				if q != p || w.paths[p].Type != TypeDir {
					wantEntries++
				}
				if w.paths[q].Type == TypeFile {
					wantBytes += uint64(w.paths[q].Size)
				}
			}
			entries, bytes, err := Du(t.Context(), tree, p)
			if err != nil || entries != wantEntries || bytes != wantBytes {
				t.Errorf("seed %d %q: %d entries %d bytes %v, want %d and %d", seed, p, entries, bytes, err, wantEntries, wantBytes)
			}
		}
	}
	if _, _, err := Du(t.Context(), newWorld(1).open(t, snapshottest.New()), "/x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing path: %v", err)
	}
}

// TestDuReads: totals stand in the entries of directories; what lies below is not read.
func TestDuReads(t *testing.T) {
	w := newWorld(4)
	for i := range 200 {
		dir := fmt.Sprintf("/d%03d", i)
		w.paths[dir], w.paths[dir+"/sub"] = w.newEntry(TypeDir), w.newEntry(TypeDir)
		for k := range 50 {
			w.paths[fmt.Sprintf("%s/sub/%02d", dir, k)] = w.newEntry(TypeFile)
		}
	}
	blobs := snapshottest.New()
	for path, most := range map[string]int{"/": 1, "/d050": 3, "/d050/sub": 4} {
		tree := w.open(t, blobs)
		clear(blobs.Gets)
		if entries, _, err := Du(t.Context(), tree, path); err != nil || entries < 50 || len(blobs.Gets) > most {
			t.Errorf("%s: %d entries, %d nodes read, want at most %d; %v", path, entries, len(blobs.Gets), most, err)
		}
	}
}

func BenchmarkDiff(b *testing.B) {
	w := newWorld(5)
	for i := range 100_000 {
		if i%100 == 0 {
			w.paths[fmt.Sprintf("/%04d", i/100)] = w.newEntry(TypeDir)
		}
		w.paths[fmt.Sprintf("/%04d/%03d", i/100, i%100)] = w.newEntry(TypeFile)
	}
	for _, changes := range []int{0, 1, 1000} {
		b.Run(fmt.Sprintf("changed=%d", changes), func(b *testing.B) {
			blobs := snapshottest.New()
			after := w.clone()
			for i := range changes {
				after.paths[fmt.Sprintf("/%04d/000", i)].Mode = 0
			}
			x, y := w.open(b, blobs), after.open(b, blobs)
			b.ReportAllocs()
			for b.Loop() {
				if n := len(collectDiff(b, x, "/", y, "/")); n != changes {
					b.Fatal(n)
				}
			}
		})
	}
}
