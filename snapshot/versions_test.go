package snapshot

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"snapfs/snapshot/snapshottest"
	"snapfs/store"
)

func slotsOf(v Version) []uint32 {
	var slots []uint32
	for _, s := range v.Snapshots {
		slots = append(slots, s.Slot)
	}
	return slots
}

func TestVersions(t *testing.T) {
	st := newMemStore()
	w := newWorld(1)
	for _, p := range []string{"/d", "/e"} {
		w.paths[p] = w.newEntry(TypeDir)
	}
	step := func(hour int, change func()) {
		w = w.clone()
		change()
		st.addWorld(t, w, hour)
	}
	step(1, func() {})
	step(2, func() { w.paths["/d/f"] = w.newEntry(TypeFile); w.paths["/d/l"] = w.newEntry(TypeFile) })
	first := *w.paths["/d/f"]
	step(3, func() { w.paths["/e/x"] = w.newEntry(TypeFile) })
	step(4, func() { w.paths["/d/f"].Mode = 0o600; w.paths["/d/f"].Ctime = w.tick() })
	step(5, func() { w.paths["/d/f"].Ctime = w.tick() })       // no other state
	step(6, func() { w.paths["/e/l"] = w.paths["/d/l"] })      // a name elsewhere: no other state of /d/l
	step(7, func() { delete(w.paths, "/d/f") })                // gone
	step(8, func() { e := first; w.paths["/d/f"] = &e })       // back, as at first
	step(9, func() { w.paths["/d/l"].Mode = 0 })               // through its record
	step(10, func() { w.paths["/d/f"] = w.newEntry(TypeDir) }) // of another type

	for _, c := range []struct {
		path string
		want string
	}{
		{"/d/f", "[2 3 8 9] [4 5 6] [10]"},
		{"d/f", "[2 3 8 9] [4 5 6] [10]"},
		{"/d/l", "[2 3 4 5 6 7 8] [9 10]"},
		{"/e/x", "[3 4 5 6 7 8 9 10]"},
		{"/e", "[1 2] [3 4 5] [6 7 8] [9 10]"},
		{"/d", "[1] [2 3] [4 5 6] [7] [8] [9] [10]"},
		{"/none", ""},
		{"/d/l/x", ""},
		{"/e/x/y/z", ""},
	} {
		list := mustList(t, st)
		got, err := Versions(t.Context(), st, list, c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		var states []string
		for _, v := range got {
			states = append(states, fmt.Sprint(slotsOf(v)))
			if v.Path != cleanPath(c.path) || v.Entry.Linked {
				t.Errorf("%s: version %+v", c.path, v)
			}
		}
		if s := strings.Join(states, " "); s != c.want {
			t.Errorf("%s: %s, want %s", c.path, s, c.want)
		}
	}
}

// TestVersionsAgainstModel compares with looking at every snapshot.
func TestVersionsAgainstModel(t *testing.T) {
	for seed := range uint64(3) {
		st, worlds := worldHistory(t, seed, 25, 15)
		list := mustList(t, st)
		for range 40 {
			p := worlds[worlds[0].r.IntN(len(worlds))].pick(anyFile...)
			var want [][]uint32
			states := map[string]int{}
			for i, w := range worlds {
				e := w.paths[p]
				if e == nil {
					continue
				}
				size := e.Size
				if e.Type == TypeDir {
					p = "" // tested above
					break
				}
				state := fmt.Sprint(e.Type, e.Mode, e.Flags, e.UID, e.Mtime, size, e.Xattrs, e.Content.Items, e.Target, e.Rdev)
				if _, ok := states[state]; !ok {
					states[state] = len(want)
					want = append(want, nil)
				}
				want[states[state]] = append(want[states[state]], list[i].Slot)
			}
			if p == "" {
				continue
			}
			versions, err := Versions(t.Context(), st, list, p, nil)
			if err != nil {
				t.Fatal(err)
			}
			var got [][]uint32
			for _, v := range versions {
				got = append(got, slotsOf(v))
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("seed %d %q: %v, want %v", seed, p, got, want)
			}
		}
	}
}

// TestVersionsReads: what lies off the path, or has not changed, is not read.
func TestVersionsReads(t *testing.T) {
	st := newMemStore()
	w := newWorld(1)
	for _, p := range []string{"/a", "/a/b", "/a/b/c", "/z"} {
		w.paths[p] = w.newEntry(TypeDir)
	}
	w.paths["/a/b/c/f"] = w.newEntry(TypeFile)
	w.paths["/z/f"] = w.newEntry(TypeFile)
	for i := range 30 {
		w.paths["/z/f"].Mode = uint32(i)
		st.addWorld(t, w, i)
	}
	clear(st.Gets)
	got, err := Versions(t.Context(), st, mustList(t, st), "/a/b/c/f", nil)
	if err != nil || len(got) != 1 || len(got[0].Snapshots) != 30 {
		t.Fatalf("%v %v", got, err)
	}
	if n := len(st.Gets); n != 30+30+3 { // manifests, roots, a b c
		t.Errorf("%d blobs read", n)
	}
}

func TestVersionsDamaged(t *testing.T) {
	st := newMemStore()
	w := newWorld(1)
	w.paths["/f"] = w.newEntry(TypeFile)
	for i := range 3 {
		st.addWorld(t, w, i)
	}
	list := mustList(t, st)
	st.Drop(list[1].ID)
	got, err := Versions(t.Context(), st, list, "/f", nil)
	var missing *store.MissingError
	if !errors.As(err, &missing) || !strings.Contains(err.Error(), list[1].Ref()) {
		t.Errorf("error %v", err)
	}
	if len(got) != 1 || !slices.Equal(slotsOf(got[0]), []uint32{1, 3}) {
		t.Errorf("%+v", got)
	}
}

func TestCovering(t *testing.T) {
	st := newMemStore()
	sources := func(single bool, paths ...string) func(*store.Snapshot) {
		return func(s *store.Snapshot) { s.Summary = (&Summary{Paths: paths, Single: single}).Encode() }
	}
	st.add("home", "", "2026-01-01T00:00:00Z", sources(true, "/home"))
	st.add("home", "", "2026-01-03T00:00:00Z", sources(false, "/etc", "/home"))
	st.add("home", "", "2026-01-02T00:00:00Z", sources(true, "/home"))
	st.add("all", "", "2026-01-01T00:00:00Z", sources(true, "/"))
	st.add("fstab", "", "2026-01-01T00:00:00Z", sources(false, "/etc/fstab"))
	st.add("gone", "", "2026-01-01T00:00:00Z", sources(true, "/home"), forgotten)

	for abs, want := range map[string]string{
		"/home/me/x":   "all:/home/me/x[4] home:/home/me/x[2] home:/me/x[1 3]",
		"/home/":       "all:/home[4] home:/[1 3] home:/home[2]",
		"/homes":       "all:/homes[4]",
		"/etc/fstab":   "all:/etc/fstab[4] fstab:/fstab[5] home:/etc/fstab[2]",
		"/etc/fstab.x": "all:/etc/fstab.x[4] home:/etc/fstab.x[2]",
		"/":            "all:/[4]",
		"/x/../etc":    "all:/etc[4] home:/etc[2]",
	} {
		found, err := Covering(t.Context(), st, abs)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range found {
			got = append(got, fmt.Sprint(d.Dataset, ":", d.Path, slotsOf(Version{Snapshots: d.Snapshots})))
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: %s, want %s", abs, s, want)
		}
	}
}

func BenchmarkVersions(b *testing.B) {
	st := &memStore{snapshottest.New(), &store.State{}}
	w := newWorld(1)
	w.grow(1000)
	w.paths["/file"] = w.newEntry(TypeFile)
	for i := range 500 {
		if i%50 == 0 {
			w.fill(w.paths["/file"])
		}
		w.paths["/"].Mtime = w.tick()
		st.addWorld(b, w, i)
	}
	list := mustList(b, st)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Versions(b.Context(), st, list, "/file", nil); err != nil {
			b.Fatal(err)
		}
	}
}
