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

// TestCopyInPlaceOfAHeldStore: a store is moved away while it is in use, and a copy takes its place. The holder writes, prunes and removes nothing
// there, and the holder of the copy stays within reach.
func TestCopyInPlaceOfAHeldStore(t *testing.T) {
	dir := newStore(t)
	old := manyFiles(1, 30, 50_000)
	st := openTrees(t, dir)
	snap := old.mustWrite(t, st)
	closeStore(t, st)
	must(t, os.CopyFS(dir+".copy", os.DirFS(dir)))
	must(t, os.Chmod(dir+".copy", 0o700))

	moved := openTrees(t, dir)
	forgetAll(t, moved, snap)
	must(t, os.Rename(dir, dir+".moved"))
	must(t, os.Rename(dir+".copy", dir))
	unguardAtEnd(t, dir)
	if _, err := moved.Prune(t.Context(), PruneOptions{}, nil); !errors.Is(err, errMovedAway) {
		t.Errorf("prune: %v", err)
	}
	if _, err := manyFiles(2, 30, 50_000).write(t, moved, "d"); !errors.Is(err, errMovedAway) {
		t.Errorf("backup: %v", err)
	}
	held := openTrees(t, dir)
	defer held.Close() // Badger misses its own lock file, which the other one removed: only the index is concerned
	if !isHolder(held) {
		t.Fatal("the copy is not held")
	}
	old.check(t, held, snap)
	_ = moved.Close()
	client := openTrees(t, dir, func(o *Options) { o.Direct = true })
	defer closeStore(t, client)
	old.check(t, client, snap)
}
