package store

import (
	"testing"

	"snapfs/store/volume"
)

// crashedStore is a store with a data volume of 6 MB that a crash left open, and what is in it.
func crashedStore(t *testing.T) (dir string, ids []ID, data [][]byte) {
	t.Helper()
	dir = newStore(t)
	st := openStore(t, dir)
	for range 40 {
		data = append(data, blobs(uint64(len(data)), 150_000, 3000)...)
	}
	ids, _ = putAll(t, st, "d", "n", data)
	crash(t, st)
	return dir, ids, data
}

// unsealedData counts the volumes of data that are not finished.
func unsealedData(t *testing.T, st *Store) (n int) {
	t.Helper()
	list, err := st.Volumes(t.Context())
	must(t, err)
	for _, v := range list {
		if v.Kind == volume.Data && !v.Sealed {
			n++
		}
	}
	return n
}

// TestLargeCrashedVolumeIsFinishedInParts: each command that wrote does a part of it, and goes on where the one before came to; all is
// there meanwhile, also after another crash, and with an index made anew.
func TestLargeCrashedVolumeIsFinishedInParts(t *testing.T) {
	for name, between := range map[string]func(t *testing.T, st *Store, open func() *Store) *Store{
		"one holder": func(_ *testing.T, st *Store, _ func() *Store) *Store { return st },
		"closed": func(t *testing.T, st *Store, open func() *Store) *Store {
			closeStore(t, st)
			return open()
		},
		"killed": func(t *testing.T, st *Store, open func() *Store) *Store {
			crash(t, st)
			return open()
		},
		"index made anew": reindexedWith,
		"searched again": func(t *testing.T, st *Store, _ func() *Store) *Store {
			must(t, engineOf(st).reindex())
			return st
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, ids, data := crashedStore(t)
			open := func() *Store { return openStore(t, dir) }
			st := open()
			rounds := 0
			for ; unsealedData(t, st) > 0 && rounds < 10; rounds++ {
				_, err := engineOf(st).upkeep(t.Context(), nil, upkeepBudget{bytes: 1 << 20, part: 2 << 20})
				must(t, err)
				checkAll(t, st, ids, data)
				st = between(t, st, open)
				checkAll(t, st, ids, data)
			}
			if rounds < 2 || rounds > 5 {
				t.Errorf("finished in %d rounds", rounds)
			}
			wantClean(t, st.session, VerifyOptions{Data: true})
			closeStore(t, st)
			for path, b := range readVolumes(t, dir) { // parity covers all of it
				if len(b) > 1<<20 {
					flipByte(t, path, int64(len(b)/2))
				}
			}
			st = open()
			if left, _ := repairOnce(t, st); left != 0 {
				t.Errorf("%d findings are left", left)
			}
			checkAll(t, st, ids, data)
			closeStore(t, st)
		})
	}
}

func reindexedWith(t *testing.T, st *Store, open func() *Store) *Store { return reindex(t, st, open) }

// TestPartThatIsDamagedLater: what was copied is read from its old place as long as that is there, and is not forgotten there.
func TestPartThatIsDamagedLater(t *testing.T) {
	dir, ids, data := crashedStore(t)
	st := openStore(t, dir)
	old := map[string]bool{}
	for path := range readVolumes(t, dir) {
		old[path] = true
	}
	_, err := engineOf(st).upkeep(t.Context(), nil, upkeepBudget{bytes: 1 << 20, part: 2 << 20})
	must(t, err)
	closeStore(t, st)
	for path, b := range readVolumes(t, dir) {
		if !old[path] && len(b) > 1<<20 {
			for at := 10_000; at < len(b)-10_000; at += 4096 { // beyond its parity
				flipByte(t, path, int64(at))
			}
		}
	}
	st = openStore(t, dir)
	if left, _ := repairOnce(t, st); left != 0 {
		t.Errorf("%d findings are left", left)
	}
	for range 5 {
		_, err := engineOf(st).upkeep(t.Context(), nil, upkeepBudget{bytes: 1 << 20, part: 2 << 20})
		must(t, err)
	}
	if n := unsealedData(t, st); n != 0 {
		t.Errorf("%d volumes are not finished", n)
	}
	checkAll(t, st, ids, data)
	wantClean(t, st.session, VerifyOptions{Data: true})
	closeStore(t, st)
}
