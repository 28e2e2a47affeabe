package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"snapfs/snapshot"
	"snapfs/store"
)

// needed says which stretches of which volumes a path of a snapshot needs.
type needed struct {
	path   string
	places []store.Place
}

// neededPlaces walks the newest snapshot of an undamaged store and finds where everything lies that each path needs by itself: a
// file its chunks and pages of chunks, a directory the pages of its names.
func neededPlaces(t *testing.T, w *world) []needed {
	t.Helper()
	key, err := os.ReadFile(w.path("key"))
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), w.store, store.Options{
		Unlock: func(context.Context, []store.KeySlot) (store.Secret, error) { return store.Secret{KeyFile: key}, nil },
		Job:    "test", References: snapshot.References,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	state, err := st.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id := state.Snapshots[len(state.Snapshots)-1].ID
	tree, err := snapshot.OpenTree(t.Context(), st, st.PageKey(), id, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := placeFinder{t: t, st: st, tree: tree}
	f.add("/", id)
	f.directory("", tree.Root())
	return f.list
}

type placeFinder struct {
	t    *testing.T
	st   *store.Store
	tree *snapshot.Tree
	list []needed
}

// add enters what a path needs, with all nodes below these blobs that are not of directories.
func (f *placeFinder) add(path string, ids ...store.ID) {
	places, err := f.st.Locate(f.t.Context(), ids)
	if err != nil {
		f.t.Fatal(err)
	}
	f.list = append(f.list, needed{path, places})
}

func (f *placeFinder) directory(path string, dir snapshot.Found) {
	var pages []store.ID
	err := f.tree.Pages(f.t.Context(), dir, func(id store.ID, _ snapshot.Totals) bool {
		pages = append(pages, id)
		return true
	}, func(e snapshot.Found) bool {
		name := path + "/" + e.Name
		if e.Type == snapshot.TypeDir {
			f.directory(name, e)
			return true
		}
		full, err := f.tree.Follow(f.t.Context(), e)
		if err != nil {
			f.t.Fatal(err)
		}
		var ids []store.ID
		if !full.Content.List.IsZero() {
			ids = append(ids, full.Content.List)
		}
		err = f.tree.Items(f.t.Context(), full.Entry, 0, func(_ int64, it snapshot.Item) bool {
			ids = append(ids, it.ID)
			return true
		})
		if err != nil {
			f.t.Fatal(err)
		}
		f.add(name, ids...)
		return true
	})
	if err != nil {
		f.t.Fatal(err)
	}
	if path == "" {
		path = "/"
	}
	f.add(path, pages...)
}

// hit are the paths that need a byte of these ranges and are not below others that are hit: what is in a directory that
// cannot be read cannot be named.
func hit(list []needed, file string, from, to int64) map[string]bool {
	paths := map[string]bool{}
	for _, n := range list {
		for _, p := range n.places {
			if p.Volume.String() == file && p.Offset < to && p.Offset+int64(p.Stored) > from {
				paths[n.path] = true
			}
		}
	}
	top := maps.Clone(paths)
	for path := range paths {
		for dir := filepath.Dir(path); path != "/"; dir = filepath.Dir(dir) {
			if paths[dir] {
				delete(top, path)
			}
			if dir == "/" {
				break
			}
		}
	}
	return top
}

// TestVerifyNamesPaths destroys stretches of volumes of every kind, in each region and anywhere, computes from the bytes which paths must be named, and compares that with what
// verify names and with what restore cannot bring.
func TestVerifyNamesPaths(t *testing.T) {
	w := newWorld(t)
	src := newChurn(t, w.mkdir("source"))
	src.files("small", 400)
	for i := range 20 {
		src.files(fmt.Sprintf("dir%d", i), 100)
	}
	for i := range 4 {
		src.write(fmt.Sprintf("large/%d", i), 5<<20)
	}
	if err := os.Link(filepath.Join(src.dir, "large/1"), filepath.Join(src.dir, "linked")); err != nil {
		t.Fatal(err)
	}
	snap := "d@" + w.backup(0, "d", src.dir).Name
	whole := w.mkdir("whole")
	sh(t, w.dir, `cp -a store/. whole/`)
	rng := rand.New(rand.NewPCG(3, 4))
	list, named := neededPlaces(t, w), 0
	damages := regions(volumes(t, w.store), list)
	rounds := 8
	switch {
	case os.Getenv("SNAPFS_TEST_LONG") != "":
		rounds = 200
	case testing.Short():
		rounds, damages = 3, nil
	}
	for i := range rounds {
		v := volumes(t, w.store)[i%3]
		at := rng.Int64N(v.size)
		damages = append(damages, damage{"somewhere", v, at, max(1, min(1+rng.Int64N(200_000)*rng.Int64N(2), v.size-at))})
	}
	for _, d := range damages {
		destroyRange(t, rng, d.path, d.at, d.length)
		want := hit(list, filepath.Base(d.path), d.at, d.at+d.length)
		what := fmt.Sprintf("%s volume, %d bytes at %d of %d, %s: %d paths", d.kind, d.length, d.at, d.size, d.region, len(want))
		t.Log(what)
		o := w.start("verify", "--data", "--json").wait()
		if o.code != 4 {
			t.Errorf("verify ends with %d: %s", o.code, tail(o.stderr))
		}
		samePaths(t, "verify", want, verifiedPaths(t, o))
		if len(want) > 0 && !want["/"] && len(want) < 50 { // each restore takes its time
			o := w.start("restore", "--json", snap, "--to", w.path("out")).wait()
			samePaths(t, "restore", want, slashed(reported(t, o, w.path("out"))))
		}
		named += len(want)
		sh(t, w.dir, `rm -rf store out; mkdir store; cp -a "$1"/. store/`, whole)
		if t.Failed() {
			t.Fatal(what)
		}
	}
	t.Logf("%d damaged stretches, %d paths named", len(damages), named)
}

// damage is a stretch of a volume to be destroyed.
type damage struct {
	region string
	volumeFile
	at, length int64
}

// regions are damages to all parts of a volume: the data in it, and what is there for finding, checking and mending that.
func regions(all []volumeFile, list []needed) (damages []damage) {
	for _, v := range all {
		end := int64(0) // of what paths need
		first := v.size
		for _, n := range list {
			for _, p := range n.places {
				if p.Volume.String() == filepath.Base(v.path) {
					first, end = min(first, p.Offset), max(end, p.Offset+int64(p.Stored))
				}
			}
		}
		damages = append(damages, damage{"label", v, 20, 1}, damage{"label", v, 100, 3000}, damage{"trailer", v, v.size - 30, 1},
			damage{"trailer and repeated label", v, v.size - 4000, 4000})
		if end > 0 {
			damages = append(damages, damage{"header of the first frame", v, first, 8}, damage{"payload", v, first + (end-first)/2, 1},
				damage{"table and parity", v, end, v.size - end}, damage{"label, first frame", v, 0, first + 100})
		} else {
			damages = append(damages, damage{"facts", v, 4096 + 60, 1})
		}
	}
	return damages
}

// destroyRange overwrites bytes so that each differs.
func destroyRange(t *testing.T, rng *rand.Rand, path string, at, length int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := at; i < at+length; i++ {
		b[i] ^= byte(1 + rng.IntN(255))
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// verifiedPaths are the paths that verify names as damaged.
func verifiedPaths(t testing.TB, o outcome) map[string]bool {
	t.Helper()
	paths := map[string]bool{}
	for line := range strings.Lines(o.stdout) {
		var f struct {
			Event string
			Paths any // a number in the summary
		}
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if f.Event != "finding" {
			continue
		}
		for _, path := range f.Paths.([]any) {
			paths[path.(string)] = true
		}
	}
	if len(paths) > 0 && o.code != 4 {
		t.Errorf("exit code %d: %s", o.code, tail(o.stderr))
	}
	return paths
}

func slashed(paths map[string]bool) map[string]bool {
	out := map[string]bool{}
	for path := range paths {
		out["/"+path] = true
	}
	return out
}

func samePaths(t *testing.T, what string, want, got map[string]bool) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if !got[path] {
			t.Errorf("%s does not name %s", what, path)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if !want[path] {
			t.Errorf("%s names %s, which is whole", what, path)
		}
	}
}

// TestVerifyWhileUsed verifies again and again while backups, forget and prune go on in other processes: whatever is under way
// is no finding.
func TestVerifyWhileUsed(t *testing.T) {
	w := newWorld(t)
	src := newChurn(t, w.mkdir("source"))
	src.files("files", 200)
	src.write("large", 8<<20)
	w.backup(0, "d", src.dir)
	mnt := w.mount("mnt") // holds the store
	rounds := 8
	if testing.Short() {
		rounds = 3
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range rounds * 3 {
			w.do(0, "verify", "--data")
			w.do(0, "verify")
			w.do(0, "verify", "--no-key")
		}
	}()
	for i := range rounds {
		src.files(fmt.Sprintf("more%d", i%3), 80)
		src.write("large", 6<<20)
		w.backup(0, "d", src.dir)
		w.do(0, "forget", "--dataset", "d", "--keep-last", "2")
		w.do(0, "prune", "--max-waste", "0")
	}
	<-done
	w.umount(mnt)
	w.verified()
}
