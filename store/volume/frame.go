package volume

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"

	"github.com/zeebo/xxh3"
)

// HeaderSize is the length of a frame's header in bytes. On disk; append only.
const HeaderSize = 56

// MaxPayload is the largest payload of a frame, as stored, in bytes. On disk; append only.
const MaxPayload = 96 << 20

// Version is the format version this package writes; older ones it reads. On disk; append only.
const Version = 1

const (
	frameMagic = "snpF" // on disk; append only
	aadSize    = 40     // bytes of the header that are bound to the sealed payload
	nonceSize  = 12
	gcmTagSize = 16
)

// criticalKind is the bit of a frame kind that forbids readers to skip what they do not know. On disk; append only.
const criticalKind FrameKind = 0x80

// Header is what stands before a frame's payload.
type Header struct {
	Kind       FrameKind
	Volume     ID
	Sequence   uint32  // counts frames from 0; a missing number is a lost frame
	Length     uint32  // of the payload as stored, bytes
	Random     [8]byte // with Sequence, the nonce of a sealed payload
	PayloadSum uint64  // xxh3-64 of the payload as stored
}

// Stored is the length of the whole frame in bytes: header and payload.
func (h Header) Stored() uint32 { return HeaderSize + h.Length }

// Verify compares the payload, as stored, with the header's sum. Errors: ErrChecksum.
func (h Header) Verify(payload []byte) error {
	if uint32(len(payload)) != h.Length || xxh3.Hash(payload) != h.PayloadSum {
		return fmt.Errorf("payload of frame %d: %w", h.Sequence, ErrChecksum)
	}
	return nil
}

// Sealed reports whether payloads of this kind are encrypted.
func (k FrameKind) Sealed() bool { return k != FrameParity && k != FrameLabel && k != FrameSetParity }

// Known reports whether this version knows what frames of that kind carry. Others are skipped, or refused if Critical.
func (k FrameKind) Known() bool { return k >= FrameBlobs && k <= FrameSetParity }

// Critical reports whether a reader that does not know the kind must refuse the volume.
func (k FrameKind) Critical() bool { return k&criticalKind != 0 }

// check refuses what must be neither skipped nor guessed at.
func (k FrameKind) check() error {
	switch {
	case k == 0:
		return fmt.Errorf("frame kind 0: %w", ErrMalformed)
	case !k.Known() && k.Critical():
		return fmt.Errorf("frame kind %d: %w", k, ErrNewerVersion)
	}
	return nil
}

// seed makes the sums of one volume differ from those of any other, so that the frames of a volume that was itself
// backed up are not taken for this one's.
func (id ID) seed() uint64 {
	return binary.LittleEndian.Uint64(id[:8]) ^ binary.LittleEndian.Uint64(id[8:])
}

// put encodes the header into b, sums included.
func (h Header) put(b []byte) {
	copy(b, frameMagic)
	b[4] = Version
	b[5] = byte(h.Kind)
	b[6], b[7] = 0, 0
	copy(b[8:], h.Volume[:])
	binary.LittleEndian.PutUint32(b[24:], h.Sequence)
	binary.LittleEndian.PutUint32(b[28:], h.Length)
	copy(b[32:], h.Random[:])
	binary.LittleEndian.PutUint64(b[40:], h.PayloadSum)
	putHeaderSum(b, h.Volume)
}

func putHeaderSum(b []byte, v ID) {
	binary.LittleEndian.PutUint64(b[48:], xxh3.HashSeed(b[:48], v.seed()))
}

// nonce is unique in the volume: sequence numbers are never used twice, and if a file system forgot that one was,
// the random half differs.
func (h Header) nonce() [nonceSize]byte {
	var n [nonceSize]byte
	binary.LittleEndian.PutUint32(n[:], h.Sequence)
	copy(n[4:], h.Random[:])
	return n
}

// ParseHeader decodes the header at the start of b, which must belong to volume v. Errors: ErrTorn (b is shorter
// than HeaderSize), ErrChecksum (not a header of this volume, or a damaged one), ErrNewerVersion, ErrMalformed.
func ParseHeader(b []byte, v ID) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, fmt.Errorf("frame header: %w", ErrTorn)
	}
	b = b[:HeaderSize]
	if string(b[:4]) != frameMagic || ID(b[8:24]) != v ||
		binary.LittleEndian.Uint64(b[48:]) != xxh3.HashSeed(b[:48], v.seed()) {
		return Header{}, fmt.Errorf("frame header: %w", ErrChecksum)
	}
	// Later versions keep the first 56 bytes, so that the sum is what tells a newer frame from a damaged one.
	if b[4] > Version {
		return Header{}, fmt.Errorf("frame of format %d: %w", b[4], ErrNewerVersion)
	}
	h := Header{
		Kind:       FrameKind(b[5]),
		Volume:     v,
		Sequence:   binary.LittleEndian.Uint32(b[24:]),
		Length:     binary.LittleEndian.Uint32(b[28:]),
		Random:     [8]byte(b[32:40]),
		PayloadSum: binary.LittleEndian.Uint64(b[40:]),
	}
	if b[4] == 0 || b[6] != 0 || b[7] != 0 || h.Length > MaxPayload {
		return Header{}, fmt.Errorf("frame header: %w", ErrMalformed)
	}
	return h, h.Kind.check()
}

// OpenFrame verifies a whole frame, header included, and opens its payload in place: plain lies in stored's memory,
// which is overwritten. Payloads of kinds that are not sealed come back as they are; aead may be nil for those.
// Safe for concurrent use on different frames. Errors: those of ParseHeader; ErrTorn, ErrChecksum for the payload; ErrForged.
func OpenFrame(stored []byte, v ID, aead cipher.AEAD) (h Header, plain []byte, err error) {
	h, err = ParseHeader(stored, v)
	if err != nil {
		return Header{}, nil, err
	}
	if uint64(len(stored)) < uint64(h.Stored()) {
		return h, nil, fmt.Errorf("payload of frame %d: %w", h.Sequence, ErrTorn)
	}
	payload := stored[HeaderSize:h.Stored()]
	if err := h.Verify(payload); err != nil {
		return h, nil, err
	}
	if !h.Kind.Sealed() {
		return h, payload, nil
	}
	if aead == nil {
		return h, nil, fmt.Errorf("payload of frame %d: no key: %w", h.Sequence, ErrForged)
	}
	nonce := h.nonce()
	plain, err = aead.Open(payload[:0], nonce[:], payload, stored[:aadSize])
	if err != nil {
		return h, nil, fmt.Errorf("payload of frame %d: %w", h.Sequence, ErrForged)
	}
	return h, plain, nil
}

// appendFrame appends a whole frame to dst[:0], sealing plain if the kind asks for it. h needs Kind, Volume, Sequence
// and Random.
func appendFrame(dst []byte, h Header, plain []byte, aead cipher.AEAD) []byte {
	h.Length = payloadLength(h.Kind, len(plain))
	if total := int(h.Stored()); cap(dst) < total {
		dst = make([]byte, total)
	}
	dst = dst[:HeaderSize]
	h.put(dst) // the sums are still wrong; what is bound to the payload is right
	if h.Kind.Sealed() {
		nonce := h.nonce()
		dst = aead.Seal(dst, nonce[:], plain, dst[:aadSize])
	} else {
		dst = append(dst, plain...)
	}
	h.PayloadSum = xxh3.Hash(dst[HeaderSize:])
	h.put(dst)
	return dst
}

// payloadLength is the stored length of a payload of n bytes.
func payloadLength(k FrameKind, n int) uint32 {
	if k.Sealed() {
		n += gcmTagSize
	}
	return uint32(n)
}
