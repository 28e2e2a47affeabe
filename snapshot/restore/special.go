package restore

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

// buildSpecial makes a symlink, fifo, socket or device beside its name and renames it.
func (r *run) buildSpecial(dir int, j *job) (err error) {
	e := j.entry.Entry
	temp := r.owner.temp()
	if e.Type == snapshot.TypeSymlink {
		err = unix.Symlinkat(e.Target, dir, temp)
	} else {
		err = unix.Mknodat(dir, temp, modeOf(e.Type)|0o600, int(e.Rdev))
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = unix.Unlinkat(dir, temp, 0)
		}
	}()
	h, err := openRef(dir, temp)
	if err != nil {
		return err
	}
	defer h.close()
	st, err := fstat(h.fd)
	if err != nil {
		return err
	}
	// In a directory that others can write to, the name may lead to something else by now.
	if st.Mode&unix.S_IFMT != modeOf(e.Type) || st.Uid != r.euid && !r.keepsNoOwners(dir, st.Uid) || st.Nlink != 1 {
		return ErrMoved
	}
	cur := currentOf(&st)
	cur.bare = j.folder.made && !j.folder.hands
	return r.settleFile(dir, j, temp, h, cur)
}

// link gives a linked file one more name.
func (r *run) link(w *window, j *job) {
	defer r.done(j.folder)
	action, err := r.linkTo(w, j)
	if cannotLink(err) || errors.Is(err, ErrFirstName) {
		action, err = r.separate(w, j, err)
	}
	r.finished(j, action, err)
}

// cannotLink reports that the destination refuses a link which is asked for correctly: another file system, too many links, a
// file system without links.
func cannotLink(err error) bool {
	return err == unix.EXDEV || err == unix.EMLINK || err == unix.EPERM || err == unix.EOPNOTSUPP
}

// separate restores a name as a file of its own, to which the names after it are linked. One at a time, so that names that
// wait find it.
func (r *run) separate(w *window, j *job, why error) (Action, error) {
	r.relink.Lock()
	defer r.relink.Unlock()
	if at := r.firsts.of(j.rank()); at != lostFirst && at != noFirst && !(w.firsts[j.rank()] != nil && w.firsts[j.rank()].name == at) {
		if action, err := r.linkTo(w, j); err == nil {
			return action, nil
		}
	}
	action, err := r.place(j)
	if err == nil && action != ActionSkip {
		r.firsts.replace(j.rank(), j.name)
	} else if err != nil && errors.Is(why, ErrFirstName) {
		err = fmt.Errorf("%w: %w", why, err)
	}
	return action, err
}

// linkTo links to the first name, unless that is what the name already is.
func (r *run) linkTo(w *window, j *job) (Action, error) {
	if j.folder.state == absent { // dry
		return ActionWrite, nil
	}
	from, name, release, err := r.openFirst(w, j)
	if err != nil {
		return "", err
	}
	defer release()
	dir, err := r.folders.acquire(j.folder)
	if err != nil {
		return "", err
	}
	defer r.folders.release(j.folder)
	first, err := statat(from, name)
	if err != nil {
		if r.DryRun {
			return ActionWrite, nil
		}
		return "", fmt.Errorf("%w: %w", ErrFirstName, err)
	}
	if first.Mode&unix.S_IFMT != modeOf(j.entry.Type) {
		return "", ErrFirstName
	}
	if j.exists {
		if st, err := statat(dir, j.entry.Name); err == nil && st.Ino == first.Ino && st.Dev == first.Dev {
			return ActionEqual, nil
		}
	}
	if r.DryRun {
		return ActionWrite, nil
	}
	r.openUp(j.folder, dir)
	return r.linkIn(from, name, dir, j)
}

// linkIn makes the link under the name itself if that is free, else beside it.
func (r *run) linkIn(from int, first string, dir int, j *job) (Action, error) {
	name := j.entry.Name
	link := func(to string) error {
		err := unix.Linkat(from, first, dir, to, 0)
		if err == unix.EPERM {
			if f := unlockFile(from, first); f != nil { // locked by a former run; see lateFlags
				f.close()
				err = unix.Linkat(from, first, dir, to, 0)
			}
		}
		return err
	}
	err := link(name)
	if err == unix.EEXIST && r.Overwrite == OverwriteNever {
		return ActionSkip, nil
	}
	if err != unix.EEXIST {
		return ActionWrite, err
	}
	temp := r.owner.temp()
	if err := link(temp); err != nil {
		return "", err
	}
	err = r.moveIn(dir, temp, name)
	_ = unix.Unlinkat(dir, temp, 0) // also there if both names already were the same file
	return ActionWrite, err
}

// openFirst returns the directory and name of the name to link to.
func (r *run) openFirst(w *window, j *job) (dir int, name string, release func(), err error) {
	at := r.firsts.of(j.rank())
	if at == lostFirst || at == noFirst {
		return -1, "", nil, ErrFirstName
	}
	if first := w.firsts[j.rank()]; first != nil && first.name == at {
		dir, err = r.folders.acquire(first.folder)
		return dir, first.entry.Name, func() { r.folders.release(first.folder) }, err
	}
	return r.openAt(at)
}

// openAt returns the destination directory and the name of what has a position in the snapshot.
func (r *run) openAt(position uint32) (dir int, name string, release func(), err error) {
	path, err := r.tree.PathAt(r.ctx, position)
	if err != nil {
		return -1, "", nil, err
	}
	names := splitPath(path)[len(splitPath(r.dest.path)):]
	top, err := r.folders.acquire(r.dest.top)
	if err != nil {
		return -1, "", nil, err
	}
	defer r.folders.release(r.dest.top)
	last := len(names) - 1
	dir, err = openDown(top, names[:last], r.folders.oneByOne)
	return dir, names[last], func() { unix.Close(dir) }, err
}

// setLateFlags locks the linked files whose flags had to wait until all names were made.
func (r *run) setLateFlags() {
	for _, position := range r.late {
		found, err := r.tree.At(r.ctx, position)
		if err != nil {
			continue // reported when it was restored
		}
		dir, name, release, err := r.openAt(position)
		if err != nil {
			continue
		}
		if fd, err := openat(dir, name, unix.O_RDONLY|unix.O_NONBLOCK, 0); err == nil {
			h := handle{fd: fd}
			have, lock := h.flags(), found.Flags&flagsLocking
			if have&lock != lock && h.setFlags(have|lock) != nil {
				r.count.skipped.Add(1)
			}
			h.close()
		}
		release()
	}
}
