package store

import (
	"os"
	"path/filepath"
	"testing"
)

// TestFactsThatOnlyTheIndexKnows removes journals and makes sure that repair and rebuild write what they said anew, so that no index
// made later lacks it.
func TestFactsThatOnlyTheIndexKnows(t *testing.T) {
	repair := func(st *Store) error {
		_, err := st.Verify(t.Context(), VerifyOptions{Repair: true}, func(VerifyEvent) error { return nil })
		return err
	}
	rebuild := func(st *Store) error { return st.Rebuild(t.Context(), nil) }
	for _, c := range []struct {
		name    string
		mend    func(*Store) error
		removed []int
		damaged int // a journal that parity mends, so that the index is made anew; -1: none
		compact bool
	}{
		{"one in the middle, repair", repair, []int{5}, -1, false},
		{"several, repair", repair, []int{0, 2, 3, 6}, -1, false},
		{"the newest, repair", repair, []int{7}, -1, false},
		{"all but one, repair", repair, []int{0, 1, 2, 3, 5, 6, 7}, -1, false},
		{"beside one that is mended, repair", repair, []int{2}, 4, false},
		{"behind and before a checkpoint, repair", repair, []int{2, 6}, -1, true},
		{"with the checkpoint, repair", repair, []int{3}, 5, true},
		{"one in the middle, rebuild", rebuild, []int{5}, -1, false},
		{"with the checkpoint, rebuild", rebuild, []int{3}, -1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, journals, heads := chainStore(t, c.compact)
			st := openStore(t, dir)
			want := lasting(t, st)
			closeStore(t, st)
			for _, i := range c.removed {
				must(t, os.Remove(volumePath(dir, journals[i])))
			}
			if c.damaged >= 0 {
				flipByte(t, volumePath(dir, journals[c.damaged]), 4200)
			}
			st = openStore(t, dir)
			must(t, c.mend(st))
			checkLasting(t, "mended", st, want)
			st = reindex(t, st, func() *Store { return openStore(t, dir) })
			checkLasting(t, "with a new index", st, want)
			checkHead(t, st, heads[4], "a head from before")
			closeStore(t, st)
			if p := chainProblems(t, dir, ID{}); len(p) > 0 {
				t.Errorf("the chain is still not whole: %v", p)
			}
			checkCompactable(t, dir, want)
		})
	}
}

// checkCompactable makes sure that the journal is compacted again from then on.
func checkCompactable(t *testing.T, dir string, want State) {
	t.Helper()
	st := openStore(t, dir)
	defer closeStore(t, st)
	report, err := tryCompact(st)
	must(t, err)
	if !report.Written {
		t.Error("no checkpoint was written")
	}
	checkLasting(t, "compacted", st, want)
}

// TestFactsThatNobodyKnows: what the index never knew stays missing, and is mentioned for ever.
func TestFactsThatNobodyKnows(t *testing.T) {
	dir, journals, _ := chainStore(t, false)
	must(t, os.Remove(volumePath(dir, journals[5])))
	must(t, os.RemoveAll(filepath.Join(dir, indexName)))
	st := openStore(t, dir)
	if sum, _ := verified(t, st.session, VerifyOptions{}); sum.Findings-sum.Healed != 1 {
		t.Errorf("before the repair: %+v", sum)
	}
	if left, _ := repairOnce(t, st); left != 1 {
		t.Errorf("%d findings are left", left)
	}
	wantNotes(t, st, "missing")
	closeStore(t, st)
}

// TestRolledBackVolumesAreNotKept: if the volumes were put back from an older copy, a repair does not hold on to snapshots that are
// gone with them, and a rebuild goes on from what is there.
func TestRolledBackVolumesAreNotKept(t *testing.T) {
	dir, _, _ := chainStore(t, false)
	older := t.TempDir()
	copyVolumes(t, volumesDir(dir), older)
	st := openStore(t, dir)
	want := lasting(t, st)
	putAll(t, st, "d", "newer", blobs(99, 20))
	closeStore(t, st)
	must(t, os.RemoveAll(volumesDir(dir)))
	copyVolumes(t, older, volumesDir(dir))
	st = openStore(t, dir)
	_, err := st.Verify(t.Context(), VerifyOptions{Repair: true}, func(VerifyEvent) error { return nil })
	must(t, err)
	if got := lasting(t, st); len(got.Snapshots) != len(want.Snapshots)+1 {
		t.Errorf("%d snapshots after the repair, want that of the index still to be shown", len(got.Snapshots))
	}
	if loss := rebuildLoses(t, st); len(loss.Snapshots) != 1 || loss.Snapshots[0].Name != "newer" {
		t.Errorf("%+v", loss)
	}
	checkLasting(t, "rebuilt", st, want)
	closeStore(t, st)
	if p := chainProblems(t, dir, ID{}); len(p) > 0 {
		t.Errorf("the chain is not whole: %v", p)
	}
}
