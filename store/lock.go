package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// errLocked: another process holds the store.
var errLocked = errors.New("store is held by another process")

// storeLock is the flock on STORE/lock. The kernel lets it go with the process, however that ends.
type storeLock struct {
	file *os.File
	path string       // where it was found
	last func() error // called while the lock is still held, if the store is where it was; may be nil
}

// errMovedAway: what is at the path now is not the store that was opened there, and must not be written.
var errMovedAway = errors.New("the store was moved away, or its lock removed, while it was in use: nothing more is written")

// takeLock returns errLocked if another process has it. On a read-only file system nobody can write: frozen.
func takeLock(dir string, files Files) (l *storeLock, frozen bool, err error) {
	path := filepath.Join(dir, lockName)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, unix.EROFS) {
		file, err = os.Open(dir)
		if err != nil {
			return nil, true, fmt.Errorf("lock: %w", err)
		}
		return &storeLock{file: file, path: dir}, true, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("lock: %w", err)
	}
	if f, ok := files.(osFiles); ok {
		if err := f.own(path); err != nil {
			return nil, false, errors.Join(fmt.Errorf("lock: %w", err), file.Close())
		}
	}
	for {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, false, errors.Join(errLocked, file.Close())
	}
	if err != nil {
		return nil, false, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
	}
	return &storeLock{file: file, path: path}, false, nil
}

func (l *storeLock) release() error {
	var err error
	if l.last != nil && l.inPlace() == nil {
		err = l.last()
	}
	return errors.Join(err, l.file.Close())
}

// inPlace returns errMovedAway if the path leads elsewhere now: to another store maybe, with volumes of the same names.
func (l *storeLock) inPlace() error {
	mine, err := l.file.Stat()
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	if there, err := os.Stat(l.path); err != nil || !os.SameFile(mine, there) {
		return fmt.Errorf("%s: %w", filepath.Dir(l.path), errMovedAway)
	}
	return nil
}
