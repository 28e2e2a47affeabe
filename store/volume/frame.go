package volume

import "crypto/cipher"

// HeaderSize is the length of a frame's header in bytes.
const HeaderSize = 56

// MaxPayload is the largest payload of a frame, as stored, in bytes.
const MaxPayload = 96 << 20

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

// ParseHeader decodes the header at the start of b, which must belong to volume v. Errors: ErrTorn (b is shorter
// than HeaderSize), ErrChecksum (not a header of this volume, or a damaged one), ErrNewerVersion, ErrMalformed.
func ParseHeader(b []byte, v ID) (Header, error) { panic("soon") }

// OpenFrame verifies a whole frame, header included, and opens its payload in place: plain lies in stored's memory,
// which is overwritten. Payloads of kinds that are not sealed come back as they are; aead may be nil for those.
// Errors: those of ParseHeader; ErrTorn, ErrChecksum for the payload; ErrForged.
func OpenFrame(stored []byte, v ID, aead cipher.AEAD) (h Header, plain []byte, err error) { panic("soon") }
