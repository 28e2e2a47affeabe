package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// The index lies in STORE/index/N; STORE/index/current holds N. A new one becomes current only when it is complete.
const currentName = "current"

// currentIndex returns the directory of the current index, "" if there is none.
func currentIndex(store string) (string, error) {
	n, err := currentNumber(store)
	if err != nil || n == 0 {
		return "", err
	}
	dir := filepath.Join(store, indexName, strconv.Itoa(n))
	if _, err := os.Stat(dir); err != nil {
		return "", nil
	}
	return dir, nil
}

func currentNumber(store string) (int, error) {
	data, err := os.ReadFile(filepath.Join(store, indexName, currentName))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("index: %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || n < 0 {
		return 0, nil // damaged: as good as none
	}
	return n, nil
}

// freshIndex makes a new index from the volumes alone and puts it in the place of the present one. Needs commitMu and
// flushMu once others use the engine.
func (e *engine) freshIndex(progress func(RebuildProgress)) error {
	number, err := e.nextIndex()
	if err != nil {
		return err
	}
	if err := e.enoughForIndex(false); err != nil {
		return err
	}
	dir := filepath.Join(e.dir, indexName, strconv.Itoa(number))
	x, err := openIndex(dir, e.bundle, e.reserve.memtable, e.log)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	cat, f := newCatalogue(), newFold()
	f.admin = e.bundle.AppendOnly()
	err = e.ownIndex()
	if err == nil {
		err = e.syncIndex(x, cat, f, true, progress)
	}
	if err == nil {
		err = x.write(func(set func(key, value []byte) error, _ func([]byte) error) error {
			return set(metaKey("version"), []byte{indexVersion})
		})
	}
	if err == nil {
		err = x.sync()
	}
	if err == nil {
		err = e.files.WriteFile(filepath.Join(e.dir, indexName, currentName), []byte(strconv.Itoa(number)+"\n"))
	}
	if err != nil {
		return errors.Join(err, x.close(), os.RemoveAll(dir))
	}
	old := e.idx
	e.indexMu.Lock()
	e.install(x, cat, f)
	e.indexMu.Unlock()
	if old != nil {
		e.rerecord()
		err = old.close()
	}
	return errors.Join(err, e.dropOldIndexes(number))
}

// nextIndex prepares STORE/index and returns a number nobody used.
func (e *engine) nextIndex() (int, error) {
	top := filepath.Join(e.dir, indexName)
	if err := os.MkdirAll(top, 0o700); err != nil {
		return 0, fmt.Errorf("index: %w", err)
	}
	n, err := currentNumber(e.dir)
	if err != nil {
		return 0, err
	}
	for {
		n++
		if _, err := os.Stat(filepath.Join(top, strconv.Itoa(n))); errors.Is(err, fs.ErrNotExist) {
			return n, nil
		}
		if n > 1<<20 {
			return 0, fmt.Errorf("index: no free number below %s", top)
		}
	}
}

// dropOldIndexes removes everything but the current index.
func (e *engine) dropOldIndexes(current int) error {
	top := filepath.Join(e.dir, indexName)
	entries, err := os.ReadDir(top)
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	for _, entry := range entries {
		if name := entry.Name(); name != currentName && name != spareName && name != strconv.Itoa(current) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(top, entry.Name())))
		}
	}
	return err
}

// rebuild makes the index anew while sessions wait for it. What this process is writing is sealed first, so that the
// volumes hold everything.
func (e *engine) rebuild(progress func(RebuildProgress)) error {
	if err := e.enoughForIndex(false); err != nil { // before anything is sealed for it
		return err
	}
	e.maintenance.Lock()
	defer e.maintenance.Unlock()
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	if err := e.flush(true); err != nil {
		return err
	}
	if err := e.closeJournal(); err != nil {
		return err
	}
	e.flushMu.Lock()
	defer e.flushMu.Unlock()
	e.mu.Lock()
	e.filter, e.asked, e.rescued = nil, 0, false
	e.mu.Unlock()
	return e.freshIndex(progress)
}

// stats describes the store's size.
func (e *engine) stats() (Stats, error) {
	st := Stats{StoreID: e.config.ID, Created: e.config.Created, Encrypted: !e.bundle.Clear()}
	e.mu.Lock()
	for _, v := range e.current {
		v.parity = v.w.ParityBytes()
	}
	for _, v := range e.volumes.byID {
		if !v.missing && !v.dropped {
			st.add(v)
		}
	}
	st.Datasets = len(e.state.Datasets)
	for _, s := range e.state.Snapshots {
		if !s.Partial && !s.Forgotten {
			st.Snapshots++
		}
	}
	for _, p := range e.pending {
		st.Blobs++
		st.RawBytes += int64(p.place.length)
	}
	e.mu.Unlock()
	slots, err := KeySlots(e.dir)
	if err != nil {
		return st, err
	}
	st.KeySlots = len(slots)
	st.IndexBytes, err = treeSize(filepath.Join(e.dir, indexName))
	return st, err
}

// treeSize sums what the files below dir take on disk.
func treeSize(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // Badger removes files at any time
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			sum += allocated(info)
		}
		return err
	})
	return sum, err
}
