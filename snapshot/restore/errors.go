package restore

import (
	"errors"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/store"
)

// Refusing to begin.
var (
	// ErrOtherHost: an in-place restore of another machine's snapshot without Force.
	ErrOtherHost = errors.New("the snapshot was taken on another host")
	// ErrNoOrigin: an in-place restore of a stream, which never had a path.
	ErrNoOrigin = errors.New("a stream has no original path")
	// ErrDeleteRoot: Delete below "/" without Force.
	ErrDeleteRoot = errors.New("deleting below / is refused")
	// ErrDeleteEmpty: Delete while nothing is to be restored, which would remove everything, without Force.
	ErrDeleteEmpty = errors.New("nothing is in the snapshot there: deleting would remove everything")
	// ErrDeleteListed: Delete with a snapshot of listed files, which would remove all that the list did not name, without Force.
	ErrDeleteListed = errors.New("the snapshot holds only what a list of files named: deleting would remove the rest")
	// ErrDeleteErrors: Delete while the manifest names only a part of what could not be read then.
	ErrDeleteErrors = errors.New("the snapshot does not name all paths that were unreadable: deleting is not safe")
	// ErrOptions: options that contradict each other, or an unknown policy.
	ErrOptions = errors.New("options contradict each other")
	// ErrUnsafeLink: an original path leads through a symlink that others could have planted.
	ErrUnsafeLink = errors.New("a symlink that another user could have placed is in the way")
)

// Ending a restore before its end.
var (
	// ErrFull: no space, or no quota, left at the destination.
	ErrFull = errors.New("the destination is full")
	// ErrReadOnly: the destination's file system is read-only.
	ErrReadOnly = errors.New("the destination is read-only")
)

// Of single paths.
var (
	// ErrNotEmpty: a directory that is not empty is in the way of something else; Delete allows to remove it.
	ErrNotEmpty = errors.New("a directory that is not empty is in the way")
	// ErrDoubt: something is not deleted, because it is not certain that the snapshot is the one that is wanted.
	ErrDoubt = errors.New("nothing is deleted here while something may still come that shows that another snapshot is wanted")
	// ErrMoved: a destination directory was replaced by something else during the restore.
	ErrMoved = errors.New("the directory was replaced during the restore")
	// ErrDiffers: what Verify read back is not what the snapshot holds.
	ErrDiffers = errors.New("differs from the snapshot when read back")
	// ErrName: the snapshot holds a name that no directory may have.
	ErrName = errors.New("not a file name")
	// ErrNotCome: a part of a file's content did not come through the pipe, or came damaged.
	ErrNotCome = errors.New("a part of its content did not come, or came damaged")
	// ErrFirstName: the name of a hard-linked file that was to be linked to could not be restored.
	ErrFirstName = errors.New("the name it is linked to was not restored")
)

// damaged reports whether err says that stored data is damaged or gone.
func damaged(err error) bool {
	var corrupt *store.CorruptError
	var missing *store.MissingError
	return errors.As(err, &corrupt) || errors.As(err, &missing) ||
		errors.Is(err, snapshot.ErrMalformed) || errors.Is(err, errLength) || errors.Is(err, ErrNotCome)
}

// errLength: a chunk is not as long as the file's list of chunks says.
var errLength = errors.New("a chunk has another length than the file names")

// ending returns the error that ends the whole restore if err is of that kind: going on would only repeat it.
func ending(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return ErrFull
	case errors.Is(err, unix.EROFS):
		return ErrReadOnly
	}
	return nil
}
