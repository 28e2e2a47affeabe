package fs

import (
	"errors"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"snapfs/store"
)

// checkMountpoint returns the mountpoint's absolute path without symbolic links, or why nothing can be mounted there.
// storeDir is the store's directory.
func checkMountpoint(dir, storeDir string, nonEmpty bool) (string, error) {
	path, err := resolve(dir)
	if err != nil {
		return "", err
	}
	if _, err := mountAt(path); err == nil {
		return "", ErrMounted
	}
	if err := checkDirectory(path); err != nil {
		return "", err
	}
	if err := apart(path, storeDir); err != nil {
		return "", err
	}
	if nonEmpty {
		return path, nil
	}
	return path, checkEmpty(path)
}

// resolve follows symbolic links, but does not touch the mountpoint itself if a snapfs is mounted there: its server
// may be dead.
func resolve(dir string) (string, error) {
	abs, err := store.AbsolutePath(dir)
	if err != nil {
		return "", err
	}
	if parent, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
		path := filepath.Join(parent, filepath.Base(abs))
		if _, err := mountAt(path); err == nil {
			return path, deadOrAlive(path)
		}
	}
	path, err := filepath.EvalSymlinks(abs)
	return path, mountpointError(err)
}

// deadOrAlive tells a mount whose server has died from one that is served. stat would not: the kernel may still know the
// attributes of its root.
func deadOrAlive(path string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); errors.Is(err, unix.ENOTCONN) {
		return ErrStale
	}
	return nil
}

func mountpointError(err error) error {
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		return ErrMissing
	case errors.Is(err, unix.ENOTCONN):
		return ErrStale
	case errors.Is(err, unix.ENOTDIR):
		return ErrNotDirectory
	}
	return err
}

func checkDirectory(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return mountpointError(err)
	}
	if !info.IsDir() {
		return ErrNotDirectory
	}
	return nil
}

func checkEmpty(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	_, err = d.Readdirnames(1)
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	return ErrNotEmpty
}

// apart refuses a mountpoint from which the server could reach its store only through itself.
func apart(path, storeDir string) error {
	at, err := store.Locate(path, storeDir)
	switch {
	case err != nil:
		return err
	case at == store.AtTop:
		return ErrOverStore
	case at == store.Inside:
		return ErrInsideStore
	case at == store.Above:
		return ErrAboveStore
	}
	return nil
}
