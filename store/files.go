package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"snapfs/store/volume"
)

// Files are the file operations of the store outside its index. Tests put faults in their place.
type Files interface {
	// Create makes the file of a volume, which must not exist. keepCached: it will soon be read again.
	Create(path string, keepCached bool) (volume.File, error)
	// Open opens a volume for reading.
	Open(path string) (volume.File, error)
	// WriteFile replaces a small file atomically and durably.
	WriteFile(path string, data []byte) error
	// SyncDir makes the names in a directory durable.
	SyncDir(path string) error
	// Rename gives a file another name, in place of what has it. SyncDir makes it durable.
	Rename(from, to string) error
	// Remove deletes a file.
	Remove(path string) error
	// SetImmutable sets or clears the immutable flag of a file; was says what it was. That it cannot be set is no error.
	SetImmutable(path string, on bool) (was bool, err error)
	// Space is the number of bytes that may still be written below path, and the size of its file system.
	Space(path string) (free, total int64, err error)
}

// osFiles gives every file it makes to the owner of the store, also when root made it.
type osFiles struct {
	uid, gid int // -1: leave as made
}

// filesFor returns the operating system's files for a store directory.
func filesFor(dir string) (osFiles, error) {
	uid, gid, err := owner(dir)
	if err != nil {
		return osFiles{}, err
	}
	if os.Geteuid() != 0 || uid == 0 {
		return osFiles{-1, -1}, nil
	}
	return osFiles{uid, gid}, nil
}

// owner returns who owns a path.
func owner(path string) (uid, gid int, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, fmt.Errorf("%s: owner unknown", path)
	}
	return int(st.Uid), int(st.Gid), nil
}

func (f osFiles) own(path string) error {
	if f.uid < 0 {
		return nil
	}
	return os.Lchown(path, f.uid, f.gid)
}

// ownTree gives a directory and everything in it to the owner of the store.
func (f osFiles) ownTree(dir string) error {
	if f.uid < 0 {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = f.own(path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // Badger removes files at any time
		}
		return err
	})
}

func (f osFiles) Create(path string, keepCached bool) (volume.File, error) {
	file, err := volume.CreateFile(path, volume.FileOptions{KeepCached: keepCached})
	if err != nil {
		return nil, err
	}
	if err := f.own(path); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func (f osFiles) Open(path string) (volume.File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return file, nil
}

func (f osFiles) WriteFile(path string, data []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tmp.Close(), os.Remove(tmp.Name()))
		}
	}()
	if _, err = tmp.Write(data); err != nil {
		return err
	}
	if err = f.own(tmp.Name()); err != nil {
		return err
	}
	if err = tmp.Sync(); err != nil {
		return err
	}
	if err = os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	if err = f.SyncDir(filepath.Dir(path)); err != nil {
		return err
	}
	return tmp.Close()
}

func (f osFiles) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (f osFiles) Rename(from, to string) error { return os.Rename(from, to) }

func (f osFiles) Remove(path string) error { return os.Remove(path) }

func (f osFiles) Space(path string) (free, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, err
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, nil
}

// allocated is what a file takes on disk: Badger's are sparse.
func allocated(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}
