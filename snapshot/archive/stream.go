package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TargetOptions refine OpenTarget.
type TargetOptions struct {
	Block  int64  // every write has this many bytes, the last one filled up with zeros; 0: the default of the kind of target
	Permit Permit // nil: nothing is overwritten
	Stdout io.Writer
}

// tapeBlock is what is written at once to a character device.
const tapeBlock = 256 << 10

// OpenTarget finds out what path is: a directory, a file to be made, a FIFO, a block or character device, or "-". It waits for the reader of a FIFO.
func OpenTarget(ctx context.Context, path string, o TargetOptions) (Target, error) {
	if path == "-" {
		return &streamTarget{w: o.Stdout, where: "standard output", block: o.Block}, nil
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist) && !hasSlash(path):
		return newFileTarget(path, o)
	case err != nil:
		return nil, err
	case info.IsDir() && o.Block > 0:
		return nil, fmt.Errorf("%s: %w: a directory has no block size", path, ErrTarget)
	case info.IsDir():
		return NewDirectory(path, o.Permit)
	case info.Mode().IsRegular():
		return newFileTarget(path, o)
	case info.Mode()&os.ModeNamedPipe != 0:
		f, err := openFIFO(ctx, path)
		if err != nil {
			return nil, err
		}
		return &streamTarget{w: f, where: path, block: o.Block, closer: f}, nil
	case info.Mode()&os.ModeDevice != 0:
		return newDeviceTarget(path, info.Mode()&os.ModeCharDevice != 0, o)
	}
	return nil, fmt.Errorf("%s: %w", path, ErrTarget)
}

// fifoWait is how often a FIFO is asked for its reader.
const fifoWait = 50 * time.Millisecond

// openFIFO waits for a reader. It asks instead of sleeping in open, out of which no signal would get it.
func openFIFO(ctx context.Context, path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
		if !errors.Is(err, unix.ENXIO) {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(fifoWait):
		}
	}
}

func hasSlash(path string) bool { return path[len(path)-1] == '/' }

// streamTarget writes volumes one after another into a pipe.
type streamTarget struct {
	w      io.Writer
	where  string
	block  int64
	closer io.Closer
}

// Check implements Target.
func (s *streamTarget) Check(Slot) error { return nil }

// Open implements Target.
func (s *streamTarget) Open(context.Context, Slot) (Medium, error) {
	return &blockMedium{w: s.w, where: s.where, block: s.block}, nil
}

// Changes implements Target.
func (s *streamTarget) Changes() bool { return false }

// Keeps implements Target.
func (s *streamTarget) Keeps() string { return "" }

// Sheet implements Target.
func (s *streamTarget) Sheet(string, string) (string, error) { return "", nil }

// Close implements Target.
func (s *streamTarget) Close() error {
	if s.closer == nil {
		return nil
	}
	return s.closer.Close()
}

// fileTarget writes one volume into a file; for the next one the file must have been moved away, or its medium changed.
type fileTarget struct {
	path   string
	permit Permit
}

func newFileTarget(path string, o TargetOptions) (Target, error) {
	if o.Block > 0 {
		return nil, fmt.Errorf("%s: %w: a file has no block size", path, ErrTarget)
	}
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return &fileTarget{path, o.Permit}, nil
}

// Check implements Target.
func (t *fileTarget) Check(Slot) error {
	if err := writable(filepath.Dir(t.path)); err != nil {
		return err
	}
	return inTheWay(t.path, t.permit)
}

// Open implements Target.
func (t *fileTarget) Open(context.Context, Slot) (Medium, error) {
	if err := makeRoom(t.path, t.permit); err != nil {
		return nil, err
	}
	return newFileMedium(t.path, false)
}

// Changes implements Target.
func (t *fileTarget) Changes() bool { return true }

// Keeps implements Target.
func (t *fileTarget) Keeps() string { return "" }

// Sheet implements Target.
func (t *fileTarget) Sheet(_, text string) (string, error) {
	path := t.path + ".txt"
	return path, writeSheet(path, text)
}

// Close implements Target.
func (t *fileTarget) Close() error { return nil }

// deviceTarget writes each volume from the start of a device.
type deviceTarget struct {
	path      string
	character bool
	block     int64
	permit    Permit
}

func newDeviceTarget(path string, character bool, o TargetOptions) (Target, error) {
	if character && !isTape(path) {
		return nil, fmt.Errorf("%s: %w: it is no tape drive", path, ErrTarget)
	}
	if o.Block == 0 && character {
		o.Block = tapeBlock
	}
	return &deviceTarget{path, character, o.Block, o.Permit}, nil
}

// isTape asks a character device for the position of its tape. Others keep nothing (/dev/null), and a set written to them would count as there. One
// that cannot be opened now, perhaps for want of a tape, says so when it is written to.
func isTape(path string) bool {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return true
	}
	defer f.Close()
	var status struct { // struct mtget of linux/mtio.h
		kind, left, density, state, errors int
		file, block                        int32
	}
	const read, group, number = 2 << 30, 'm' << 8, 2 // MTIOCGET
	request := read | unsafe.Sizeof(status)<<16 | group | number
	_, _, code := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(&status)))
	return code != unix.ENOTTY && code != unix.EINVAL
}

// Check implements Target.
func (t *deviceTarget) Check(Slot) error {
	if t.character {
		return nil
	}
	f, err := os.Open(t.path)
	if err != nil {
		return err
	}
	defer f.Close()
	return t.mayWrite(f)
}

// Open implements Target.
func (t *deviceTarget) Open(context.Context, Slot) (Medium, error) {
	flags := os.O_RDWR
	if !t.character {
		flags |= unix.O_EXCL // nobody has it mounted
	}
	f, err := os.OpenFile(t.path, flags, 0)
	if err != nil {
		return nil, err
	}
	m := &blockMedium{w: f, where: t.path, block: t.block, file: f, room: -1}
	if t.character {
		return m, nil // what a tape holds shows only by reading on; the drive is asked for a blank one
	}
	if m.room, err = f.Seek(0, io.SeekEnd); err == nil {
		err = t.mayWrite(f)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	if t.block > 0 {
		m.room -= m.room % t.block
	}
	return m, nil
}

// blankCheck is how much of a device is looked at: file systems and partition tables leave traces there.
const blankCheck = 128 << 10

// mayWrite refuses a device that holds something: a volume that has not expired, or anything else.
func (t *deviceTarget) mayWrite(f *os.File) error {
	head := make([]byte, blankCheck)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return err
	}
	for _, b := range head[:n] {
		if b != 0 {
			return mayOverwrite(f, t.path, t.permit)
		}
	}
	return nil
}

// Changes implements Target.
func (t *deviceTarget) Changes() bool { return true }

// Keeps implements Target.
func (t *deviceTarget) Keeps() string { return "" }

// Sheet implements Target.
func (t *deviceTarget) Sheet(string, string) (string, error) { return "", nil }

// Close implements Target.
func (t *deviceTarget) Close() error { return nil }

// blockMedium writes to what takes bytes in sequence, in blocks of one size if it wants that.
type blockMedium struct {
	w     io.Writer
	where string
	block int64
	file  *os.File // to be synced and closed; or nil
	room  int64    // of the device; 0 in a pipe, -1: not known

	buf     []byte // of the next block
	settled int64
}

// Write implements Medium. With blocks, only whole ones are written: Settled says how far.
func (m *blockMedium) Write(p []byte) (int, error) {
	if m.block == 0 {
		n, err := m.w.Write(p)
		m.settled += int64(n)
		return n, err
	}
	taken := len(p)
	for int64(len(m.buf))+int64(len(p)) >= m.block {
		n := m.block - int64(len(m.buf))
		m.buf = append(m.buf, p[:n]...)
		p = p[n:]
		if err := m.flush(); err != nil {
			return taken - len(p), err
		}
	}
	m.buf = append(m.buf, p...)
	return taken, nil
}

// flush writes the block. What a device took only a part of is not on it.
func (m *blockMedium) flush() error {
	n, err := m.w.Write(m.buf)
	if err == nil && n < len(m.buf) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return err
	}
	m.settled += int64(n)
	m.buf = m.buf[:0]
	return nil
}

// Reserve implements Medium.
func (m *blockMedium) Reserve(size int64) (bool, error) { return m.room <= 0 || size <= m.room, nil }

// Room implements Medium.
func (m *blockMedium) Room() int64 { return max(0, m.room) }

// Settled implements Medium.
func (m *blockMedium) Settled() int64 { return m.settled }

// Complete implements Medium. Where the medium ends with the last block it can be completed again, as torn.
func (m *blockMedium) Complete(size int64) error {
	if len(m.buf) > 0 && size > m.settled {
		m.buf = append(m.buf, make([]byte, m.block-int64(len(m.buf)))...)
		if err := m.flush(); err != nil {
			return err
		}
	}
	if m.file == nil {
		return nil
	}
	if err := m.file.Sync(); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOTSUP) {
		return lost(m.where, err)
	}
	return lost(m.where, m.Abandon())
}

// Abandon implements Medium.
func (m *blockMedium) Abandon() error {
	if m.file == nil {
		return nil
	}
	f := m.file
	m.file = nil
	return f.Close()
}

// Where implements Medium.
func (m *blockMedium) Where() string { return m.where }
