package store

import (
	"fmt"
	"slices"
	"testing"
)

// TestPruneKeepsTheListOfFacts: its pages are named by no snapshot, and every head can be checked afterwards.
func TestPruneKeepsTheListOfFacts(t *testing.T) {
	dir := newStore(t)
	open := func() *Store { return openStore(t, dir) }
	st := open()
	var heads []ID
	for i := range 12 {
		_, snap := putAll(t, st, "d", fmt.Sprint(i), blobs(uint64(i), 40_000))
		heads = append(heads, snap.Head)
		if i%3 == 2 {
			compact(t, st)
			closeStore(t, st)
			st = open()
		}
	}
	state, err := st.State(t.Context())
	must(t, err)
	for _, s := range state.Snapshots[:10] {
		must(t, st.Forget(t.Context(), []ID{s.ID}))
	}
	res, err := st.Prune(t.Context(), PruneOptions{}, nil)
	must(t, err)
	if len(res.Removed)+len(res.Rewritten) == 0 {
		t.Error("nothing was pruned")
	}
	want := lasting(t, st)
	for range 2 {
		for i, head := range heads {
			checkHead(t, st, head, fmt.Sprint("head ", i))
		}
		compact(t, st)
		st = reindex(t, st, open)
		checkLasting(t, "pruned", st, want)
	}
	var found []Finding
	_, err = st.Verify(t.Context(), VerifyOptions{Data: true, Head: heads[0]}, func(ev VerifyEvent) error {
		if ev.Finding != nil {
			found = append(found, *ev.Finding)
		}
		return nil
	})
	must(t, err)
	if len(found) > 0 {
		t.Errorf("verify finds %+v", found)
	}
	_, err = st.Verify(t.Context(), VerifyOptions{Head: ID{1}}, func(ev VerifyEvent) error {
		if ev.Finding != nil {
			found = append(found, *ev.Finding)
		}
		return nil
	})
	must(t, err)
	if len(found) != 1 || found[0].Problem != ProblemHead {
		t.Errorf("of a head that never was: %+v", found)
	}
	closeStore(t, st)
}

// TestUpkeepCompactsTheJournal: by itself, when there are many facts.
func TestUpkeepCompactsTheJournal(t *testing.T) {
	dir := newStore(t)
	for i := range 3 {
		st := openStore(t, dir)
		_, snap := putAll(t, st, "d", fmt.Sprint(i), blobs(uint64(i), 20))
		for n := range leastFacts {
			must(t, st.Tag(t.Context(), snap.ID, []string{fmt.Sprint(n)}, nil))
		}
		closeStore(t, st)
	}
	st := openStore(t, dir)
	defer closeStore(t, st)
	state, err := st.State(t.Context())
	must(t, err)
	if base := engineOf(st).fold.base; base.seq == 0 || base.count < 2*leastFacts {
		t.Errorf("the checkpoint is fact %d of %d and replaces %d", base.seq, state.Seq, base.count)
	}
	checkHead(t, st, ID{}, "compacted")
	if !slices.Contains(state.Snapshots[0].Tags, "191") {
		t.Errorf("tags %v", state.Snapshots[0].Tags)
	}
}
