package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// lowFiles say that so many bytes are left on the disk, once they are told to.
type lowFiles struct {
	Files
	free  int64 // -1: as much as there is
	after int   // how often the truth is said before
}

func (f *lowFiles) Space(path string) (free, total int64, err error) {
	free, total, err = f.Files.Space(path)
	if f.free >= 0 {
		if f.after--; f.after < 0 {
			free = f.free
		}
	}
	return free, total, err
}

// TestRebuildOnAFullDisk: the error is about the disk, whether it is full before or gets full meanwhile, and the store goes on with
// the index it had.
func TestRebuildOnAFullDisk(t *testing.T) {
	for _, opened := range []string{"before", "when it was full"} {
		for after := range 5 {
			dir := newStore(t)
			st := openStore(t, dir)
			ids, _ := putAll(t, st, "d", "one", blobs(1, 10, 200_000))
			closeStore(t, st)
			own, err := filesFor(dir)
			must(t, err)
			files := &lowFiles{Files: own, free: -1}
			if opened != "before" {
				files.free, files.after = 0, after
			}
			st, err = Open(t.Context(), dir, Options{Unlock: unlockTest, Files: files, References: testReferences})
			must(t, err)
			files.free, files.after = 0, after
			if err := st.Rebuild(t.Context(), nil); err != nil && (!errors.Is(err, ErrNoSpace) || errors.Is(err, errIndexBroken)) {
				t.Errorf("disk full %s, %d: %v", opened, after, err)
			} else if err == nil && after == 0 {
				t.Errorf("disk full %s: the index was made anew", opened)
			}
			checkAll(t, st, ids, blobs(1, 10, 200_000))
			files.free = -1
			must(t, st.Rebuild(t.Context(), nil))
			wantClean(t, st.session, VerifyOptions{Data: true})
			closeStore(t, st)
		}
	}
}

// TestBrokenIndexOnAFullDisk: a store whose index is gone opens all the same.
func TestBrokenIndexOnAFullDisk(t *testing.T) {
	dir := newStore(t)
	st := openStore(t, dir)
	ids, _ := putAll(t, st, "d", "one", blobs(1, 10, 200_000))
	closeStore(t, st)
	for after := range 6 {
		must(t, os.RemoveAll(filepath.Join(dir, indexName)))
		own, err := filesFor(dir)
		must(t, err)
		st, err = Open(t.Context(), dir, Options{Unlock: unlockTest, Files: &lowFiles{own, 0, after}, References: testReferences})
		if err != nil {
			t.Fatalf("full after %d looks: %v", after, err)
		}
		checkAll(t, st, ids, blobs(1, 10, 200_000))
		closeStore(t, st)
	}
}
