package volume

import (
	"fmt"
	"io"
	"math"

	"github.com/zeebo/xxh3"
)

const (
	// Parity of an open volume's newest frames may take this much, and this part of the volume.
	interimBytes = 128 << 10
	interimShare = 8

	encodeBuffer = 256 << 10
)

// dueSet is a set whose place is taken.
type dueSet struct {
	paritySet
	parity *spanParity
	span   *openSpan // whose memory parity is; or nil
}

// reached is the offset below which every write has returned. The caller holds mu.
func (w *Writer) reached() int64 {
	if len(w.pending) > 0 {
		return w.pending[0].offset
	}
	return w.size
}

// dueSets takes places for the parity of spans that are complete now; the caller, who holds mu, must write it.
func (w *Writer) dueSets() (due []*dueSet) {
	if w.parity == nil || w.failed != nil || w.ending {
		return nil
	}
	for w.reached() >= (w.spans+1)*w.parity.full.length {
		span := w.parity.take(w.spans, (w.spans+1)*w.parity.full.length)
		w.spans++
		d := &dueSet{paritySet: paritySet{geometry: span.geometry}, parity: span.spanParity, span: span}
		if w.reserveSet(d) {
			due = append(due, d)
		}
	}
	return due
}

// reserveSet takes the places of a set's frames, false when there are no numbers for them. The caller holds mu.
func (w *Writer) reserveSet(d *dueSet) bool {
	frames := uint32(d.frames())
	if w.next >= math.MaxUint32-frames {
		return false
	}
	d.at, d.first = w.size, w.next
	for part := range d.frames() {
		offset := d.frameAt(part)
		w.pending = append(w.pending, reservation{offset: offset})
		if !w.sealed {
			w.table.add(offset, Header{Kind: FrameParity, Length: uint32(d.stored(part) - HeaderSize)}, nil)
		}
	}
	w.next += frames
	w.size += d.size()
	w.parityBytes += d.size()
	return true
}

// writeSets writes parity whose places are taken.
func (w *Writer) writeSets(due []*dueSet) error {
	for _, d := range due {
		d.parity.sumRows()
		for part := range d.frames() {
			body := d.parity.digests
			if !d.digestsOnly(part) {
				body = d.parity.rows[part-1]
			}
			if err := w.put(d.frameAt(part), d.frame(w.id, part, body)); err != nil {
				return err
			}
		}
		if d.span != nil {
			w.parity.giveBack(d.span)
		}
	}
	return nil
}

// Protect writes parity for the newest frames, which is otherwise written when a span is full or the volume is sealed; call
// it for a volume that stays open. It reads those frames back. As it makes the volume longer, it does nothing while too
// little has been added for what it costs: at most 128 KiB and an eighth of the volume are spent this way, so that of
// many small additions at most about the last MiB is without. What it writes is on stable storage after the next Sync.
// Errors: ErrFailed; ErrChecksum if what is read back is not what was written.
func (w *Writer) Protect() error {
	w.protecting.Lock()
	defer w.protecting.Unlock()
	g, ok := w.newest()
	if !ok {
		return nil
	}
	parity, err := w.readBack(g)
	if err != nil {
		return fmt.Errorf("volume %s: %w", w.id, err)
	}
	d := &dueSet{paritySet: paritySet{geometry: g}, parity: parity}
	w.mu.Lock()
	ok = w.usable() == nil && w.reserveSet(d)
	if ok {
		w.protected, w.protectedBy = g.end(), d.at+d.size()
		w.interim += d.size()
	}
	w.mu.Unlock()
	if !ok {
		return w.Err() // sealed meanwhile: the volume's last set covers it
	}
	return w.writeSets([]*dueSet{d})
}

// newest is the span of what no parity covers, if it is worth a set.
func (w *Writer) newest() (g geometry, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	end := w.reached()
	if w.parity == nil || w.usable() != nil || end <= w.protectedBy {
		return g, false
	}
	from := max(w.spans*w.parity.full.length, w.protected) &^ (w.parity.full.block() - 1)
	if end <= from || end-from > w.parity.full.length {
		return g, false
	}
	g = shortGeometry(from, end-from, 0, w.parity.full)
	cost := (&paritySet{geometry: g}).size()
	return g, w.interim+cost <= interimBytes+w.size/interimShare
}

// sealParity protects the end of the volume, repeated label included, and keeps a copy of the trailer with it. Nothing
// else is written at the same time.
func (w *Writer) sealParity(t *Trailer) error {
	if w.parity == nil {
		return nil
	}
	w.mu.Lock()
	start, end := w.spans*w.parity.full.length, w.size
	w.mu.Unlock()
	if start == end {
		return nil
	}
	d := w.lastSet(start, end)
	d.at, d.trailer = end, make([]byte, TrailerSize)
	t.Size = d.at + d.size() + TrailerSize
	w.mu.Lock()
	ok := w.reserveSet(d)
	t.Frames = w.next
	w.ending = true
	w.mu.Unlock()
	if !ok {
		return nil
	}
	d.trailer = t.encode()
	return w.writeSets([]*dueSet{d})
}

// lastSet makes the parity of a volume's last span. A short one is read back and gets a geometry that fits it; if it does
// not read back as it was written, the parity made while writing protects it all the more.
func (w *Writer) lastSet(start, end int64) *dueSet {
	full := w.parity.full
	g := shortGeometry(start, end-start, end, full)
	if end-start <= full.length/readBackShare && g.stripe() < full.stripe() {
		if p, err := w.readBack(g); err == nil {
			return &dueSet{paritySet: paritySet{geometry: g}, parity: p}
		}
	}
	span := w.parity.take(w.spans, end)
	return &dueSet{paritySet: paritySet{geometry: span.geometry}, parity: span.spanParity, span: span}
}

// readBack makes parity of what has been written, and compares it with the digests taken then.
func (w *Writer) readBack(g geometry) (*spanParity, error) {
	p := newSpanParity(g, w.id, g.coder())
	full := w.parity.full
	number, block := g.offset/full.length, full.block()
	err := p.encodeFrom(w.f, func(at int64, b []byte) error {
		for ; int64(len(b)) >= block; b, at = b[block:], at+block {
			want, ok := w.parity.digestOf(number, int(at%full.length>>full.shift))
			if ok && want != xxh3.HashSeed(b[:block], w.id.seed()) {
				return fmt.Errorf("block at %d: %w", at, ErrChecksum)
			}
		}
		return nil
	})
	return p, err
}

// encodeFrom makes the parity of a span that lies in a file, but for the digests of the rows. seen, if any, is called with
// what was read, in pieces that begin at full blocks of the span.
func (p *spanParity) encodeFrom(r io.ReaderAt, seen func(at int64, b []byte) error) error {
	buf := make([]byte, max(p.block(), min(encodeBuffer, int64(p.blocks())<<p.shift)))
	for at := int64(0); at < p.length; at += int64(len(buf)) {
		n := min(int64(len(buf)), p.length-at)
		if err := readFull(r, buf[:n], p.offset+at); err != nil {
			return err
		}
		if seen != nil {
			if err := seen(p.offset+at, buf[:n]); err != nil {
				return err
			}
		}
		whole := (n + p.block() - 1) &^ (p.block() - 1)
		clear(buf[n:whole])
		p.encode(at, buf[:n])
		p.sum(int(at>>p.shift), buf[:whole])
	}
	return nil
}
