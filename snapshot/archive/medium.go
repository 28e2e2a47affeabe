package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
)

// Target is where the volumes of a set go. One goroutine uses it.
type Target interface {
	// Open makes ready for a volume. Errors: ErrVolumeExists, ErrNotEmpty, ErrTarget.
	Open(ctx context.Context, v Slot) (Medium, error)
	// Check says beforehand what Open would refuse.
	Check(v Slot) error
	// Changes reports whether the medium must be changed by hand between volumes.
	Changes() bool
	// Keeps is the directory where volumes stay so that they can be read again under their Where; "" if they do not.
	Keeps() string
	// Sheet writes the text about the set where people find it with the volumes, and says where that is; "" if there is no such place.
	Sheet(name, text string) (string, error)
	// Close ends the use of the target.
	Close() error
}

// Slot says which volume is about to be written.
type Slot struct {
	Name   string // of the set
	Number uint32
	Parity int  // number of the parity volume, from 1; 0: it is none
	Again  bool // it is about to be read again
}

// FileName is the volume's name in a directory.
func (s Slot) FileName() string {
	if s.Parity > 0 {
		return fmt.Sprintf("%s-parity-%d%s", s.Name, s.Parity, Suffix)
	}
	return fmt.Sprintf("%s-%04d%s", s.Name, s.Number, Suffix)
}

// Suffixes of files. On disk; append only.
const (
	Suffix        = ".snapfs"
	partialSuffix = ".partial" // after the other, while a volume is being written
)

// Medium takes the bytes of one volume, front to back.
type Medium interface {
	io.Writer // a short write with an error for which EndOfMedium is true says that the medium is full
	// Reserve makes sure that a volume of so many bytes fits; false if it does not. What cannot be known counts as fitting.
	Reserve(size int64) (bool, error)
	// Room is how large a volume may become on the medium; 0 if that is not known.
	Room() int64
	// Settled is how many bytes are certain to be on the medium as far as it will ever tell.
	Settled() int64
	// Complete ends the volume, which is so many bytes long: less than was written if it is torn, that is, without a trailer.
	Complete(size int64) error
	// Abandon gives a volume up: nothing that could be taken for a complete one stays.
	Abandon() error
	// Where is the place, for people.
	Where() string
}

// EndOfMedium reports whether a write failed because there is no more room.
func EndOfMedium(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) || errors.Is(err, io.ErrShortWrite)
}

// tape makes a volume.File of a medium: a volume's writer that is used by one goroutine writes front to back. It remembers the end of what was
// written, for the parity of the last span.
type tape struct {
	m       Medium
	watcher io.Writer // sees what is on the medium for certain; or nil
	unseen  []byte    // by the watcher
	at      int64
	span    int64  // length of what has parity of its own; 0: nothing has
	from    int64  // offset of recent
	recent  []byte // the span being written, unless it is too long already
	fault   error  // of the medium
}

var errSequence = errors.New("writes out of order")

// WriteAt implements volume.File.
func (t *tape) WriteAt(p []byte, off int64) (int, error) {
	if off != t.at {
		return 0, errSequence
	}
	if t.fault != nil {
		return 0, t.fault
	}
	n, err := t.m.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if t.watcher != nil {
		t.unseen = append(t.unseen, p[:n]...)
	}
	t.remember(p[:n])
	t.fault = err
	return n, err
}

// show gives the watcher what lies before an offset.
func (t *tape) show(upTo int64) error {
	if t.watcher == nil {
		return nil
	}
	n := len(t.unseen) - int(t.at-upTo)
	if n <= 0 {
		return nil
	}
	if _, err := t.watcher.Write(t.unseen[:n]); err != nil {
		return fmt.Errorf("parity: %w", err)
	}
	t.unseen = append(t.unseen[:0], t.unseen[n:]...)
	return nil
}

// remember keeps what may be read back: the first half of the newest span.
func (t *tape) remember(p []byte) {
	if t.span == 0 {
		t.at += int64(len(p))
		return
	}
	for len(p) > 0 {
		n := min(int64(len(p)), t.span-t.at%t.span)
		if t.at%t.span == 0 {
			t.from, t.recent = t.at, t.recent[:0]
		}
		if int64(len(t.recent)) == t.at-t.from && int64(len(t.recent)) <= t.span/2 {
			t.recent = append(t.recent, p[:n]...)
		}
		p, t.at = p[n:], t.at+n
	}
}

// ReadAt implements volume.File for what is remembered.
func (t *tape) ReadAt(p []byte, off int64) (int, error) {
	if off < t.from || off+int64(len(p)) > t.from+int64(len(t.recent)) {
		return 0, errors.New("not to be read back")
	}
	return copy(p, t.recent[off-t.from:]), nil
}

// Sync implements volume.File: the medium is synced when the volume is complete.
func (t *tape) Sync() error { return t.fault }

// Truncate implements volume.File: what is on a medium stays there.
func (t *tape) Truncate(int64) error { return nil }

// Close implements volume.File; the medium is closed by Complete or Abandon.
func (t *tape) Close() error { return nil }
