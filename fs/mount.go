package fs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"

	"snapfs/store"
)

// Values of Options.Xattrs.
const (
	XattrsAuto = "auto" // on if a shown snapshot has any
	XattrsOn   = "on"
	XattrsOff  = "off" // eight times faster for ls -l; the kernel is told that there are none
)

// Options says what to mount and how. The zero value of each field is the recommendation.
type Options struct {
	Datasets   []string   // only these; empty: all
	Snapshots  []store.ID // only these; empty: all
	AllowOther bool       // let other users in, as far as modes, ACLs and the source's parents allow
	Xattrs     string     // XattrsOn, XattrsOff, XattrsAuto ("" is auto)
	Cache      int64      // bytes for what is decoded; 0: 28 MiB. Give StoreCache of it to store.Options.Cache
	UID, GID   *uint32    // show this owner for everything; ACLs are not shown then
	Umask      *uint32    // take these bits from every mode
	NonEmpty   bool       // mount over a directory that holds something
	Log        *slog.Logger
	Debug      bool // log every request
}

// Mount is a mounted view of a store. Safe for concurrent use.
type Mount struct {
	dir    string
	where  mountInfo
	core   *server
	fuse   *fuse.Server
	beacon *beacon
	cancel context.CancelFunc
	ended  chan struct{}

	closing    sync.Mutex
	refreshing sync.Mutex
}

// New mounts the store's snapshots on dir and returns when the mount answers. Errors are *MountError, wrapping one of
// errors.go where a user can do something about it; store.ErrNotFound if a named dataset or snapshot is not there.
// The store must stay open until Wait or Close returns.
func New(ctx context.Context, st *store.Store, dir string, o Options) (*Mount, error) {
	return mount(ctx, st, dir, o)
}

func mount(ctx context.Context, src source, dir string, o Options) (*Mount, error) {
	path, err := checkMountpoint(dir, src.Dir(), o.NonEmpty)
	if err != nil {
		return nil, &MountError{"mount", dir, err}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	state, err := src.State(ctx)
	if err != nil {
		return nil, &MountError{"mount", dir, err}
	}
	show := filter{o.Datasets, o.Snapshots}
	v := newView(state, show, nil)
	if err := show.check(v); err != nil {
		return nil, &MountError{"mount", dir, err}
	}
	how, err := settle(&o, v)
	if err != nil {
		return nil, &MountError{"mount", dir, err}
	}
	// Requests outlive the call that mounted: their context ends with the mount.
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	m := &Mount{dir: path, core: newServer(run, src, v, show, how, o.Log), cancel: cancel, ended: make(chan struct{})}
	if err := m.start(&o, src.Dir()); err != nil {
		cancel()
		return nil, &MountError{"mount", dir, err}
	}
	return m, nil
}

// StoreCache is the part of Options.Cache that the store should have: small files and pages as stored lie in its
// frames. The rest is for decoded pages and large chunks, of which a walk needs few. In a store that has grown for long, neighbours lie in as
// many frames as there were backups that changed some of them: with 10 instead of 20 MiB for those, tar of 10,000 files that 60 backups had
// changed took three times the processor time.
func StoreCache(cache int64) int64 {
	if cache <= 0 {
		cache = defaultCache
	}
	return cache / 8 * 5
}

// split shares out the cache.
func (how *settings) split(cache int64) {
	if cache <= 0 {
		cache = defaultCache
	}
	rest := cache - StoreCache(cache)
	how.pageBytes = rest / 3
	how.chunkBytes = max(rest-how.pageBytes, minChunkBytes)
}

// minChunkBytes are enough to read one file ahead.
const minChunkBytes = 10 << 20

// settle turns options into settings.
func settle(o *Options, v *view) (settings, error) {
	how := settings{
		owner: uint32(os.Geteuid()),
		group: uint32(os.Getegid()),
		uid:   o.UID,
		gid:   o.GID,
	}
	how.split(o.Cache)
	if o.UID != nil {
		how.owner = *o.UID
	}
	if o.GID != nil {
		how.group = *o.GID
	}
	if o.Umask != nil {
		how.umask = *o.Umask & 0o777
	}
	switch o.Xattrs {
	case XattrsOn:
		how.xattrs = true
	case "", XattrsAuto:
		how.xattrs = v.xattrs != 0
	case XattrsOff:
	default:
		return how, fmt.Errorf("xattrs %q: %w", o.Xattrs, ErrOption)
	}
	// With another owner or mode than at the source the ACLs speak of nobody; without attributes the kernel cannot
	// see them. Who let only himself in could read the store anyway.
	how.hideACLs = o.UID != nil || o.GID != nil || o.Umask != nil
	how.acls = o.AllowOther && how.xattrs && !how.hideACLs
	how.stricter = o.AllowOther && !how.acls
	how.enclosed = o.AllowOther
	return how, nil
}

// start mounts and begins to serve.
func (m *Mount) start(o *Options, storeDir string) error {
	var err error
	if m.fuse, err = attach(m.core, m.dir, o, storeDir); err != nil {
		return err
	}
	go m.serve() // ends when the mount is gone; Wait and Close wait for it
	if m.where, err = mountAt(m.dir); err != nil {
		return errors.Join(err, detach(m.dir, true))
	}
	raiseReadahead(m.where, o.Log)
	m.beacon = newBeacon(m.where, o.Log)
	return nil
}

func (m *Mount) serve() {
	m.fuse.Serve()
	m.cancel()
	m.core.close()
	close(m.ended)
}

// Xattrs reports whether the mount answers for extended attributes: what "auto" came to.
func (m *Mount) Xattrs() bool { return m.core.how.xattrs }

// Dir is the mountpoint, absolute, without symbolic links.
func (m *Mount) Dir() string { return m.dir }

// Wait returns when the mount is gone (umount by anybody, or Close). The process should end then: Unmount elsewhere
// waits for it.
func (m *Mount) Wait() error {
	<-m.ended
	return nil
}

// Close unmounts, lazily when busy, and waits until the server has ended: that is when the last file is closed.
func (m *Mount) Close() error {
	m.closing.Lock()
	defer m.closing.Unlock()
	select {
	case <-m.ended:
	default:
		if err := detachAll(m.where); err != nil {
			return &MountError{"umount", m.dir, err}
		}
		<-m.ended
	}
	m.beacon.close()
	return nil
}

// Refresh makes snapshots that came or went since the mount visible. Files of a snapshot that went stay readable for
// whoever has them open.
func (m *Mount) Refresh(ctx context.Context) error {
	m.refreshing.Lock()
	defer m.refreshing.Unlock()
	changed, err := m.core.refresh(ctx)
	if err != nil {
		return err
	}
	// No lock that a request needs is held here: the kernel may want an answer before it takes a notice.
	dirs := map[uint64]bool{}
	for _, c := range changed {
		m.fuse.EntryNotify(c.dir, c.name) // fails if the kernel does not know the name: as well
		dirs[c.dir] = true
	}
	for dir := range dirs {
		m.fuse.InodeNotify(dir, 0, 0) // attributes and the cached listing
	}
	return nil
}
