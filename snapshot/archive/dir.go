package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"snapfs/store"
	"snapfs/store/volume"
)

// Permit decides about a volume that is in the way: nil if it may be overwritten.
type Permit func(volume.Label) error

// dirTarget writes volumes as files of a directory.
type dirTarget struct {
	dir    string
	permit Permit
}

// NewDirectory returns the target that puts volumes into a directory, which must be there.
func NewDirectory(dir string, permit Permit) (Target, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s: %w: not a directory", dir, ErrTarget)
	}
	return &dirTarget{dir: dir, permit: permit}, nil
}

// Check implements Target.
func (d *dirTarget) Check(v Slot) error {
	if err := writable(d.dir); err != nil {
		return err
	}
	return inTheWay(filepath.Join(d.dir, v.FileName()), d.permit)
}

// Open implements Target.
func (d *dirTarget) Open(_ context.Context, v Slot) (Medium, error) {
	path := filepath.Join(d.dir, v.FileName())
	if err := makeRoom(path, d.permit); err != nil {
		return nil, err
	}
	return newFileMedium(path, v.Again)
}

// Changes implements Target.
func (d *dirTarget) Changes() bool { return false }

// Keeps implements Target.
func (d *dirTarget) Keeps() string { return d.dir }

// Sheet implements Target.
func (d *dirTarget) Sheet(name, text string) (string, error) {
	path := filepath.Join(d.dir, name+".txt")
	return path, writeSheet(path, text)
}

// Close implements Target.
func (d *dirTarget) Close() error { return nil }

// writeSheet replaces a text file as a whole.
func writeSheet(path, text string) error {
	partial := path + partialSuffix
	f, err := os.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = cmp.Or(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(partial, path)
	}
	if err != nil {
		_ = os.Remove(partial)
	}
	return err
}

// makeRoom removes an expired volume that has the name of a new one. Anything else there is refused.
func makeRoom(path string, permit Permit) error {
	if err := inTheWay(path, permit); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// inTheWay looks at what has the name of a new volume, if anything has it.
func inTheWay(path string, permit Permit) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return mayOverwrite(f, path, permit)
}

// mayOverwrite looks at what is in the way. Errors: ErrVolumeExists, ErrNotEmpty.
func mayOverwrite(f *os.File, path string, permit Permit) error {
	size, err := f.Seek(0, 2)
	if err != nil {
		return err
	}
	label, _, err := volume.ReadLabel(f, size)
	switch {
	case err != nil && size == 0:
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w", path, ErrNotEmpty)
	case permit == nil:
		return fmt.Errorf("%s: %w: %s", path, ErrVolumeExists, describe(label))
	}
	if err := permit(label); err != nil {
		return fmt.Errorf("%s: %s: %w", path, describe(label), err)
	}
	return nil
}

// describe names a volume for people.
func describe(l volume.Label) string {
	if l.Set == nil {
		return fmt.Sprintf("%s volume %s of store %x", l.Kind, l.Volume, l.Store)
	}
	return fmt.Sprintf("volume %d of set %s (%x)", l.Set.Sequence, l.Set.Name, l.Set.ID)
}

// fileMedium is a regular file. Space for the end of the volume is allocated ahead of what is written, so that a full file system
// ends a volume and never spoils one.
type fileMedium struct {
	f         *volume.OSFile
	partial   string // name while it is being written
	path      string
	at        int64
	allocated int64
	blind     bool  // the file system cannot allocate ahead
	room      int64 // that was free when it was made
}

// allocateStep is how much is allocated at once.
const allocateStep = 64 << 20

// newFileMedium makes the file of a volume in place of one that an interrupted run left. Errors: ErrInUse.
func newFileMedium(path string, cached bool) (_ *fileMedium, err error) {
	partial := path + partialSuffix
	defer func() {
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, fs.ErrExist) {
			err = fmt.Errorf("%s: %w", partial, ErrInUse)
		}
	}()
	if err := volume.RemoveUnlocked(partial); err != nil {
		return nil, err
	}
	f, err := volume.CreateFile(partial, volume.FileOptions{Perm: 0o600, KeepCached: cached})
	if err != nil {
		return nil, err
	}
	if err := f.Lock(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &fileMedium{f: f, partial: partial, path: path, room: freeIn(filepath.Dir(path))}, nil
}

// Write implements Medium.
func (m *fileMedium) Write(p []byte) (int, error) {
	n, err := m.f.WriteAt(p, m.at)
	m.at += int64(n)
	if n == len(p) {
		err = lost(m.partial, err)
	}
	return n, err
}

// lost is the error that bytes which were taken did not reach the device. Where space cannot be allocated ahead that may be for want of room, but
// nobody knows which ones are there: the medium is not just full, the volume is spoilt, and gone on with it has to be from its beginning.
func lost(where string, err error) error {
	if !EndOfMedium(err) {
		return err
	}
	return fmt.Errorf("%s: bytes that were taken did not reach the device: %v", where, err)
}

// ReadAt reads what was written.
func (m *fileMedium) ReadAt(p []byte, off int64) (int, error) { return m.f.ReadAt(p, off) }

// Reserve implements Medium.
func (m *fileMedium) Reserve(size int64) (bool, error) {
	if m.blind || size <= m.allocated {
		return true, nil
	}
	for _, want := range []int64{size + allocateStep, size} {
		err := m.f.Allocate(want)
		switch {
		case err == nil:
			m.allocated = want
			return true, nil
		case errors.Is(err, errors.ErrUnsupported):
			m.blind = true
			return true, nil
		case !EndOfMedium(err):
			return false, err
		}
	}
	return false, nil
}

// Room implements Medium.
func (m *fileMedium) Room() int64 { return m.room }

// Settled implements Medium.
func (m *fileMedium) Settled() int64 { return m.at }

// Complete implements Medium.
func (m *fileMedium) Complete(size int64) error {
	if err := m.f.Truncate(size); err != nil {
		return err
	}
	if err := m.f.Sync(); err != nil {
		return lost(m.partial, err)
	}
	if err := os.Rename(m.partial, m.path); err != nil { // while it is locked: what has that name is this file
		return err
	}
	if err := m.f.Close(); err != nil {
		return lost(m.partial, err)
	}
	return syncDir(filepath.Dir(m.path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Abandon implements Medium.
func (m *fileMedium) Abandon() error {
	err := os.Remove(m.partial)
	if errors.Is(err, fs.ErrNotExist) { // it has its name already, and will be written over
		err = nil
	}
	return errors.Join(m.f.Close(), err)
}

// Where implements Medium.
func (m *fileMedium) Where() string {
	if abs, err := store.AbsolutePath(m.path); err == nil {
		return abs
	}
	return m.path
}
