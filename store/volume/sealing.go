package volume

import (
	"errors"
	"fmt"
)

// Seal ends the volume: contents table, repeated label, parity of the last span, trailer, sync. Appends that have begun are waited for, further
// ones give ErrSealed. The file stays open for reading until Close. Sealing again does nothing. Errors: ErrFailed,
// ErrSealed (closed before).
func (w *Writer) Seal() error {
	if done, err := w.beginSeal(); done || err != nil {
		return err
	}
	t := Trailer{Volume: w.id, Contents: w.Size(), Blobs: w.table.blobs}
	for i := range w.table.parts() {
		part, err := w.table.part(i)
		if err != nil {
			return w.failNow(err)
		}
		if err := w.appendLast(FrameContents, part); err != nil {
			return err
		}
	}
	t.Label = w.Size()
	if err := w.appendLast(FrameLabel, w.label); err != nil {
		return err
	}
	if err := w.sealParity(&t); err != nil {
		return err
	}
	if err := w.writeTrailer(t); err != nil {
		return err
	}
	return w.Sync()
}

// beginSeal stops appends and waits for those under way.
func (w *Writer) beginSeal() (done bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sealed && w.failed == nil {
		return true, nil
	}
	if err := w.usable(); err != nil {
		return false, err
	}
	w.sealed = true
	for w.failed == nil && len(w.pending) > 0 {
		w.written.Wait()
	}
	return false, w.failed
}

// appendLast writes a frame of a volume that takes no others any more.
func (w *Writer) appendLast(kind FrameKind, plain []byte) error {
	w.mu.Lock()
	h, offset, err := w.reserve(kind, len(plain))
	if err != nil {
		defer w.mu.Unlock()
		return w.fail(err)
	}
	w.mu.Unlock()
	return w.write(h, offset, plain)
}

func (w *Writer) writeTrailer(t Trailer) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	t.Frames = w.next
	t.Size = w.size + TrailerSize
	if _, err := w.f.WriteAt(t.encode(), w.size); err != nil {
		return w.fail(err)
	}
	w.size = t.Size
	if w.table.spill == nil { // else it costs little, and is wanted if the medium turns out not to have it all
		w.table = table{end: w.table.end}
	}
	if w.parity != nil {
		w.parity.release()
	}
	return nil
}

// Close releases the file. A volume that was not sealed is left as a crash would leave it; a failed one is first cut
// back to Synced, because what lies beyond may be in memory only and vanish later. If it was a write that failed (a full
// disk), the frames before it are synced first and so kept, unless the writer is strict. Appends must have returned.
func (w *Writer) Close() error {
	w.syncing.Lock()
	defer w.syncing.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	var cut error
	if w.failed != nil {
		if !w.strict {
			w.salvage()
		}
		cut = w.f.Truncate(w.synced)
	}
	if err := errors.Join(cut, w.table.close(), w.f.Close()); err != nil {
		return fmt.Errorf("volume %s: close: %w", w.id, err)
	}
	return nil
}

// salvage syncs the frames before the first one whose write failed. The caller holds mu.
func (w *Writer) salvage() {
	whole := w.size
	if w.sealed {
		whole = w.table.end // without half a contents table
	}
	if len(w.pending) > 0 {
		whole = min(whole, w.pending[0].offset)
	}
	if !w.lost && whole > w.synced && w.f.Sync() == nil {
		w.synced = whole
	}
}
