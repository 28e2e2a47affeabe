package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"snapfs/snapshot"
	"snapfs/store"
)

// TestStore restores from a real store: whole, again, and with a damaged volume.
func TestStore(t *testing.T) {
	ctx := context.Background()
	src, dir := t.TempDir(), t.TempDir()+"/store"
	everything(t, src)
	for i := range 300 {
		write(t, fmt.Sprintf("%s/many/%03d", src, i), noise(int64(1000+i), 10+i*50), 0o644)
	}
	ok(t, store.Init(ctx, dir, store.InitOptions{Slots: []store.NewKeySlot{{Clear: true}}}))
	id := fill(t, dir, src)
	st, tree := reopen(t, dir, id)
	dst := t.TempDir() + "/dst"
	unlockLater(t, dst)
	mustRun(t, st, tree, Options{To: dst, Verify: true})
	same(t, src, dst)
	write(t, dst+"/big", noise(1, 5<<20), 0o600)
	if res := mustRun(t, st, tree, Options{To: dst}); res.Written != 1 {
		t.Errorf("again: %+v", res)
	}
	ok(t, st.Close())

	volumes, err := filepath.Glob(dir + "/volumes/*")
	ok(t, err)
	largest, size := "", int64(0)
	for _, v := range volumes {
		if fi, err := os.Stat(v); err == nil && fi.Size() > size {
			largest, size = v, fi.Size()
		}
	}
	f, err := os.OpenFile(largest, os.O_RDWR, 0)
	ok(t, err)
	_, err = f.WriteAt([]byte("damage"), size/2)
	ok(t, err)
	ok(t, f.Close())
	st, tree = reopen(t, dir, id)
	defer st.Close()
	damagedDst := t.TempDir() + "/dst"
	unlockLater(t, damagedDst)
	failed := map[string]bool{}
	res, err := runThrough(t, ctx, st, tree, Options{To: damagedDst, OnError: func(e *snapshot.PathError) {
		var corrupt *store.CorruptError
		if !errors.As(e, &corrupt) && !errors.Is(e, ErrNotCome) {
			t.Error(e)
		}
		failed[e.Path] = true
	}})
	ok(t, err)
	if res.Damaged == 0 || res.Damaged != res.Errors || res.Written+res.Errors != res.Entries || int(res.Errors) != len(failed) {
		t.Errorf("%+v %v", res, failed)
	}
	for path := range failed {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is there", path)
		}
	}
}

// fill stores a directory and returns the snapshot.
func fill(t *testing.T, dir, src string) store.ID {
	ctx := context.Background()
	st, err := store.Open(ctx, dir, store.Options{References: snapshot.References})
	ok(t, err)
	defer func() { ok(t, st.Close()) }()
	w := st.NewWriter()
	id := (&maker{t: t, sink: w, key: st.PageKey()}).take(src, nil)
	ok(t, w.Flush(ctx))
	_, err = st.Commit(ctx, store.Commit{Dataset: "d", Snapshot: id, Name: "n"})
	ok(t, err)
	return id
}

func reopen(t *testing.T, dir string, id store.ID) (*store.Store, *snapshot.Tree) {
	st, err := store.Open(context.Background(), dir, store.Options{References: snapshot.References})
	ok(t, err)
	tree, err := snapshot.OpenTree(context.Background(), st, st.PageKey(), id, nil)
	ok(t, err)
	return st, tree
}
