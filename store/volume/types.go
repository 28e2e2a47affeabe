package volume

import "encoding/hex"

// ID names a volume: 16 random bytes, also its file name on disk (hex).
type ID [16]byte

// String is the lower-case hexadecimal form, the volume's file name in a store.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether id names no volume.
func (id ID) IsZero() bool { return id == ID{} }

// BlobID names a blob: the keyed BLAKE3-256 of its plaintext.
type BlobID [32]byte

// String is the 64-digit lower-case hexadecimal form.
func (id BlobID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether id names no blob.
func (id BlobID) IsZero() bool { return id == BlobID{} }

// Kind says what a volume is for.
type Kind uint8

// Volume kinds. On disk; append only.
const (
	Data     Kind = 1 // frames of file content
	Metadata Kind = 2 // frames of nodes and manifests
	Journal  Kind = 3 // frames of facts
	Archive  Kind = 4 // an archive set's volume: everything in one stream
)

// FrameKind says what a frame carries.
type FrameKind uint8

// Frame kinds. On disk; append only.
const (
	FrameBlobs    FrameKind = 1 // a pack of blobs
	FrameFacts    FrameKind = 2 // facts of the journal
	FrameContents FrameKind = 3 // the contents table, at the end
	FrameParity   FrameKind = 4 // Reed-Solomon blocks over the span before it (payload not sealed)
	FrameLabel    FrameKind = 5 // the label, repeated before the trailer (payload not sealed)

	FrameSet       FrameKind = 6 // a record of an archive set
	FrameSetParity FrameKind = 7 // parity over the volumes of an archive set (payload not sealed)
)

// Blob is a row of a frame's blob table. Blobs lie one after another in the frame's raw body.
type Blob struct {
	Kind   uint8 // store.Kind
	ID     BlobID
	Length uint32 // bytes of plaintext
}

// Codec says how a frame's body is compressed.
type Codec uint8

// Codecs. On disk; append only.
const (
	CodecNone Codec = 0
	CodecZstd Codec = 1
	CodecS2   Codec = 2
)
