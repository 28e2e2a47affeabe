package fs

import (
	"context"
	"errors"
	iofs "io/fs"
	"log/slog"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"snapfs/store"
)

// errnos maps our errors to what a program sees. What is not here is EIO: an error of unknown meaning must never look
// like an absent file (ENOENT) or an absent function (ENOSYS, which the kernel remembers for the life of the mount).
var errnos = []struct {
	err   error
	errno syscall.Errno
}{
	{iofs.ErrNotExist, syscall.ENOENT},
	{errStale, syscall.ESTALE},
	{errNotDirectory, syscall.ENOTDIR},
	{errNotFile, syscall.EINVAL},
	{store.ErrNotFound, syscall.ESTALE},
	{context.Canceled, syscall.EINTR},
	{context.DeadlineExceeded, syscall.ETIMEDOUT},
}

// Errors of requests that no program sees as such.
var (
	errStale        = errors.New("node of a snapshot that is not shown any more")
	errNotDirectory = errors.New("not a directory")
	errNotFile      = errors.New("not a regular file")
)

// toErrno is the one way from our errors to errno. It returns OK for nil.
func toErrno(err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	if isDamage(err) {
		return fuse.EIO
	}
	for _, row := range errnos {
		if errors.Is(err, row.err) {
			return fuse.Status(row.errno)
		}
	}
	return fuse.EIO
}

// isDamage reports that stored data is damaged or gone, whatever the cause under it.
func isDamage(err error) bool {
	var corrupt *store.CorruptError
	var missing *store.MissingError
	return errors.As(err, &corrupt) || errors.As(err, &missing)
}

// maxReported bounds the memory of what was logged.
const maxReported = 4096

// reporter logs each error of each node once.
type reporter struct {
	log *slog.Logger

	mu   sync.Mutex
	seen map[reported]bool
}

type reported struct {
	node  uint64
	cause string
}

func newReporter(log *slog.Logger) *reporter {
	return &reporter{log: log, seen: map[reported]bool{}}
}

// first reports whether this error of this node is new.
func (r *reporter) first(node uint64, err error) bool {
	key := reported{node, err.Error()}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen[key] {
		return false
	}
	if len(r.seen) >= maxReported {
		clear(r.seen)
	}
	r.seen[key] = true
	return true
}
