package backup

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

// dirTask is a directory on its way into the snapshot. Its names are scanned in windows; one window's subdirectories
// and files must be complete before the next begins, so that a directory of any size is a stream. At any time one
// goroutine at most runs it; the completions of a window's slots are ordered by pending.
type dirTask struct {
	dir    *dir
	parent *dirTask
	slot   int    // in the parent's window
	owner  int    // walker whose stack it belongs to
	depth  uint32 // below the root of the walk
	tried  int    // how often its name has been something else than before

	st         unix.Statx_t
	fs         *fileSystem
	base       snapshot.Found  // the same directory in the parent snapshot; Entry nil if there is none
	extra      snapshot.Found  // in the partial of an interrupted run
	attributes *snapshot.Entry // base.Entry if they are as they were
	given      bool            // attributes are of another directory
	scope

	opened  bool
	names   *nameList
	next    int // first name of the next window
	window  []slot
	pending atomic.Int32
	lists   [2]lister // entries of base and of extra

	displaced atomic.Bool // its name led elsewhere when it was opened again: not all of it could be reached
	thinned   atomic.Bool // names vanished from it: it may have been removed

	listed  int // entries of base met so far
	kept    int // of them taken over as they are
	differs bool
	fed     int // names in windows before this one
	writer  *snapshot.DirWriter
}

// scope is what decides about the names in a directory.
type scope struct {
	sel      *selection
	onlySel  bool       // nothing but sel's children
	avoid    *selection // mounts of snapfs below
	source   *source    // the PATH it lies in
	top      bool       // it is that PATH itself
	device   uint64     // of the PATH, for --one-file-system
	ignore   *snapshot.Matcher
	contents bool // false: saved as an empty directory
}

// slot is the place of one name in a window.
type slot struct {
	entry *snapshot.Entry // nil: nothing is saved
	task  *dirTask        // the directory while it is under way
	same  bool            // entry is the base's
}

// path is the absolute path, for people.
func (t *dirTask) path() string { return t.dir.fullPath() }

func (d *dir) fullPath() string {
	var names []string
	for ; d.parent != nil; d = d.parent {
		names = append(names, d.name)
	}
	if len(names) == 0 {
		return d.path
	}
	slices.Reverse(names)
	return joinPath(d.path, strings.Join(names, "/"))
}

func joinPath(dir, name string) string {
	if strings.HasSuffix(dir, "/") {
		return dir + name
	}
	return dir + "/" + name
}

// relative returns the path below the PATH the directory lies in, with a slash at the end unless it is empty, in
// buf's memory if that has room for it and more.
func (t *dirTask) relative(buf []byte) []byte {
	n := 0
	for at := t; !at.top && at.parent != nil; at = at.parent {
		n += len(at.dir.name) + 1
	}
	buf = slices.Grow(buf[:0], n+maxName+1)[:n]
	for at := t; n > 0; at = at.parent {
		n--
		buf[n] = '/'
		n -= len(at.dir.name)
		copy(buf[n:], at.dir.name)
	}
	return buf
}

// maxName is the longest name of a file.
const maxName = 255

// complete fills a slot; the last one hands the directory back to its walker.
func (r *run) complete(t *dirTask, i int, s slot) {
	t.window[i] = s
	r.done(t)
}

// done is complete for a slot that is filled already.
func (r *run) done(t *dirTask) {
	if t.pending.Add(-1) == 0 {
		r.sched.push(t.owner, t)
	}
}

// walker is one goroutine of the scan with its buffers.
type walker struct {
	r   *run
	ctx context.Context
	id  int

	buffers
	dents []byte
	link  []byte
	path  []byte
	spare []*nameList
	tasks []task // children of the window being scanned
	base  []snapshot.Found
	extra []snapshot.Found
	gone  []snapshot.Found
	batch batch
	now   time.Time
	seen  counts
}

// counts are kept by each walker and added to the run's counters window by window.
type counts struct{ entries, files, bytes, unchanged int64 }

func (w *walker) flushCounts() {
	c := &w.r.count
	c.entries.Add(w.seen.entries)
	c.files.Add(w.seen.files)
	c.bytes.Add(w.seen.bytes)
	c.unchanged.Add(w.seen.unchanged)
	w.seen = counts{}
}

func newWalker(ctx context.Context, r *run, id int) *walker {
	return &walker{r: r, ctx: ctx, id: id, dents: make([]byte, 64<<10), link: make([]byte, 4097)}
}

// loop runs tasks until the walk ends.
func (w *walker) loop() error {
	for {
		t, ok := w.r.sched.pop(w.id, false)
		if ok && t == nil {
			// Directories may be waiting for just these files.
			if err := w.step(w.flushBatch); err != nil {
				return err
			}
			t, ok = w.r.sched.pop(w.id, true)
		}
		if !ok {
			return w.ctx.Err()
		}
		w.r.large.wait()
		if err := w.step(func() error { return t.run(w) }); err != nil {
			return err
		}
	}
}

// step does something that changes the tree.
func (w *walker) step(fn func() error) error {
	w.r.gate.enter()
	defer w.r.gate.leave()
	if err := w.ctx.Err(); err != nil {
		return err
	}
	return fn()
}

// run goes on with the directory: it opens it, or feeds the window that is complete, and scans the next.
func (t *dirTask) run(w *walker) error {
	t.owner = w.id
	if !t.opened {
		t.opened = true
		if done, err := w.open(t); done || err != nil {
			return err
		}
	}
	for {
		if t.window != nil {
			if err := w.feed(t); err != nil {
				return err
			}
		}
		if t.names == nil {
			return w.finish(t)
		}
		if err := w.scan(t); err != nil {
			return err
		}
		if t.pending.Add(-1) != 0 {
			return nil // whoever completes the last slot pushes it again
		}
	}
}

// windowSize keeps what all open windows of a deep tree hold together within bounds.
func (t *dirTask) windowSize() int { return max(64, 4096/(1+int(t.depth)/16)) }

// scan looks at the next window of names. It leaves pending one too high, for the caller.
func (w *walker) scan(t *dirTask) error {
	from, to := t.next, min(t.names.len(), t.next+t.windowSize())
	t.next = to
	t.window = make([]slot, to-from)
	t.pending.Store(1)
	if err := w.merge(t, from, to); err != nil {
		return err
	}
	fd := -1
	if to > from {
		var err error
		if fd, err = w.r.fds.acquire(t.dir); err != nil {
			w.lost(t, err)
			return nil
		}
		defer w.r.fds.release(t.dir)
	}
	w.path = w.path[:0]
	w.now = w.r.now()
	for i := range t.window {
		if err := w.visit(t, i, fd, t.names.at(from+i)); err != nil {
			return err
		}
	}
	if to == t.names.len() {
		w.forget(t)
	}
	w.flush()
	return nil
}

// flush hands on what looking at names has gathered.
func (w *walker) flush() {
	w.flushCounts()
	w.r.sched.push(w.id, w.tasks...)
	clear(w.tasks)
	w.tasks = w.tasks[:0]
	for _, f := range w.gone {
		w.removed(f)
	}
	clear(w.gone)
	w.gone = w.gone[:0]
}

// forget ends the use of a directory's names.
func (w *walker) forget(t *dirTask) {
	w.spare = append(w.spare, t.names)
	t.names, t.lists = nil, [2]lister{}
}

// lost ends a directory that cannot be reached any more: it was moved or removed, or an error says why.
func (w *walker) lost(t *dirTask, err error) {
	if !w.r.unreached(t, err) {
		w.r.report("open", t.path(), err)
	}
	w.forget(t)
	w.gone = w.gone[:0]
	t.differs = true
}

// unreached notes that a directory could not be reached, and reports whether that is for another one in its place, or none.
func (r *run) unreached(t *dirTask, err error) bool {
	if !vanished(err) {
		return false
	}
	t.displaced.Store(true)
	return true
}

// replaced reports whether there is a directory again in the place of one that could not be reached to its end, or was removed: that
// is the one to save. Of one that was moved away what was read is kept.
func (w *walker) replaced(t *dirTask) bool {
	if t.parent == nil {
		if statxFD(t.dir.fd, &w.st) == nil && w.st.Nlink == 0 { // a PATH that is not there is an error
			w.r.report("read directory", t.path(), unix.ENOENT)
		}
		return false
	}
	fd, err := w.r.fds.acquire(t.parent.dir)
	if err != nil {
		w.r.unreached(t.parent, err)
		return false
	}
	defer w.r.fds.release(t.parent.dir)
	flags := unix.AT_SYMLINK_NOFOLLOW
	if t.dir.follow {
		flags = 0
	}
	if statxAt(fd, appendName(nil, t.dir.name), flags, &w.st) != nil || typeOf(w.st.Mode) != snapshot.TypeDir {
		return false
	}
	if !t.displaced.Load() && w.st.Ino == t.dir.ino && devOf(&w.st) == t.dir.dev {
		return false
	}
	if t.tried < maxTries {
		return true
	}
	w.r.report("read directory", t.path(), unix.ESTALE)
	return false
}

// feed hands a complete window to the directory's writer; as long as everything is as in the base there is none.
func (w *walker) feed(t *dirTask) error {
	kept := 0
	for i := range t.window {
		if t.window[i].same {
			kept++
		} else if t.window[i].entry != nil {
			t.differs = true
		}
	}
	before := t.kept
	t.kept += kept
	if t.kept != t.listed {
		t.differs = true
	}
	if t.differs && !w.r.o.DryRun {
		if t.writer == nil {
			t.writer = snapshot.NewDirWriter(w.r.nodes, w.r.pageKey, t.fs.index)
			if err := w.replay(t, before); err != nil {
				return err
			}
		}
		for i := range t.window {
			if e := t.window[i].entry; e != nil {
				if err := t.writer.Add(w.ctx, e); err != nil {
					return err
				}
			}
		}
	}
	t.fed += len(t.window)
	t.window = nil
	return nil
}

// replay gives a new writer the first n entries of the base: those of earlier windows, where nothing differed.
func (w *walker) replay(t *dirTask, n int) error {
	if n == 0 {
		return nil
	}
	var addErr error
	err := w.r.base.List(w.ctx, t.base, 0, func(f snapshot.Found) bool {
		addErr = t.writer.Add(w.ctx, f.Entry)
		n--
		return addErr == nil && n > 0
	})
	if addErr != nil {
		return addErr
	}
	return err
}

// finish makes the directory's entry and gives it to the parent, or ends the walk.
func (w *walker) finish(t *dirTask) error {
	w.r.fds.drop(t.dir)
	if (t.displaced.Load() || t.thinned.Load()) && w.replaced(t) {
		return w.again(t.parent, t.candidate(unix.ESTALE), t.dir.name)
	}
	s, err := w.entryOf(t)
	if err != nil {
		return err
	}
	if t.parent == nil {
		w.r.root = s.entry
		w.r.sched.end()
		w.r.large.end()
		return nil
	}
	w.r.complete(t.parent, t.slot, s)
	return nil
}

func (w *walker) entryOf(t *dirTask) (slot, error) {
	had := t.base.Entry
	if had != nil && !t.differs && t.listed == t.kept {
		if t.attributes == had {
			return slot{entry: had, same: true}, nil
		}
		t.attributes.Dir, t.attributes.Totals = had.Dir, had.Totals
	} else {
		if t.attributes == had {
			e := *had
			t.attributes = &e
		}
		t.attributes.Dir, t.attributes.Totals = noNode, snapshot.Totals{}
		if t.writer != nil {
			var err error
			if t.attributes.Dir, t.attributes.Totals, err = t.writer.Finish(w.ctx); err != nil {
				return slot{}, err
			}
			t.writer = nil
		}
	}
	return w.r.settle(had, t.attributes, !t.onlySel), nil
}

// settle compares a finished directory entry with the base's. Directories above the PATHs do not count.
func (r *run) settle(had, e *snapshot.Entry, counts bool) slot {
	if had == nil || !sameEntry(had, e) {
		if counts {
			r.count.dirs.Add(1)
		}
		return slot{entry: e}
	}
	if had.Fresh == e.Fresh {
		return slot{entry: had, same: true}
	}
	return slot{entry: e}
}
