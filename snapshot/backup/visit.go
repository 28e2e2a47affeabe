package backup

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/store"
)

var noNode store.ID

// vanished reports whether an error means that the file is simply not there any more.
func vanished(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE) || errors.Is(err, unix.ENOTDIR)
}

// candidate is a name of a window with all that is known of it.
type candidate struct {
	t    *dirTask
	slot int
	fd   int // of the directory
	name cname
	st   *unix.Statx_t
	fs   *fileSystem
	base snapshot.Found
	more snapshot.Found // in the interrupted run's partial
	sel  *selection

	tried int   // how often it has been something else than before
	why   error // of the last time
}

// text is the name without its NUL.
func (c *candidate) text() []byte { return c.name[:len(c.name)-1] }

func (c *candidate) path() string { return joinPath(c.t.path(), string(c.text())) }

func (c *candidate) named() bool { return c.sel != nil && c.sel.named }

// visit looks at one name and fills its slot, or sends it on its way.
func (w *walker) visit(t *dirTask, i, fd int, name cname) error {
	c := candidate{t: t, slot: i, fd: fd, name: name, st: &w.st, base: w.base[i], more: w.extra[i]}
	if t.sel != nil {
		c.sel = t.sel.children[string(c.text())]
	}
	return w.look(&c)
}

// look is visit for a prepared candidate.
func (w *walker) look(c *candidate) error {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if c.sel.follows() {
		flags &^= unix.AT_SYMLINK_NOFOLLOW
	}
	avoid := c.t.avoid.child(unsafe.String(unsafe.SliceData(c.name), len(c.name)-1))
	if avoid != nil && avoid.whole {
		flags |= unix.AT_STATX_DONT_SYNC // no question to the mount's server
	}
	if err := statxAt(c.fd, c.name, flags, c.st); err != nil {
		w.unseen(c, err)
		return nil
	}
	typ := typeOf(c.st.Mode)
	excluded := w.excluded(c, typ)
	if typ == 0 || excluded && (c.sel == nil || typ != snapshot.TypeDir) {
		if c.base.Entry != nil {
			w.gone = append(w.gone, c.base)
		}
		return nil
	}
	w.seen.entries++
	c.fs = c.t.fs
	if dev := devOf(c.st); dev != c.fs.dev {
		c.fs = w.r.fs.of(dev, func() string {
			return c.path()
		}, typ == snapshot.TypeDir)
	}
	if had := c.base.Entry; had != nil && (had.Type == snapshot.TypeDir) != (typ == snapshot.TypeDir) {
		w.gone = append(w.gone, c.base)
		c.t.differs = true
		c.base = snapshot.Found{}
	}
	if typ == snapshot.TypeDir {
		return w.directory(c, avoid, excluded)
	}
	if typ == snapshot.TypeFile {
		w.seen.files++
		w.seen.bytes += int64(c.st.Size)
	}
	if c.st.Nlink > 1 {
		return w.linked(c)
	}
	return w.single(c)
}

// unseen deals with a name that statx fails on.
func (w *walker) unseen(c *candidate, err error) {
	switch {
	case !vanished(err):
		w.r.report("stat", c.path(), err)
		return
	case c.sel != nil:
		w.r.missing(c.sel, c.path(), err)
	}
	c.t.thinned.Store(true)
	if c.base.Entry != nil {
		w.gone = append(w.gone, c.base)
	}
}

// missing reports what was asked for by name at or below a path that is not there.
func (r *run) missing(s *selection, path string, err error) {
	if s.named {
		r.report("open", path, err)
	}
	for _, name := range s.names() {
		r.missing(s.children[name], joinPath(path, name), err)
	}
}

// single takes a name that is the only one of its inode, and no directory.
func (w *walker) single(c *candidate) error {
	had := w.r.follow(w.ctx, w.r.base, c.base)
	if w.r.unchanged(had, c.st) && !w.hurt(w.r.base, had) {
		w.seen.unchanged++
		c.t.window[c.slot] = w.taken(c, had)
		return nil
	}
	if w.r.o.DryRun {
		w.r.countNew(had == nil)
		return nil
	}
	if w.r.extra != nil {
		if e := w.r.follow(w.ctx, w.r.extra, c.more); w.r.unchanged(e, c.st) && !w.hurt(w.r.extra, e) {
			s := w.taken(&candidate{t: c.t, name: c.name, fs: c.fs}, e)
			c.t.window[c.slot] = w.r.counted(had, s.entry)
			return nil
		}
	}
	e := &snapshot.Entry{Name: string(c.text())}
	w.r.describe(e, c.st, c.fs, w.now)
	job := w.newJob(c, e, had)
	if e.Type == snapshot.TypeFile {
		c.t.pending.Add(1)
		return w.queue(job)
	}
	if err := w.special(c, e); err != nil {
		w.unseen(c, err)
		return nil
	}
	c.t.window[c.slot] = w.r.counted(had, e)
	return nil
}

// taken makes the slot of an entry that is as it was: the base's own, unless it stands differently now.
func (w *walker) taken(c *candidate, had *snapshot.Entry) slot {
	if c.base.Entry == had && had.FS == c.fs.index {
		return slot{entry: had, same: true}
	}
	e := *had
	e.Name, e.FS, e.Linked, e.Nlink = string(c.text()), c.fs.index, false, 0
	return slot{entry: &e}
}

// special completes the entry of what has no content: symlinks, fifos, sockets, devices.
func (w *walker) special(c *candidate, e *snapshot.Entry) error {
	if e.Type == snapshot.TypeSymlink {
		target, err := readlinkat(c.fd, c.name, w.link)
		if err != nil {
			return err
		}
		e.Target, e.Size = target, int64(len(target))
	}
	set, err := w.r.xattrsAt(&w.xattr, c.fd, c.name)
	if err != nil {
		return err
	}
	return w.r.giveXattrs(w.ctx, e, set)
}

// countNew counts a name by what its stat says alone.
func (r *run) countNew(isNew bool) {
	if isNew {
		r.count.added.Add(1)
	} else {
		r.count.changed.Add(1)
	}
}

// counted counts a name that was looked at anew and makes its slot: the base's own entry if nothing differs.
func (r *run) counted(had, e *snapshot.Entry) slot {
	switch {
	case had == nil:
		r.count.added.Add(1)
	case !sameEntry(had, e):
		r.count.changed.Add(1)
	default:
		r.count.unchanged.Add(1)
		if had.Fresh == e.Fresh && had.Name == e.Name {
			return slot{entry: had, same: !had.Linked && had.Nlink == 0}
		}
	}
	return slot{entry: e}
}

// excluded asks the patterns and limits about a name.
func (w *walker) excluded(c *candidate, typ snapshot.Type) bool {
	t := c.t
	if c.named() || t.source == nil {
		return false
	}
	if limit := w.r.o.ExcludeLargerThan; limit > 0 && typ == snapshot.TypeFile && int64(c.st.Size) > limit {
		return true
	}
	if t.source.exclude.Empty() && t.ignore.Empty() {
		return false
	}
	if len(w.path) == 0 {
		w.path = append(t.relative(w.path[:0]), 0)
	}
	n := len(w.path) - 1
	full := append(w.path[:n], c.text()...)
	path := unsafe.String(unsafe.SliceData(full), len(full)) // only for the calls below
	isDir := typ == snapshot.TypeDir
	matched, decided := t.source.exclude.Match(path, isDir)
	if !decided {
		matched, _ = t.ignore.Match(path, isDir)
	}
	w.path = append(full[:n], 0)
	return matched
}
