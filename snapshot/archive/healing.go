package archive

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"

	"snapfs/snapshot"
	"snapfs/store/volume"
)

// healingPipe is a pipe of volumes in which damage is healed in passing. What is whole goes on at once. Behind damage everything is held
// until the parity has come that heals it, or more has come than is kept: then it goes on as it is. Not safe for concurrent use.
type healingPipe struct {
	in     io.Reader
	dir    string
	note   func(string)
	last   ring
	parser *volume.Stream

	out     int64     // up to here it was handed on; offsets are those in what came, unless they are said to be a volume's
	ok      int64     // up to here it may be
	pending io.Reader // goes before that
	healed  *overlay  // what pending reads

	volume  volume.ID
	label   *volume.Label
	begins  int64   // where byte 0 of the volume lies, or would but for what was inserted or lost since
	frames  []int64 // where some whole frames begin that are kept
	at      int64   // of the present item
	holding bool
	parity  bool // the item before was a frame of parity

	ended  error
	failed bool   // it can be kept no longer: the rest goes on unseen
	tail   []byte // what was read when that happened

	short atomic.Bool // damage went on that more room might have healed
}

const (
	keptMost   = 96 << 20 // bytes of a pipe: a span of 64 MiB, and what comes between its end and the end of its parity
	keptLeast  = 1 << 20
	keptShare  = 4         // of the room in scratch, at most one part in so many
	frameEvery = 256 << 10 // bytes between two frames whose beginnings are remembered
)

// errNotKept ends the parsing when a pipe can be kept no longer.
var errNotKept = errors.New("no room to keep what comes")

// newHealingPipe returns nil where scratch has no room.
func (b *Bare) newHealingPipe(in io.Reader) *healingPipe {
	size := min(keptMost, freeIn(b.o.Scratch)/keptShare)
	if size < keptLeast {
		return nil
	}
	f, err := snapshot.ScratchFile(b.o.Scratch)
	if err != nil {
		return nil
	}
	h := &healingPipe{in: in, dir: b.o.Scratch, note: b.o.Note, last: ring{file: f, size: size}}
	h.parser = volume.NewStream(keptBy{h})
	b.healing = append(b.healing, h)
	return h
}

func (h *healingPipe) close() error { return errors.Join(h.closeHealed(), h.last.file.Close()) }

func (h *healingPipe) closeHealed() error {
	if h.healed == nil {
		return nil
	}
	o := h.healed
	h.healed = nil
	return o.Close()
}

// Read gives the volumes as they were, as far as they can be healed.
func (h *healingPipe) Read(b []byte) (int, error) {
	for {
		if h.pending != nil {
			if n, err := h.pending.Read(b); n > 0 || err != io.EOF {
				return n, err
			}
			h.pending = nil
			if err := h.closeHealed(); err != nil {
				return 0, err
			}
		}
		if h.out < h.ok {
			b = b[:min(int64(len(b)), h.ok-h.out)]
			n, err := h.last.ReadAt(b, h.out)
			h.out += int64(n)
			return n, err
		}
		switch {
		case len(h.tail) > 0:
			n := copy(b, h.tail)
			h.tail = h.tail[n:]
			return n, nil
		case h.failed:
			return h.in.Read(b)
		case h.ended != nil:
			return 0, h.ended
		}
		h.step()
	}
}

// keptBy is what a healingPipe parses: what it reads is kept.
type keptBy struct{ h *healingPipe }

// Read reads the pipe.
func (k keptBy) Read(b []byte) (int, error) {
	h := k.h
	room := h.last.size - (h.last.end - h.out)
	if room <= 0 {
		h.failed = true
		h.noteShort(nil)
		return 0, errNotKept
	}
	n, err := h.in.Read(b[:min(int64(len(b)), room)])
	if n == 0 {
		return 0, err
	}
	if h.last.write(b[:n]) != nil {
		h.failed, h.tail = true, slices.Clone(b[:n])
		h.short.Store(true)
		return 0, errNotKept
	}
	return n, err
}

// step looks at the next item.
func (h *healingPipe) step() {
	if h.holding && h.last.end-h.out > h.last.size-h.last.size/8 {
		h.heal(h.at, true, false)
		return
	}
	it, err := h.parser.Next()
	switch {
	case h.failed:
		h.ok = h.last.end
	case errors.Is(err, volume.ErrNewerVersion):
		h.ok, h.failed = h.last.end, true // whoever reads it will say so
	case err != nil:
		h.ok, h.ended = h.last.end, err
	default:
		h.item(it)
	}
}

func (h *healingPipe) item(it volume.StreamItem) {
	h.at = it.Offset
	parity := it.Kind == volume.StreamFrame && it.Damage == nil && it.Header.Kind == volume.FrameParity
	if h.holding && (h.parity && !parity || it.Kind == volume.StreamEnd) {
		over := it.Kind == volume.StreamEnd
		h.heal(h.at, over, over)
	}
	h.parity = parity
	switch it.Kind {
	case volume.StreamLabel:
		h.volume, h.label, h.begins, h.frames = it.Volume, it.Label, it.Offset, h.frames[:0]
		if h.holding = it.Label == nil; !h.holding {
			h.ok = h.at // rubbish before it goes on as it is
		}
	case volume.StreamGap:
		h.holding = true
	case volume.StreamFrame:
		h.frame(it)
	case volume.StreamEnd:
		if it.Trailer.Size == 0 && h.ok < h.at {
			h.heal(h.at, true, true)
		}
		h.ok = max(h.ok, h.at)
	}
}

func (h *healingPipe) frame(it volume.StreamItem) {
	if h.holding = h.holding || it.Damage != nil; h.holding {
		return
	}
	if n := len(h.frames); n == 0 || h.at-h.frames[n-1] >= frameEvery {
		h.forgetFrames(n)
		h.frames = append(h.frames, h.at)
	}
	h.ok = h.at + int64(it.Header.Stored())
}

// forgetFrames lets go of frames that are no longer kept, once they are half of all: a volume may be as long as a tape.
func (h *healingPipe) forgetFrames(n int) {
	if n > 0 && h.frames[n/2] < h.last.start() {
		h.frames = append(h.frames[:0], h.frames[n/2:]...)
	}
}

// start is where the part of the volume that is kept begins: at the label or at a whole frame. -1: nowhere.
func (h *healingPipe) start() int64 {
	least := h.last.start()
	if h.begins >= least {
		return h.begins
	}
	h.frames = slices.DeleteFunc(h.frames, func(at int64) bool { return at < least })
	if len(h.frames) == 0 || h.frames[0] > h.ok {
		return -1
	}
	return h.frames[0]
}

// heal restores what is held, up to an offset, and lets it go on: if nothing in it is damaged any more, or, with last, in any case. over says that
// the volume ends there.
func (h *healingPipe) heal(end int64, last, over bool) {
	start := h.start()
	if start < 0 || h.volume.IsZero() || end <= start {
		if last {
			h.giveUp(end, nil)
		}
		return
	}
	size := end - h.begins
	src := ringPart{&h.last, h.begins}
	o := newOverlay(src, size, h.dir)
	report, err := volume.RepairPart(src, start-h.begins, size, h.volume, o)
	if err != nil || !report.Whole && (!last || len(report.Healed) == 0) {
		_ = o.Close() // it was scratch
		if last {
			h.giveUp(end, err)
		}
		return
	}
	if !report.Whole {
		h.noteShort(err)
	}
	h.letGo(o, report, end, over)
}

// giveUp lets what is held go on as it came: who reads it will say what is damaged.
func (h *healingPipe) giveUp(end int64, err error) {
	h.noteShort(err)
	h.ok, h.holding = end, false
}

// noteShort notes whether more room might have healed what goes on damaged: if scratch was full, or if a part of the volume was kept no longer and
// the ring is not as long as any parity wants it.
func (h *healingPipe) noteShort(err error) {
	if err != nil && EndOfMedium(err) || h.last.size < keptMost && h.last.start() > h.begins {
		h.short.Store(true)
	}
}

// letGo hands on what was healed.
func (h *healingPipe) letGo(o *overlay, report volume.PartReport, end int64, over bool) {
	from, to := max(h.ok-h.begins, 0), report.Size
	if !over { // parity also says what is still to come
		to = min(to, end-h.begins-report.Moved)
	}
	before := io.NewSectionReader(&h.last, h.ok, max(h.begins-h.ok, 0)) // what lies before the volume
	h.pending = io.MultiReader(before, io.NewSectionReader(o, from, to-from))
	h.healed, h.out, h.ok, h.holding = o, end, end, false
	if report.Moved == 0 {
		h.putBack(o, end)
	} else {
		h.begins += report.Moved
		h.frames = h.frames[:0]
	}
	if report.Whole && len(report.Healed) > 0 {
		bytes := int64(0)
		for _, r := range report.Healed {
			bytes += r.Length
		}
		name := "volume " + h.volume.String()
		if h.label != nil && h.label.Set != nil {
			name = LabelText(h.label)
		}
		h.note(fmt.Sprintf("%s came damaged: %d bytes were restored from its parity in passing", name, bytes))
	}
}

// putBack takes what was healed for what came, so that parity that comes later finds it whole.
func (h *healingPipe) putBack(o *overlay, end int64) {
	var b [pageSize]byte
	for page, at := range o.pages {
		to := h.begins + page*pageSize
		n := min(pageSize, end-to) // behind that is what came after
		if to < h.last.start() || n <= 0 {
			continue
		}
		if _, err := o.temp.ReadAt(b[:n], at); err == nil {
			_ = h.last.put(b[:n], to) // an error means that less can be healed
		}
	}
}

// ring keeps the last bytes of a pipe in a file. Offsets are those in the pipe.
type ring struct {
	file *os.File
	size int64
	end  int64
}

func (r *ring) start() int64 { return max(0, r.end-r.size) }

// write appends bytes.
func (r *ring) write(b []byte) error {
	err := r.put(b, r.end)
	if err == nil {
		r.end += int64(len(b))
	}
	return err
}

func (r *ring) put(b []byte, at int64) error {
	for len(b) > 0 {
		n := min(int64(len(b)), r.size-at%r.size)
		if _, err := r.file.WriteAt(b[:n], at%r.size); err != nil {
			return err
		}
		b, at = b[n:], at+n
	}
	return nil
}

// ReadAt reads what is kept, and zeros for what was.
func (r *ring) ReadAt(b []byte, at int64) (n int, err error) {
	if at >= r.end {
		return 0, io.EOF
	}
	short := at+int64(len(b)) > r.end
	if short {
		b = b[:r.end-at]
	}
	if gone := min(r.start()-at, int64(len(b))); gone > 0 {
		clear(b[:gone])
		n = int(gone)
	}
	for n < len(b) {
		from := (at + int64(n)) % r.size
		part := b[n:min(int64(len(b)), int64(n)+r.size-from)]
		if _, err := r.file.ReadAt(part, from); err != nil {
			return n, fmt.Errorf("scratch: %w", err)
		}
		n += len(part)
	}
	if short {
		err = io.EOF
	}
	return n, err
}

// ringPart is a volume in a ring.
type ringPart struct {
	ring   *ring
	begins int64
}

// ReadAt reads at an offset in the volume.
func (p ringPart) ReadAt(b []byte, at int64) (int, error) {
	if p.begins+at < 0 { // bytes were lost, and nothing has come in their place
		n := min(int64(len(b)), -p.begins-at)
		clear(b[:n])
		m, err := p.ReadAt(b[n:], at+n)
		return int(n) + m, err
	}
	return p.ring.ReadAt(b, p.begins+at)
}
