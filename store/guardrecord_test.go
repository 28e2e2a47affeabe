package store

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"snapfs/store/volume"
)

// heldStore is a store with a held snapshot in sealed volumes that share nothing with those of another one.
func heldStore(t *testing.T) (dir string, held Snapshot, ids []ID, data [][]byte) {
	t.Helper()
	dir = newStore(t)
	data = blobs(1, 10, 300_000)
	st := openStore(t, dir)
	ids, held = putAll(t, st, "d", "held", data)
	closeStore(t, st)
	st = openStore(t, dir)
	must(t, st.Hold(t.Context(), held.ID, time.Time{}))
	closeStore(t, st)
	return dir, held, ids, data
}

// still leaves out what is not on the disk any more.
func still(t *testing.T, dir string, set map[volume.ID]bool) map[volume.ID]bool {
	t.Helper()
	disk, err := onDisk(volumesDir(dir))
	must(t, err)
	set = maps.Clone(set)
	maps.DeleteFunc(set, func(id volume.ID, _ bool) bool { _, there := disk[id]; return !there })
	return set
}

// TestMissingFlagsAreSetAgain: whatever cleared the flags of volumes with held content, the next job that may write sets them.
func TestMissingFlagsAreSetAgain(t *testing.T) {
	needImmutable(t)
	lost := map[string]func(t *testing.T, dir string){
		"cleared by hand": func(*testing.T, string) {},
		"index lost": func(t *testing.T, dir string) {
			must(t, os.RemoveAll(filepath.Join(dir, indexName)))
		},
	}
	jobs := map[string]func(t *testing.T, st *Store){
		"upkeep": func(t *testing.T, st *Store) {
			_, err := st.Upkeep(t.Context())
			must(t, err)
		},
		"prune": func(t *testing.T, st *Store) {
			_, err := st.Prune(t.Context(), PruneOptions{}, nil)
			must(t, err)
		},
		"rebuild": func(t *testing.T, st *Store) { must(t, st.Rebuild(t.Context(), nil)) },
		"repair":  func(t *testing.T, st *Store) { verified(t, st.session, VerifyOptions{Data: true, Repair: true}) },
		"backup":  func(t *testing.T, st *Store) { putAll(t, st, "d", "more", blobs(3, 10)) }, // and upkeep when it ends
	}
	for how, lose := range lost {
		for what, job := range jobs {
			t.Run(how+", "+what, func(t *testing.T) {
				dir, held, ids, data := heldStore(t)
				want := immutable(t, dir)
				unguardAll(dir)
				lose(t, dir)
				st := openStore(t, dir)
				job(t, st)
				closeStore(t, st)
				got := immutable(t, dir)
				for id := range still(t, dir, want) {
					if !got[id] {
						t.Errorf("volume %s has no flag", id)
					}
				}
				checkSurvives(t, what, dir, held, ids, data)
			})
		}
	}
}

// deadFiles do not set flags any more: the process is killed before it comes to them.
type deadFiles struct{ Files }

func (deadFiles) SetImmutable(string, bool) (was bool, err error) { return false, nil }

// TestKilledBetweenHoldAndFlags: the fact is there and the flags are not.
func TestKilledBetweenHoldAndFlags(t *testing.T) {
	needImmutable(t)
	dir := newStore(t)
	data := blobs(1, 10, 300_000)
	st := openStore(t, dir)
	ids, held := putAll(t, st, "d", "held", data)
	closeStore(t, st)
	own, err := filesFor(dir)
	must(t, err)
	st, err = Open(t.Context(), dir, Options{Unlock: unlockTest, References: testReferences, Files: deadFiles{own}})
	must(t, err)
	must(t, st.Hold(t.Context(), held.ID, time.Time{}))
	must(t, engineOf(st).deleteKeys([][]byte{guardKey})) // it did not come to that either
	crash(t, st)
	if got := immutable(t, dir); len(got) != 0 {
		t.Fatalf("%d volumes are immutable", len(got))
	}
	st = openStore(t, dir)
	putAll(t, st, "d", "more", blobs(3, 10))
	closeStore(t, st)
	checkSurvives(t, "held", dir, held, ids, data)
}

// TestRepairKilledBetweenRenameAndFlag: the healed copy has taken the place of the volume and not its flag.
func TestRepairKilledBetweenRenameAndFlag(t *testing.T) {
	needImmutable(t)
	dir, held, ids, data := heldStore(t)
	for id := range immutable(t, dir) {
		_, err := setImmutable(volumePath(dir, id), false)
		must(t, err)
		break
	}
	st := openStore(t, dir)
	putAll(t, st, "d", "more", blobs(3, 10))
	closeStore(t, st)
	checkSurvives(t, "repaired", dir, held, ids, data)
}

// TestHealedCopiesAreGuarded: what a backup stores anew because it was damaged is as immutable as what it replaces.
func TestHealedCopiesAreGuarded(t *testing.T) {
	needImmutable(t)
	dir, held, ids, data := heldStore(t)
	st := openStore(t, dir)
	place, err := st.Locate(t.Context(), ids[1:])
	must(t, err)
	path := volumePath(dir, place[0].Volume)
	_, err = setImmutable(path, false)
	must(t, err)
	for at := range int64(place[0].Stored) { // more than parity heals
		if at%4096 == 0 {
			flipByte(t, path, place[0].Offset+at)
		}
	}
	if _, err := st.Get(t.Context(), KindChunk, ids[1]); err == nil {
		t.Fatal("damage not noticed")
	}
	putAll(t, st, "d", "again", data)
	closeStore(t, st)
	st = openStore(t, dir)
	fresh := volumesOf(t, st, ids[1])
	closeStore(t, st)
	if id := first(fresh); id == place[0].Volume || !immutable(t, dir)[id] {
		t.Errorf("volume %s with the healed copy is not immutable", id)
	}
	checkSurvives(t, "healed", dir, held, ids, data)
}

// TestFlagsEndWithHolds: when a hold has run out the next job clears them.
func TestFlagsEndWithHolds(t *testing.T) {
	needImmutable(t)
	dir := newStore(t)
	now := time.Now()
	open := func() *Store {
		st, err := Open(t.Context(), dir, Options{Unlock: unlockTest, References: testReferences, Now: func() time.Time { return now }})
		must(t, err)
		return st
	}
	st := open()
	_, held := putAll(t, st, "d", "held", blobs(1, 10, 300_000))
	closeStore(t, st)
	st = open()
	must(t, st.Hold(t.Context(), held.ID, now.Add(time.Hour)))
	closeStore(t, st)
	if len(immutable(t, dir)) == 0 {
		t.Error("nothing is immutable")
	}
	now = now.Add(2 * time.Hour)
	st = open()
	putAll(t, st, "d", "more", blobs(3, 10))
	closeStore(t, st)
	if got := immutable(t, dir); len(got) != 0 {
		t.Errorf("%d volumes are immutable when nothing is held", len(got))
	}
}

// countingReferences counts what is looked into.
func countingReferences(n *int) References {
	return func(kind Kind, data []byte, visit func(Kind, ID)) error {
		*n++
		return testReferences(kind, data, visit)
	}
}

// TestFlagsWithoutAnotherWalk: held snapshots are not walked again for flags, and without holds nothing is.
func TestFlagsWithoutAnotherWalk(t *testing.T) {
	needImmutable(t)
	dir, held, ids, data := heldStore(t)
	walked := 0
	job := func(name string) {
		t.Helper()
		walked = 0
		st, err := Open(t.Context(), dir, Options{Unlock: unlockTest, References: countingReferences(&walked)})
		must(t, err)
		putAll(t, st, "d", name, blobs(3, 10))
		closeStore(t, st)
	}
	unguardAll(dir)
	job("one")
	if walked != 0 {
		t.Errorf("%d blobs were looked into for the flags of volumes that are known", walked)
	}
	checkSurvives(t, "set again", dir, held, ids, data)
	must(t, os.RemoveAll(filepath.Join(dir, indexName)))
	job("two")
	if walked == 0 {
		t.Error("without a record nothing was looked into")
	}
	st := openStore(t, dir)
	must(t, st.Release(t.Context(), held.ID))
	closeStore(t, st)
	must(t, os.RemoveAll(filepath.Join(dir, indexName)))
	job("three")
	if walked != 0 {
		t.Errorf("%d blobs were looked into while nothing is held", walked)
	}
}
