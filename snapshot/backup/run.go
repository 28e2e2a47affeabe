package backup

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/store"
)

// run is one backup of a tree.
type run struct {
	o       *Options
	repo    repository
	pageKey [32]byte
	plan    *plan
	job     *job
	base    *snapshot.Tree // the parent; nil if there is none
	extra   *snapshot.Tree // the partial of an interrupted run after it; nil if there is none
	now     func() time.Time
	hooks   hooks
	damaged damagedBlobs
	mending *mending // set if nothing but lost blobs is wanted of the run

	fds                *descriptors
	fs                 *fileSystems
	owners             owners
	storeDev, storeIno uint64

	sched     *scheduler
	gate      *gate
	work      chan work
	ahead     atomic.Int32 // files open before their turn
	maxAhead  int32
	large     *largeQueue
	blocks    chan *block
	blockSize int

	batchFiles int
	nodes      *sharedWriter
	links      *links
	workers    []*worker
	top        *dirTask        // where the walk begins
	root       *snapshot.Entry // what it ends with
	count      counters
	activity   activity
	saved      int64 // bytes read before the last partial

	mu     sync.Mutex
	errs   []snapshot.FileError
	warned map[string]bool
}

// hooks let tests act between the steps of reading a file, by its name.
type hooks struct {
	begun  func(*run)              // before anything is read
	before func(name string)       // it is opened
	fail   func(name string) error // instead of opening it
	read   func(name string)       // its content has been read
	done   func(name string)       // its entry is complete

	batchFiles int            // in place of the constant
	patience   time.Duration  // in place of partialPatience
	mounts     func() []mount // in place of the kernel's list
}

func (h *hooks) opening(name string) error {
	if h.before != nil {
		h.before(name)
	}
	if h.fail != nil {
		return h.fail(name)
	}
	return nil
}

func (h *hooks) wasRead(name string) {
	if h.read != nil {
		h.read(name)
	}
}

func (h *hooks) isDone(name string) {
	if h.done != nil {
		h.done(name)
	}
}

const (
	walkers    = 4   // more than cores: on cold disks they wait
	readers    = 2   // of large files
	maxDirFDs  = 200 // at a time, of those that are not in use
	maxAhead   = 512 // files open before their turn; of more than those the content is fetched as well, but they are opened again
	queuedWork = 8   // batches or chunks waiting for a worker
)

func newRun(o *Options, j *job, p *plan) *run {
	repo := j.repo
	n := o.Workers
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	r := &run{
		o: o, job: j, repo: repo, plan: p, damaged: j.damaged, base: j.base, extra: j.partial, pageKey: repo.PageKey(), now: time.Now,
		fds: newDescriptors(shareOfDescriptors(maxDirFDs)), maxAhead: int32(shareOfDescriptors(maxAhead)), sched: newScheduler(walkers), gate: newGate(),
		work: make(chan work, queuedWork), large: newLargeQueue(),
		blocks:  newBlocks(n + readers),
		links:   newLinks(snapshot.NewLinkWriter(repo.PageKey(), "")),
		workers: make([]*worker, n), warned: map[string]bool{},
	}
	r.nodes = &sharedWriter{w: r.newWriter()}
	r.batchFiles = batchFiles
	r.blockSize = 3 * alignUp(repo.newCutter().Params().Max)
	var st unix.Stat_t
	if unix.Stat(repo.Dir(), &st) == nil {
		r.storeDev, r.storeIno = st.Dev, st.Ino
	}
	return r
}

// shareOfDescriptors is how many descriptors may be open for one purpose: an eighth of what the process may have, and at most so many.
// The store's files, and directories in use, need the others.
func shareOfDescriptors(most int) int {
	var rl unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &rl) == nil {
		most = int(min(uint64(most), max(rl.Cur/8, 4)))
	}
	return most
}

// report counts a path that exists and could not be read.
func (r *run) report(op, path string, err error) {
	r.count.errors.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.errs) < snapshot.MaxErrors {
		r.errs = append(r.errs, snapshot.FileError{Path: path, Error: err.Error()})
	}
	if r.o.OnError != nil {
		r.o.OnError(&snapshot.PathError{Op: op, Path: path, Err: err})
	}
}

func (r *run) warn(msg string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.o.Warn != nil {
		r.o.Warn(msg)
	}
}

// warnOnce is warn for what may happen in every directory.
func (r *run) warnOnce(kind, msg string) {
	r.mu.Lock()
	before := r.warned[kind]
	r.warned[kind] = true
	r.mu.Unlock()
	if !before {
		r.warn(msg)
	}
}

// giveXattrs puts a set of attributes into an entry.
func (r *run) giveXattrs(ctx context.Context, e *snapshot.Entry, set []snapshot.Xattr) error {
	if len(set) == 0 || r.o.DryRun {
		return nil
	}
	r.noteXattrs(set)
	return snapshot.WriteXattrs(ctx, r.nodes, e, set)
}

func (r *run) noteXattrs(set []snapshot.Xattr) {
	for _, x := range set {
		r.count.xattrs.Or(uint32(snapshot.KindOfXattr(x.Name)))
	}
}

// walk scans and reads everything; when it returns nothing of it is running any more. When ctx ends, the work goes on
// until a partial is committed, if there is something worth keeping.
func (r *run) walk(ctx context.Context) error {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer r.fds.closeAll()
	err := r.begin(inner)
	if r.top != nil {
		defer r.fds.release(r.top.dir)
	}
	if err != nil {
		return err
	}
	g, work := errgroup.WithContext(inner)
	stop := context.AfterFunc(work, func() {
		r.sched.end()
		r.large.end()
		r.gate.abandon()
	})
	defer stop()
	for i := range r.workers {
		r.workers[i] = newWorker(work, r)
		g.Go(r.workers[i].loop)
	}
	g.Go(func() error { return r.scan(work) })
	done := make(chan struct{})
	ticks := r.tick(done)
	var partials errgroup.Group
	partials.Go(func() error {
		r.partials(ctx, inner, done)
		cancel() // done, or interrupted
		return nil
	})
	err = g.Wait()
	for job := range r.work { // what nobody took any more
		job.discard()
	}
	close(done)
	err = errors.Join(err, partials.Wait(), ticks())
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// scan runs walkers and readers to the end of the walk, after which the workers run dry.
func (r *run) scan(ctx context.Context) error {
	defer close(r.work)
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() { // one has failed: the others may be waiting for it
		r.sched.end()
		r.large.end()
	})
	defer stop()
	for i := range walkers {
		g.Go(newWalker(ctx, r, i).loop)
	}
	for range readers {
		g.Go(newReader(ctx, r).loop)
	}
	return g.Wait()
}

// begin makes the first task.
func (r *run) begin(ctx context.Context) error {
	r.fs = newFileSystems(tablesOf(r.base), tablesOf(r.extra))
	if r.hooks.mounts != nil {
		r.fs.mounts = r.hooks.mounts
	}
	p := r.plan
	fd, err := openDirectory(unix.AT_FDCWD, appendName(nil, p.root), true)
	if err != nil {
		r.report("open", p.root, err)
		return r.nothingSaved()
	}
	t := &dirTask{dir: &dir{path: p.root, follow: true, fd: -1}}
	if err := statxFD(fd, &t.st); err != nil {
		unix.Close(fd)
		return &snapshot.PathError{Op: "stat", Path: p.root, Err: err}
	}
	t.dir.ino, t.dir.dev = t.st.Ino, devOf(&t.st)
	r.fds.adopt(t.dir, fd) // open to the end of the walk: its path may lead elsewhere by then
	r.top = t
	t.fs = r.fs.of(t.dir.dev, func() string { return p.root }, true)
	t.scope = scope{sel: p.sel, onlySel: !p.sel.whole, source: p.source, top: p.source != nil, contents: true, device: t.dir.dev}
	t.avoid = r.snapfsMounts(p.root)
	if r.base != nil {
		t.base = r.base.Root()
	}
	if r.extra != nil {
		t.extra = r.extra.Root()
	}
	r.attributes(ctx, t, r.now())
	if !p.single && p.root != "/" { // a single file: the root of its snapshot is "/"
		if t.attributes, err = r.entryAt("/"); err != nil {
			return err
		}
		t.given = true
	}
	r.sched.push(0, t)
	return nil
}

// snapfsMounts is a tree of the mounts of snapfs below dir.
func (r *run) snapfsMounts(dir string) *selection {
	all := &selection{}
	found := false
	for _, m := range r.fs.mounts() {
		if m.fsType == snapfsType && m.path != dir && below(m.path, dir) {
			all.make(m.path[len(dir):]).whole = true
			found = true
		}
	}
	if !found {
		return nil
	}
	return all
}

func tablesOf(t *snapshot.Tree) []snapshot.FileSystem {
	if t == nil {
		return nil
	}
	return t.Manifest().FileSystems
}

// tick reports progress until done is closed; the function it returns waits for that.
func (r *run) tick(done <-chan struct{}) (wait func() error) {
	var g errgroup.Group
	if r.o.Progress != nil {
		g.Go(func() error {
			t := time.NewTicker(250 * time.Millisecond)
			defer t.Stop()
			for {
				select {
				case <-t.C:
					r.o.Progress(r.count.progress())
				case <-done:
					return nil
				}
			}
		})
	}
	return g.Wait
}

// flush hands on what all writers hold. Only while nothing else uses them.
func (r *run) flush(ctx context.Context) error {
	for _, w := range r.workers {
		if w != nil {
			if err := w.w.Flush(ctx); err != nil {
				return err
			}
		}
	}
	r.nodes.mu.Lock()
	defer r.nodes.mu.Unlock()
	return r.nodes.w.Flush(ctx)
}

// stored is by how much the volumes have grown.
func (r *run) stored() int64 {
	r.nodes.mu.Lock()
	defer r.nodes.mu.Unlock()
	n := r.nodes.w.Stats().StoredBytes
	for _, w := range r.workers {
		if w != nil {
			n += w.w.Stats().StoredBytes
		}
	}
	return n
}

// commit stores the manifest and makes the snapshot real. Only while nothing else uses the Writers.
func (r *run) commit(ctx context.Context, m *snapshot.Manifest, partial bool) (store.Snapshot, error) {
	j := r.job
	m.Name = j.name()
	if m.End = time.Now(); m.End.Before(m.Start) {
		m.End = m.Start
	}
	id, err := snapshot.WriteManifest(ctx, r.nodes, m)
	if err != nil {
		return store.Snapshot{}, err
	}
	if err := r.flush(ctx); err != nil {
		return store.Snapshot{}, err
	}
	kinds := snapshot.XattrKinds(r.count.xattrs.Load()) | j.parentXattrs()
	sum := snapshot.Summary{
		Host: m.Host, User: m.User, Paths: m.Paths, Parent: m.Parent, End: m.End, Offset: m.Offset,
		Entries: m.Totals.Entries, Bytes: m.Totals.Bytes, BytesStored: uint64(r.stored()), Errors: m.ErrorCount,
		Single: m.Single, HasXattrs: kinds != 0, XattrKinds: kinds, Program: m.Program,
		Activity: r.figures(),
	}
	return r.repo.Commit(ctx, store.Commit{
		Dataset: j.dataset, Snapshot: id, Name: m.Name, Start: m.Start, Tags: m.Tags, Summary: sum.Encode(), Partial: partial,
	})
}
