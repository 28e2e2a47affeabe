package volume

import (
	"io"
	"time"
)

// Label is the head of a volume: which it is, and all that is needed to begin reading it. It is protected by a
// checksum, not by a key.
type Label struct {
	Version uint16   // of the format; 0 when encoding means the present one
	Store   [16]byte // id of the store
	Volume  ID
	Kind    Kind
	Created time.Time
	Program string // that made it, with its version
	Set     *Set   // of archive volumes
}

// Set is the part of a label that only volumes of archive sets have.
type Set struct {
	ID       [16]byte
	Sequence uint32 // of the volume in the set, from 1
	Level    SetLevel
	Parent   [16]byte // the set this one builds on; zero for a full one
	Pool     string
	Datasets []string
	Hosts    []string
	KeySlots []byte // slots that unlock the bundle, as package seal writes them
	Bundle   []byte // the sealed bundle
	SetKeys  []byte // the set's own bundle, sealed under a key of the store's bundle
}

// SetLevel is how much an archive set holds.
type SetLevel uint8

// EncodeLabel gives the bytes of l: a multiple of 4 KiB. Errors: ErrTooLarge.
func EncodeLabel(l Label) ([]byte, error) { panic("soon") }

// ParseLabel decodes a label from the start of b. Errors: ErrNotVolume, ErrNewerVersion, ErrTorn, ErrChecksum,
// ErrMalformed.
func ParseLabel(b []byte) (l Label, length int, err error) { panic("soon") }

// ReadLabel reads the label at the start of a volume of size bytes and returns its length, where frames begin.
func ReadLabel(r io.ReaderAt, size int64) (l Label, length int, err error) { panic("soon") }
