package store

import (
	"errors"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"
)

// decision is something that only changes facts.
type decision struct {
	name string
	do   func(t *testing.T, st *Store, id ID) error
	done func(s Snapshot) bool
}

// decisions are made about one snapshot, one after the other.
var decisions = []decision{
	{"tag", func(t *testing.T, st *Store, id ID) error { return st.Tag(t.Context(), id, []string{"x"}, nil) },
		func(s Snapshot) bool { return slices.Contains(s.Tags, "x") }},
	{"untag", func(t *testing.T, st *Store, id ID) error { return st.Tag(t.Context(), id, nil, []string{"x"}) },
		func(s Snapshot) bool { return !slices.Contains(s.Tags, "x") }},
	{"hold", func(t *testing.T, st *Store, id ID) error { return st.Hold(t.Context(), id, time.Time{}) },
		func(s Snapshot) bool { return s.HeldForever }},
	{"release", func(t *testing.T, st *Store, id ID) error { return st.Release(t.Context(), id) },
		func(s Snapshot) bool { return !s.HeldForever }},
	{"forget", func(t *testing.T, st *Store, id ID) error { return st.Forget(t.Context(), []ID{id}) },
		func(s Snapshot) bool { return s.Forgotten }},
	{"unforget", func(t *testing.T, st *Store, id ID) error { return st.Unforget(t.Context(), []ID{id}) },
		func(s Snapshot) bool { return !s.Forgotten }},
}

// TestDecisionsFailingOperations fails the k-th operation of all that only changes facts, for every third k (each with SNAPFS_TEST_LONG): what
// was said to be done lasts, what failed is done or not, the same with a new index, and can be done again.
func TestDecisionsFailingOperations(t *testing.T) {
	base := newStore(t)
	st := openStore(t, base)
	ids, snap := putAll(t, st, "d", "one", blobs(1, 100))
	closeStore(t, st)
	step := 3
	if os.Getenv("SNAPFS_TEST_LONG") != "" {
		step = 1
	}
	for n, d := range decisions {
		t.Run(d.name, func(t *testing.T) {
			for i, fault := range []error{errInjected, syscall.ENOSPC} {
				k := (n + i) % step
				for ; d.fail(t, base, snap.ID, k, fault); k += step {
					if t.Failed() || k > 200 {
						t.Fatalf("stopped at operation %d, %v", k, fault)
					}
				}
				t.Logf("%d operations, one in %d failed with %v", k, step, fault)
			}
			st := openStore(t, base)
			must(t, d.do(t, st, snap.ID))
			closeStore(t, st)
		})
	}
	st = openStore(t, base)
	defer closeStore(t, st)
	checkAll(t, st, ids, blobs(1, 100))
}

func (d decision) fail(t *testing.T, base string, id ID, k int, fault error) (hit bool) {
	dir := copyStore(t, base)
	defer removeStore(t, dir)
	files := faultyAt(t, dir, k, fault)
	st, err := Open(t.Context(), dir, Options{Unlock: unlockTest, Files: files, References: testReferences})
	must(t, err)
	err = d.do(t, st, id)
	if err != nil && !errors.Is(err, fault) || err != nil && errors.Is(fault, syscall.ENOSPC) && !errors.Is(err, ErrNoSpace) {
		t.Errorf("operation %d: %v", k, err)
	}
	_ = st.Close() // what it could not write is said below
	st = openStore(t, dir)
	first := lasting(t, st)
	if err == nil && !d.done(first.Snapshots[0]) {
		t.Errorf("operation %d: said to be done, and it is not: %+v", k, first.Snapshots)
	}
	st = reindex(t, st, func() *Store { return openStore(t, dir) })
	checkLasting(t, "with a new index", st, first)
	must(t, d.do(t, st, id))
	wantClean(t, st.session, VerifyOptions{Data: true})
	st = reindex(t, st, func() *Store { return openStore(t, dir) })
	if now := lasting(t, st).Snapshots; len(now) != 1 || !d.done(now[0]) {
		t.Errorf("operation %d: done again, and there is %+v", k, now)
	}
	closeStore(t, st)
	return files.hit
}

// TestUpkeepFailingOperations fails the k-th operation of merging small volumes and of a checkpoint, for every eighth k (each with
// SNAPFS_TEST_LONG): nothing is lost, and the next upkeep ends the work.
func TestUpkeepFailingOperations(t *testing.T) {
	from, kept := small(t)
	step := 8
	if os.Getenv("SNAPFS_TEST_LONG") != "" {
		step = 1
	}
	for i, fault := range []error{errInjected, syscall.ENOSPC} {
		k := i * step / 2
		for failUpkeep(t, from, kept, k, fault) {
			if k += step; t.Failed() || k > 1000 {
				t.Fatalf("stopped at operation %d, %v", k-step, fault)
			}
		}
		t.Logf("%d operations, one in %d failed with %v", k, step, fault)
	}
}

func failUpkeep(t *testing.T, from string, kept map[ID]tree, k int, fault error) (hit bool) {
	dir := copyStore(t, from)
	defer removeStore(t, dir)
	files := faultyAt(t, dir, k, fault)
	st := openTrees(t, dir, func(o *Options) { o.Files = files })
	head := engineOf(st).fold.last
	_, err := st.Upkeep(t.Context())
	if err == nil {
		_, err = tryCompact(st)
	}
	if err != nil && !errors.Is(err, fault) && !errors.Is(err, ErrWriteFailed) {
		t.Errorf("operation %d: %v", k, err)
	}
	for id, tr := range kept {
		if err := tr.compare(t, st, id); err != nil {
			t.Errorf("operation %d, before closing: %s: %v", k, tr.name, err)
		}
	}
	_ = st.Close() // what it could not write is said below
	st = openTrees(t, dir)
	checkHead(t, st, head, "failed")
	if _, err := st.Upkeep(t.Context()); err != nil {
		t.Errorf("operation %d: next upkeep: %v", k, err)
	}
	wantClean(t, st.session, VerifyOptions{Data: true})
	closeStore(t, st)
	checkKept(t, dir, kept, "failed, then done again")
	checkVolumesKnown(t, dir)
	return files.hit
}
