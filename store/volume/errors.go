package volume

import "errors"

// Errors of reading. Every error of this package that is not the medium's own wraps one of these.
var (
	// ErrNotVolume: the file does not begin with a volume's label, nor with a damaged one.
	ErrNotVolume = errors.New("not a snapfs volume")
	// ErrNewerVersion: made by a newer format, or holds something that must not be ignored and is unknown here.
	ErrNewerVersion = errors.New("made by a newer version of snapfs")
	// ErrTorn: the bytes end too early; a trailer that is missing because the volume was never sealed.
	ErrTorn = errors.New("cut short")
	// ErrChecksum: the bytes are not those that were written.
	ErrChecksum = errors.New("checksum does not match")
	// ErrForged: checksums hold, but the seal does not: another key, or changed on purpose.
	ErrForged = errors.New("seal does not match")
	// ErrMalformed: checksums hold, but the content breaks the format's rules.
	ErrMalformed = errors.New("malformed")
)

// Errors of writing.
var (
	// ErrFailed: an earlier write or sync of this volume failed; nothing more can be appended.
	ErrFailed = errors.New("volume closed by a failed write")
	// ErrSealed: the volume is sealed or closed.
	ErrSealed = errors.New("volume is sealed")
	// ErrFull: no sequence number is left.
	ErrFull = errors.New("volume is full")
	// ErrTooLarge: a frame, table or label beyond the format's limits.
	ErrTooLarge = errors.New("too large for the format")
)
