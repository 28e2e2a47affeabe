package volume

import (
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"io"
	"math"
	"sync"
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
	f      File
	id     ID
	label  []byte
	aead   cipher.AEAD
	strict bool
	random io.Reader
	spare  sync.Pool // of *[]byte: frames being sealed

	parity *parityMaker // nil: none

	protecting sync.Mutex // one Protect at a time; before syncing
	syncing    sync.Mutex // one sync at a time; before mu

	mu      sync.Mutex
	written sync.Cond // size below which every write has returned has grown, or the volume has failed
	size    int64
	next    uint32 // sequence number
	pending []reservation
	table   table
	synced  int64
	sealed  bool
	closed  bool
	failed  error
	lost    bool // a sync failed: what is in memory may never reach the disk

	spans       int64 // full ones whose parity has a place
	protected   int64 // offset below which the newest frames have parity of their own
	protectedBy int64 // where that ends
	interim     int64 // bytes spent on it
	parityBytes int64
	ending      bool // the last set has its place
}

// reservation is a frame whose write has begun.
type reservation struct {
	offset int64
	done   bool
}

// Options say how a volume is written.
type Options struct {
	AEAD   cipher.AEAD // the volume's key
	Parity int         // percent of what is stored, at most MaxParity; 0: none
	// Spill makes a file for the contents table of a volume that may become so large that the table should not stay in memory. Table
	// then has it until Close, also of a volume that was sealed.
	Spill func() (File, error)
	// Strict: of a volume that fails nothing stays but what a Sync had brought to stable storage before, not even frames that are whole.
	Strict bool
	Random io.Reader // nil means crypto/rand's; tests bend it

	full geometry // of full spans, in tests of short ones
}

// Create writes the label to f, which must be empty, and returns the volume's Writer, which owns f from then on (on
// an error f is left to the caller). Nothing is synced yet.
func Create(f File, label Label, o Options) (*Writer, error) {
	b, err := EncodeLabel(label)
	if err != nil {
		return nil, err
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		return nil, fmt.Errorf("volume %s: label: %w", label.Volume, err)
	}
	w := &Writer{
		f: f, id: label.Volume, label: b, aead: o.AEAD, strict: o.Strict, random: o.Random, size: int64(len(b)),
	}
	if rows := rowsFor(o.Parity); rows > 0 {
		w.parity = newParityMaker(w.id, fullGeometry(rows))
	}
	if o.full.sound() {
		w.parity = newParityMaker(w.id, o.full)
	}
	if w.random == nil {
		w.random = rand.Reader
	}
	if w.parity != nil {
		w.parity.add(0, b)
	}
	w.written.L = &w.mu
	w.table.end, w.table.spill = w.size, o.Spill
	return w, nil
}

// ID is the volume's.
func (w *Writer) ID() ID { return w.id }

// Append seals plain as a frame of that kind and writes it. It returns where the frame lies and its length with the
// header, once the write has returned; the frame is on stable storage only after a Sync. blobs are the frame's rows
// for the contents table (none for other kinds than FrameBlobs). Calls at the same time seal and write in parallel;
// plain and blobs may be used again afterwards. Errors: ErrFailed (this or an earlier write or sync), ErrSealed,
// ErrFull, ErrTooLarge.
func (w *Writer) Append(kind FrameKind, plain []byte, blobs []Blob) (offset int64, stored uint32, err error) {
	if len(plain) > MaxPayload-gcmTagSize {
		return 0, 0, fmt.Errorf("frame of %d bytes: %w", len(plain), ErrTooLarge)
	}
	w.mu.Lock()
	if err := w.usable(); err != nil {
		w.mu.Unlock()
		return 0, 0, err
	}
	h, offset, err := w.reserve(kind, len(plain))
	if err == nil {
		if w.table.add(offset, h, blobs); w.table.fault != nil {
			err = w.fail(w.table.fault)
		}
	}
	w.mu.Unlock()
	if err != nil {
		return 0, 0, err
	}
	return offset, h.Stored(), w.write(h, offset, plain)
}

// reserve takes a place and a sequence number. From here on the number is spent, whatever happens. The caller holds mu.
func (w *Writer) reserve(kind FrameKind, n int) (h Header, offset int64, err error) {
	if w.next == math.MaxUint32 {
		return h, 0, fmt.Errorf("volume %s: %w", w.id, ErrFull)
	}
	h = Header{Kind: kind, Volume: w.id, Sequence: w.next, Length: payloadLength(kind, n)}
	if _, err := io.ReadFull(w.random, h.Random[:]); err != nil {
		return h, 0, w.fail(fmt.Errorf("random bytes: %w", err))
	}
	offset = w.size
	w.next++
	w.size += int64(h.Stored())
	w.pending = append(w.pending, reservation{offset: offset})
	return h, offset, nil
}

// usable says why nothing can be appended any more.
func (w *Writer) usable() error {
	switch {
	case w.failed != nil:
		return w.failed
	case w.sealed || w.closed:
		return fmt.Errorf("volume %s: %w", w.id, ErrSealed)
	}
	return nil
}

// fail closes the volume for good. The caller holds mu.
func (w *Writer) fail(cause error) error {
	if w.failed == nil {
		w.failed = fmt.Errorf("volume %s: %w: %w", w.id, ErrFailed, cause)
		w.written.Broadcast()
	}
	return w.failed
}

// failNow is fail for who does not hold mu.
func (w *Writer) failNow(cause error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fail(cause)
}

// write seals a frame and writes it to its place.
func (w *Writer) write(h Header, offset int64, plain []byte) error {
	spare, _ := w.spare.Get().(*[]byte)
	if spare == nil {
		spare = new([]byte)
	}
	*spare = appendFrame(*spare, h, plain, w.aead)
	_, err := w.f.WriteAt(*spare, offset)
	if err == nil && w.parity != nil && !w.ending {
		w.parity.hand(offset, *spare, func() { w.spare.Put(spare) })
	} else {
		w.spare.Put(spare)
	}
	return w.wrote(offset, err)
}

// put writes a frame of parity to its place.
func (w *Writer) put(offset int64, frame []byte) error {
	_, err := w.f.WriteAt(frame, offset)
	if err == nil && w.parity != nil && !w.ending {
		w.parity.add(offset, frame)
	}
	return w.wrote(offset, err)
}

// wrote notes the end of a write, and writes the parity of a span that is complete with it.
func (w *Writer) wrote(offset int64, err error) error {
	w.mu.Lock()
	if err != nil {
		defer w.mu.Unlock()
		return w.fail(err)
	}
	w.finish(offset)
	due, failed := w.dueSets(), w.failed
	w.mu.Unlock()
	if failed != nil {
		return failed
	}
	return w.writeSets(due)
}

// finish marks a reservation as written and forgets those that need no waiting for. The caller holds mu.
func (w *Writer) finish(offset int64) {
	for i := range w.pending {
		if w.pending[i].offset == offset {
			w.pending[i].done = true
			break
		}
	}
	n := 0
	for n < len(w.pending) && w.pending[n].done {
		n++
	}
	if n > 0 {
		w.pending = append(w.pending[:0], w.pending[n:]...)
		w.written.Broadcast()
	}
}

// Share is by how much a frame of so many bytes makes the volume longer in the end: itself, its rows of the contents table, and
// the parity of both. What a volume has once (labels, trailer) and the parity of a short end, which costs more, are not in it.
func (w *Writer) Share(stored uint32, blobs []Blob) int64 {
	const row, frame = minRow + 2, 8 // bytes of the table, a length of three bytes and an offset included
	n := int64(stored) + frame + int64(len(blobs)*row)
	if w.parity != nil {
		n += n * int64(w.parity.full.rows) / int64(w.parity.full.data)
	}
	return n
}

// Size is the offset where the next frame will lie; after Seal the volume's length.
func (w *Writer) Size() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.size
}

// ParityBytes is how much of Size is parity.
func (w *Writer) ParityBytes() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.parityBytes
}

// Synced is the offset up to which everything is on stable storage.
func (w *Writer) Synced() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.synced
}

// Err is the error that closed the volume, or nil; it wraps ErrFailed.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

// ReadAt reads frames whose Append has returned.
func (w *Writer) ReadAt(p []byte, off int64) (int, error) { return w.f.ReadAt(p, off) }

// Sync waits for the appends that have begun and brings them to stable storage; those that begin later it does not
// wait for. Errors: ErrFailed.
func (w *Writer) Sync() error {
	target := w.Size()
	w.syncing.Lock()
	defer w.syncing.Unlock()
	if done, err := w.await(target); done || err != nil {
		return err
	}
	err := w.f.Sync()

	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.lost = true
		return w.fail(err)
	}
	w.synced = target
	return w.failed
}

// await returns when every frame below target is written: a sync that began earlier would not cover it. done means
// that they are synced as well.
func (w *Writer) await(target int64) (done bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.failed == nil && len(w.pending) > 0 && w.pending[0].offset < target {
		w.written.Wait()
	}
	return w.synced >= target, w.failed
}
