package store

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"snapfs/store/volume"
)

// failedFact fails a fact by something that goes wrong with the journal, adds others, and checks that the one that failed does not come
// back, nor spoils the chain. A store that takes no more facts until it is opened again is as good.
func failedFact(t *testing.T, goesWrong func(journal string) func(op, path string, b []byte) error, left loss) {
	t.Helper()
	dir := newStore(t)
	files := newLossFiles(t, dir, -1)
	st := openTrees(t, dir, func(o *Options) { o.Files = files })
	files.watch(st)
	h := newHistory(map[ID]tree{})
	one, two := manyFiles(1, 2, 20_000), manyFiles(2, 2, 20_000)
	must(t, doBackup(one)(t, st, h))
	must(t, doBackup(two)(t, st, h))
	before := h.clone()
	files.mu.Lock()
	files.fault = goesWrong(volumePath(dir, engineOf(st).journal.id))
	files.mu.Unlock()
	if err := doForget("s1")(t, st, h); err == nil {
		t.Fatal("nothing went wrong")
	}
	refused := doForget("s2")(t, st, h)
	if refused != nil {
		h = before
		delete(h.kept, idOf(h.kept, "s1")) // what failed may have been done
		delete(h.kept, idOf(h.kept, "s2"))
	} else {
		h.kept[idOf(before.kept, "s1")] = one
	}
	files.stop()
	_ = st.Close() // it can write nothing
	afterLoss(t, files.leave(t, left), h, []deed{doBackup(manyFiles(3, 2, 20_000))}, left.volumes)
}

func idOf(list map[ID]tree, name string) ID {
	for id, tr := range list {
		if tr.name == name {
			return id
		}
	}
	return ID{}
}

// TestFailedFactStaysAway: a sync of the journal fails, and what was cut off comes back when the power has gone.
func TestFailedFactStaysAway(t *testing.T) {
	once := func(ops ...string) func(string) func(string, string, []byte) error {
		return func(journal string) func(op, path string, b []byte) error {
			return func(op, path string, _ []byte) error {
				if len(ops) > 0 && op == ops[0] && path == journal {
					ops = ops[1:]
					return errInjected
				}
				return nil
			}
		}
	}
	t.Run("what is cut off comes back", func(t *testing.T) { failedFact(t, once("sync"), loss{"uncut", "synced"}) })
	t.Run("it cannot be cut", func(t *testing.T) { failedFact(t, once("sync", "truncate"), loss{"all", "written"}) })
	t.Run("the cut is not synced", func(t *testing.T) { failedFact(t, once("sync", "sync"), loss{"uncut", "written"}) })
}

// noParity fails to write parity, when it is told to.
type noParity struct {
	Files
	fails atomic.Bool
}

type noParityFile struct {
	volume.File
	f *noParity
}

func (f *noParity) Create(path string, keepCached bool) (volume.File, error) {
	file, err := f.Files.Create(path, keepCached)
	return &noParityFile{file, f}, err
}

func (f *noParityFile) WriteAt(b []byte, off int64) (int, error) {
	if f.f.fails.Load() && len(b) > volume.HeaderSize && volume.FrameKind(b[5]) == volume.FrameParity {
		return 0, errInjected
	}
	return f.File.WriteAt(b, off)
}

// TestFactsBeforeFailedParity: a fact that is written, but whose caller is told that it failed because parity behind it cannot be
// written, is cut off.
func TestFactsBeforeFailedParity(t *testing.T) {
	dir := newStore(t)
	own, err := filesFor(dir)
	must(t, err)
	files := &noParity{Files: own}
	st := openTrees(t, dir, func(o *Options) { o.Files = files })
	engineOf(st).protectAfter = time.Hour
	h := newHistory(map[ID]tree{})
	must(t, doBackup(manyFiles(1, 2, 20_000))(t, st, h))
	files.fails.Store(true)
	var failed error
	for n := byte(0); failed == nil && n < 10; n++ {
		var facts []FactBody
		for i := range byte(18) {
			value := make([]byte, 500_000)
			_, _ = rand.Read(value)
			facts = append(facts, &recordFact{kind: FactPresent, key: []byte{n, i}, value: value})
		}
		failed = st.session.Append(t.Context(), facts)
	}
	if !errors.Is(failed, errInjected) {
		t.Fatalf("no parity failed: %v", failed)
	}
	files.fails.Store(false)
	must(t, doBackup(manyFiles(2, 2, 20_000))(t, st, h))
	closeStore(t, st)
	st = openTrees(t, dir)
	defer closeStore(t, st)
	checkHistory(t, st, h, "opened again")
}

// TestLargeFacts: facts that are too large for one transaction of the index do not keep a store from being opened.
func TestLargeFacts(t *testing.T) {
	dir := newStore(t)
	st := openTrees(t, dir)
	var facts []FactBody
	for i := range byte(18) {
		facts = append(facts, &recordFact{kind: FactPresent, key: []byte{i}, value: make([]byte, 500_000)})
	}
	must(t, st.session.Append(t.Context(), facts))
	closeStore(t, st)
	for range 2 {
		closeStore(t, openTrees(t, dir))
		must(t, os.RemoveAll(filepath.Join(dir, indexName)))
	}
}
