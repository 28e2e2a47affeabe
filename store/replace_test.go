package store

import (
	"os"
	"testing"
)

// TestLostAndForgotten: when the snapshots that need a lost volume have been forgotten, repair lets go of it; not as long as they may
// be wanted again.
func TestLostAndForgotten(t *testing.T) {
	dir := newStore(t)
	var snaps []Snapshot
	var lost []ID
	for i, name := range []string{"one", "two"} {
		st := openStore(t, dir)
		var snap Snapshot
		lost, snap = putAll(t, st, "d", name, blobs(uint64(i), 100_000, 200_000))
		snaps = append(snaps, snap)
		closeStore(t, st)
	}
	st := openStore(t, dir)
	for id := range volumesOf(t, st, lost...) {
		must(t, os.Remove(volumePath(dir, id)))
	}
	closeStore(t, st)
	st = openStore(t, dir)
	defer func() { closeStore(t, st) }()
	repair := VerifyOptions{Data: true, Repair: true}
	wantLost := func(what string) {
		t.Helper()
		if sum, findings := verified(t, st.session, repair); sum.Findings == sum.Healed {
			t.Errorf("%s, no damage is left: %+v", what, findings)
		}
	}
	wantLost("at first")
	forgetAll(t, st, snaps[1])
	wantLost("forgotten")
	mustPrune(t, st, PruneOptions{})
	if sum, findings := verified(t, st.session, repair); sum.Findings == 0 || sum.Findings != sum.Healed {
		t.Errorf("after prune and repair: %+v", findings)
	}
	st = reindex(t, st, func() *Store { return openStore(t, dir) })
	if sum, findings := verified(t, st.session, VerifyOptions{Data: true}); sum.Findings > 0 {
		t.Errorf("in the end: %+v", findings)
	}
	if damaged, err := st.session.DamagedBlobs(t.Context()); err != nil || len(damaged) > 0 {
		t.Errorf("still recorded: %v, %v", damaged, err)
	}
}
