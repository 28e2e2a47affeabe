package archive

import (
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"snapfs/snapshot"
	"snapfs/store"
	"snapfs/store/volume"
)

// TestCheckNamesPaths damages a volume at random; the paths that are named are exactly those that need what was touched.
func TestCheckNamesPaths(t *testing.T) {
	w := newWorld(t)
	s := w.snapshot("data", someFiles(5, 24))
	set := w.write(t.TempDir(), []HeadSnapshot{s}, setOptions{name: "full", volumeSize: 900_000})
	r := rand.New(rand.NewPCG(3, 4))
	named := 0
	for round := range 60 {
		n := r.IntN(len(set.volumes))
		data, err := os.ReadFile(set.volumes[n])
		must(t, err)
		c := randomCut(r, data, true)
		want := w.named(s, set, func(f frameAt) bool { return f.volume == n && c.touches(f) })
		must(t, os.WriteFile(set.volumes[n], c.apply(data), 0o600))
		for _, piped := range []bool{false, true} {
			args, o := set.volumes, CheckOptions{OpenOptions: w.options("")}
			o.Note = nil
			if piped {
				args, o.Stdin = []string{"-"}, pipe(t, set)
			}
			got, ref := map[string]bool{}, ""
			o.Found = func(f Finding) {
				for _, h := range f.Hits {
					got[h.Path], ref = true, h.Ref
					if len(h.Snapshots) != 1 || h.Snapshots[0] != s.ID {
						t.Errorf("%+v", h)
					}
				}
			}
			_, err := Check(t.Context(), args, o)
			must(t, err)
			if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, want) {
				t.Fatalf("round %d, piped %v: %v are named, want %v", round, piped, names, want)
			}
			if named += len(got); len(got) > 0 && ref != "data@"+s.Name {
				t.Fatalf("round %d, piped %v: of %s", round, piped, ref)
			}
		}
		must(t, os.WriteFile(set.volumes[n], data, 0o600))
	}
	if named == 0 {
		t.Error("nothing was ever named")
	}
}

// named computes which paths tell of lost frames: files, a directory where its page is lost, "/" where the manifest or the root's page is.
func (w *world) named(s HeadSnapshot, set *testSet, lost func(frameAt) bool) []string {
	names := map[string]bool{}
	gone := map[store.ID]bool{}
	for id, frames := range set.where {
		gone[id] = !slices.ContainsFunc(frames, func(f frameAt) bool { return !lost(f) })
	}
	src := &goneWalk{w: w, gone: gone}
	for path := range w.content[s.ID] {
		dir, _, _ := strings.Cut(path, "/")
		tree, err := snapshot.OpenTree(w.t.Context(), goneSource{src}, w.bundle.PageKey(), s.ID, nil)
		if err == nil {
			_, err = tree.Walk(w.t.Context(), dir)
		}
		if err != nil {
			return []string{"/"}
		}
		if _, err := tree.Walk(w.t.Context(), path); err != nil {
			names["/"+dir] = true
		} else if src.path(s.ID, path) {
			names["/"+path] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// TestCheckNamesPathsOfMissingVolume: what a volume held that was not given is named with it.
func TestCheckNamesPathsOfMissingVolume(t *testing.T) {
	w := newWorld(t)
	s := w.snapshot("data", someFiles(5, 24))
	set := w.write(t.TempDir(), []HeadSnapshot{s}, setOptions{name: "full", volumeSize: 900_000})
	want := w.expected(s, []*testSet{set}, func(_ *testSet, f frameAt) bool { return f.volume == 1 })
	_, found := w.check(false, append([]string{set.volumes[0]}, set.volumes[2:]...)...)
	if len(found) != 1 || len(found[0].Hits) != len(want) || len(want) == 0 {
		t.Fatalf("%d findings, %+v, want %v", len(found), found, want)
	}
	for i, h := range found[0].Hits {
		if h.Path != "/"+want[i] {
			t.Errorf("%s, want %s", h.Path, want[i])
		}
	}
}

// TestTornVolumesLeaveNoBlobs: what was found behind the last whole frame of a torn volume is dropped, and findings that come later are not
// taken for those that had their numbers.
func TestTornVolumesLeaveNoBlobs(t *testing.T) {
	torn, other := volume.ID{1}, volume.ID{2}
	a, b := store.ID{1}, store.ID{2}
	c := &checker{
		torn:     map[volume.ID]int64{torn: 100},
		findings: []Finding{{ID: torn, Offset: 100}, {ID: other, Offset: 100}},
		blobsOf:  map[int][]store.ID{0: {a}, 1: {b}},
	}
	c.dropTorn()
	c.report(Finding{What: "a volume is missing"})
	if len(c.findings) != 2 || c.findings[0].ID != other {
		t.Errorf("findings %+v", c.findings)
	}
	if !slices.Equal(c.blobsOf[0], []store.ID{b}) || c.blobsOf[1] != nil {
		t.Errorf("blobs %v", c.blobsOf)
	}
}
