package store

import (
	"testing"

	"github.com/dgraph-io/badger/v4"

	"snapfs/store/volume"
)

// sealOne ends the volume of a kind as prune does it for all.
func sealOne(t testing.TB, e *engine, kind volume.Kind) {
	t.Helper()
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	e.mu.Lock()
	v := e.current[kind]
	delete(e.current, kind)
	e.mu.Unlock()
	e.flushMu.Lock()
	defer e.flushMu.Unlock()
	must(t, e.flushVolume(v, true))
}

// TestNumbersStayGivenAfterPowerLoss: the index has lost that a volume was there, and that it is gone, but not the places of blobs in
// it. No other volume gets its number: they would count as stored there.
func TestNumbersStayGivenAfterPowerLoss(t *testing.T) {
	dir := newStore(t)
	files := newLossFiles(t, dir, -1)
	st := openTrees(t, dir, func(o *Options) { o.Files = files })
	files.watch(st)
	h := &history{kept: map[ID]tree{}, gone: map[ID]tree{}}
	must(t, doBackup(manyFiles(1, 3, 40_000))(t, st, h))
	must(t, engineOf(st).sealCurrent())
	must(t, doBackup(manyFiles(2, 6, 40_000))(t, st, h))
	sealOne(t, engineOf(st), volume.Data)
	sealOne(t, engineOf(st), volume.Metadata)
	must(t, doForget("s2")(t, st, h))
	must(t, doPrune(t, st, h))
	files.stop()
	_ = st.Close() // it can write nothing
	again := []deed{doBackup(manyFiles(2, 6, 40_000))}
	for _, l := range losses {
		afterLoss(t, files.leave(t, l), h, again, "left "+l.volumes+", "+l.index)
	}
}

// TestUpkeepMovesWhatTheIndexLacks: places that the index has lost, or that lead to a volume which is gone, are no reason to leave blobs
// behind in a volume that is about to be removed.
func TestUpkeepMovesWhatTheIndexLacks(t *testing.T) {
	from, kept := small(t)
	for name, harm := range map[string]func(e *engine, id ID, p shortPlace) error{
		"lost": func(e *engine, id ID, _ shortPlace) error { return e.removeEntry(id) },
		"elsewhere": func(e *engine, id ID, p shortPlace) error {
			return setPlace(e, id, shortPlace{999, p.offset, p.stored, p.start, p.length, p.ordinal})
		},
		"unreadable": func(e *engine, id ID, _ shortPlace) error {
			return e.idx.db.Update(func(txn *badger.Txn) error { return txn.Set(blobKey(id), []byte("garbage")) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyStore(t, from)
			st := openTrees(t, dir)
			e, n := engineOf(st), 0
			must(t, e.eachPlace(func(id ID, p shortPlace) error {
				if n++; n%3 == 0 {
					return harm(e, id, p)
				}
				return nil
			}))
			r, err := st.Upkeep(t.Context())
			must(t, err)
			if len(r.Rewritten) == 0 {
				t.Fatal("upkeep had nothing to do")
			}
			closeStore(t, st)
			checkKept(t, dir, kept, "after upkeep")
		})
	}
}

func setPlace(e *engine, id ID, p shortPlace) error {
	return e.idx.write(func(set func(key, value []byte) error, _ func([]byte) error) error {
		return set(blobKey(id), p.encode())
	})
}
