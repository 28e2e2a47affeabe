package snapshot

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"snapfs/store"
)

// addWorld commits the world to the store as a snapshot of dataset "data".
func (s *memStore) addWorld(t testing.TB, w *world, hour int, change ...func(*Manifest)) {
	t.Helper()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(hour) * time.Hour)
	id := w.save(t, s.Blobs, append(change, func(m *Manifest) { m.Start = start })...)
	s.add("data", "", start.Format(time.RFC3339Nano), func(snap *store.Snapshot) { snap.ID = id })
}

func mustList(t testing.TB, st Store) []Listed {
	t.Helper()
	list, err := List(context.Background(), st, Filter{})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func collectFinds(t testing.TB, st Store, o FindOptions) []string {
	t.Helper()
	var out []string
	err := Find(context.Background(), st, o, func(m Match) error {
		out = append(out, describeMatch(m.Snapshot.Name, m.Path, m.Entry))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func describeMatch(snapshot, path string, e *Entry) string {
	return fmt.Sprint(snapshot, " ", path, " ", e.Type, e.Mode, e.Mtime, e.Size, e.Target, e.Xattrs, e.Content.Items)
}

// worldHistory is a world saved after every few changes.
func worldHistory(t testing.TB, seed uint64, snapshots, changes int) (*memStore, []*world) {
	t.Helper()
	st := newMemStore()
	w := newWorld(seed)
	w.grow(400)
	var worlds []*world
	for i := range snapshots {
		st.addWorld(t, w, i)
		worlds = append(worlds, w)
		w = w.clone()
		for range changes {
			w.mutate()
		}
	}
	return st, worlds
}

func TestFindAgainstModel(t *testing.T) {
	for seed := range uint64(4) {
		st, worlds := worldHistory(t, seed, 8, 10)
		list := mustList(t, st)
		for _, c := range []struct {
			pattern string
			regexp  bool
			want    func(p string) bool
		}{
			{"*", false, func(string) bool { return true }},
			{"a*", false, func(p string) bool { return path.Base(p)[0] == 'a' }},
			{"[ab]*[0-4]", false, func(p string) bool { return regexp.MustCompile(`/[ab][^/]*[0-4]$`).MatchString(p) }},
			{"\xff*", false, func(p string) bool { return path.Base(p)[0] == '\xff' }},
			{"/*", false, func(p string) bool { return strings.Count(p, "/") == 1 }},
			{"*/*", false, func(p string) bool { return strings.Count(p, "/") == 2 }},
			{"/a*/*1*", false, func(p string) bool { ok, _ := path.Match("/a*/*1*", p); return ok }},
			{"**/n1*", false, func(p string) bool { return strings.HasPrefix(path.Base(p), "n1") }},
			{"/a*/**", false, func(p string) bool { return p[1] == 'a' && strings.Count(p, "/") > 1 }},
			{"no-such-name", false, func(string) bool { return false }},
			{"^a.*5", true, func(p string) bool { return path.Base(p)[0] == 'a' && strings.Contains(path.Base(p), "5") }},
			{"/a[^/]*$", true, func(p string) bool { return path.Base(p)[0] == 'a' }},
		} {
			var want []string
			for i, w := range worlds {
				for _, p := range w.sorted("/") {
					if p != "/" && c.want(p) {
						e := w.paths[p]
						want = append(want, describeMatch(list[i].Name, p, e))
					}
				}
			}
			for _, memory := range []int64{0, 1, 20_000} {
				got := collectFinds(t, st, FindOptions{Pattern: c.pattern, Regexp: c.regexp, Snapshots: list, Memory: memory})
				if !slices.Equal(got, want) {
					t.Fatalf("seed %d %q with %d bytes: got %d\n%.800q\nwant %d\n%.800q", seed, c.pattern, memory, len(got), got, len(want), want)
				}
			}
		}
	}
}

// TestFindReads searches without a page cache: a node is read once however many snapshots have it.
func TestFindReads(t *testing.T) {
	st := newMemStore()
	w := newWorld(1)
	w.grow(300)
	w.paths["/big"] = w.newEntry(TypeDir)
	for i := range 6000 {
		w.paths[fmt.Sprintf("/big/%04d", i)] = w.newEntry(TypeFile)
	}
	for i := range 20 {
		w = w.clone()
		w.paths[fmt.Sprintf("/big/%04d", i*300)].Mode = 0o600
		st.addWorld(t, w, i)
	}
	list := mustList(t, st)
	for _, pattern := range []string{"[0-4]*", "no-such-name", "/big/0*", "/*/0**"} {
		clear(st.Gets)
		links := map[store.ID]bool{}
		p, err := newPathPattern(pattern, false)
		if err != nil {
			t.Fatal(err)
		}
		f := finder{pattern: p, memo: newFindMemo(0), fn: func(Match) error { return nil }}
		cache := NewCache(1)
		for i := range list {
			if err := f.snapshot(t.Context(), st, &list[i], cache); err != nil {
				t.Fatal(err)
			}
			links[f.tree.LinkTree()] = true
		}
		for id, n := range st.Gets {
			if n > 1 && !links[id] {
				t.Errorf("%s: node %s was read %d times", pattern, id, n)
			}
		}
	}
}

// TestFindPrunes reads only what a path pattern can match.
func TestFindPrunes(t *testing.T) {
	st := newMemStore()
	w := newWorld(1)
	for i := range 50 {
		w.paths[fmt.Sprintf("/d%02d", i)] = w.newEntry(TypeDir)
		w.paths[fmt.Sprintf("/d%02d/x", i)] = w.newEntry(TypeFile)
	}
	st.addWorld(t, w, 0)
	clear(st.Gets)
	if got := collectFinds(t, st, FindOptions{Pattern: "/d07/*", Snapshots: mustList(t, st)}); len(got) != 1 {
		t.Errorf("found %q", got)
	}
	if len(st.Gets) != 3 { // manifest, root, d07
		t.Errorf("%d blobs read", len(st.Gets))
	}
}

func TestFindDamaged(t *testing.T) {
	st := newMemStore()
	w := newWorld(1)
	for _, p := range []string{"/a", "/b", "/c"} {
		w.paths[p] = w.newEntry(TypeDir)
		w.paths[p+"/x"] = w.newEntry(TypeFile)
	}
	st.addWorld(t, w, 0)
	st.addWorld(t, w, 1)
	st.addWorld(t, w, 2)
	list := mustList(t, st)
	tree, err := OpenTree(t.Context(), st, testKey, list[0].ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := tree.Walk(t.Context(), "/b")
	if err != nil {
		t.Fatal(err)
	}
	st.Drop(b.Dir)
	st.Drop(list[1].ID)
	var found []string
	err = Find(t.Context(), st, FindOptions{Pattern: "x", Snapshots: list}, func(m Match) error {
		found = append(found, m.Snapshot.Name+":"+m.Path)
		return nil
	})
	want := []string{list[0].Name + ":/a/x", list[0].Name + ":/c/x", list[2].Name + ":/a/x", list[2].Name + ":/c/x"}
	if !slices.Equal(found, want) {
		t.Errorf("found %q", found)
	}
	var missing *store.MissingError
	if !errors.As(err, &missing) {
		t.Fatalf("error %v", err)
	}
	for _, part := range []string{list[0].Ref() + ":/b", list[1].Ref(), list[2].Ref() + ":/b"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name %s", err, part)
		}
	}
}

func TestFindErrors(t *testing.T) {
	st, _ := worldHistory(t, 1, 2, 1)
	list := mustList(t, st)
	for _, o := range []FindOptions{{Pattern: ""}, {Pattern: "[a"}, {Pattern: "/x/[a"}, {Pattern: `x\`}, {Pattern: "(", Regexp: true}, {Regexp: true}} {
		var bad *PatternError
		if err := Find(t.Context(), st, o, nil); !errors.As(err, &bad) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	stop := errors.New("stop")
	if err := Find(t.Context(), st, FindOptions{Pattern: "*", Snapshots: list}, func(Match) error { return stop }); err != stop {
		t.Errorf("the caller's error: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := Find(ctx, st, FindOptions{Pattern: "*", Snapshots: list}, func(Match) error { n++; cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled after %d: %v", n, err)
	}
}

func FuzzFindPattern(f *testing.F) {
	for _, s := range []string{"*", "a*/b", "[a-c]?", "/**/x", `\*`, "//", "/", "[!a]", "a/", "^x$"} {
		f.Add(s, "/a/b/xyz")
	}
	f.Fuzz(func(t *testing.T, pattern, p string) {
		p = cleanPath(p)
		if p == "/" {
			return
		}
		for _, isRegexp := range []bool{false, true} {
			m, err := newPathPattern(pattern, isRegexp)
			if err != nil {
				continue
			}
			matched := m.match(path.Dir(p), path.Base(p))
			for dir := path.Dir(p); matched; dir = path.Dir(dir) {
				if !m.enter(dir) {
					t.Fatalf("%q matches %q but %q is not entered", pattern, p, dir)
				}
				if dir == "/" {
					break
				}
			}
		}
	})
}

func BenchmarkFind(b *testing.B) {
	st := newMemStore()
	w := newWorld(1)
	for i := range 50_000 {
		dir := fmt.Sprintf("/%03d", i/100)
		if i%100 == 0 {
			w.paths[dir] = w.newEntry(TypeDir)
		}
		w.paths[fmt.Sprintf("%s/%d", dir, i)] = w.newEntry(TypeFile)
	}
	for i := range 50 {
		w.paths[fmt.Sprintf("/%03d/%d", i, i*100)].Mode = 0
		st.addWorld(b, w, i)
	}
	list := mustList(b, st)
	for _, n := range []int{1, 50} {
		b.Run(fmt.Sprintf("snapshots=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if got := collectFinds(b, st, FindOptions{Pattern: "123*", Snapshots: list[:n]}); len(got) == 0 {
					b.Fatal("nothing found")
				}
			}
		})
	}
}
