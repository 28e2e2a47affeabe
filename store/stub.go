package store

import (
	"context"
	"snapfs/store/chunker"
)

type handle struct{}
type writer struct{}
type Files interface{}
type FactBody interface{}

func compareBytes(a, b []byte) int { panic("todo") }
func sign(less bool) int {
	if less {
		return -1
	}
	return 1
}
func initStore(ctx context.Context, dir string, o InitOptions) error        { panic("todo") }
func open(ctx context.Context, dir string, o Options) (*Store, error)       { panic("todo") }
func (h *handle) close() error                                              { panic("todo") }
func (h *handle) dir() string                                               { panic("todo") }
func (h *handle) blobID(kind Kind, data []byte) ID                          { panic("todo") }
func (h *handle) cutter() *chunker.Cutter                                   { panic("todo") }
func (h *handle) pageKey() [32]byte                                         { panic("todo") }
func (h *handle) get(ctx context.Context, kind Kind, id ID) ([]byte, error) { panic("todo") }
func (h *handle) getInto(ctx context.Context, kind Kind, id ID, dst []byte) ([]byte, error) {
	panic("todo")
}
func (h *handle) locate(ctx context.Context, ids []ID) ([]Place, error)            { panic("todo") }
func (h *handle) prefetch(kind Kind, ids []ID)                                     { panic("todo") }
func (h *handle) newWriter() *Writer                                               { panic("todo") }
func (h *handle) commit(ctx context.Context, c Commit) (Snapshot, error)           { panic("todo") }
func (h *handle) state(ctx context.Context) (*State, error)                        { panic("todo") }
func (h *handle) wait(ctx context.Context, seq uint64) error                       { panic("todo") }
func (h *handle) tag(ctx context.Context, snapshot ID, add, remove []string) error { panic("todo") }
func (h *handle) renameDataset(ctx context.Context, from, to string) error         { panic("todo") }
func (h *handle) lockDataset(ctx context.Context, dataset string, wait bool) (unlock func(), err error) {
	panic("todo")
}
func (h *handle) pin(ctx context.Context, snapshots []ID) error                     { panic("todo") }
func (h *handle) rebuild(ctx context.Context, progress func(RebuildProgress)) error { panic("todo") }
func (h *handle) stats(ctx context.Context) (Stats, error)                          { panic("todo") }
func (w *writer) put(ctx context.Context, kind Kind, data []byte) (ID, error)       { panic("todo") }
func (w *writer) flush(ctx context.Context) error                                   { panic("todo") }
func (w *writer) statsNow() WriterStats                                             { panic("todo") }
