package volume

import "io"

// Gap is a place where a scan lost the thread.
type Gap struct {
	Offset  int64 // where the next frame should have begun
	Length  int64 // bytes skipped to the next frame found
	Missing int64 // sequence numbers left out there; negative when they went back
}

// Scan walks the frames of volume v from an offset (0: from the label) to size, reading headers only, and calls fn
// for each. Needs no key. After damage it searches for the next header of this volume. end is the end of the last
// frame found: less than size where the tail is torn or a trailer follows. Payloads are not checked: see ScanPayloads.
// Errors: the reader's, fn's as they are, ErrNewerVersion.
func Scan(r io.ReaderAt, from, size int64, v ID, fn func(offset int64, h Header) error) (end int64, gaps []Gap, err error) {
	panic("soon")
}

// ScanPayloads is Scan with the payloads read and their sums verified: damage is nil or ErrChecksum. stored is the
// whole frame as OpenFrame wants it, valid and free to be overwritten during the call.
func ScanPayloads(r io.ReaderAt, from, size int64, v ID, fn func(offset int64, h Header, stored []byte, damage error) error) (end int64, gaps []Gap, err error) {
	panic("soon")
}
