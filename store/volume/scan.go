package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"syscall"
)

// Gap is a place where a scan lost the thread.
type Gap struct {
	Offset  int64 // where the search for the next frame began
	Length  int64 // bytes from there to the next frame
	Missing int64 // sequence numbers left out there; negative when they went back
}

// Scan walks the frames of volume v from an offset (0: from the label, and the first frame must have number 0) to size,
// reading headers only, and calls fn for each, frames of unknown kinds included. Needs no key. After damage it searches
// for the next header of this volume; unreadable sectors are damage. end is the end of the last frame found: less than
// size where a trailer follows or the tail is torn or lost. Payloads are not checked: see ScanPayloads.
// Errors: fn's as they are, the reader's but EIO, ErrNewerVersion.
func Scan(r io.ReaderAt, from, size int64, v ID, fn func(offset int64, h Header) error) (end int64, gaps []Gap, err error) {
	s := scan{r: r, size: size, volume: v}
	s.found = fn
	return s.run(from)
}

// ScanPayloads is Scan with the payloads read and their sums verified: damage is nil, wraps ErrChecksum, or is the
// reader's error. stored is the whole frame as OpenFrame wants it, free to be overwritten during the call. A volume
// that was open in a crash needs this one: a header may have reached the disk and its payload not.
func ScanPayloads(r io.ReaderAt, from, size int64, v ID, fn func(offset int64, h Header, stored []byte, damage error) error) (end int64, gaps []Gap, err error) {
	s := scan{r: r, size: size, volume: v}
	s.found = func(offset int64, h Header) error {
		damage, err := s.payload(offset, h)
		if err != nil {
			return err
		}
		return fn(offset, h, s.frame, damage)
	}
	return s.run(from)
}

const (
	firstWindow = 16 << 10 // bytes read at once by a search: the next frame is hardly ever far
	lastWindow  = 1 << 20
	sector      = 4096 // unreadable bytes are stepped over in such pieces
)

// scan is one walk over a volume.
type scan struct {
	r      io.ReaderAt
	size   int64
	volume ID
	found  func(offset int64, h Header) error

	pos      int64 // where the next frame should begin
	last     int64 // offset of the last frame; -1 if none
	lastHead Header
	expected int64 // sequence number; -1 if any
	gaps     []Gap
	frame    []byte
	window   []byte
}

func (s *scan) run(from int64) (end int64, gaps []Gap, err error) {
	s.pos, s.last, s.expected = from, -1, -1
	if t, err := ReadTrailer(s.r, s.size); err == nil && t.Volume == s.volume {
		s.size -= TrailerSize
	}
	if from == 0 {
		s.expected = 0
		if l, length, err := ReadLabel(s.r, s.size); err == nil && l.Volume == s.volume {
			s.pos = int64(length)
		}
	}
	for {
		h, ok, err := s.next()
		if err != nil || !ok {
			return min(s.pos, s.size), s.gaps, err
		}
		offset := s.pos
		s.last, s.lastHead = offset, h
		s.pos += int64(h.Stored())
		s.expected = int64(h.Sequence) + 1
		if err := s.found(offset, h); err != nil {
			return s.pos, s.gaps, err
		}
	}
}

// next finds the next whole frame, moves pos to it and notes what was lost before it.
func (s *scan) next() (Header, bool, error) {
	h, err := s.headerAt(s.pos)
	gap := Gap{Offset: s.pos}
	if broken(err) {
		var at int64
		if gap.Offset, err = s.searchFrom(); err != nil {
			return h, false, err
		}
		if h, at, err = s.search(gap.Offset); err == nil {
			gap.Length = at - gap.Offset
			s.pos = at
		}
	}
	switch {
	case errors.Is(err, ErrTorn):
		return h, false, nil
	case err != nil:
		return h, false, err
	case int64(h.Stored()) > s.size-s.pos:
		return h, false, nil
	}
	if s.expected >= 0 {
		gap.Missing = int64(h.Sequence) - s.expected
	}
	if gap.Length != 0 || gap.Missing != 0 {
		s.gaps = append(s.gaps, gap)
	}
	return h, true, nil
}

// broken tells damage, after which a search may help, from errors that end the scan.
func broken(err error) bool {
	return errors.Is(err, ErrChecksum) || errors.Is(err, ErrMalformed) || errors.Is(err, syscall.EIO)
}

func (s *scan) headerAt(offset int64) (Header, error) {
	var b [HeaderSize]byte
	if s.size-offset < HeaderSize {
		return Header{}, ErrTorn
	}
	if err := readFull(s.r, b[:], offset); err != nil {
		return Header{}, err
	}
	return ParseHeader(b[:], s.volume)
}

// searchFrom says where a search begins: behind the last frame if its payload is whole; else bytes may have been lost
// or added inside it, and the next frame may begin there.
func (s *scan) searchFrom() (int64, error) {
	if s.last < 0 {
		return s.pos, nil
	}
	damage, err := s.payload(s.last, s.lastHead)
	if damage != nil {
		return s.last + HeaderSize, err
	}
	return s.pos, err
}

// payload reads a whole frame and verifies its payload. err is for what is no damage.
func (s *scan) payload(offset int64, h Header) (damage, err error) {
	if cap(s.frame) < int(h.Stored()) {
		s.frame = make([]byte, h.Stored())
	}
	s.frame = s.frame[:h.Stored()]
	switch err := readFull(s.r, s.frame, offset); {
	case errors.Is(err, syscall.EIO):
		return fmt.Errorf("frame at %d: %w", offset, err), nil
	case err != nil:
		return nil, fmt.Errorf("frame at %d: %w", offset, err)
	}
	return h.Verify(s.frame[HeaderSize:]), nil
}

// search looks for a header from an offset on. Only one with a sequence number not seen yet counts: parity may hold
// copies of earlier ones. ErrTorn means that there is none.
func (s *scan) search(from int64) (Header, int64, error) {
	for n := int64(firstWindow); from+HeaderSize <= s.size; n = min(2*n, lastWindow) {
		n = min(n, s.size-from)
		if int64(len(s.window)) < n {
			s.window = make([]byte, n)
		}
		b := s.window[:n]
		if err := s.fill(b, from); err != nil {
			return Header{}, 0, err
		}
		h, i, err := s.searchIn(b)
		if i >= 0 || err != nil {
			return h, from + int64(i), err
		}
		from += n - (HeaderSize - 1)
	}
	return Header{}, 0, ErrTorn
}

func (s *scan) searchIn(b []byte) (Header, int, error) {
	for i := 0; ; i++ {
		n := bytes.Index(b[i:], []byte(frameMagic))
		if n < 0 || len(b)-i-n < HeaderSize {
			return Header{}, -1, nil
		}
		i += n
		h, err := ParseHeader(b[i:], s.volume)
		switch {
		case err == nil && int64(h.Sequence) >= s.expected:
			return h, i, nil
		case err != nil && !broken(err):
			return h, -1, err
		}
	}
}

// fill reads b, with zeros for sectors that cannot be read.
func (s *scan) fill(b []byte, offset int64) error {
	err := readFull(s.r, b, offset)
	if !errors.Is(err, syscall.EIO) {
		return err
	}
	for len(b) > 0 {
		n := min(int64(len(b)), sector-offset%sector)
		if err := readFull(s.r, b[:n], offset); errors.Is(err, syscall.EIO) {
			clear(b[:n])
		} else if err != nil {
			return err
		}
		b, offset = b[n:], offset+n
	}
	return nil
}
