package restore

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

const namesAtOnce = 1 << 16 // names of one directory held in memory

// sweep looks through a directory that was there before: it removes what killed runs left, and what Delete is to remove.
func (r *run) sweep(l *level) {
	f := l.folder
	fd, err := r.folders.acquire(f)
	if err != nil {
		r.fail("open", r.path(f, ""), err)
		return
	}
	defer r.folders.release(f)
	for more := true; more && r.ctx.Err() == nil; {
		var doomed []string
		doomed, more, err = r.toRemove(l, fd)
		if err != nil {
			r.fail("read", r.path(f, ""), err)
			return
		}
		before := r.count.deleted.Load()
		for _, name := range doomed {
			r.removeTree(f, name, l.chosen, l.ignore)
		}
		more = more && r.count.deleted.Load() > before
	}
}

// toRemove lists names that the snapshot does not have; more says that there may be others.
func (r *run) toRemove(l *level, fd int) (names []string, more bool, err error) {
	deletes := !r.spares(l, fd)
	if deletes && r.keep.ignores {
		l.ignore = r.withIgnoreFiles(l.ignore, l.dir, r.dest.source(l.folder.rel()))
	}
	limit := namesAtOnce
	if r.DryRun {
		limit = int(^uint(0) >> 1)
	}
	var failed error
	err = eachName(fd, func(name string) bool {
		if leftover(name) || name == r.owner.mark() {
			r.tidy(l.folder, fd, name)
			return true
		}
		if !deletes {
			return true
		}
		_, err := r.tree.Lookup(r.ctx, l.dir, name)
		if errors.Is(err, fs.ErrNotExist) && !damaged(err) {
			names = append(names, name)
		} else if err != nil {
			failed = err // a damaged page: what it names must stay
			return false
		}
		return len(names) < limit
	})
	if err == nil {
		err = failed
	}
	return names, len(names) >= limit, err
}

// eachName calls fn for the names in a directory, until it returns false.
func eachName(dir int, fn func(name string) bool) error {
	fd, err := openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	buf := make([]byte, 64<<10)
	for {
		var n int
		err := again(func() (err error) {
			n, err = unix.Getdents(fd, buf)
			return err
		})
		if err != nil || n == 0 {
			return err
		}
		_, _, names := unix.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			if !fn(name) {
				return nil
			}
		}
	}
}

// doomed is a directory being removed.
type doomed struct {
	folder *folder
	names  []string // still to be removed
	more   bool     // names were not all
	gone   int      // removed of names
	kept   bool     // something in it stays
	chosen bool     // by Include
	ignore *snapshot.Matcher
}

// removeTree removes a name and all below it, but for what the keeper keeps, other file systems, and what Include does not choose.
func (r *run) removeTree(parent *folder, name string, chosen bool, ignore *snapshot.Matcher) {
	stack := []*doomed{{folder: parent, names: []string{name}, chosen: chosen, ignore: ignore}}
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
		if d.more && d.gone > 0 {
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

func (r *run) refill(d *doomed) {
	d.names, d.more, d.gone = nil, false, 0
	fd, err := r.folders.acquire(d.folder)
	if err == nil {
		defer r.folders.release(d.folder)
		err = eachName(fd, func(name string) bool {
			d.more = len(d.names) == namesAtOnce && !r.DryRun
			if !d.more {
				d.names = append(d.names, name)
			}
			return !d.more
		})
	}
	if err != nil {
		d.keep(r, "", err)
	}
}

// removeEmptied removes a directory whose inside has been gone through.
func (r *run) removeEmptied(above, d *doomed) {
	r.folders.close(d.folder)
	if d.kept || !d.chosen {
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
	r.removeTree(l.folder, name, true, l.ignore)
	if _, err := statat(dir, name); !notThere(err) {
		return ErrNotEmpty
	}
	return nil
}
