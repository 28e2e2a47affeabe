package snapshot

import (
	"context"

	"snapfs/store"
)

// DirWriter encodes one directory: it takes entries in byte order of their names and puts pages as they are cut.
// Not safe for concurrent use.
type DirWriter struct{}

// NewDirWriter returns a writer for a directory on the file system with index fs.
func NewDirWriter(sink Sink, pageKey [32]byte, fs uint32) *DirWriter { panic("todo") }

// Add takes the next entry; e is not kept.
func (w *DirWriter) Add(ctx context.Context, e *Entry) error { panic("todo") }

// Finish puts what is left and returns the root page (zero for an empty directory) and the totals.
func (w *DirWriter) Finish(ctx context.Context) (store.ID, Totals, error) { panic("todo") }

// ContentWriter encodes a file's list of items. Not safe for concurrent use.
type ContentWriter struct{}

// NewContentWriter returns a writer for one file.
func NewContentWriter(sink Sink, pageKey [32]byte) *ContentWriter { panic("todo") }

// Add takes the next item; neighbouring holes are merged.
func (w *ContentWriter) Add(ctx context.Context, it Item) error { panic("todo") }

// Finish returns the content for the entry.
func (w *ContentWriter) Finish(ctx context.Context) (Content, error) { panic("todo") }

// LinkWriter collects the records of linked files, in any order, and encodes the link tree.
// What outgrows its budget is spilled to a temporary file. Safe for concurrent use.
type LinkWriter struct{}

// NewLinkWriter returns a writer that spills into dir ("" for the system's).
func NewLinkWriter(pageKey [32]byte, dir string) *LinkWriter { panic("todo") }

// Name counts one more name of (fs, inode) and reports whether it is the first: then the caller must Set its record.
func (w *LinkWriter) Name(fs uint32, inode uint64) (first bool) { panic("todo") }

// Set gives the record of (fs, inode); e.Name is ignored, e.FS and e.Inode are the key.
func (w *LinkWriter) Set(e *Entry) error { panic("todo") }

// Finish writes the tree; it returns its root (zero if there are no records), the number of records, and the sum of
// size x names over them. Records without Set are an error.
func (w *LinkWriter) Finish(ctx context.Context, sink Sink) (root store.ID, records, bytes uint64, err error) {
	panic("todo")
}

// Close removes the temporary file.
func (w *LinkWriter) Close() error { panic("todo") }

// WriteXattrs fills e.Xattrs or, above 1 KiB, stores the set and fills e.XattrsID. Names are sorted.
func WriteXattrs(ctx context.Context, sink Sink, e *Entry, set []Xattr) error { panic("todo") }
