package store

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"snapfs/store/volume"
)

// TestTrailerNotSynced: a holder is killed between the last write of a volume and its sync. The next one brings to stable storage what it
// names in its facts, as long as the power lasts.
func TestTrailerNotSynced(t *testing.T) {
	dir := newStore(t)
	files := newLossFiles(t, dir, -1)
	with := func(o *Options) { o.Files = files }
	st := openTrees(t, dir, with)
	files.watch(st)
	h := newHistory(map[ID]tree{})
	must(t, doBackup(manyFiles(1, 2, 40_000))(t, st, h))
	data := volumePath(dir, engineOf(st).current[volume.Data].id)
	files.mu.Lock()
	files.fault = func(op, path string, _ []byte) error {
		if op == "sync" && path == data {
			files.off = true
			return errPower
		}
		return nil
	}
	files.mu.Unlock()
	_ = st.Close() // killed
	files.mu.Lock()
	files.off, files.fault = false, nil
	files.mu.Unlock()
	st = openTrees(t, dir, with)
	if v := engineOf(st).volumes.byID; !v[volumeAt(t, data)].sealed {
		t.Fatal("the volume has no trailer")
	}
	files.watch(st)
	must(t, doBackup(manyFiles(2, 2, 40_000))(t, st, h))
	files.stop()
	_ = st.Close() // it can write nothing
	for _, l := range losses {
		afterLoss(t, files.leave(t, l), h, nil, l.volumes+", "+l.index)
	}
}

func volumeAt(t testing.TB, path string) volume.ID {
	t.Helper()
	for id := range must1(onDisk(filepath.Dir(path))) {
		if id.String() == filepath.Base(path) {
			return id
		}
	}
	t.Fatalf("no volume %s", path)
	return volume.ID{}
}

func must1[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// renamed notes renames that are not synced yet, and what names would be lost if any of them reached the disk without the others.
type renamed struct {
	Files
	names   map[string]int // what is on stable storage
	pending [][2]string
	lost    []string
}

func (f *renamed) Rename(from, to string) error {
	f.pending = append(f.pending, [2]string{filepath.Base(from), filepath.Base(to)})
	f.look()
	return f.Files.Rename(from, to)
}

func (f *renamed) SyncDir(path string) error {
	f.names = f.some(1<<len(f.pending) - 1)
	f.pending = nil
	return f.Files.SyncDir(path)
}

// some gives the names after some of the renames, by their bits.
func (f *renamed) some(which int) map[string]int {
	names := maps.Clone(f.names)
	for i, p := range f.pending {
		if file, ok := names[p[0]]; ok && which&(1<<i) != 0 {
			names[p[1]] = file
			delete(names, p[0])
		}
	}
	return names
}

func (f *renamed) look() {
	for which := range 1 << len(f.pending) {
		there := map[int]bool{}
		for _, file := range f.some(which) {
			there[file] = true
		}
		for name, file := range f.names {
			if !there[file] {
				f.lost = append(f.lost, name)
			}
		}
	}
}

// TestExchangedNamesInAnyOrder: when two volumes get their names again, no file is ever without a name, whichever of the renames have
// reached the disk when the power goes.
func TestExchangedNamesInAnyOrder(t *testing.T) {
	dir, kinds, ids, data, _ := mixedStore(t)
	a, b := volumePath(dir, kinds[volume.Data][0]), volumePath(dir, kinds[volume.Metadata][0])
	must(t, os.Rename(a, a+"x"))
	must(t, os.Rename(b, a))
	must(t, os.Rename(a+"x", b))
	own, err := filesFor(dir)
	must(t, err)
	files := &renamed{Files: own, names: map[string]int{}}
	for i, e := range must1(os.ReadDir(volumesDir(dir))) {
		files.names[e.Name()] = i
	}
	st, err := Open(t.Context(), dir, Options{Unlock: unlockTest, Files: files, References: testReferences})
	must(t, err)
	defer closeStore(t, st)
	_, err = st.Verify(t.Context(), VerifyOptions{Repair: true}, func(VerifyEvent) error { return nil })
	must(t, err)
	checkAll(t, st, ids, data)
	if len(files.lost) > 0 {
		t.Errorf("files without a name for a while: %v", files.lost)
	}
}

// TestFactAboutLostBlobs: a fact is not added when the blobs it names are lost while it waits to be.
func TestFactAboutLostBlobs(t *testing.T) {
	st := openTrees(t, newStore(t))
	defer closeStore(t, st)
	e := engineOf(st)
	must(t, doBackup(manyFiles(1, 2, 4000))(t, st, newHistory(map[ID]tree{})))
	w := st.NewWriter()
	page, err := w.Put(t.Context(), KindNode, []byte("a page of a list"))
	must(t, err)
	must(t, w.Flush(t.Context()))
	done := make(chan error)
	e.commitMu.Lock() // somebody commits
	go func() {
		done <- st.session.Append(t.Context(), []FactBody{&recordFact{kind: FactArchiveSet, key: make([]byte, 16), value: page[:]}})
	}()
	time.Sleep(100 * time.Millisecond) // enough to look at the session and wait
	_ = e.failed(e.current[volume.Metadata], errInjected)
	e.commitMu.Unlock()
	err = <-done
	if _, found := st.Get(t.Context(), KindNode, page); found == nil {
		t.Fatal("the page is not lost")
	}
	if !errors.Is(err, ErrWriteFailed) {
		t.Fatalf("the fact was added: %v", err)
	}
}

// TestSealedBeforeFirstFact: the power goes when the first volume of a store is sealed and no fact names it yet. Nothing is missing.
func TestSealedBeforeFirstFact(t *testing.T) {
	dir := newStore(t)
	files := newLossFiles(t, dir, -1)
	st := openTrees(t, dir, func(o *Options) { o.Files = files })
	files.watch(st)
	w := st.NewWriter()
	_, err := w.Put(t.Context(), KindChunk, blobs(1, 200_000)[0])
	must(t, err)
	must(t, w.Flush(t.Context()))
	files.mu.Lock()
	data, syncs := volumePath(dir, engineOf(st).current[volume.Data].id), 0
	files.fault = func(op, path string, _ []byte) error {
		if path == data && op == "sync" {
			syncs++
		}
		if path != data && syncs == 2 {
			files.powerOff("fact") // the trailer is synced
		}
		return nil
	}
	files.mu.Unlock()
	_ = st.Close()
	files.stop()
	afterLoss(t, files.leave(t, losses[0]), newHistory(map[ID]tree{}), nil, "after the first seal")
}
