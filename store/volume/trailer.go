package volume

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/zeebo/xxh3"
)

// TrailerSize is the length of a sealed volume's last part in bytes. On disk; append only.
const TrailerSize = 80

const trailerMagic = "snapfsTR" // on disk; append only

// Trailer ends a sealed volume and says where its contents table begins. It is protected by a checksum, not by a key.
type Trailer struct {
	Volume   ID
	Size     int64  // of the whole volume, bytes
	Contents int64  // offset of the first frame of the contents table
	Label    int64  // offset of the frame that repeats the label
	Frames   uint32 // of all kinds
	Blobs    uint64 // rows of the contents table
}

func (t Trailer) encode() []byte {
	b := make([]byte, TrailerSize)
	copy(b, trailerMagic)
	binary.LittleEndian.PutUint16(b[8:], Version)
	binary.LittleEndian.PutUint32(b[12:], t.Frames)
	copy(b[16:], t.Volume[:])
	binary.LittleEndian.PutUint64(b[32:], uint64(t.Size))
	binary.LittleEndian.PutUint64(b[40:], uint64(t.Contents))
	binary.LittleEndian.PutUint64(b[48:], uint64(t.Label))
	binary.LittleEndian.PutUint64(b[56:], t.Blobs)
	binary.LittleEndian.PutUint64(b[72:], xxh3.HashSeed(b[:72], t.Volume.seed()))
	return b
}

// ReadTrailer reads the trailer of a volume of size bytes. The caller compares Volume with the label's. Errors: the
// reader's, ErrTorn (none there: never sealed, or cut short), ErrChecksum, ErrNewerVersion, ErrMalformed.
func ReadTrailer(r io.ReaderAt, size int64) (Trailer, error) {
	var b [TrailerSize]byte
	if size < TrailerSize {
		return Trailer{}, fmt.Errorf("trailer: %w", ErrTorn)
	}
	if err := readFull(r, b[:], size-TrailerSize); err != nil {
		return Trailer{}, fmt.Errorf("trailer: %w", err)
	}
	t, err := parseTrailer(b[:])
	if err == nil && t.Size != size {
		return Trailer{}, fmt.Errorf("trailer of a volume of %d bytes at %d: %w", t.Size, size-TrailerSize, ErrMalformed)
	}
	return t, err
}

func parseTrailer(b []byte) (Trailer, error) {
	if string(b[:8]) != trailerMagic {
		return Trailer{}, fmt.Errorf("trailer: %w", ErrTorn)
	}
	v := ID(b[16:32])
	if binary.LittleEndian.Uint64(b[72:]) != xxh3.HashSeed(b[:72], v.seed()) {
		return Trailer{}, fmt.Errorf("trailer: %w", ErrChecksum)
	}
	version := binary.LittleEndian.Uint16(b[8:])
	if version > Version {
		return Trailer{}, fmt.Errorf("trailer of format %d: %w", version, ErrNewerVersion)
	}
	t := Trailer{
		Volume:   v,
		Frames:   binary.LittleEndian.Uint32(b[12:]),
		Size:     int64(binary.LittleEndian.Uint64(b[32:])),
		Contents: int64(binary.LittleEndian.Uint64(b[40:])),
		Label:    int64(binary.LittleEndian.Uint64(b[48:])),
		Blobs:    binary.LittleEndian.Uint64(b[56:]),
	}
	reserved := binary.LittleEndian.Uint16(b[10:]) != 0 || binary.LittleEndian.Uint64(b[64:]) != 0
	if version == 0 || reserved || t.Contents < labelUnit || t.Label <= t.Contents || t.Size <= t.Label {
		return Trailer{}, fmt.Errorf("trailer: %w", ErrMalformed)
	}
	return t, nil
}

// ReadLabelAgain reads the label that is repeated before the trailer: for volumes whose beginning is damaged. Errors:
// the reader's, those of OpenFrame and ParseLabel.
func ReadLabelAgain(r io.ReaderAt, t Trailer) (Label, error) {
	b := make([]byte, min(t.Size-TrailerSize-t.Label, HeaderSize+MaxLabel))
	if err := readFull(r, b, t.Label); err != nil {
		return Label{}, fmt.Errorf("repeated label: %w", err)
	}
	h, payload, err := OpenFrame(b, t.Volume, nil)
	if err != nil {
		return Label{}, fmt.Errorf("repeated label: %w", err)
	}
	l, _, err := ParseLabel(payload)
	if err == nil && (h.Kind != FrameLabel || l.Volume != t.Volume) {
		err = fmt.Errorf("repeated label: %w", ErrMalformed)
	}
	return l, err
}
