package store

import (
	"errors"
	"io/fs"
	"os"
	"testing"
)

// TestStoreIsAwayWhenTheHolderEnds: whoever reads is told that the store is not there, never that what is read is not, and goes on when the store
// has come back.
func TestStoreIsAwayWhenTheHolderEnds(t *testing.T) {
	dir := newStore(t)
	holder := startProcess(t, dir, "")
	st := openStore(t, dir)
	data := blobs(1, 10, 2000)
	ids, _ := putAll(t, st, "d", "one", data)
	if isHolder(st) {
		t.Fatal("the other process was not reached")
	}
	must(t, os.Rename(dir, dir+".away"))
	holder.kill(t)
	_, err := st.Get(t.Context(), KindChunk, ids[0])
	if !errors.Is(err, ErrNoStore) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read: %v", err)
	}
	must(t, os.Rename(dir+".away", dir))
	checkAll(t, st, ids, data)
	closeStore(t, st)
}
