package store

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"snapfs/store/seal"
	"snapfs/store/volume"
)

// testKey opens the key-file slot of test stores.
var testKey = bytes.Repeat([]byte{7}, 32)

func unlockTest(context.Context, []seal.Info) (seal.Secret, error) {
	return seal.Secret{KeyFile: testKey}, nil
}

// newStore makes a store in a fresh directory.
func newStore(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	unguardAtEnd(t, dir)
	err := Init(t.Context(), dir, InitOptions{Slots: []seal.NewSlot{{KeyFile: testKey}}, Program: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// unguardAtEnd makes the files of a store removable when the test ends.
func unguardAtEnd(t testing.TB, dir string) {
	t.Cleanup(func() { unguardAll(dir) })
}

func unguardAll(dir string) {
	names, _ := filepath.Glob(filepath.Join(dir, volumesName, "*"))
	for _, name := range names {
		_, _ = setImmutable(name, false)
	}
}

func openStore(t testing.TB, dir string) *Store {
	t.Helper()
	st, err := Open(t.Context(), dir, Options{Unlock: unlockTest, Job: "test", References: testReferences})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func closeStore(t testing.TB, st *Store) {
	t.Helper()
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

// blobs makes data of several sizes, the same for the same seed.
func blobs(seed uint64, sizes ...int) [][]byte {
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	var list [][]byte
	for _, n := range sizes {
		b := make([]byte, n)
		_, _ = rng.Read(b)
		list = append(list, b)
	}
	return list
}

// putAll stores blobs and commits a snapshot whose "manifest" is their IDs.
func putAll(t testing.TB, st *Store, dataset, name string, data [][]byte) (ids []ID, snap Snapshot) {
	t.Helper()
	w := st.NewWriter()
	var manifest []byte
	for _, b := range data {
		id, err := w.Put(t.Context(), KindChunk, b)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		manifest = append(manifest, id[:]...)
	}
	manifest = append(manifest, name...)
	id, err := w.Put(t.Context(), KindManifest, manifest)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	snap, err = st.Commit(t.Context(), Commit{Dataset: dataset, Snapshot: id, Name: name, Start: time.Unix(1e9, 0), Summary: []byte("sum")})
	if err != nil {
		t.Fatal(err)
	}
	return ids, snap
}

func checkAll(t testing.TB, st *Store, ids []ID, data [][]byte) {
	t.Helper()
	for i, id := range ids {
		got, err := st.Get(t.Context(), KindChunk, id)
		if err != nil {
			t.Fatalf("blob %d: %v", i, err)
		}
		if !bytes.Equal(got, data[i]) {
			t.Fatalf("blob %d differs", i)
		}
	}
}

func TestPutCommitReopenGet(t *testing.T) {
	dir := newStore(t)
	data := blobs(1, 0, 1, 100, 5000, 128<<10, 300<<10, 2<<20, 77)
	st := openStore(t, dir)
	ids, snap := putAll(t, st, "etc", "one", data)
	checkAll(t, st, ids, data) // before the index has them
	closeStore(t, st)

	st = openStore(t, dir)
	defer closeStore(t, st)
	checkAll(t, st, ids, data)
	state, err := st.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(state.Snapshots) != 1 || state.Snapshots[0].ID != snap.ID || state.Snapshots[0].Slot != 1 ||
		state.Snapshots[0].Dataset != "etc" || state.Snapshots[0].Name != "one" || state.Snapshots[0].Damaged != "" {
		t.Fatalf("state %+v", state)
	}
	w := st.NewWriter()
	for _, b := range data {
		if _, err := w.Put(t.Context(), KindChunk, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := w.Stats(); s.NewBlobs != 0 || s.StoredBytes != 0 {
		t.Errorf("stored again: %+v", s)
	}
}

// TestStoredBytes: what writers say they have stored is by how much the volumes have grown when they are closed, but for
// what ends a volume.
func TestStoredBytes(t *testing.T) {
	dir := newStore(t)
	size := func() (n int64) {
		files, err := filepath.Glob(filepath.Join(dir, volumesName, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			info, err := os.Stat(f)
			if err != nil {
				t.Fatal(err)
			}
			n += info.Size()
		}
		return n
	}
	before := size()
	st := openStore(t, dir)
	w := st.NewWriter()
	sizes := []int{1 << 20, 200 << 10}
	for range 300 {
		sizes = append(sizes, 3000)
	}
	for seed := range uint64(32) {
		for _, b := range blobs(seed, sizes...) {
			if _, err := w.Put(t.Context(), KindChunk, b); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, snap := putAll(t, st, "d", "one", nil); snap.Slot == 0 {
		t.Fatalf("%+v", snap)
	}
	closeStore(t, st)
	grown, said := size()-before, w.Stats().StoredBytes
	if said < grown*95/100 || said > grown {
		t.Errorf("%d bytes stored, the volumes grew by %d", said, grown)
	}
}

func TestIndexDeletedIsRebuilt(t *testing.T) {
	dir := newStore(t)
	data := blobs(2, 10, 20, 200<<10)
	st := openStore(t, dir)
	ids, _ := putAll(t, st, "d", "one", data)
	closeStore(t, st)
	if err := os.RemoveAll(filepath.Join(dir, indexName)); err != nil {
		t.Fatal(err)
	}
	st = openStore(t, dir)
	checkAll(t, st, ids, data)
	if err := st.Rebuild(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	checkAll(t, st, ids, data)
	more := blobs(3, 50, 60)
	ids2, snap := putAll(t, st, "d", "two", more)
	if snap.Slot != 2 {
		t.Errorf("slot %d after a rebuild, want 2", snap.Slot)
	}
	closeStore(t, st)
	st = openStore(t, dir)
	defer closeStore(t, st)
	checkAll(t, st, append(ids, ids2...), append(data, more...))
}

// crash lets a store go without sealing anything, as kill -9 would.
func crash(t testing.TB, st *Store) {
	t.Helper()
	w := st.session.(*lastingSession).way
	s, ok := w.session.(*localSession)
	if !ok {
		t.Fatal("not the holder")
	}
	w.keeper.stop() // a process that is killed writes nothing more
	if err := errors.Join(w.server.stop(), w.server.release()); err != nil {
		t.Fatal(err)
	}
	close(s.e.closing) // so that nothing waits to write parity
	s.e.flushes.Wait()
	if err := s.e.idx.close(); err != nil {
		t.Fatal(err)
	}
	if err := s.e.lock.release(); err != nil {
		t.Fatal(err)
	}
}

func TestCrashKeepsCommits(t *testing.T) {
	dir := newStore(t)
	data := blobs(4, 10, 20, 200<<10)
	st := openStore(t, dir)
	ids, _ := putAll(t, st, "d", "one", data)
	lost := blobs(5, 30, 40<<10)
	w := st.NewWriter()
	for _, b := range lost {
		if _, err := w.Put(t.Context(), KindChunk, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	crash(t, st)

	st = openStore(t, dir)
	defer closeStore(t, st)
	checkAll(t, st, ids, data)
	state, _ := st.State(t.Context())
	if len(state.Snapshots) != 1 {
		t.Fatalf("%d snapshots", len(state.Snapshots))
	}
	w = st.NewWriter() // what was written but not committed is found again
	for _, b := range lost {
		if _, err := w.Put(t.Context(), KindChunk, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := w.Stats(); s.NewBlobs != 0 {
		t.Errorf("%d blobs stored again after a crash", s.NewBlobs)
	}
}

func TestTagsDatasetsPartials(t *testing.T) {
	dir := newStore(t)
	st := openStore(t, dir)
	ctx := t.Context()
	_, one := putAll(t, st, "d", "one", blobs(6, 10))
	if err := st.Tag(ctx, one.ID, []string{"b", "a"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := st.Tag(ctx, one.ID, []string{"c"}, []string{"b"}); err != nil {
		t.Fatal(err)
	}
	if err := st.Tag(ctx, ID{1}, []string{"c"}, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("tag of nothing: %v", err)
	}
	if err := st.RenameDataset(ctx, "d", "e"); err != nil {
		t.Fatal(err)
	}
	if err := st.RenameDataset(ctx, "d", "f"); !errors.Is(err, ErrNotFound) {
		t.Errorf("rename of nothing: %v", err)
	}
	for i, partial := range []bool{true, true, false} {
		c := Commit{Dataset: "e", Snapshot: ID{byte(i + 1)}, Name: "p", Partial: partial}
		if _, err := st.Commit(ctx, c); err != nil {
			t.Fatal(err)
		}
		state, _ := st.State(ctx)
		last := state.Snapshots[len(state.Snapshots)-1]
		if len(state.Snapshots) != 2 || last.ID != c.Snapshot || last.Partial != partial {
			t.Errorf("after commit %d: %+v", i, state.Snapshots)
		}
	}
	closeStore(t, st)
	st = openStore(t, dir)
	defer closeStore(t, st)
	state, _ := st.State(ctx)
	s := state.Snapshots[0]
	if s.Dataset != "e" || len(s.Tags) != 2 || s.Tags[0] != "a" || s.Tags[1] != "c" {
		t.Errorf("%+v", s)
	}
}

// TestPartialOfASnapshotChangesNothing: a complete snapshot that is committed as a partial once more stays what it is, so that it can be held and
// forgotten when the partials of the dataset are gone.
func TestPartialOfASnapshotChangesNothing(t *testing.T) {
	dir := newStore(t)
	st := openStore(t, dir)
	ctx := t.Context()
	_, one := putAll(t, st, "d", "one", blobs(1, 10))
	again, err := st.Commit(ctx, Commit{Dataset: "d", Snapshot: one.ID, Name: "again", Partial: true})
	if must(t, err); again.Slot != one.Slot || again.Partial {
		t.Errorf("committed %+v", again)
	}
	must(t, st.Hold(ctx, one.ID, time.Time{}))
	putAll(t, st, "d", "two", blobs(2, 10))
	if err := st.Forget(ctx, []ID{one.ID}); !errors.Is(err, ErrOnHold) {
		t.Errorf("forget: %v", err)
	}
	closeStore(t, st)
	st = openStore(t, dir)
	defer closeStore(t, st)
	state, err := st.State(ctx)
	if must(t, err); len(state.Snapshots) != 2 || !state.Snapshots[0].HeldForever {
		t.Errorf("%+v", state.Snapshots)
	}
}

// TestForgottenSnapshotStoredAgain: who commits a forgotten snapshot wants it back, with the volumes that were written for it.
func TestForgottenSnapshotStoredAgain(t *testing.T) {
	dir := newStore(t)
	st := openStore(t, dir)
	ctx := t.Context()
	_, one := putAll(t, st, "d", "one", blobs(1, 10))
	must(t, st.Forget(ctx, []ID{one.ID}))
	if _, err := st.Commit(ctx, Commit{Dataset: "d", Snapshot: one.ID, Name: "one", Partial: true}); err != nil {
		t.Error(err)
	}
	state, err := st.State(ctx)
	if must(t, err); len(state.Snapshots) != 1 || !state.Snapshots[0].Forgotten {
		t.Errorf("after a partial: %+v", state.Snapshots)
	}
	w := st.NewWriter()
	_, err = w.Put(ctx, KindChunk, blobs(3, 500)[0])
	must(t, err)
	must(t, w.Flush(ctx))
	again, err := st.Commit(ctx, Commit{Dataset: "d", Snapshot: one.ID, Name: "one"})
	if must(t, err); again.Slot != one.Slot || again.Forgotten {
		t.Errorf("committed %+v", again)
	}
	e := engineOf(st)
	for _, v := range e.openLengths() {
		if need := e.fold.volumes[v.id].length; v.kind != volume.Journal && need != v.length {
			t.Errorf("volume %s must have %d bytes, and %d were written", v.id, need, v.length)
		}
	}
	closeStore(t, st)
	must(t, os.RemoveAll(filepath.Join(dir, indexName)))
	st = openStore(t, dir)
	defer closeStore(t, st)
	state, err = st.State(ctx)
	if must(t, err); len(state.Snapshots) != 1 || state.Snapshots[0].Forgotten {
		t.Errorf("%+v", state.Snapshots)
	}
}

func TestRecreate(t *testing.T) {
	dir := newStore(t)
	data := blobs(8, 10, 200<<10)
	st := openStore(t, dir)
	ids, _ := putAll(t, st, "d", "one", data)
	closeStore(t, st)
	heap := t.TempDir()
	for _, name := range []string{keysName, volumesName} {
		if err := os.CopyFS(filepath.Join(heap, name), os.DirFS(filepath.Join(dir, name))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(t.Context(), heap, Options{Unlock: unlockTest}); !errors.Is(err, ErrNoStore) {
		t.Fatalf("open without snapfs.json: %v", err)
	}
	other := newStore(t) // its slots have the same secret
	must(t, os.Rename(filepath.Join(heap, keysName), filepath.Join(heap, "right")))
	must(t, os.CopyFS(filepath.Join(heap, keysName), os.DirFS(filepath.Join(other, keysName))))
	if err := Recreate(t.Context(), heap, Options{Unlock: unlockTest}); !errors.Is(err, ErrForeignKeys) {
		t.Errorf("with the keys of another store: %v", err)
	}
	must(t, os.RemoveAll(filepath.Join(heap, keysName)))
	must(t, os.Rename(filepath.Join(heap, "right"), filepath.Join(heap, keysName)))
	if err := Recreate(t.Context(), heap, Options{Unlock: unlockTest}); err != nil {
		t.Fatal(err)
	}
	if err := Recreate(t.Context(), heap, Options{Unlock: unlockTest}); !errors.Is(err, ErrStoreExists) {
		t.Errorf("recreate over a store: %v", err)
	}
	st = openStore(t, heap)
	defer closeStore(t, st)
	checkAll(t, st, ids, data)
}
