package volume

import (
	"bytes"
	"errors"
	"io"
)

// StreamKind says what an item of a Stream is.
type StreamKind uint8

// Items of a Stream.
const (
	StreamLabel StreamKind = iota + 1 // a volume begins; without its label if that is damaged
	StreamFrame                       // a frame, whole or with a damaged payload
	StreamGap                         // bytes that belong to nothing, frames that are missing
	StreamEnd                         // the volume is over; without its trailer if that is damaged or lost
)

// StreamItem is one piece of what a Stream reads.
type StreamItem struct {
	Kind   StreamKind
	Volume ID    // it belongs to; zero for bytes before the first volume
	Offset int64 // in the stream
	At     int64 // in the volume as it lies there, counted from its first byte

	Label   *Label  // of StreamLabel; nil: damaged
	Header  Header  // of StreamFrame
	Stored  []byte  // of StreamFrame: the whole frame as OpenFrame wants it; valid, and free to be overwritten, until Next
	Damage  error   // of StreamFrame: nil, or the payload is not what was written (ErrChecksum, ErrTorn)
	Length  int64   // of StreamGap: bytes
	Missing int64   // of StreamGap: sequence numbers left out; negative when they went back
	Trailer Trailer // of StreamEnd; zero: none
}

// Stream reads volumes that come one after another, through a pipe or from a medium, in one pass without seeking. After damage it
// searches for the next frame, label or trailer, as Scan does; zeros between volumes, the padding of blocks, are stepped over.
// A volume that is cut short, or whose frames go on where another's should be, ends there. Needs no key. Memory: twice the
// largest frame. Not safe for concurrent use.
type Stream struct {
	in    io.Reader
	buf   []byte
	r, w  int   // what of buf has not been used
	pos   int64 // of buf[r] in the stream
	ended error // of in; io.EOF when all is read

	volume       ID
	start        int64 // where the volume begins
	open         bool  // no end of it has been met
	expected     int64 // sequence number
	least        int64 // sequence number that a search may find
	skip         int   // bytes of buf that were handed out
	lost         bool  // the frame handed out is damaged and nothing is where it ends: bytes are missing
	searching    bool  // what may be a copy does not count: labels of this volume, frames and trailers with numbers that are past
	searchedFrom int64 // in the stream
	waiting      []StreamItem
}

// streamRead is how much is read at once: more than the block of any tape.
const streamRead = 1 << 20

// NewStream returns a Stream over r.
func NewStream(r io.Reader) *Stream { return &Stream{in: r, buf: make([]byte, 2*streamRead)} }

// Next returns the next item, io.EOF after the last. Errors: the reader's; ErrNewerVersion.
func (s *Stream) Next() (StreamItem, error) {
	s.discard(s.skip)
	s.skip = 0
	for {
		if len(s.waiting) > 0 {
			it := s.waiting[0]
			s.waiting = s.waiting[1:]
			return s.take(it), nil
		}
		if err := s.find(); err != nil {
			return StreamItem{}, err
		}
	}
}

// take marks what an item holds as used.
func (s *Stream) take(it StreamItem) StreamItem {
	if it.Kind == StreamFrame {
		it.Stored = s.buf[s.r : s.r+s.skipOf(it)]
		s.skip = s.advance(it)
	}
	return it
}

// skipOf is how much of a frame is there.
func (s *Stream) skipOf(it StreamItem) int { return min(int(it.Header.Stored()), s.w-s.r) }

// advance is how far to go on behind a frame: over a damaged one only if something is where it ends.
func (s *Stream) advance(it StreamItem) int {
	if it.Damage == nil {
		return int(it.Header.Stored())
	}
	n := int(it.Header.Stored())
	if s.peek(n+HeaderSize) > n && s.somethingAt(n) {
		return n
	}
	s.lost = true
	s.least = int64(it.Header.Sequence) // it may come once more, whole
	return HeaderSize
}

// peek makes n bytes available if the stream has them, and returns how many there are.
func (s *Stream) peek(n int) int {
	if len(s.buf)-s.r < n {
		if len(s.buf) < n+streamRead {
			grown := make([]byte, n+2*streamRead)
			s.w = copy(grown, s.buf[s.r:s.w])
			s.buf = grown
		} else {
			s.w = copy(s.buf, s.buf[s.r:s.w])
		}
		s.r = 0
	}
	for s.w-s.r < n && s.ended == nil {
		m, err := s.in.Read(s.buf[s.w:])
		s.w += m
		s.ended = err
	}
	return s.w - s.r
}

// discard goes on by n bytes, which have been peeked at.
func (s *Stream) discard(n int) {
	n = min(n, s.w-s.r)
	s.r += n
	s.pos += int64(n)
}

// window is what is available.
func (s *Stream) window() []byte { return s.buf[s.r:s.w] }

// find queues what comes next.
func (s *Stream) find() error {
	if s.peek(HeaderSize) == 0 {
		return s.finish()
	}
	if !s.open && s.zeros() {
		return nil
	}
	if !s.lost {
		if found, err := s.at(0); found || err != nil {
			return err
		}
	}
	return s.search()
}

// finish ends the last volume, then the stream.
func (s *Stream) finish() error {
	if s.open {
		s.end(Trailer{}, 0)
		return nil
	}
	return s.ended
}

// zeros steps over padding and reports whether there was some.
func (s *Stream) zeros() bool {
	b := s.window()
	n := len(b) - len(bytes.TrimLeft(b, "\x00"))
	s.discard(n)
	return n > 0
}

// at queues the label, frame or trailer that lies i bytes on, and moves there.
func (s *Stream) at(i int) (bool, error) {
	if s.peek(i+HeaderSize) < i+HeaderSize {
		return false, nil
	}
	b := s.window()[i:]
	switch {
	case string(b[:len(frameMagic)]) == frameMagic:
		return s.frameAt(i)
	case string(b[:len(trailerMagic)]) == trailerMagic:
		return s.trailerAt(i), nil
	case string(b[:len(firstLine)]) == firstLine:
		return s.labelAt(i)
	}
	return false, nil
}

func (s *Stream) frameAt(i int) (bool, error) {
	b := s.window()[i:]
	h, err := ParseHeader(b, ID(b[8:24]))
	switch {
	case broken(err), err == nil && h.Volume.IsZero():
		return false, nil
	case err != nil:
		return false, err
	case s.searching && h.Volume == s.volume && int64(h.Sequence) < s.least:
		return false, nil
	}
	s.moveTo(i, h.Volume, int64(h.Sequence))
	s.expected = int64(h.Sequence) + 1
	s.least = s.expected
	n := int(h.Stored())
	it := StreamItem{Kind: StreamFrame, Volume: h.Volume, Offset: s.pos, At: s.pos - s.start, Header: h}
	if s.peek(n) < n {
		it.Damage = ErrTorn
	} else {
		it.Damage = h.Verify(s.window()[HeaderSize:n])
	}
	s.waiting = append(s.waiting, it)
	return true, nil
}

func (s *Stream) trailerAt(i int) bool {
	if s.peek(i+TrailerSize) < i+TrailerSize {
		return false
	}
	t, err := parseTrailer(s.window()[i : i+TrailerSize])
	if err != nil || s.searching && (t.Volume != s.volume || int64(t.Frames) < s.expected || s.inParity(i)) {
		return false
	}
	s.moveTo(i, t.Volume, int64(t.Frames))
	s.end(t, TrailerSize)
	return true
}

// inParity reports whether what looks like a trailer i bytes on is the copy in a frame of parity, which may be damaged behind it.
func (s *Stream) inParity(i int) bool {
	if i < setHead {
		return false
	}
	set, _, err := parseSetHead(s.window()[i-setHead:], s.volume)
	return err == nil && set.trailer != nil
}

func (s *Stream) labelAt(i int) (bool, error) {
	if s.peek(i+labelText+labelHead) < i+labelText+labelHead {
		return false, nil
	}
	length, err := labelLength(s.window()[i:])
	if err != nil || s.peek(i+length) < i+length {
		return false, nil
	}
	l, _, err := ParseLabel(s.window()[i:])
	switch {
	case errors.Is(err, ErrNewerVersion):
		return false, err
	case err != nil, s.searching && l.Volume == s.volume:
		return false, nil
	}
	if s.discard(i); s.searching {
		s.missing(0)
	}
	s.begin(l.Volume, &l)
	s.discard(length)
	return true, nil
}

// moveTo goes on by i bytes to the frame with that number, or the trailer behind so many, of volume v, and queues what was lost before it.
func (s *Stream) moveTo(i int, v ID, number int64) {
	s.discard(i)
	if v != s.volume {
		if s.searching {
			s.missing(0)
		}
		s.begin(v, nil)
	}
	if s.searching || number != s.expected {
		s.missing(number - s.expected)
	}
}

// missing queues the gap that ends here, and the end of the search.
func (s *Stream) missing(frames int64) {
	from := s.searchedFrom
	if !s.searching {
		from = s.pos
	}
	s.waiting = append(s.waiting, StreamItem{
		Kind: StreamGap, Volume: s.volume, Offset: from, At: from - s.start, Length: s.pos - from, Missing: frames,
	})
	s.searching = false
}

// begin queues the beginning of a volume, and the end of the one before.
func (s *Stream) begin(v ID, l *Label) {
	from := s.pos
	if n := len(s.waiting); l == nil && !s.open && n > 0 && s.waiting[n-1].Kind == StreamGap {
		from = s.waiting[n-1].Offset // its label lay there
	}
	if s.open {
		s.end(Trailer{}, 0)
	}
	s.volume, s.start, s.expected, s.least, s.open = v, from, 0, 0, true
	s.waiting = append(s.waiting, StreamItem{Kind: StreamLabel, Volume: v, Offset: from, Label: l})
}

// end queues the end of the volume, whose trailer takes n bytes.
func (s *Stream) end(t Trailer, n int) {
	s.open = false
	s.discard(n)
	s.waiting = append(s.waiting, StreamItem{Kind: StreamEnd, Volume: s.volume, Offset: s.pos, At: s.pos - s.start, Trailer: t})
}

// somethingAt reports whether a header of this volume, its trailer, or any label lies n bytes on.
func (s *Stream) somethingAt(n int) bool {
	b := s.window()[n:]
	if len(b) < HeaderSize {
		return false
	}
	if _, err := ParseHeader(b, s.volume); err == nil {
		return true
	}
	if len(b) >= len(firstLine) && string(b[:len(firstLine)]) == firstLine {
		return true
	}
	if s.peek(n+TrailerSize) < n+TrailerSize {
		return false
	}
	t, err := parseTrailer(s.window()[n:][:TrailerSize])
	return err == nil && t.Volume == s.volume
}

// search goes on byte by byte to the next thing that can be told with certainty.
func (s *Stream) search() error {
	s.searching, s.searchedFrom = true, s.pos
	from := 1
	if s.lost {
		from, s.lost = 0, false
	}
	for {
		s.peek(streamRead)
		for i := candidate(s.window(), from); i >= 0; i = candidate(s.window(), i+1) {
			found, err := s.at(i)
			if found || err != nil {
				s.searching = false
				return err
			}
		}
		if s.ended != nil {
			s.discard(s.w - s.r)
			s.missing(0)
			return nil
		}
		s.discard(max(0, s.w-s.r-longestMark))
		from = 0
	}
}

// longestMark is how many bytes of a window are looked at again with the next: a mark may lie across.
const longestMark = 32

// candidate is where one of the marks that begin things is, from i on; -1: nowhere.
func candidate(b []byte, i int) int {
	best := -1
	if i > len(b) {
		return best
	}
	for _, mark := range []string{frameMagic, trailerMagic, firstLine} {
		end := len(b)
		if best >= 0 {
			end = min(end, best+len(mark)-1)
		}
		if n := bytes.Index(b[i:max(end, i)], []byte(mark)); n >= 0 {
			best = i + n
		}
	}
	return best
}

// FindVolume looks for the end of the volume that begins at an offset of a file or device with more behind it, stepping from header to header.
// end is where it ends. Errors: ErrTorn (damaged, or never sealed: read it as a Stream), the reader's.
func FindVolume(r io.ReaderAt, from, size int64) (t Trailer, end int64, err error) {
	part := io.NewSectionReader(r, from, size-from)
	l, length, err := ReadLabel(part, part.Size())
	if err != nil {
		return t, 0, err
	}
	var b [TrailerSize]byte
	for pos := int64(length); ; {
		n, err := part.ReadAt(b[:], pos)
		if err != nil && err != io.EOF || n < HeaderSize {
			return t, 0, errors.Join(ErrTorn, err)
		}
		if h, err := ParseHeader(b[:], l.Volume); err == nil {
			pos += int64(h.Stored())
			continue
		}
		if n < TrailerSize {
			return t, 0, ErrTorn
		}
		if t, err = parseTrailer(b[:]); err != nil || t.Volume != l.Volume || t.Size != pos+TrailerSize {
			return Trailer{}, 0, ErrTorn
		}
		return t, from + t.Size, nil
	}
}
