package volume

import (
	"crypto/cipher"
	"io"
)

// TrailerSize is the length of a sealed volume's last part in bytes.
const TrailerSize = 80

// Trailer ends a sealed volume and says where its contents table begins. It is protected by a checksum, not by a key.
type Trailer struct {
	Volume   ID
	Size     int64  // of the whole volume, bytes
	Contents int64  // offset of the first frame of the contents table
	Label    int64  // offset of the frame that repeats the label
	Frames   uint32 // of all kinds
	Blobs    uint64
}

// ReadTrailer reads the trailer of a volume of size bytes. The caller compares Volume with the label's. Errors:
// ErrTorn (none there: not sealed, or cut short), ErrChecksum, ErrNewerVersion, ErrMalformed.
func ReadTrailer(r io.ReaderAt, size int64) (Trailer, error) { panic("soon") }

// FrameInfo is a frame as the contents table lists it.
type FrameInfo struct {
	Offset int64
	Stored uint32 // with its header, bytes
	Kind   FrameKind
	Blobs  []Blob // of FrameBlobs, in the order of the raw body
}

// ReadContents calls fn for each frame that the contents table lists, by offset. FrameInfo.Blobs is valid only during the call.
// An error of fn ends it and is returned as it is. Errors: those of OpenFrame, ErrTorn, ErrMalformed.
func ReadContents(r io.ReaderAt, t Trailer, aead cipher.AEAD, fn func(FrameInfo) error) error { panic("soon") }
