package fs

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"snapfs/snapshot"
	"snapfs/store"
)

// source is what the server needs of a store; *store.Store is one.
type source interface {
	snapshot.Source
	State(ctx context.Context) (*store.State, error)
	PageKey() [32]byte
	GetInto(ctx context.Context, kind store.Kind, id store.ID, dst []byte) ([]byte, error)
	Pin(ctx context.Context, snapshots ...store.ID) error
	Unpin(ctx context.Context, snapshots ...store.ID) error
	Dir() string
}

// Sizes of the server's small caches. Nodes hold on to the decoded page they came from, so there are few of them; what
// is not there is found again in O(depth) cached pages.
const (
	keptTrees   = 16
	keptNodes   = 32
	keptParents = 4096
	keptStreams = 64

	defaultCache = 28 << 20 // Options.Cache
)

// forever is a timeout in seconds: what is in a snapshot never changes, and of what does the kernel is told.
const forever = 1 << 30

const latestName = "latest"

// nameMax is how long names are, bytes.
const nameMax = 255

// server answers requests. Safe for concurrent use.
type server struct {
	fuse.RawFileSystem // "not implemented" for all that is not here

	ctx  context.Context
	src  source
	how  settings
	show filter

	view    atomic.Pointer[view]
	change  sync.RWMutex // held for reading while a snapshot gets its first reference, for writing while the view changes
	trees   *trees
	nodes   *lru[uint64, node]
	parents *lru[uint64, uint32] // of directories: position of the directory above
	streams *lru[uint64, stream] // of files read in sequence
	chunks  *chunkCache
	pusher  pusher
	report  *reporter
}

// settings is what Options come to.
type settings struct {
	owner      uint32 // of the server's own directories
	group      uint32
	uid, gid   *uint32
	umask      uint32
	xattrs     bool
	acls       bool // the kernel enforces ACLs
	hideACLs   bool // they speak of other owners than those shown
	stricter   bool // files with ACLs get the mode that allows no more than the ACL
	enclosed   bool // snapshot directories are no more open than the directories above their source
	pageBytes  int64
	chunkBytes int64
}

func newServer(ctx context.Context, src source, v *view, show filter, how settings, log *slog.Logger) *server {
	s := &server{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		ctx:           ctx,
		src:           src,
		how:           how,
		show:          show,
		trees:         newTrees(src, how),
		nodes:         newLRU[uint64, node](keptNodes),
		parents:       newLRU[uint64, uint32](keptParents),
		streams:       newLRU[uint64, stream](keptStreams),
		chunks:        newChunkCache(ctx, src, how.chunkBytes),
		report:        newReporter(log),
	}
	s.pusher.server = s
	s.view.Store(v)
	return s
}

// Init keeps the way to the kernel's caches.
func (s *server) Init(kernel *fuse.Server) { s.pusher.kernel = kernel }

// close ends what runs in the background.
func (s *server) close() {
	s.pusher.close()
	s.chunks.close()
}

// String names the file system.
func (s *server) String() string { return fsType }

// GetAttr answers stat.
func (s *server) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.AttrValid = forever
	return s.stat(in.NodeId, &out.Attr)
}

func (s *server) stat(id uint64, out *fuse.Attr) fuse.Status {
	if slot, _ := splitID(id); slot == 0 {
		return s.ownAttr(id, out)
	}
	n, err := s.node(id)
	if err != nil {
		return s.fail("stat", id, err)
	}
	s.attr(out, id, &n)
	return fuse.OK
}

// Statx answers statx with the birth time, which GetAttr has no place for.
func (s *server) Statx(_ <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	var a fuse.Attr
	if st := s.stat(in.NodeId, &a); !st.Ok() {
		return st
	}
	out.AttrValid = forever
	fillStatx(&out.Statx, &a)
	if slot, _ := splitID(in.NodeId); slot == 0 {
		return fuse.OK
	}
	if n, err := s.node(in.NodeId); err == nil && n.Btime != (snapshot.Time{}) {
		out.Mask |= statxBtime
		out.Btime = fuse.SxTime{Sec: uint64(n.Btime.Sec), Nsec: n.Btime.Nsec}
	}
	return fuse.OK
}

// Forget takes references back.
func (s *server) Forget(id, n uint64) {
	slot, _ := splitID(id)
	v := s.view.Load()
	if sh := v.bySlot[slot]; sh != nil && sh.refs.Add(-int64(n)) <= 0 && !v.lists(sh) {
		s.unpin(sh)
	}
}

// StatFs tells the totals of what is shown.
func (s *server) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	v := s.view.Load()
	*out = fuse.StatfsOut{
		Bsize:   blockSize,
		Frsize:  blockSize,
		Blocks:  (v.bytes + blockSize - 1) / blockSize,
		Files:   v.entries,
		NameLen: nameMax,
	}
	return fuse.OK
}

// refresh shows the present state of the store and returns what changed in the server's own directories.
func (s *server) refresh(ctx context.Context) ([]changedEntry, error) {
	state, err := s.src.State(ctx)
	if err != nil {
		return nil, err
	}
	s.change.Lock()
	old := s.view.Load()
	now := newView(state, s.show, old)
	s.view.Store(now)
	s.change.Unlock()
	if old == nil {
		return nil, nil
	}
	for _, sh := range old.bySlot {
		if !now.lists(sh) {
			s.unpin(sh)
		}
	}
	return changes(old, now), nil
}

// pin takes the first reference's pin on a snapshot, which the store's session keeps.
func (s *server) pin(sh *shown) error {
	sh.usage.mu.Lock()
	defer sh.usage.mu.Unlock()
	if sh.pinned {
		return nil
	}
	if err := s.src.Pin(s.ctx, sh.ID); err != nil {
		return err
	}
	sh.pinned = true
	return nil
}

// unpin lets a snapshot go that is not shown any more and that the kernel does not refer to: its space can be given back.
func (s *server) unpin(sh *shown) {
	sh.usage.mu.Lock()
	defer sh.usage.mu.Unlock()
	if sh.pinned && sh.refs.Load() <= 0 && s.src.Unpin(s.ctx, sh.ID) == nil {
		sh.pinned = false
	}
}

// seconds of a time as the kernel takes them: before 1970 in two's complement.
func seconds(t time.Time) (uint64, uint32) {
	if t.IsZero() {
		return 0, 0
	}
	return uint64(t.Unix()), uint32(t.Nanosecond())
}
