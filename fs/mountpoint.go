package fs

import (
	"errors"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
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
	if err := checkDirectory(path, nonEmpty); err != nil {
		return "", err
	}
	return path, apart(path, storeDir)
}

// resolve follows symbolic links, but does not touch the mountpoint itself if a snapfs is mounted there: its server
// may be dead.
func resolve(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
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

func checkDirectory(path string, nonEmpty bool) error {
	info, err := os.Stat(path)
	if err != nil {
		return mountpointError(err)
	}
	if !info.IsDir() {
		return ErrNotDirectory
	}
	if nonEmpty {
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	if _, err := d.Readdirnames(1); !errors.Is(err, io.EOF) {
		if err != nil {
			return err
		}
		return ErrNotEmpty
	}
	return nil
}

// apart refuses a mountpoint from which the server could reach its store only through itself. Directories are
// compared by identity, so that no other name for one of them (a bind mount) slips through.
func apart(path, storeDir string) error {
	storeDir, err := filepath.EvalSymlinks(storeDir)
	if err != nil {
		return err
	}
	switch inside, err := isBelow(path, storeDir); {
	case err != nil:
		return err
	case inside && sameDir(path, storeDir):
		return ErrOverStore
	case inside:
		return ErrInsideStore
	}
	above, err := isBelow(storeDir, path)
	if err == nil && above {
		return ErrAboveStore
	}
	return err
}

// isBelow reports whether path is dir or below it.
func isBelow(path, dir string) (bool, error) {
	want, err := os.Stat(dir)
	if err != nil {
		return false, err
	}
	for {
		have, err := os.Stat(path)
		if err != nil {
			return false, err
		}
		if os.SameFile(have, want) {
			return true, nil
		}
		if path == "/" {
			return false, nil
		}
		path = filepath.Dir(path)
	}
}

func sameDir(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}
