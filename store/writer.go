package store

import (
	"context"
	"fmt"
	"sync"

	"snapfs/store/volume"
)

const (
	// packTarget is how much raw data of small blobs goes into one frame.
	packTarget = 256 << 10
	// aloneLimit is the size from which a blob has a frame of its own.
	aloneLimit = 128 << 10
)

// Writer packs blobs into frames for one goroutine: small ones together in the order they come, large ones
// alone. Not safe for concurrent use.
type Writer struct {
	session Session
	keys    idKeys
	flight  *inFlight
	damaged *damagedFrames
	packer  *volume.Packer
	packs   [ClassMetadata + 1]smallBlobs
	plain   []byte // the frame being made
	stats   WriterStats
	err     error // sticky: a blob put is lost
}

// smallBlobs are the blobs that will share the next frame of a class.
type smallBlobs struct {
	raw   []byte
	blobs []volume.Blob
	asked int // of blobs, those that the store is known to lack
}

// inFlight are the blobs that some Writer of the process has taken but not yet handed over: a second one is not stored
// again. If handing over fails, the job fails, so nothing ever refers to what is not there.
type inFlight struct {
	mu  sync.Mutex
	ids map[ID]struct{}
}

// claim reports whether the blob was not in flight; then it is the caller's to hand over.
func (f *inFlight) claim(id ID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.ids[id]; ok {
		return false
	}
	f.ids[id] = struct{}{}
	return true
}

func (f *inFlight) release(blobs []volume.Blob) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range blobs {
		delete(f.ids, b.ID)
	}
}

func classOf(kind Kind) Class {
	if kind == KindChunk {
		return ClassData
	}
	return ClassMetadata
}

// Put stores data unless the store has it, and returns its ID. data may be reused when Put returns.
// Small blobs are only on their way until Flush.
func (w *Writer) Put(ctx context.Context, kind Kind, data []byte) (ID, error) {
	if w.err != nil {
		return ID{}, w.err
	}
	if len(data) > volume.MaxRaw {
		return ID{}, fmt.Errorf("blob of %d bytes: too large", len(data))
	}
	id := w.keys.id(kind, data)
	w.stats.Blobs++
	w.stats.RawBytes += int64(len(data))
	if !w.flight.claim(id) {
		return id, nil
	}
	row := volume.Blob{Kind: uint8(kind), ID: id, Length: uint32(len(data))}
	if len(data) >= aloneLimit {
		return id, w.putAlone(ctx, classOf(kind), row, data)
	}
	p := &w.packs[classOf(kind)]
	p.raw = append(p.raw, data...)
	p.blobs = append(p.blobs, row)
	if len(p.raw) < packTarget {
		return id, nil
	}
	return id, w.handOver(ctx, classOf(kind), packTarget/2)
}

// putAlone stores a large blob in a frame of its own.
func (w *Writer) putAlone(ctx context.Context, class Class, row volume.Blob, data []byte) error {
	blobs := []volume.Blob{row}
	defer w.flight.release(blobs)
	have, err := w.damaged.have(ctx, w.session, []ID{row.ID})
	if err == nil && !have[0] {
		err = w.send(ctx, class, blobs, data)
	}
	return w.failed(err)
}

// handOver asks which of the waiting blobs the store lacks, and sends those if there are at least so many bytes of them.
func (w *Writer) handOver(ctx context.Context, class Class, least int) error {
	p := &w.packs[class]
	if err := w.dropKnown(ctx, p); err != nil {
		return w.failed(err)
	}
	if len(p.raw) < least || len(p.blobs) == 0 {
		return nil
	}
	err := w.send(ctx, class, p.blobs, p.raw)
	w.flight.release(p.blobs)
	p.raw, p.blobs, p.asked = p.raw[:0], p.blobs[:0], 0
	return w.failed(err)
}

// dropKnown removes the blobs that the store has.
func (w *Writer) dropKnown(ctx context.Context, p *smallBlobs) error {
	fresh := p.blobs[p.asked:]
	if len(fresh) == 0 {
		return nil
	}
	ids := make([]ID, len(fresh))
	for i, b := range fresh {
		ids[i] = b.ID
	}
	have, err := w.damaged.have(ctx, w.session, ids)
	if err != nil {
		return err
	}
	from := 0
	for _, b := range p.blobs[:p.asked] {
		from += int(b.Length)
	}
	to, kept := from, p.asked
	var known []volume.Blob
	for i, b := range fresh {
		n := int(b.Length)
		if have[i] {
			known = append(known, b)
		} else {
			copy(p.raw[to:], p.raw[from:from+n])
			p.blobs[kept] = b
			kept++
			to += n
		}
		from += n
	}
	w.flight.release(known)
	p.raw, p.blobs, p.asked = p.raw[:to], p.blobs[:kept], kept
	return nil
}

func (w *Writer) send(ctx context.Context, class Class, blobs []volume.Blob, raw []byte) error {
	w.plain = w.packer.Pack(w.plain[:0], blobs, raw)
	stored, err := w.session.Put(ctx, Frame{Class: class, Blobs: blobs, Pack: w.plain})
	if err != nil {
		return err
	}
	w.stats.NewBlobs += int64(len(blobs))
	w.stats.NewRawBytes += int64(len(raw))
	w.stats.StoredBytes += stored
	return nil
}

// failed makes the first error stick.
func (w *Writer) failed(err error) error {
	if err != nil && w.err == nil {
		w.err = err
	}
	return err
}

// Flush hands on everything that was put. After it, and after the same of all other Writers, Commit may follow.
func (w *Writer) Flush(ctx context.Context) error {
	if w.err != nil {
		return w.err
	}
	for _, class := range []Class{ClassData, ClassMetadata} {
		if err := w.handOver(ctx, class, 0); err != nil {
			return err
		}
	}
	return nil
}

// Stats tells what this Writer did so far.
func (w *Writer) Stats() WriterStats { return w.stats }
