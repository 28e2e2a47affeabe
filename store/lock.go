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
	last func() error // called while the lock is still held; may be nil
}

// takeLock returns errLocked if another process has it. On a read-only file system nobody can write: frozen.
func takeLock(dir string, files Files) (l *storeLock, frozen bool, err error) {
	path := filepath.Join(dir, lockName)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, unix.EROFS) {
		file, err = os.Open(dir)
		if err != nil {
			return nil, true, fmt.Errorf("lock: %w", err)
		}
		return &storeLock{file: file}, true, nil
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
	return &storeLock{file: file}, false, nil
}

func (l *storeLock) release() error {
	var err error
	if l.last != nil {
		err = l.last()
	}
	return errors.Join(err, l.file.Close())
}
