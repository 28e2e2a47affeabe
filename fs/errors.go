package fs

import (
	"errors"
	"fmt"
)

// Mounting.
var (
	// ErrMissing: the mountpoint does not exist.
	ErrMissing = errors.New("mountpoint does not exist")
	// ErrNotDirectory: the mountpoint is something else.
	ErrNotDirectory = errors.New("mountpoint is not a directory")
	// ErrNotEmpty: the mountpoint holds something, and Options.NonEmpty is not set.
	ErrNotEmpty = errors.New("mountpoint is not empty")
	// ErrMounted: a snapfs is mounted there already.
	ErrMounted = errors.New("a snapfs is mounted there already")
	// ErrStale: a file system is mounted there whose server has died.
	ErrStale = errors.New("the server of the file system mounted there has died")
	// ErrInsideStore, ErrOverStore, ErrAboveStore: the mount would hide the store from its own server.
	ErrInsideStore = errors.New("mountpoint is inside the store")
	ErrOverStore   = errors.New("mountpoint is the store")
	ErrAboveStore  = errors.New("mountpoint is a directory above the store")
	// ErrNoFUSE: the kernel offers no /dev/fuse, or this process may not use it and there is no fusermount3.
	ErrNoFUSE = errors.New("FUSE is not available")
	// ErrDenied: the kernel offers FUSE, but not to this process.
	ErrDenied = errors.New("this user may not use FUSE")
	// ErrAllowOther: fusermount3 lets only root use AllowOther unless /etc/fuse.conf says user_allow_other.
	ErrAllowOther = errors.New("allowing other users needs user_allow_other in /etc/fuse.conf")
	// ErrOption: an option has a value it cannot have.
	ErrOption = errors.New("unknown value")
)

// Unmounting.
var (
	// ErrNotMounted: no snapfs is mounted there.
	ErrNotMounted = errors.New("no snapfs is mounted there")
	// ErrBusy: files or directories of the mount are in use.
	ErrBusy = errors.New("mount is busy")
)

// MountError names the mountpoint an error is about. Err wraps one of the errors above or of the system.
type MountError struct {
	Op   string // mount, umount
	Path string
	Err  error
}

func (e *MountError) Error() string { return fmt.Sprintf("%s %s: %v", e.Op, e.Path, e.Err) }

// Unwrap returns the cause.
func (e *MountError) Unwrap() error { return e.Err }
