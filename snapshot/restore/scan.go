package restore

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/store"
)

// The scan walks the snapshot depth first with a stack of its own, so that no depth is too deep. It makes directories, decides
// what is left alone, deletes, and puts everything else into windows.

const batchSize = 512 // entries of one directory looked at in one go

// level is a directory being scanned.
type level struct {
	folder *folder
	dir    snapshot.Found
	chosen bool // by Include, or no such patterns
	from   string
	batch  []snapshot.Found
	last   bool              // nothing follows batch
	ignore *snapshot.Matcher // what ignore files here and above said, for Delete
}

// job is a name, not a directory, to be restored by a worker.
type job struct {
	folder *folder
	entry  snapshot.Found // of the link tree if the name is linked
	name   uint32         // position of the name
	exists bool           // something had the name when it was scanned
	first  store.ID       // the first chunk; zero if there is none
	place  store.Place    // of first
}

func (j *job) linked() bool { return j.entry.Position&snapshot.LinkBit != 0 }

func (j *job) rank() uint32 { return j.entry.Position &^ snapshot.LinkBit }

// scan ends early when the run does.
func (r *run) scan(windows chan<- *window) {
	d := r.dest
	top := &level{folder: d.top, dir: d.dir, chosen: r.chooser.include == nil, ignore: r.ignoresAbove()}
	if d.only != nil {
		top.batch, top.last, top.chosen = []snapshot.Found{*d.only}, true, true
	}
	if d.top.state == present {
		r.sweep(top)
	}
	c := &collector{run: r, out: windows, limit: firstWindow}
	for stack := []*level{top}; len(stack) > 0 && r.ctx.Err() == nil; {
		l := stack[len(stack)-1]
		found, ok := r.next(l)
		if !ok {
			stack = stack[:len(stack)-1]
			r.done(l.folder)
			continue
		}
		if below := r.visit(l, found, c); below != nil {
			stack = append(stack, below)
		}
	}
	c.flush()
}

// next returns the next entry of a directory. A damaged page ends the directory.
func (r *run) next(l *level) (snapshot.Found, bool) {
	for len(l.batch) == 0 {
		if l.last {
			return snapshot.Found{}, false
		}
		batch := make([]snapshot.Found, 0, 16)
		err := r.tree.ListFrom(r.ctx, l.dir, l.from, func(f snapshot.Found) bool {
			batch = append(batch, f)
			return len(batch) < batchSize
		})
		if err != nil {
			r.fail("read", r.path(l.folder, ""), err)
		}
		l.batch, l.last = batch, err != nil || len(batch) < batchSize
		if len(batch) > 0 {
			l.from = batch[len(batch)-1].Name + "\x00"
		}
	}
	found := l.batch[0]
	l.batch = l.batch[1:]
	return found, true
}

// visit handles one entry and returns the level to enter, if any.
func (r *run) visit(l *level, found snapshot.Found, c *collector) *level {
	if !goodName(found.Name) {
		r.fail("restore", r.path(l.folder, ""), fmt.Errorf("%q: %w", found.Name, ErrName))
		return nil
	}
	chosen, enter := true, found.Type == snapshot.TypeDir
	if !r.chooser.all() && r.dest.only == nil {
		chosen, enter = r.chooser.choose(l.folder.below(found.Name), enter, l.chosen)
	}
	if enter {
		return r.visitDir(l, found, chosen)
	}
	if chosen && found.Type != snapshot.TypeDir {
		r.visitFile(l, found, c)
	}
	return nil
}

func goodName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

// visitDir makes the directory unless it is only on the way to what an Include pattern may choose.
func (r *run) visitDir(l *level, found snapshot.Found, chosen bool) *level {
	f := newFolder(l.folder, found.Name, found, chosen)
	below := &level{folder: f, dir: found, chosen: chosen, ignore: l.ignore}
	if chosen {
		r.count.entries.Add(1)
		r.ensure(f)
	} else if r.Delete && l.folder.state == present {
		r.look(f)
	}
	r.progress(found.Name, false)
	if f.state == blocked {
		r.done(f)
		return nil
	}
	if f.state == present && !f.made {
		r.sweep(below)
	}
	return below
}

// visitFile queues a name after the decisions that need no look at its content.
func (r *run) visitFile(l *level, found snapshot.Found, c *collector) {
	r.count.entries.Add(1)
	if !r.ensure(l.folder) {
		r.count.done.Add(1)
		return
	}
	entry := found
	if found.Linked {
		var err error
		if entry, err = r.tree.Follow(r.ctx, found); err != nil {
			r.fail("read", r.path(l.folder, found.Name), err)
			return
		}
	}
	j := &job{folder: l.folder, entry: entry, name: found.Position}
	if l.folder.state == present && !l.folder.made {
		if keep := r.lookAt(l, j); keep {
			r.count.done.Add(1)
			return
		}
	}
	c.add(j)
}

// lookAt finds out whether something has the name already, and whether it stays.
func (r *run) lookAt(l *level, j *job) (keep bool) {
	fd, err := r.folders.acquire(j.folder)
	if err != nil {
		r.fail("open", r.path(j.folder, ""), err)
		return true
	}
	defer r.folders.release(j.folder)
	st, err := statat(fd, j.entry.Name)
	if notThere(err) {
		return false
	}
	if err != nil {
		r.fail("stat", r.path(j.folder, j.entry.Name), err)
		return true
	}
	j.exists = true
	if r.stays(&st, j.entry.Entry) {
		r.did(j.folder, j.entry.Name, ActionSkip)
		return true
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := r.clearDir(l, fd, j.entry.Name); err != nil {
			r.fail("replace", r.path(j.folder, j.entry.Name), err)
			return true
		}
	}
	return false
}

// stays applies the overwrite policy to something that exists.
func (r *run) stays(st *unix.Stat_t, e *snapshot.Entry) bool {
	switch r.Overwrite {
	case OverwriteNever:
		return true
	case OverwriteNewer:
		return !laterThan(e.Mtime, st)
	}
	return false
}

func laterThan(t snapshot.Time, st *unix.Stat_t) bool {
	if t.Sec != st.Mtim.Sec {
		return t.Sec > st.Mtim.Sec
	}
	return int64(t.Nsec) > st.Mtim.Nsec
}

// look finds out whether a folder's directory is there; nothing is made or changed. Only the scan calls it.
func (r *run) look(f *folder) {
	if f.state != unknown {
		return
	}
	if f.parent.state != present || f.parent.made {
		f.state = absent
		return
	}
	fd, err := r.folders.acquire(f.parent)
	if err != nil {
		r.block(f, "open", err)
		return
	}
	defer r.folders.release(f.parent)
	st, err := statat(fd, f.name)
	switch {
	case notThere(err):
		f.state = absent
	case err != nil:
		r.block(f, "stat", err)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		f.state = absent
		if r.stays(&st, f.source.Entry) {
			f.state = blocked
			r.did(f.parent, f.name, ActionSkip)
		}
	case inode{uint64(st.Dev), st.Ino} == r.storeAt:
		r.leaveStore(f)
	default:
		r.enter(f, fd, &st)
	}
}

// leaveStore passes over the store's directory, of which a snapshot in that store has at most the place: whatever it has there besides is an
// earlier directory of that name.
func (r *run) leaveStore(f *folder) {
	if f.source.Totals.Entries > 0 {
		r.block(f, "restore", store.ErrInside)
		return
	}
	f.state = blocked
	r.did(f.parent, f.name, ActionSkip)
}

// enter opens a directory that exists.
func (r *run) enter(f *folder, parent int, st *unix.Stat_t) {
	dir, err := openat(parent, f.name, openDir, 0)
	if err == unix.EACCES && st.Uid == r.euid && !r.DryRun { // our own, but closed even to us
		if ref, e := openRef(parent, f.name); e == nil {
			if ref.chmod(st.Mode&0o7777|0o700) == nil {
				f.altered = true
				dir, err = openat(parent, f.name, openDir, 0)
			}
			ref.close()
		}
	}
	if err == nil {
		if err = r.adopt(f, dir, false); err != nil {
			unix.Close(dir)
		}
	}
	if err != nil {
		r.block(f, "open", err)
		return
	}
	if f.altered {
		f.mode = st.Mode & 0o7777
		r.unlocked(f)
	}
	if r.stays(st, f.source.Entry) || r.InPlace && r.dest.upper(f.rel()) {
		f.attrs = false
	}
}

// block reports a folder that nothing can be restored into.
func (r *run) block(f *folder, op string, err error) {
	f.state = blocked
	r.fail(op, r.path(f, ""), err)
}

// ensure makes the folder's directory, and those above it, unless they are there. It reports whether jobs may be
// queued in it. Only the scan calls it.
func (r *run) ensure(f *folder) bool {
	var chain []*folder
	for g := f; g.state == unknown || g.state == absent && !g.made; g = g.parent {
		if g.state == absent && r.DryRun {
			break
		}
		chain = append(chain, g)
	}
	slices.Reverse(chain)
	for _, g := range chain {
		if g.parent.state == blocked {
			g.state = blocked
			continue
		}
		switch r.look(g); {
		case g.state == absent:
			r.makeDir(g)
		case g.state == present && !g.chosen && !r.Delete: // else it is swept when it is visited
			r.sweep(&level{folder: g})
		}
	}
	return f.state != blocked
}

// makeDir makes a folder's directory, in place of something else if need be.
func (r *run) makeDir(f *folder) {
	if !f.chosen {
		r.count.entries.Add(1)
	}
	if r.DryRun {
		f.attrs = true
		return
	}
	fd, err := r.folders.acquire(f.parent)
	if err != nil {
		r.block(f, "open", err)
		return
	}
	defer r.folders.release(f.parent)
	r.openUp(f.parent, fd)
	err = unix.Mkdirat(fd, f.name, 0o700)
	if err == unix.EEXIST {
		if err = r.unlink(fd, f.name, 0); err == nil {
			err = unix.Mkdirat(fd, f.name, 0o700)
		}
	}
	if err != nil {
		r.block(f, "make directory", err)
		return
	}
	dir, err := openat(fd, f.name, openDir, 0)
	if err == nil {
		if err = r.adopt(f, dir, true); err != nil {
			unix.Close(dir)
		}
	}
	if err != nil {
		r.block(f, "open", err)
		return
	}
	f.attrs = true
}
