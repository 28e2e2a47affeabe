package fs

import (
	"context"
	"log/slog"

	"snapfs/store"
)

// Options says what to mount and how. The zero value of each field is the recommendation.
type Options struct {
	Datasets   []string   // only these; empty: all
	Snapshots  []store.ID // only these; empty: all
	AllowOther bool
	Xattrs     string  // on, off, auto ("" is auto)
	Cache      int64   // bytes for decoded pages and frames; 0: 48 MiB in all
	UID, GID   *uint32 // show this owner for everything
	Umask      *uint32
	NonEmpty   bool
	Log        *slog.Logger
	Debug      bool
}

// Mount is a mounted view of a store.
type Mount struct{}

// New mounts the store's snapshots on dir and returns when the mount answers. Errors: ErrMountpoint and others,
// see errors.go.
func New(ctx context.Context, st *store.Store, dir string, o Options) (*Mount, error) { panic("todo") }

// Wait returns when the mount is gone (umount by anybody, or Close).
func (m *Mount) Wait() error { panic("todo") }

// Close unmounts, lazily when busy, and waits until the server has ended.
func (m *Mount) Close() error { panic("todo") }

// Refresh makes snapshots that came or went since the mount visible.
func (m *Mount) Refresh(ctx context.Context) error { panic("todo") }

// Unmount detaches the snapfs mount on dir, whoever serves it, and returns when the mount is gone and the process
// that served it has ended.
func Unmount(ctx context.Context, dir string, lazy bool) error { panic("todo") }

// Mounts lists the mountpoints of snapfs mounts on this machine.
func Mounts() ([]string, error) { panic("todo") }
