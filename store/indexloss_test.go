package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	h := newHistory(map[ID]tree{})
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

// TestFullMemoryTablesAreSynced: what is written after a memory table of the index was full does not outlast what is in that.
func TestFullMemoryTablesAreSynced(t *testing.T) {
	st := openTrees(t, newStore(t))
	defer closeStore(t, st)
	dir := t.TempDir()
	x, err := openIndex(dir, engineOf(st).bundle, 1<<20, discardLog())
	must(t, err)
	for i := range 64 { // tables cannot be written for some seconds
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%06d.sst", i)), nil, 0o600))
	}
	var synced []string
	x.syncFile = func(path string) error {
		synced = append(synced, filepath.Base(path))
		return nil
	}
	write := func() error {
		return x.write(func(set func(key, value []byte) error, _ func([]byte) error) error {
			return set(metaKey("test"), make([]byte, 20_000))
		})
	}
	logs := func() []string { return must1(filepath.Glob(filepath.Join(dir, "*.mem"))) }
	for len(logs()) < 2 {
		must(t, write())
	}
	if first := filepath.Base(logs()[0]); !slices.Contains(synced, first) {
		t.Errorf("%s is full; synced are %v", first, synced)
	}
	for i := range 64 {
		_ = os.Remove(filepath.Join(dir, fmt.Sprintf("%06d.sst", i)))
	}
	must(t, x.close())
}

// TestFoldHalfWritten: of a fold that is too large for one transaction the records are there and not yet how far it goes. The facts are
// folded once more, and no snapshot gets the number of another.
func TestFoldHalfWritten(t *testing.T) {
	dir := newStore(t)
	st := openTrees(t, dir)
	h := newHistory(map[ID]tree{})
	must(t, doBackup(manyFiles(1, 2, 20_000))(t, st, h))
	e := engineOf(st)
	keys := [][]byte{chainKey, volumeKey(e.journal.id)}
	values := [][]byte{must1(e.idx.get(keys[0])), must1(e.idx.get(keys[1]))}
	must(t, doBackup(manyFiles(2, 2, 20_000))(t, st, h))
	must(t, e.idx.write(func(set func(key, value []byte) error, _ func([]byte) error) error {
		return errors.Join(set(keys[0], values[0]), set(keys[1], values[1]))
	}))
	crash(t, st)
	st = openTrees(t, dir)
	must(t, doBackup(manyFiles(3, 2, 20_000))(t, st, h))
	checkHistory(t, st, h, "gone on with")
	closeStore(t, st)
	st = openTrees(t, dir)
	defer closeStore(t, st)
	checkHistory(t, st, h, "opened again")
}
