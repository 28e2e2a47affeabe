package backup

import (
	"context"
	"sync"

	"snapfs/snapshot"
	"snapfs/store"
)

// blobWriter is what content and nodes are put through, by one goroutine at a time; *store.Writer is one.
type blobWriter interface {
	snapshot.Sink
	Flush(ctx context.Context) error
	Stats() store.WriterStats
}

// cutter says where to cut; Store.Cutter gives one.
type cutter interface {
	Params() store.CutParams
	Cut(buf []byte) int
}

// repository is a store as a backup sees it: a *store.Store through storeRepository, or blobs in memory.
type repository interface {
	snapshot.Store
	newWriter() blobWriter
	newCutter() cutter
	Dir() string
	BlobID(kind store.Kind, data []byte) store.ID
	Have(ctx context.Context, ids []store.ID) ([]bool, error)
	Pin(ctx context.Context, snapshots ...store.ID) error
	LockDataset(ctx context.Context, dataset string, wait bool) (unlock func(), err error)
	GetInto(ctx context.Context, kind store.Kind, id store.ID, dst []byte) ([]byte, error)
	DamagedBlobs(ctx context.Context) ([]store.ID, error)
	Commit(ctx context.Context, c store.Commit) (store.Snapshot, error)
}

// storeRepository is the real one.
type storeRepository struct{ *store.Store }

func (s storeRepository) newWriter() blobWriter { return s.NewWriter() }

func (s storeRepository) newCutter() cutter { return s.Cutter() }

// sharedWriter is one Writer for all nodes, so that neighbouring directories share frames. Safe for concurrent use.
type sharedWriter struct {
	mu sync.Mutex
	w  blobWriter
}

// Put stores a node.
func (s *sharedWriter) Put(ctx context.Context, kind store.Kind, data []byte) (store.ID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Put(ctx, kind, data)
}
