package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Remove makes the k-th operation of faultyFiles fail as well.
func (f *faultyFiles) Remove(path string) error {
	if err := f.next(); err != nil {
		return err
	}
	return f.Files.Remove(path)
}

// copyStore copies a store that nobody has open.
func copyStore(t testing.TB, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "store")
	must2 := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must2(filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(from, path)
		switch {
		case err != nil || d.Type()&fs.ModeSocket != 0:
			return err
		case d.IsDir():
			return os.Mkdir(filepath.Join(to, rel), 0o700)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o600)
	}))
	return to
}

// wasteful is a store with volumes to remove, to rewrite, to finish and to merge, closed; and what must stay.
func wasteful(t testing.TB) (dir string, kept map[ID]tree) {
	dir = newStore(t)
	kept = map[ID]tree{}
	st := openTrees(t, dir)
	var gone []Snapshot
	take := func(tr tree, keep bool) {
		s := tr.mustWrite(t, st)
		if keep {
			kept[s.ID] = tr
		} else {
			gone = append(gone, s)
		}
	}
	reopen := func() {
		closeStore(t, st)
		st = openTrees(t, dir)
	}
	take(manyFiles(1, 10, 3000), false)
	take(manyFiles(2, 10, 3000), true)
	reopen()
	take(manyFiles(3, 5, 3000), false)
	reopen()
	for n := range uint64(9) {
		take(manyFiles(10+n, 1, 500), n%4 > 0)
		reopen()
	}
	mixed := manyFiles(4, 6, 160_000)
	take(mixed, false)
	take(tree{name: "half", files: mixed.files[:3]}, true)
	forgetAll(t, st, gone...)
	closeStore(t, st)
	return dir, kept
}

// checkKept: all that must stay is there and verify finds nothing, also with an index made from the volumes alone.
func checkKept(t testing.TB, dir string, kept map[ID]tree, when string) {
	t.Helper()
	for _, fresh := range []bool{false, true} {
		if fresh {
			if err := os.RemoveAll(filepath.Join(dir, indexName)); err != nil {
				t.Fatal(err)
			}
		}
		st := openTrees(t, dir)
		state, err := st.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		there := map[ID]string{}
		for _, s := range state.Snapshots {
			there[s.ID] = "there" + s.Damaged
		}
		for id, tr := range kept {
			if there[id] != "there" {
				t.Errorf("%s: snapshot %s: %q", when, tr.name, there[id])
			}
			if err := tr.compare(t, st, id); err != nil {
				t.Errorf("%s, new index %v: snapshot %s: %v", when, fresh, tr.name, err)
			}
		}
		wantClean(t, st.session, VerifyOptions{Data: true})
		closeStore(t, st)
	}
}

// TestPruneFailingOperations fails the k-th write, sync, creation or removal of a prune, for every k (every third, without
// SNAPFS_TEST_LONG, another one with each error): nothing that is kept is lost, and the next prune ends the work.
func TestPruneFailingOperations(t *testing.T) {
	from, kept := wasteful(t)
	var want int64
	step := 3
	if os.Getenv("SNAPFS_TEST_LONG") != "" {
		step = 1
	}
	for i, fault := range []error{errInjected, syscall.ENOSPC} {
		k := i % step
		for ; ; k += step {
			dir := copyStore(t, from)
			files := faultyAt(t, dir, k, fault)
			st := openTrees(t, dir, func(o *Options) { o.Files = files })
			_, err := st.Prune(t.Context(), PruneOptions{}, nil)
			if err != nil && !errors.Is(err, fault) {
				t.Fatalf("fault %d: %v", k, err)
			}
			for id, tr := range kept {
				if err := tr.compare(t, st, id); err != nil {
					t.Errorf("fault %d, before closing: %s: %v", k, tr.name, err)
				}
			}
			_ = st.Close() // what it could not write is said below
			st = openTrees(t, dir)
			if _, err := st.Prune(t.Context(), PruneOptions{}, nil); err != nil {
				t.Errorf("fault %d: next prune: %v", k, err)
			}
			size, _ := volumesSize(t, st)
			closeStore(t, st)
			checkKept(t, dir, kept, fault.Error())
			if !files.hit {
				want = size
				break
			}
			if t.Failed() || k > 1000 {
				t.Fatalf("stopped at fault %d", k)
			}
		}
		t.Logf("%d operations, one in %d failed with %v; %d bytes at the end", k, step, fault, want)
	}
}

func faultyAt(t testing.TB, dir string, k int, fault error) *faultyFiles {
	own, err := filesFor(dir)
	if err != nil {
		t.Fatal(err)
	}
	return &faultyFiles{Files: own, err: fault, left: k}
}
