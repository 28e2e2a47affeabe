package restore

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

// sweep looks through a directory that was there before: it removes what killed runs left, and what Delete is to remove.
func (r *run) sweep(l *level) {
	f := l.folder
	fd, err := r.folders.acquire(f)
	if err != nil {
		r.fail("open", r.path(f, ""), err)
		return
	}
	defer r.folders.release(f)
	deletes := !r.spares(l, fd)
	if r.doubt {
		deletes = false
		if err := r.sweepLater(f); err != nil {
			r.fail("delete", r.path(f, ""), err)
		}
	}
	if deletes && r.keep.ignores {
		l.ignore = r.withIgnoreFiles(l.ignore, l.dir, r.dest.source(f.rel()))
	}
	for repeat := true; repeat; {
		repeat = false
		before := r.count.deleted.Load()
		for at := int64(0); at >= 0 && r.ctx.Err() == nil; repeat = repeat || at >= 0 {
			var doomed []string
			if doomed, at, err = r.toRemove(l, fd, at, deletes); err != nil {
				r.fail("read", r.path(f, ""), err)
				return
			}
			for _, name := range doomed {
				r.removeTree(f, name, l.chosen, l.ignore)
			}
		}
		// Some file systems leave out names when others are removed between two parts of the list.
		repeat = repeat && !r.DryRun && r.ctx.Err() == nil && r.count.deleted.Load() > before
	}
}

// toRemove lists names that the snapshot does not have, from a position in the directory on, and returns the next
// position, -1 at the end.
func (r *run) toRemove(l *level, fd int, from int64, deletes bool) (names []string, next int64, err error) {
	var failed error
	next, err = someNames(fd, from, r.namesAtOnce, func(name string) {
		if leftover(name) || name == r.owner.mark() {
			r.tidy(l.folder, fd, name)
			return
		}
		if !deletes || failed != nil {
			return
		}
		_, err := r.tree.Lookup(r.ctx, l.dir, name)
		if errors.Is(err, fs.ErrNotExist) && !damaged(err) {
			names = append(names, name)
		} else if err != nil {
			failed = err // a damaged page: what it names must stay
		}
	})
	if err == nil {
		err = failed
	}
	return names, next, err
}

// someNames calls fn for at least so many of the names in a directory, from a position on (0 is the start), and returns
// the position after them, -1 at the end.
func someNames(dir int, from int64, atLeast int, fn func(name string)) (next int64, err error) {
	fd, err := openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	if _, err := unix.Seek(fd, from, unix.SEEK_SET); err != nil {
		return -1, err
	}
	buf := make([]byte, 64<<10)
	for count := 0; count < atLeast; {
		var n int
		err := again(func() (err error) {
			n, err = unix.Getdents(fd, buf)
			return err
		})
		if err != nil || n == 0 {
			return -1, err
		}
		_, _, names := unix.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			fn(name)
		}
		count += len(names)
	}
	return unix.Seek(fd, 0, unix.SEEK_CUR)
}

// doomed is a directory being removed.
type doomed struct {
	folder *folder
	names  []string // still to be removed
	next   int64    // position in the directory after names; -1: they were the last
	parts  bool     // names are listed in more than one part
	gone   int      // removed of all parts
	kept   bool     // something in it stays
	chosen bool     // by Include
	ignore *snapshot.Matcher
}

// removeTree removes a name and all below it, but for what the keeper keeps, other file systems, and what Include does not choose.
func (r *run) removeTree(parent *folder, name string, chosen bool, ignore *snapshot.Matcher) {
	stack := []*doomed{{folder: parent, names: []string{name}, next: -1, chosen: chosen, ignore: ignore}}
	for r.ctx.Err() == nil {
		d := stack[len(stack)-1]
		if len(d.names) > 0 {
			next := d.names[len(d.names)-1]
			d.names = d.names[:len(d.names)-1]
			if below := r.removeName(d, next); below != nil {
				stack = append(stack, below)
			}
			continue
		}
		if d.parts && d.next < 0 && d.gone > 0 && !r.DryRun { // once more: see sweep
			d.next, d.parts, d.gone = 0, false, 0
		}
		if d.next >= 0 {
			r.refill(d)
			continue
		}
		if stack = stack[:len(stack)-1]; len(stack) == 0 {
			return
		}
		r.removeEmptied(stack[len(stack)-1], d)
	}
	for _, d := range stack[1:] {
		r.folders.close(d.folder)
	}
}

// removeName removes what is no directory; of a directory it returns the inside.
func (r *run) removeName(d *doomed, name string) *doomed {
	fd, err := r.folders.acquire(d.folder)
	if err != nil {
		return d.keep(r, name, err)
	}
	defer r.folders.release(d.folder)
	var st unix.Statx_t
	err = again(func() error {
		return unix.Statx(fd, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_BASIC_STATS, &st)
	})
	if notThere(err) {
		return nil
	}
	if err != nil {
		return d.keep(r, name, err)
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	chosen, stays := r.staysHere(d, name, &st)
	if stays {
		return d.keep(r, name, nil)
	}
	if isDir {
		return r.removeInside(d, fd, name, chosen)
	}
	if !r.DryRun {
		r.openUp(d.folder, fd)
		if err := r.unlink(fd, name, 0); err != nil && !notThere(err) {
			return d.keep(r, name, err)
		}
	}
	d.gone++
	r.did(d.folder, name, ActionDelete)
	return nil
}

// keep notes that a name stays, and why if that is an error.
func (d *doomed) keep(r *run, name string, err error) *doomed {
	d.kept = true
	if err != nil {
		r.fail("delete", r.path(d.folder, name), err)
	}
	return nil
}

// staysHere applies every rule about what Delete leaves alone.
func (r *run) staysHere(d *doomed, name string, st *unix.Statx_t) (chosen, stays bool) {
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if unix.Mkdev(st.Dev_major, st.Dev_minor) != d.folder.dev || st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return false, true
	}
	rel := d.folder.below(name)
	if r.keep.keeps(r.dest.source(rel), r.path(d.folder, name), st, d.ignore) {
		return false, true
	}
	if r.chooser.all() {
		return true, false
	}
	chosen, enter := r.chooser.choose(rel, isDir, d.chosen)
	return chosen, !chosen && !enter
}

// removeInside opens a directory that is to be removed.
func (r *run) removeInside(d *doomed, parent int, name string, chosen bool) *doomed {
	fd, err := openat(parent, name, openDir, 0)
	if err != nil {
		return d.keep(r, name, err)
	}
	f := newFolder(nil, name, snapshot.Found{}, false)
	f.parent = d.folder // without holding the parent up: nothing is queued in f
	if err := r.adopt(f, fd, false); err != nil {
		unix.Close(fd)
		return d.keep(r, name, err)
	}
	if _, err := statat(fd, cacheTag); err == nil && r.keep.caches {
		r.folders.close(f)
		return d.keep(r, name, nil)
	}
	below := &doomed{folder: f, chosen: chosen, ignore: d.ignore}
	r.refill(below)
	return below
}

// refill lists the next part of what is in a directory.
func (r *run) refill(d *doomed) {
	fd, err := r.folders.acquire(d.folder)
	if err == nil {
		defer r.folders.release(d.folder)
		d.next, err = someNames(fd, d.next, r.namesAtOnce, func(name string) { d.names = append(d.names, name) })
		d.parts = d.parts || d.next >= 0
	}
	if err != nil {
		d.next = -1
		d.keep(r, "", err)
	}
}

// lockAgain gives a directory that stays back what openUp took from it.
func (r *run) lockAgain(f *folder) {
	if !f.altered {
		return
	}
	fd, err := r.folders.acquire(f)
	if err == nil {
		defer r.folders.release(f)
		err = handle{fd: fd}.asMet(f)
	}
	if err != nil {
		r.fail("set attributes of", r.path(f, ""), err)
	}
}

// removeEmptied removes a directory whose inside has been gone through.
func (r *run) removeEmptied(above, d *doomed) {
	stays := d.kept || !d.chosen
	if stays {
		r.lockAgain(d.folder)
	}
	r.folders.close(d.folder)
	if stays {
		above.kept = true
		return
	}
	if !r.DryRun {
		fd, err := r.folders.acquire(above.folder)
		if err == nil {
			defer r.folders.release(above.folder)
			r.openUp(above.folder, fd)
			err = r.unlink(fd, d.folder.name, unix.AT_REMOVEDIR)
		}
		if err != nil && !notThere(err) {
			above.keep(r, d.folder.name, err)
			return
		}
	}
	above.gone++
	r.did(d.folder, "", ActionDelete)
}

// clearDir removes a directory that is in the way of something else: an empty one, or with Delete one that may be deleted.
func (r *run) clearDir(l *level, dir int, name string) error {
	if r.DryRun {
		return nil
	}
	r.openUp(l.folder, dir)
	err := r.unlink(dir, name, unix.AT_REMOVEDIR)
	if err != unix.ENOTEMPTY && err != unix.EEXIST {
		return err
	}
	if !r.Delete || r.dest.only == nil && r.spares(l, dir) {
		return ErrNotEmpty
	}
	if r.doubt {
		return ErrDoubt
	}
	r.removeTree(l.folder, name, true, l.ignore)
	if _, err := statat(dir, name); !notThere(err) {
		return ErrNotEmpty
	}
	return nil
}
