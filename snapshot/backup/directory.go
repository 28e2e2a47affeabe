package backup

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

// directory takes a name that is a directory: as a task of its own, or at once if its contents are not wanted.
func (w *walker) directory(c *candidate, avoid *selection, excluded bool) error {
	t := &dirTask{
		dir:    &dir{parent: c.t.dir, name: "", fd: -1, ino: c.st.Ino, dev: devOf(c.st)},
		parent: c.t, slot: c.slot, owner: w.id, depth: c.t.depth + 1,
		st: *c.st, fs: c.fs, base: c.base, extra: c.more,
		tried: c.tried, scope: w.scopeOf(c, avoid, excluded),
	}
	if c.base.Entry != nil {
		t.dir.name = c.base.Name
	} else {
		t.dir.name = string(c.text())
	}
	t.dir.follow = c.sel.follows()
	if t.extra.Entry != nil && t.extra.Type != snapshot.TypeDir {
		t.extra = snapshot.Found{}
	}
	w.r.attributes(w.ctx, t, w.now)
	if !t.contents {
		return w.empty(c, t, avoid != nil && avoid.whole)
	}
	c.t.pending.Add(1)
	c.t.window[c.slot].task = t
	w.tasks = append(w.tasks, t)
	return nil
}

// attributes prepares the directory's entry from its stat: the base's own if it is as it was.
func (r *run) attributes(ctx context.Context, t *dirTask, now time.Time) {
	had := t.base.Entry
	if had != nil && r.unchanged(had, &t.st) && had.FS == t.fs.index && !r.damaged.hit(ctx, r.base, had) {
		t.attributes = had
		return
	}
	if had == nil || had.FS != t.fs.index {
		t.differs = true // its pages say "the directory's file system" of entries on it
	}
	t.attributes = &snapshot.Entry{Name: t.dir.name}
	r.describe(t.attributes, &t.st, t.fs, now)
}

// scopeOf decides what is wanted of a directory.
func (w *walker) scopeOf(c *candidate, avoid *selection, excluded bool) scope {
	s := c.t.scope
	s.sel, s.avoid, s.top, s.contents = c.sel, avoid, false, true
	s.onlySel = c.sel != nil && !c.sel.whole && (c.t.onlySel || excluded)
	if c.sel != nil && c.sel.source != nil {
		s.source, s.top, s.device, s.ignore = c.sel.source, true, devOf(c.st), nil
	}
	if c.named() {
		s.device = devOf(c.st)
		return s
	}
	crossed := c.fs != c.t.fs
	closed := avoid != nil && avoid.whole ||
		c.st.Ino == w.r.storeIno && devOf(c.st) == w.r.storeDev ||
		crossed && (c.fs.pseudo || c.fs.snapfs) ||
		w.r.o.OneFileSystem && s.source != nil && devOf(c.st) != s.device
	switch {
	case closed && c.sel != nil:
		s.onlySel = true // a PATH lies behind it
	case closed:
		s.contents = false
	}
	return s
}

// empty completes a directory whose contents are not saved.
func (w *walker) empty(c *candidate, t *dirTask, untouched bool) error {
	e := t.attributes
	if e == t.base.Entry {
		if e.Dir == noNode {
			c.t.window[c.slot] = slot{entry: e, same: true}
			return nil
		}
		copied := *e
		e = &copied
	} else if !untouched && !c.fs.snapfs {
		set, err := w.r.xattrsAt(&w.xattr, c.fd, c.name)
		if err != nil {
			w.r.report("read attributes of", c.path(), err)
		} else if err := w.r.giveXattrs(w.ctx, e, set); err != nil {
			return err
		}
	}
	e.Dir, e.Totals = noNode, snapshot.Totals{}
	c.t.window[c.slot] = w.r.settle(t.base.Entry, e, true)
	return nil
}

// open opens a directory and reads its names. done says that it was completed otherwise.
func (w *walker) open(t *dirTask) (done bool, err error) {
	if t.parent == nil {
		if _, err := w.r.fds.acquire(t.dir); err != nil {
			return false, err
		}
		defer w.r.fds.release(t.dir)
		return false, w.list(t)
	}
	parent, err := w.r.fds.acquire(t.parent.dir)
	if err == nil {
		defer w.r.fds.release(t.parent.dir)
		var fd int
		if fd, err = openDirectory(parent, appendName(nil, t.dir.name), t.dir.follow); err == nil {
			w.r.fds.adopt(t.dir, fd)
			defer w.r.fds.release(t.dir)
			return false, w.list(t)
		}
	}
	if vanished(err) || err == unix.ELOOP {
		w.r.fds.drop(t.dir)
		return true, w.again(t.parent, t.candidate(err), t.dir.name)
	}
	w.r.report("open", t.path(), err)
	t.differs = true
	if t.attributes != t.base.Entry && parent >= 0 {
		set, err := w.r.xattrsAt(&w.xattr, parent, appendName(nil, t.dir.name))
		if err == nil {
			err = w.r.giveXattrs(w.ctx, t.attributes, set)
		}
		if err != nil && w.ctx.Err() != nil {
			return false, err
		}
	}
	return false, nil // goes on without names: an empty directory
}

// list reads what is wanted of an open directory: its attributes and its names.
func (w *walker) list(t *dirTask) error {
	w.r.count.at.Store(t.dir)
	fd := t.dir.fd
	if t.attributes != t.base.Entry && !t.given {
		if err := w.ownAttributes(t, fd); err != nil {
			return err
		}
	}
	names := &nameList{}
	if n := len(w.spare); n > 0 {
		names, w.spare = w.spare[n-1], w.spare[:n-1]
	}
	names.reset()
	if t.onlySel {
		for _, name := range t.sel.names() {
			names.add([]byte(name))
		}
	} else if err := names.read(fd, w.dents); err != nil {
		names.sort()
		if err == unix.EBADF { // it may only be passed, not read
			err = unix.EACCES
		}
		if !vanished(err) {
			w.r.report("read directory", t.path(), err)
			t.differs = true
		}
	}
	if w.r.o.ExcludeCaches && !t.top && names.find(cacheTag) && isCacheTag(fd) {
		names.reset()
		names.add([]byte(cacheTag))
	}
	if w.r.o.IgnoreFiles && t.source != nil {
		w.ignoreFiles(t, fd, names)
	}
	t.names = names
	return nil
}

func (w *walker) ownAttributes(t *dirTask, fd int) error {
	set, err := w.xattr.of(fd)
	if err == unix.EBADF { // a directory of a PATH that may only be passed
		set, err = w.r.xattrsAt(&w.xattr, fd, appendName(nil, "."))
	}
	if err != nil {
		w.r.report("read attributes of", t.path(), err)
		return nil
	}
	t.attributes.Flags = inodeFlags(fd, t.fs)
	return w.r.giveXattrs(w.ctx, t.attributes, set)
}

// candidate is what led to the directory, to look at its name again.
func (t *dirTask) candidate(why error) candidate {
	return candidate{slot: t.slot, base: t.base, more: t.extra, sel: t.sel, tried: t.tried, why: why}
}

// again looks at a name once more: it is no longer what it was when its directory was scanned.
func (w *walker) again(parent *dirTask, c candidate, name string) error {
	c.t = parent
	parent.window[c.slot] = slot{}
	fd, err := w.r.fds.acquire(parent.dir)
	if err == nil {
		defer w.r.fds.release(parent.dir)
		c.fd, c.name, c.st = fd, appendName(nil, name), &unix.Statx_t{}
		w.path, w.now = w.path[:0], w.r.now()
		if c.tried++; c.tried > maxTries && statxAt(fd, c.name, unix.AT_SYMLINK_NOFOLLOW, c.st) == nil {
			w.r.report("open", c.path(), c.why) // it is there, and has not let itself be read
		} else if err := w.look(&c); err != nil {
			return err
		}
		w.flush()
	} else if !w.r.unreached(parent, err) {
		w.r.report("open", parent.path(), err)
	}
	w.r.done(parent)
	return nil
}

// retry is again as a task of its own, for what is noticed outside the walk.
type retry struct {
	parent *dirTask
	c      candidate
	name   string
}

func (t *retry) run(w *walker) error { return w.again(t.parent, t.c, t.name) }
