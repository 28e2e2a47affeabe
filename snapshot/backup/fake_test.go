package backup

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"snapfs/snapshot"
	"snapfs/snapshot/snapshottest"
	"snapfs/store"
)

// fakeRepo is a store in memory.
type fakeRepo struct {
	*snapshottest.Blobs
	dir    string
	params store.CutParams

	mu     sync.Mutex
	state  store.State
	locked map[string]bool
	puts   int
	failAt int // the Put with this number fails; 0: none

	damaged []store.ID
	reads   atomic.Int64 // calls of GetInto
}

func newFakeRepo(t testing.TB) *fakeRepo {
	return &fakeRepo{
		Blobs: snapshottest.New(), dir: t.TempDir(), locked: map[string]bool{},
		params: store.CutParams{Min: 16 << 10, Average: 64 << 10, Max: 256 << 10},
	}
}

type fakeWriter struct {
	r     *fakeRepo
	stats store.WriterStats
}

func (w *fakeWriter) Put(ctx context.Context, kind store.Kind, data []byte) (store.ID, error) {
	w.r.mu.Lock()
	w.r.puts++
	fail := w.r.failAt != 0 && w.r.puts >= w.r.failAt
	w.r.mu.Unlock()
	if fail {
		return store.ID{}, store.ErrNoSpace
	}
	w.stats.Blobs++
	w.stats.StoredBytes += int64(len(data))
	return w.r.Blobs.Put(ctx, kind, data)
}

func (w *fakeWriter) Flush(context.Context) error { return nil }
func (w *fakeWriter) Stats() store.WriterStats    { return w.stats }

// fakeCutter cuts after a byte of a certain value, once there is the average length.
type fakeCutter struct{ params store.CutParams }

func (c fakeCutter) Params() store.CutParams { return c.params }

func (c fakeCutter) Cut(buf []byte) int {
	for i := c.params.Average; i < min(len(buf), c.params.Max); i++ {
		if buf[i] == '7' {
			return i + 1
		}
	}
	return min(len(buf), c.params.Max)
}

// GetInto counts how often it was called.
func (r *fakeRepo) GetInto(ctx context.Context, kind store.Kind, id store.ID, dst []byte) ([]byte, error) {
	r.reads.Add(1)
	return r.Blobs.GetInto(ctx, kind, id, dst)
}

func (r *fakeRepo) DamagedBlobs(context.Context) ([]store.ID, error) { return r.damaged, nil }

func (r *fakeRepo) newWriter() blobWriter { return &fakeWriter{r: r} }
func (r *fakeRepo) newCutter() cutter     { return fakeCutter{r.params} }
func (r *fakeRepo) PageKey() [32]byte     { return [32]byte{9} }
func (r *fakeRepo) Dir() string           { return r.dir }

func (r *fakeRepo) BlobID(kind store.Kind, data []byte) store.ID { return r.Blobs.IDOf(kind, data) }

func (r *fakeRepo) Have(_ context.Context, ids []store.ID) ([]bool, error) {
	have := make([]bool, len(ids))
	for i, id := range ids {
		have[i] = r.Has(id)
	}
	return have, nil
}

func (r *fakeRepo) Pin(context.Context, ...store.ID) error { return nil }

func (r *fakeRepo) State(context.Context) (*store.State, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state
	s.Snapshots = append([]store.Snapshot(nil), s.Snapshots...)
	return &s, nil
}

func (r *fakeRepo) LockDataset(_ context.Context, dataset string, _ bool) (func(), error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.locked[dataset] {
		return nil, &store.LockedError{Name: dataset, Job: "another backup"}
	}
	r.locked[dataset] = true
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.locked, dataset)
	}, nil
}

func (r *fakeRepo) Commit(_ context.Context, c store.Commit) (store.Snapshot, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Seq++
	kept := r.state.Snapshots[:0:0]
	for _, s := range r.state.Snapshots {
		if !(s.Partial && s.Dataset == c.Dataset) {
			kept = append(kept, s)
		}
	}
	s := store.Snapshot{
		ID: c.Snapshot, Slot: uint32(r.state.Seq), Dataset: c.Dataset, Name: c.Name, Start: c.Start,
		Committed: time.Now(), Tags: c.Tags, Partial: c.Partial, Summary: c.Summary,
	}
	r.state.Snapshots = append(kept, s)
	return s, nil
}

// tree opens a snapshot.
func (r *fakeRepo) tree(t testing.TB, id store.ID) *snapshot.Tree {
	t.Helper()
	tree, err := snapshot.OpenTree(t.Context(), r, r.PageKey(), id, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// backup takes a snapshot and must succeed.
func (r *fakeRepo) backup(t testing.TB, o Options) *Result {
	t.Helper()
	res, err := r.try(t, o)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func (r *fakeRepo) try(t testing.TB, o Options) (*Result, error) {
	t.Helper()
	if o.Dataset == "" {
		o.Dataset = "test"
	}
	return backupTree(t.Context(), r, &o, hooks{})
}
