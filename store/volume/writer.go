package volume

import (
	"crypto/cipher"
	"io"
)

// File is what a volume is written to. The operating system's comes from CreateFile; tests bend it.
type File interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	Truncate(size int64) error
	Close() error
}

// Writer appends frames to a new volume. Safe for concurrent use.
type Writer struct {
	f    File
	id   ID
	aead cipher.AEAD
}

// Create writes the label to f, which must be empty, and returns the volume's Writer, which owns f from then on (on
// an error f is left to the caller). random is crypto/rand's Reader except in tests. Nothing is synced yet.
func Create(f File, label Label, aead cipher.AEAD, random io.Reader) (*Writer, error) { panic("soon") }

// ID is the volume's.
func (w *Writer) ID() ID { return w.id }

// Append seals plain as a frame of that kind and writes it. It returns where the frame lies and its length with the
// header, once the write has returned; the frame is on stable storage only after a Sync. blobs are the frame's rows
// for the contents table (none for other kinds than FrameBlobs). Calls at the same time seal and write in parallel; plain and
// blobs may be used again afterwards. Errors: ErrFailed (this or an earlier write or sync), ErrSealed, ErrFull,
// ErrTooLarge.
func (w *Writer) Append(kind FrameKind, plain []byte, blobs []Blob) (offset int64, stored uint32, err error) {
	panic("soon")
}

// Size is the offset where the next frame will lie.
func (w *Writer) Size() int64 { panic("soon") }

// Sync waits for the appends that have begun and brings them to stable storage. Errors: ErrFailed.
func (w *Writer) Sync() error { panic("soon") }

// Synced is the offset up to which everything is on stable storage.
func (w *Writer) Synced() int64 { panic("soon") }

// Err is the error that closed the volume, or nil; it wraps ErrFailed.
func (w *Writer) Err() error { panic("soon") }

// ReadAt reads frames whose Append has returned.
func (w *Writer) ReadAt(p []byte, off int64) (int, error) { return w.f.ReadAt(p, off) }

// Seal ends the volume: contents table, repeated label, trailer, sync. Appends must have returned. The file stays
// open for reading until Close. Sealing twice does nothing.
func (w *Writer) Seal() error { panic("soon") }

// Close releases the file. A volume that was not sealed is left as a crash would leave it; a failed one is first cut
// back to Synced.
func (w *Writer) Close() error { panic("soon") }
