package snapshot

import (
	"context"

	"snapfs/store"
)

// LinkWriter collects.
type LinkWriter struct{}

// NewLinkWriter returns a writer that spills into dir ("" for the system's).
func NewLinkWriter(pageKey [32]byte, dir string) *LinkWriter { panic("todo") }

// Name counts one more name of (fs, inode) and reports whether it is the first: then the caller must Set its record.
func (w *LinkWriter) Name(fs uint32, inode uint64) (first bool) { panic("todo") }

// Set gives the record of (fs, inode); e.Name is ignored, e.FS and e.Inode are the key.
func (w *LinkWriter) Set(e *Entry) error { panic("todo") }

// Finish writes the tree.
func (w *LinkWriter) Finish(ctx context.Context, sink Sink) (root store.ID, records, bytes uint64, err error) {
	panic("todo")
}

// Close removes the temporary file.
func (w *LinkWriter) Close() error { panic("todo") }
