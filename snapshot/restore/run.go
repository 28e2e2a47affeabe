package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/store"
)

// namer gives content the ID it has in the store.
type namer interface {
	BlobID(kind store.Kind, data []byte) store.ID
}

// run is one restore.
type run struct {
	Options
	ctx    context.Context
	cancel context.CancelCauseFunc
	reader Reader
	namer  namer // nil: chunks are compared byte by byte
	tree   *snapshot.Tree

	euid, egid uint32
	owner      owner
	umask      uint32
	chooser    *chooser
	storeAt    inode   // the store's directory; zero: none is there
	keep       *keeper // what Delete must leave alone
	dest       *destination
	folders    *folders
	passage    *passage // nil: everything can be read at any time
	doubt      bool     // it is not certain that this is the wanted snapshot: nothing is deleted yet
	firsts     *firsts
	written    *positions // for Verify; nil without
	buffers    sync.Pool  // of *[]byte
	behind     behind

	uppers    []upper
	flushing  sync.Mutex
	unwritten error // of a flush

	count  counters
	total  Progress
	notify sync.Mutex // one callback at a time
	told   atomic.Int64

	mu     sync.Mutex
	relink sync.Mutex       // see separate
	kept   map[inode]uint32 // what has several names and is left as it is: the rank of the linked file
	open   []*folder        // folders that were made writable
	late   []uint32         // positions of linked files whose locking flags wait for the end
}

type counters struct {
	entries, done, written, equal, deleted, bytes, bytesWritten, skipped, errors, damaged atomic.Int64
}

func newRun(ctx context.Context, r Reader, tree *snapshot.Tree, o Options) (*run, error) {
	if o.Workers <= 0 {
		o.Workers = 2 * runtime.GOMAXPROCS(0)
	}
	if o.namesAtOnce <= 0 {
		o.namesAtOnce = 1 << 16
	}
	if o.flushEvery <= 0 {
		o.flushEvery = flushEvery
	}
	if o.syncfs == nil {
		o.syncfs = unix.Syncfs
	}
	ctx, cancel := context.WithCancelCause(ctx)
	n, _ := r.(namer)
	run := &run{Options: o, ctx: ctx, cancel: cancel, reader: r, namer: n, tree: tree,
		euid: uint32(os.Geteuid()), egid: uint32(os.Getegid()), umask: umask(), owner: thisProcess(), folders: newFolders(o.openDirs, o.oneByOne),
		kept: map[inode]uint32{}}
	run.buffers.New = func() any { return new([]byte) }
	if err := run.prepare(); err != nil {
		run.close()
		return nil, err
	}
	return run, nil
}

// prepare finds out what to restore to where, and refuses what must be refused; the destination is made last.
func (r *run) prepare() (err error) {
	if r.chooser, err = newChooser(r.Include, r.Exclude); err != nil {
		return err
	}
	dest, err := planDestination(r.ctx, r.tree, &r.Options)
	if err != nil {
		return err
	}
	r.total.EntriesTotal, r.total.BytesTotal = dest.totals(r.tree.Manifest())
	if r.Store != "" {
		if err := store.CheckOutside(r.Store, dest.root); err != nil {
			return err
		}
		var st unix.Stat_t
		if unix.Stat(r.Store, &st) == nil {
			r.storeAt = inode{uint64(st.Dev), st.Ino}
			r.Protect = append(slices.Clone(r.Protect), r.Store)
		}
	}
	if r.Delete {
		if r.keep, err = newKeeper(r.tree.Manifest(), r.Protect); err != nil {
			return err
		}
		if err := r.mayDelete(dest); err != nil {
			return err
		}
	}
	if r.Verify {
		r.written = &positions{}
	}
	r.firsts = newFirsts(r.tree.Manifest().Links, r.Scratch)
	r.dest = dest
	if from, ok := r.reader.(Passing); ok {
		r.doubt = r.Delete && !from.Certain()
		if from.Passes() {
			r.passage = newPassage(r, from)
		}
	}
	if err := r.openDestination(); err != nil || r.passage == nil {
		return err
	}
	return r.passage.begin()
}

func (r *run) close() {
	r.behind.close()
	if r.ctx.Err() != nil {
		r.lockUp()
	}
	for _, u := range r.uppers {
		unix.Close(u.fd)
	}
	r.folders.closeAll()
	if r.dest != nil {
		r.dest.done()
	}
	if r.firsts != nil {
		r.firsts.close()
	}
	if r.passage != nil {
		r.passage.close()
	}
	r.cancel(nil)
}

// restore runs the scan and, beside it, the work on windows of what it finds.
func (r *run) restore() error {
	windows := make(chan *window)
	flush := make(chan struct{}, 1)
	var g errgroup.Group
	g.Go(func() error {
		defer close(windows)
		r.scan(windows)
		return nil
	})
	g.Go(func() error {
		defer close(flush)
		flushed := int64(0)
		for w := range windows {
			r.execute(w)
			if n := r.count.bytesWritten.Load(); n-flushed > r.flushEvery {
				flushed = n
				select {
				case flush <- struct{}{}:
				default: // the disk is busy with the last one
				}
			}
		}
		return nil
	})
	g.Go(func() error {
		for range flush {
			_ = r.flush() // errors come again at the end
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return err
	}
	if r.passage != nil {
		if err := r.passage.finish(); err != nil {
			return err
		}
	}
	return r.settle()
}

// settle does what comes after everything else: late flags, the sync, the verification.
func (r *run) settle() error {
	if err := r.cause(); err != nil {
		return err
	}
	if r.doubt {
		r.fail("delete", r.dest.root, ErrDoubt)
	}
	if r.DryRun {
		return nil
	}
	r.setLateFlags()
	r.finishUppers()
	if err := r.sync(); err != nil {
		return err
	}
	if r.Verify {
		r.verify()
	}
	r.progress("", true)
	return r.cause()
}

// cause is why the run must end; nil while it may go on.
func (r *run) cause() error {
	if r.ctx.Err() == nil {
		return nil
	}
	return context.Cause(r.ctx)
}

// sync brings every file system that was written to onto stable storage, in one step each: a sync per file would cost
// many times the restore itself, and a restore that was interrupted is run again anyway.
func (r *run) sync() error {
	if r.count.written.Load() == 0 && r.count.deleted.Load() == 0 {
		return nil
	}
	if err := r.flush(); err != nil {
		return fmt.Errorf("sync %s: %w", r.dest.root, err)
	}
	return nil
}

// flushEvery bytes written, a sync is begun beside the work, so that the disk is not idle until the end.
const flushEvery = 256 << 20

// flush brings what was written to the disk. That the disk refused something the kernel tells once: the error stays for all later calls.
func (r *run) flush() error {
	r.flushing.Lock()
	defer r.flushing.Unlock()
	r.mu.Lock()
	fds := slices.Clone(r.dest.syncs)
	r.mu.Unlock()
	for _, fd := range fds {
		if err := again(func() error { return r.syncfs(fd) }); err != nil && r.unwritten == nil {
			r.unwritten = err
		}
	}
	return r.unwritten
}

// fail counts and reports a path that could not be restored. Errors that every other path would meet as well end the run.
func (r *run) fail(op, path string, err error) {
	if r.ctx.Err() != nil {
		return
	}
	e := &snapshot.PathError{Op: op, Path: path, Err: err}
	r.count.errors.Add(1)
	if damaged(err) {
		r.count.damaged.Add(1)
	}
	if r.OnError != nil {
		r.notify.Lock()
		r.OnError(e)
		r.notify.Unlock()
	}
	if end := ending(err); end != nil {
		r.cancel(fmt.Errorf("%w: %w", end, e))
	}
}

// did counts and reports what was done with an entry.
func (r *run) did(f *folder, name string, action Action) {
	switch action {
	case ActionWrite:
		r.count.written.Add(1)
	case ActionEqual, ActionAttributes:
		r.count.equal.Add(1)
	case ActionDelete:
		r.count.deleted.Add(1)
	}
	if r.OnItem != nil {
		r.notify.Lock()
		r.OnItem(Item{Path: r.path(f, name), Action: action})
		r.notify.Unlock()
	}
}

// path is the absolute path of a name in a folder ("" for the folder itself), for people.
func (r *run) path(f *folder, name string) string { return path.Join(r.dest.root, f.rel(), name) }

// below is the path of a name in a folder relative to the restored Path.
func (f *folder) below(name string) string {
	rel := f.rel()
	if rel == "" || name == "" {
		return rel + name
	}
	return rel + "/" + name
}

// progress reports at most five times a second, or now.
func (r *run) progress(current string, now bool) {
	if r.Progress == nil {
		return
	}
	last, t := r.told.Load(), time.Now().UnixMilli()
	if !now && (t-last < 200 || !r.told.CompareAndSwap(last, t)) {
		return
	}
	p := r.total
	p.Entries, p.Bytes, p.Current = r.count.done.Load(), r.count.bytes.Load(), current
	r.notify.Lock()
	r.Progress(p)
	r.notify.Unlock()
}

func (r *run) result() *Result {
	c := &r.count
	return &Result{Entries: c.entries.Load(), Written: c.written.Load(), Equal: c.equal.Load(), Deleted: c.deleted.Load(),
		BytesWritten: c.bytesWritten.Load(), SkippedMetadata: c.skipped.Load(), Errors: c.errors.Load(), Damaged: c.damaged.Load()}
}

// umask reads the process's file mode mask without changing it for others, as umask(2) would; unreadable means "strictest".
func umask() uint32 {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0o777
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "Umask:"); ok {
			if v, err := strconv.ParseUint(strings.TrimSpace(rest), 8, 32); err == nil {
				return uint32(v)
			}
		}
	}
	return 0o777
}

// notThere reports an error that means "nothing has that name".
func notThere(err error) bool { return errors.Is(err, unix.ENOENT) }
