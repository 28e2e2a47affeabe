package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"

	"github.com/zeebo/xxh3"
)

// Range is a run of bytes of a volume.
type Range struct{ Offset, Length int64 }

// End is the offset behind the last byte.
func (r Range) End() int64 { return r.Offset + r.Length }

// Part says what of a volume a Damage is about.
type Part uint8

// Parts of a volume.
const (
	PartLabel   Part = iota + 1 // the label at the start
	PartFrame                   // a frame whose header is whole: its payload is not what was written
	PartGap                     // bytes that belong to no frame: headers destroyed, frames lost, bytes inserted or removed
	PartTail                    // what lies behind the last whole frame of a volume without a trailer: torn, or cut
	PartTrailer                 // a trailer that is damaged or does not agree with the frames
	PartParity                  // parity that does not belong to the bytes it should protect
)

// String names the part.
func (p Part) String() string {
	if p < PartLabel || p > PartParity {
		return fmt.Sprintf("part %d", uint8(p))
	}
	return [...]string{"label", "frame", "gap", "tail", "trailer", "parity"}[p-1]
}

// Damage is something that Check found.
type Damage struct {
	Range
	Part    Part
	Frame   Header // of PartFrame
	Missing int64  // of PartGap: sequence numbers left out; negative when they went back
	Err     error  // ErrChecksum, ErrTorn, ErrMalformed, or the medium's
}

// CheckOptions refine Check; the zero value checks everything that needs one read.
type CheckOptions struct {
	Volume ID   // what the file's name says; zero: taken from label, trailer or frames
	Blocks bool // also compare the blocks with the digests of their parity, which reads the file once more

	// Frame, if any, is called for each frame in order, as ScanPayloads does.
	Frame func(offset int64, h Header, stored []byte, damage error) error
}

// Report is what Check found.
type Report struct {
	Volume      ID
	Label       Label   // the first or the repeated one; zero if neither is whole
	Trailer     Trailer // zero unless Sealed
	Sealed      bool    // a whole trailer ends the volume
	Size        int64
	Frames      int64    // found, of all kinds
	Missing     int64    // sequence numbers that should be there and are not
	Damage      []Damage // by offset
	Parity      int64    // bytes of parity frames
	Sets        int      // of parity that can be used
	Unprotected []Range  // of frames and label, not covered by any of those
}

// Whole reports whether nothing is damaged. A volume that was never sealed and has no torn tail is whole.
func (r *Report) Whole() bool { return len(r.Damage) == 0 }

// Check reads a volume of size bytes and verifies all that can be verified without a key: label, frames and their
// numbers, trailer, parity. Errors: Frame's as they are; the reader's but EIO; ErrNotVolume (no label, trailer or frame of any
// volume), ErrNewerVersion.
func Check(r io.ReaderAt, size int64, o CheckOptions) (Report, error) {
	c := checker{r: r, o: o, sets: map[int64]*foundSet{}}
	c.report.Size = size
	if err := c.identify(); err != nil {
		return c.report, err
	}
	c.trailer()
	end, gaps, err := ScanPayloads(r, 0, size, c.report.Volume, c.frame)
	if err != nil {
		return c.report, err
	}
	c.gaps(gaps)
	c.tail(end)
	c.coverage(end)
	if o.Blocks {
		if err := c.blocks(); err != nil {
			return c.report, err
		}
	}
	slices.SortStableFunc(c.report.Damage, func(a, b Damage) int { return int(min(max(a.Offset-b.Offset, -1), 1)) })
	return c.report, nil
}

// checker is one Check.
type checker struct {
	r      io.ReaderAt
	o      CheckOptions
	report Report

	labelLength int64 // 0: unknown
	first       int64 // offset of the first frame; 0 if none
	next        int64 // sequence number after the last frame
	kinds       map[int64]FrameKind
	sets        map[int64]*foundSet // by the offset of their first frame
}

// foundSet is a parity set and which of its frames are whole.
type foundSet struct {
	paritySet
	whole map[int]bool
}

// usable reports whether all its rows and a copy of the digests are whole.
func (s *foundSet) usable() bool {
	for part := 1; part <= s.rows; part++ {
		if !s.whole[part] {
			return false
		}
	}
	return s.whole[0] || s.whole[s.rows+1]
}

func (c *checker) found(part Part, offset, length int64, err error) {
	c.report.Damage = append(c.report.Damage, Damage{Range: Range{offset, length}, Part: part, Err: err})
}

// identify finds out which volume it is and verifies its label.
func (c *checker) identify() error {
	l, length, err := ReadLabel(c.r, c.report.Size)
	if err == nil && (c.o.Volume.IsZero() || l.Volume == c.o.Volume) {
		c.report.Label, c.report.Volume, c.labelLength = l, l.Volume, int64(length)
		return nil
	}
	if err != nil && !broken(err) && !errors.Is(err, ErrTorn) && !errors.Is(err, ErrNotVolume) {
		return err
	}
	if err == nil {
		err = fmt.Errorf("label of volume %s: %w", l.Volume, ErrMalformed)
	}
	c.found(PartLabel, 0, min(c.report.Size, labelUnit), err)
	c.report.Volume = c.o.Volume
	if c.report.Volume.IsZero() {
		c.report.Volume, err = findID(c.r, c.report.Size)
	} else {
		err = nil
	}
	return err
}

// findID takes the id of a volume whose label is damaged from its trailer or its first frame.
func findID(r io.ReaderAt, size int64) (ID, error) {
	if t, err := ReadTrailer(r, size); err == nil {
		return t.Volume, nil
	}
	s := scan{r: r, size: size}
	buf := make([]byte, min(lastWindow, size))
	for from := int64(0); from+HeaderSize <= size; from += lastWindow - HeaderSize + 1 {
		b := buf[:min(lastWindow, size-from)]
		if err := s.fill(b, from); err != nil {
			return ID{}, err
		}
		for i := bytes.Index(b, []byte(frameMagic)); i >= 0 && len(b)-i >= HeaderSize; {
			v := ID(b[i+8 : i+24])
			if _, err := ParseHeader(b[i:], v); err == nil {
				return v, nil
			}
			n := bytes.Index(b[i+1:], []byte(frameMagic))
			if n < 0 {
				break
			}
			i += 1 + n
		}
	}
	return ID{}, fmt.Errorf("no label, trailer or frame: %w", ErrNotVolume)
}

func (c *checker) trailer() {
	t, err := ReadTrailer(c.r, c.report.Size)
	if err == nil && t.Volume == c.report.Volume {
		c.report.Trailer, c.report.Sealed = t, true
		c.kinds = map[int64]FrameKind{t.Contents: 0, t.Label: 0}
	}
}

func (c *checker) frame(offset int64, h Header, stored []byte, damage error) error {
	if c.report.Frames == 0 {
		c.first = offset
	}
	c.report.Frames++
	c.next = int64(h.Sequence) + 1
	if _, ok := c.kinds[offset]; ok {
		c.kinds[offset] = h.Kind
	}
	if damage != nil {
		c.report.Damage = append(c.report.Damage, Damage{Range: Range{offset, int64(h.Stored())}, Part: PartFrame, Frame: h, Err: damage})
	}
	if h.Kind == FrameParity {
		c.report.Parity += int64(h.Stored())
		c.parity(offset, stored[HeaderSize:], damage)
	}
	if h.Kind == FrameLabel && damage == nil && c.report.Label.Volume.IsZero() {
		if l, n, err := ParseLabel(stored[HeaderSize:]); err == nil && l.Volume == c.report.Volume {
			c.report.Label, c.labelLength = l, int64(n)
		}
	}
	if c.o.Frame != nil {
		return c.o.Frame(offset, h, stored, damage)
	}
	return nil
}

// parity notes a frame of a set.
func (c *checker) parity(offset int64, payload []byte, damage error) {
	set, part, err := parseSetHead(payload, c.report.Volume)
	if err != nil || set.frameAt(part) != offset {
		return // of another layout, or moved
	}
	s := c.sets[set.at]
	if s == nil {
		s = &foundSet{paritySet: set, whole: map[int]bool{}}
		c.sets[set.at] = s
	}
	s.whole[part] = damage == nil && s.geometry == set.geometry && int64(len(payload)) == s.stored(part)-HeaderSize
}

// gaps notes where the scan lost the thread.
func (c *checker) gaps(gaps []Gap) {
	for _, g := range gaps {
		c.report.Missing += max(g.Missing, 0)
		if g.Offset == 0 && len(c.report.Damage) > 0 && c.report.Damage[0].Part == PartLabel {
			length := g.Length
			if c.labelLength > 0 {
				length = min(c.labelLength, g.Length)
			}
			c.report.Damage[0].Length = length
			g.Offset, g.Length = length, g.Length-length
			if g.Length == 0 && g.Missing == 0 {
				continue
			}
		}
		c.report.Damage = append(c.report.Damage, Damage{
			Range: Range{g.Offset, g.Length}, Part: PartGap, Missing: g.Missing, Err: fmt.Errorf("between frames: %w", ErrChecksum),
		})
	}
}

// tail looks at what lies behind the last frame.
func (c *checker) tail(end int64) {
	t, size := c.report.Trailer, c.report.Size
	switch {
	case c.report.Sealed:
		lost := max(int64(t.Frames)-c.next, 0)
		c.report.Missing += lost
		if end < size-TrailerSize || lost > 0 {
			c.report.Damage = append(c.report.Damage, Damage{
				Range: Range{end, size - TrailerSize - end}, Part: PartGap, Missing: lost, Err: fmt.Errorf("behind the last frame: %w", ErrChecksum),
			})
		} else if int64(t.Frames) != c.next || c.kinds[t.Contents] != FrameContents || c.kinds[t.Label] != FrameLabel {
			c.disagreement(t)
		}
	case end < size && c.ended(end):
		c.found(PartTrailer, end, size-end, fmt.Errorf("trailer: %w", ErrChecksum))
	case end < size && c.report.Frames > 0:
		c.found(PartTail, end, size-end, fmt.Errorf("behind the last frame: %w", ErrTorn))
	case c.ended(end):
		c.found(PartTrailer, end, 0, fmt.Errorf("trailer: %w", ErrTorn))
	case c.report.Frames == 0 && c.labelLength > 0 && c.labelLength < size:
		c.found(PartTail, c.labelLength, size-c.labelLength, fmt.Errorf("behind the label: %w", ErrTorn))
	}
}

// disagreement is a trailer that is whole and wrong, unless the frames it names are known to be damaged.
func (c *checker) disagreement(t Trailer) {
	for _, d := range c.report.Damage {
		if d.Part == PartGap && (d.Offset <= t.Contents && t.Contents < d.End() || d.Offset <= t.Label && t.Label < d.End()) {
			return
		}
	}
	c.found(PartTrailer, c.report.Size-TrailerSize, TrailerSize, fmt.Errorf("trailer does not agree with the frames: %w", ErrMalformed))
}

// ended reports whether parity says that the trailer follows here.
func (c *checker) ended(end int64) bool {
	for _, s := range c.sets {
		if s.trailer != nil && s.at+s.size() <= end {
			return true
		}
	}
	return false
}

// coverage works out what is protected. Sets need no cover: they are made again from what they protect.
func (c *checker) coverage(end int64) {
	var covered []Range
	for _, s := range c.sets {
		covered = append(covered, Range{s.at, s.size()})
		if s.usable() {
			c.report.Sets++
			covered = append(covered, Range{s.offset, s.length})
		}
	}
	c.report.Unprotected = without(Range{0, end}, covered)
}

// without is what of r lies in none of the others.
func without(r Range, others []Range) (rest []Range) {
	slices.SortFunc(others, func(a, b Range) int { return int(min(max(a.Offset-b.Offset, -1), 1)) })
	at := r.Offset
	for _, o := range others {
		if o.Offset > at && at < r.End() {
			rest = append(rest, Range{at, min(o.Offset, r.End()) - at})
		}
		at = max(at, o.End())
	}
	if at < r.End() {
		rest = append(rest, Range{at, r.End() - at})
	}
	return rest
}

// blocks compares what sets protect with their digests.
func (c *checker) blocks() error {
	for _, s := range c.sets {
		if !s.usable() {
			continue
		}
		bad, err := s.badBlocks(c.r, c.report.Volume)
		if err != nil {
			return err
		}
		for _, b := range bad {
			if !c.damaged(b) {
				c.found(PartParity, b.Offset, b.Length, fmt.Errorf("block differs from the digest at %d: %w", s.at, ErrChecksum))
			}
		}
	}
	return nil
}

// damaged reports whether a range meets damage that is known.
func (c *checker) damaged(r Range) bool {
	return slices.ContainsFunc(c.report.Damage, func(d Damage) bool { return d.Offset < r.End() && r.Offset < d.End() })
}

// badBlocks compares the blocks of a span with the digests of the set, one copy of which is whole.
func (s *foundSet) badBlocks(r io.ReaderAt, v ID) (bad []Range, err error) {
	part := 0
	if !s.whole[0] {
		part = s.rows + 1
	}
	digests := make([]byte, 8*s.blocks())
	if err := readFull(r, digests, s.bodyAt(part)); err != nil {
		return nil, err
	}
	err = eachBlock(r, &s.geometry, func(i int, at int64, b []byte) {
		if xxh3.HashSeed(b, v.seed()) != digest(digests, i) {
			bad = append(bad, Range{at, min(s.block(), s.end()-at)})
		}
	})
	return bad, err
}

// eachBlock reads the blocks of a span, the last filled up with zeros, unreadable sectors and what lies beyond the file
// as zeros too.
func eachBlock(r io.ReaderAt, g *geometry, fn func(i int, at int64, b []byte)) error {
	buf := make([]byte, max(g.block(), min(encodeBuffer, int64(g.blocks())<<g.shift)))
	for at := int64(0); at < g.length; at += int64(len(buf)) {
		n := min(int64(len(buf)), g.length-at)
		if err := readWhatIsThere(r, buf[:n], g.offset+at); err != nil {
			return err
		}
		clear(buf[n:])
		for i := int64(0); i < n; i += g.block() {
			fn(int((at+i)>>g.shift), g.offset+at+i, buf[i:i+g.block()])
		}
	}
	return nil
}

// readWhatIsThere reads b with zeros for what cannot be read.
func readWhatIsThere(r io.ReaderAt, b []byte, offset int64) error {
	n, err := r.ReadAt(b, offset)
	switch {
	case n == len(b):
		return nil
	case err == nil || err == io.EOF:
		clear(b[n:])
		return nil
	case errors.Is(err, syscall.EIO):
		return (&scan{r: zeroEnd{r}}).fill(b, offset)
	}
	return err
}

// zeroEnd is a reader behind whose end zeros follow.
type zeroEnd struct{ io.ReaderAt }

func (z zeroEnd) ReadAt(p []byte, off int64) (int, error) {
	n, err := z.ReaderAt.ReadAt(p, off)
	if n < len(p) && (err == nil || err == io.EOF) {
		clear(p[n:])
		return len(p), nil
	}
	return n, err
}
