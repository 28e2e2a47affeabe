package restore

import (
	"encoding/binary"
	"errors"
	"os"
	"sync"

	"snapfs/snapshot"
)

// records is a list of records of one size: in memory while it is short, else in a temporary file without a name. Safe for concurrent use.
type records struct {
	width   int
	scratch func() (*os.File, error)

	mu   sync.Mutex
	n    uint32
	mem  []byte
	file *os.File
}

// recordsInMemory is how many bytes of records are kept in memory.
const recordsInMemory = 2 << 20

func newRecords(width int, dir string) *records {
	return &records{width: width, scratch: func() (*os.File, error) { return snapshot.ScratchFile(dir) }}
}

// add appends a record and returns its number.
func (l *records) add(b []byte) (number uint32, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil && len(l.mem)+l.width > recordsInMemory {
		if err := l.spill(); err != nil {
			return 0, err
		}
	}
	if l.file == nil {
		l.mem = append(l.mem, b...)
	} else if _, err := l.file.WriteAt(b, int64(l.n)*int64(l.width)); err != nil {
		return 0, err
	}
	l.n++
	return l.n - 1, nil
}

// spill moves what is in memory to a file. If that fails, for want of room for instance, all of it stays: who reads one of these records later must not
// get another one, or zeros.
func (l *records) spill() error {
	f, err := l.scratch()
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(l.mem, 0); err != nil {
		return errors.Join(err, f.Close())
	}
	l.file, l.mem = f, nil
	return nil
}

func (l *records) read(number uint32, b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := int64(number) * int64(l.width)
	if l.file == nil {
		copy(b, l.mem[at:])
		return nil
	}
	_, err := l.file.ReadAt(b[:l.width], at)
	return err
}

func (l *records) write(number uint32, b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := int64(number) * int64(l.width)
	if l.file == nil {
		copy(l.mem[at:], b)
		return nil
	}
	_, err := l.file.WriteAt(b, at)
	return err
}

// each calls fn for all records, which may change them.
func (l *records) each(fn func(number uint32, b []byte) error) error {
	b := make([]byte, l.width)
	for i := uint32(0); i < l.n; i++ {
		if err := l.read(i, b); err != nil {
			return err
		}
		if err := fn(i, b); err != nil {
			return err
		}
	}
	return nil
}

func (l *records) close() {
	if l.file != nil {
		l.file.Close()
	}
	l.mem = nil
}

// lateFolder is a directory that is finished when everything has come. What is needed of it to be opened again is settled when it gets its
// number, the rest when the scan leaves it.
type lateFolder struct {
	position    uint32 // in the snapshot
	bits        uint32
	flags, mode uint32
	dev, ino    uint64
}

const folderRecord = 32 // bytes of a lateFolder

// Bits of a lateFolder.
const (
	folderChosen = 1 << iota
	folderAttrs
	folderMade
	folderHands
	folderAltered
	folderUnderHands // the one above hands on
	folderMarked
)

// identityOf is what does not change once something is queued in a folder.
func identityOf(f *folder) lateFolder {
	l := lateFolder{position: f.source.Position, flags: f.flags, mode: f.mode, dev: f.dev, ino: f.ino}
	l.set(f.made, folderMade)
	l.set(f.hands, folderHands)
	l.set(f.marked, folderMarked)
	l.set(f.parent.hands, folderUnderHands)
	return l
}

// lateFolderOf is all of it.
func lateFolderOf(f *folder) lateFolder {
	l := identityOf(f)
	l.set(f.chosen, folderChosen)
	l.set(f.attrs, folderAttrs)
	l.set(f.altered, folderAltered)
	return l
}

func (l *lateFolder) set(is bool, bit uint32) {
	if is {
		l.bits |= bit
	}
}

// fill makes f what the record says.
func (l lateFolder) fill(f *folder) {
	f.state, f.flags, f.mode, f.dev, f.ino = present, l.flags, l.mode, l.dev, l.ino
	f.chosen, f.attrs, f.made = l.bits&folderChosen != 0, l.bits&folderAttrs != 0, l.bits&folderMade != 0
	f.hands, f.altered, f.marked = l.bits&folderHands != 0, l.bits&folderAltered != 0, l.bits&folderMarked != 0
	f.prepare.Do(func() {}) // it was, before anything was put off
}

func (l lateFolder) encode() []byte {
	b := make([]byte, 0, folderRecord)
	for _, n := range []uint32{l.position, l.bits, l.flags, l.mode} {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	b = binary.LittleEndian.AppendUint64(b, l.dev)
	return binary.LittleEndian.AppendUint64(b, l.ino)
}

func parseLateFolder(b []byte) lateFolder {
	return lateFolder{
		position: binary.LittleEndian.Uint32(b), bits: binary.LittleEndian.Uint32(b[4:]), flags: binary.LittleEndian.Uint32(b[8:]),
		mode: binary.LittleEndian.Uint32(b[12:]), dev: binary.LittleEndian.Uint64(b[16:]), ino: binary.LittleEndian.Uint64(b[24:]),
	}
}
