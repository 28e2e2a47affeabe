package volume

import (
	"encoding/binary"
	"fmt"

	"github.com/zeebo/xxh3"
)

const (
	setLayout = 1  // on disk; append only
	setHead   = 48 // bytes before the trailer's copy; on disk; append only

	// setRoom is what may stand before the digests or blocks of a parity frame.
	setRoom = HeaderSize + setHead + TrailerSize
)

// paritySet is where the parity of a span lies. Its frames follow each other: the digests, the rows, the digests
// again. All of it follows from the head of any of them.
type paritySet struct {
	geometry
	at      int64  // offset of the first frame
	first   uint32 // sequence number of the first frame
	trailer []byte // of the volume, as encoded, if it follows the set; else nil
}

// frames is the number of frames of a set.
func (s *paritySet) frames() int { return s.rows + 2 }

// digestsOnly reports whether a part holds digests, not blocks.
func (s *paritySet) digestsOnly(part int) bool { return part == 0 || part == s.rows+1 }

// head is the length of what stands before digests or blocks in a payload.
func (s *paritySet) head() int64 { return setHead + int64(len(s.trailer)) }

// stored is the length of a frame of the set.
func (s *paritySet) stored(part int) int64 {
	if s.digestsOnly(part) {
		return HeaderSize + s.head() + 8*int64(s.blocks()+s.parityBlocks())
	}
	return HeaderSize + s.head() + s.stripe()
}

// frameAt is the offset of a frame of the set.
func (s *paritySet) frameAt(part int) int64 {
	at := s.at
	if part > 0 {
		at += s.stored(0) + int64(part-1)*s.stored(1)
	}
	return at
}

// bodyAt is the offset of the digests or blocks of a part.
func (s *paritySet) bodyAt(part int) int64 { return s.frameAt(part) + HeaderSize + s.head() }

// size is the length of all its frames.
func (s *paritySet) size() int64 { return s.frameAt(s.rows+1) + s.stored(0) - s.at }

// frame completes a frame of the set; body has setRoom bytes in front. The result lies in its memory.
func (s *paritySet) frame(v ID, part int, body []byte) []byte {
	b := body[setRoom-HeaderSize-s.head():]
	s.putHead(b[HeaderSize:], v, part)
	copy(b[HeaderSize+setHead:], s.trailer)
	h := Header{
		Kind: FrameParity, Volume: v, Sequence: s.first + uint32(part), Length: uint32(len(b) - HeaderSize),
		PayloadSum: xxh3.Hash(b[HeaderSize:]),
	}
	h.put(b)
	return b
}

func (s *paritySet) putHead(b []byte, v ID, part int) {
	b[0], b[1] = setLayout, s.shift
	binary.LittleEndian.PutUint16(b[2:], uint16(s.data))
	binary.LittleEndian.PutUint16(b[4:], uint16(s.rows))
	binary.LittleEndian.PutUint16(b[6:], uint16(s.groups))
	binary.LittleEndian.PutUint64(b[8:], uint64(s.offset))
	binary.LittleEndian.PutUint64(b[16:], uint64(s.length))
	binary.LittleEndian.PutUint64(b[24:], uint64(s.at))
	binary.LittleEndian.PutUint32(b[32:], s.first)
	binary.LittleEndian.PutUint16(b[36:], uint16(part))
	binary.LittleEndian.PutUint16(b[38:], uint16(len(s.trailer)))
	binary.LittleEndian.PutUint64(b[40:], xxh3.HashSeed(b[:40], v.seed()))
}

// parseSetHead decodes the first setHead+TrailerSize bytes, or as many as there are, of a parity frame's payload; the
// rest may be damaged. A copy of the trailer that is damaged is left out of the set, its length kept. Errors: ErrTorn,
// ErrNewerVersion (another layout: to be stepped over), ErrChecksum, ErrMalformed.
func parseSetHead(b []byte, v ID) (s paritySet, part int, err error) {
	if len(b) < setHead {
		return s, 0, fmt.Errorf("parity: %w", ErrTorn)
	}
	if binary.LittleEndian.Uint64(b[40:]) != xxh3.HashSeed(b[:40], v.seed()) {
		return s, 0, fmt.Errorf("parity: %w", ErrChecksum)
	}
	if b[0] != setLayout {
		return s, 0, fmt.Errorf("parity of layout %d: %w", b[0], ErrNewerVersion)
	}
	s = paritySet{
		geometry: geometry{
			shift: b[1], data: int(binary.LittleEndian.Uint16(b[2:])), rows: int(binary.LittleEndian.Uint16(b[4:])),
			groups: int(binary.LittleEndian.Uint16(b[6:])),
			offset: int64(binary.LittleEndian.Uint64(b[8:])), length: int64(binary.LittleEndian.Uint64(b[16:])),
		},
		at: int64(binary.LittleEndian.Uint64(b[24:])), first: binary.LittleEndian.Uint32(b[32:]),
	}
	part = int(binary.LittleEndian.Uint16(b[36:]))
	if err := s.checkHead(part, int(binary.LittleEndian.Uint16(b[38:]))); err != nil {
		return paritySet{}, 0, err
	}
	if binary.LittleEndian.Uint16(b[38:]) > 0 {
		s.trailer = make([]byte, TrailerSize)
		copy(s.trailer, b[setHead:])
	}
	return s, part, nil
}

// checkHead refuses what no writer makes and what would not fit into memory or into a volume.
func (s *paritySet) checkHead(part, trailer int) error {
	if !s.sound() || s.at < s.end() || s.at > 1<<62 || part >= s.frames() || (trailer != 0 && trailer != TrailerSize) ||
		uint64(s.first)+uint64(s.frames()) > 1<<32 {
		return fmt.Errorf("parity: %w", ErrMalformed)
	}
	return nil
}

// wholeTrailer reports whether the copy of the trailer is whole and of this volume.
func (s *paritySet) wholeTrailer(v ID) bool {
	if s.trailer == nil {
		return false
	}
	t, err := parseTrailer(s.trailer)
	return err == nil && t.Volume == v && t.Size == s.at+s.size()+TrailerSize
}

func putDigest(b []byte, i int, sum uint64) { binary.LittleEndian.PutUint64(b[8*i:], sum) }
func digest(b []byte, i int) uint64         { return binary.LittleEndian.Uint64(b[8*i:]) }
