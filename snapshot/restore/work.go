package restore

import (
	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

// impossible is the mtime of what has just been made: never equal to a wanted one.
var impossible = snapshot.Time{Nsec: 1 << 31}

// work restores one name.
func (r *run) work(j *job) {
	defer r.done(j.folder)
	if action, err := r.place(j); action != waits || err != nil {
		r.finished(j, action, err)
	}
}

// waits is what place says of a file whose content is still to come.
const waits Action = "waits"

// finished accounts for a job.
func (r *run) finished(j *job, action Action, err error) {
	r.count.bytes.Add(sizeOf(j.entry.Entry))
	r.account(j, action, err)
}

// account is finished but for the bytes.
func (r *run) account(j *job, action Action, err error) {
	if err != nil {
		if j.linked() && r.firsts.of(j.rank()) == j.name { // that a further name failed does no harm to the first
			r.firsts.replace(j.rank(), lostFirst)
		}
		r.fail("restore", r.path(j.folder, j.entry.Name), err)
	} else {
		if action == ActionSkip && j.linked() && r.firsts.of(j.rank()) == j.name {
			r.firsts.replace(j.rank(), lostFirst) // what appeared there is not the linked file
		}
		r.did(j.folder, j.entry.Name, action)
		if r.written != nil && action == ActionWrite {
			r.written.add(j.name)
		}
	}
	r.count.done.Add(1)
	r.progress(j.entry.Name, false)
}

func sizeOf(e *snapshot.Entry) int64 {
	if e.Type != snapshot.TypeFile {
		return 0
	}
	return e.Size
}

// place keeps what is there if it is equal, and makes the entry otherwise.
func (r *run) place(j *job) (Action, error) {
	if j.folder.state == absent { // dry
		return ActionWrite, nil
	}
	dir, err := r.folders.acquire(j.folder)
	if err != nil {
		return "", err
	}
	defer r.folders.release(j.folder)
	var o *old
	if j.exists {
		if o, err = r.openOld(dir, j); err != nil {
			return "", err
		}
		defer o.close()
		if action, err := r.keepOld(j, o); action != "" || err != nil {
			return action, err
		}
	}
	if r.DryRun {
		return ActionWrite, nil
	}
	r.openUp(j.folder, dir)
	if r.passage != nil && j.entry.Type == snapshot.TypeFile {
		if action, err := r.passage.postpone(dir, j, o); action != "" || err != nil {
			return action, err
		}
	}
	if o.readable() && r.Patch && o.st.Nlink == 1 {
		if done, err := r.patch(dir, j, o); done || err != nil {
			return ActionWrite, err
		}
	}
	return r.build(dir, j, o)
}

// build makes the entry under a temporary name and renames it.
func (r *run) build(dir int, j *job, o *old) (Action, error) {
	switch j.entry.Type {
	case snapshot.TypeFile:
		return r.outcome(r.buildFile(dir, j, o))
	default:
		return r.outcome(r.buildSpecial(dir, j))
	}
}

// outcome is what came of writing an entry.
func (r *run) outcome(err error) (Action, error) {
	if err == unix.EEXIST && r.Overwrite == OverwriteNever {
		return ActionSkip, nil // it appeared meanwhile
	}
	return ActionWrite, err
}

// moveIn renames a finished file to its name. What stands there is replaced, not written to.
func (r *run) moveIn(dir int, temp, name string) error {
	err := r.rename(dir, temp, name)
	if err == unix.EPERM && r.Overwrite == OverwriteAlways {
		if f := unlockFile(dir, name); f != nil {
			defer f.lockAgain()
			err = r.rename(dir, temp, name)
		}
	}
	return err
}

func (r *run) rename(dir int, temp, name string) error {
	return again(func() error {
		if r.Overwrite == OverwriteNever {
			return unix.Renameat2(dir, temp, dir, name, unix.RENAME_NOREPLACE)
		}
		return unix.Renameat(dir, temp, dir, name)
	})
}

// unlink removes a name, taking away an immutable or append-only flag if the policy allows.
func (r *run) unlink(dir int, name string, flags int) error {
	err := again(func() error { return unix.Unlinkat(dir, name, flags) })
	if err == unix.EPERM && r.Overwrite == OverwriteAlways {
		if f := unlockFile(dir, name); f != nil {
			defer f.lockAgain()
			err = again(func() error { return unix.Unlinkat(dir, name, flags) })
		}
	}
	return err
}

// unlockedFile is a file or directory whose locking flags were cleared.
type unlockedFile struct {
	handle
	flags uint32
}

// unlockFile clears the locking flags of a file or directory; nil if there were none or that is not allowed.
func unlockFile(dir int, name string) *unlockedFile {
	st, err := statat(dir, name)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	fd, err := openat(dir, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	f := &unlockedFile{handle: handle{fd: fd}}
	f.flags = f.handle.flags()
	if f.flags&flagsLocking == 0 || f.setFlags(f.flags&^flagsLocking) != nil {
		f.close()
		return nil
	}
	return f
}

// lockAgain ends what had to be allowed: the file may still be there, under other names, even outside the destination.
func (f *unlockedFile) lockAgain() {
	defer f.close()
	if st, err := fstat(f.fd); err == nil && st.Nlink > 0 {
		_ = f.setFlags(f.flags)
	}
}

// openUp makes sure that names can be made and removed in a folder that existed before: an immutable directory is opened
// when everything may be overwritten, a closed one of our own always. finish closes it again.
func (r *run) openUp(f *folder, fd int) {
	if f.made {
		return
	}
	f.prepare.Do(func() {
		h := handle{fd: fd}
		if f.flags&flagsLocking != 0 && r.Overwrite == OverwriteAlways {
			f.altered = h.setFlags(f.flags&^flagsLocking) == nil || f.altered
		}
		if r.euid != 0 && f.mode&0o300 != 0o300 {
			f.altered = h.chmod(f.mode|0o700) == nil || f.altered
		}
		r.unlocked(f)
	})
}

// done tells that the scan of a folder, or something queued in it, is finished. The last one finishes the folder, and the
// folders above of which it was the last.
func (r *run) done(f *folder) {
	for ; f != nil && f.pending.Add(-1) == 0; f = f.parent {
		if r.ctx.Err() == nil {
			r.finish(f)
		}
		if f.parent != nil {
			r.folders.close(f)
		}
	}
}

// finish sets a folder's own attributes, now that nothing below it changes any more.
func (r *run) finish(f *folder) {
	if f.parent != nil && (f.chosen || f.attrs) {
		r.count.done.Add(1)
	}
	r.finishNow(f)
}

// finishNow is finish once that has been counted.
func (r *run) finishNow(f *folder) {
	switch {
	case f.state == absent && f.attrs && f.parent != nil: // dry
		r.did(f, "", ActionWrite)
		return
	case f.state != present:
		return
	case f.late != notLate: // what is still to come into it changes its time
		if err := r.passage.leave(f); err != nil {
			r.fail("set attributes of", r.path(f, ""), err)
		}
		return
	case !f.attrs && !f.altered:
		if f.chosen && f.parent != nil {
			r.did(f, "", ActionEqual)
		}
		return
	}
	fd, err := r.folders.acquire(f)
	if err == nil {
		defer r.folders.release(f)
		err = r.finishOpen(f, handle{fd: fd})
	}
	if err != nil {
		r.fail("set attributes of", r.path(f, ""), err)
	}
}

func (r *run) finishOpen(f *folder, h handle) error {
	r.unmark(f, h.fd)
	if !f.attrs {
		return h.asMet(f)
	}
	f.altered = false
	xattrs, err := r.xattrs(f.source.Entry)
	if err != nil {
		return err
	}
	st, err := fstat(h.fd)
	if err != nil {
		return err
	}
	s := setter{h: h, cur: currentOf(&st), want: wanted{entry: f.source.Entry, xattrs: xattrs}, dry: r.DryRun}
	s.cur.bare = f.made && f.parent != nil && !f.parent.hands
	out, err := s.run()
	r.count.skipped.Add(out.skipped)
	if f.parent != nil {
		r.did(f, "", folderAction(f, out.changed))
	}
	return err
}

// unlocked notes a folder that lockUp may have to lock again.
func (r *run) unlocked(f *folder) {
	if !f.altered {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = append(r.open, f)
}

// lockUp locks the folders again that a run which ended early had no time to finish.
func (r *run) lockUp() {
	for _, f := range r.open {
		if !f.altered {
			continue
		}
		if fd, err := r.folders.acquire(f); err == nil {
			_ = handle{fd: fd}.asMet(f)
			r.folders.release(f)
		}
	}
}

// asMet gives a directory back the mode and flags that it was met with.
func (h handle) asMet(f *folder) error {
	f.altered = false
	err := h.chmod(f.mode)
	if f.flags&flagsLocking != 0 {
		_ = h.setFlags(f.flags)
	}
	return err
}

func folderAction(f *folder, changed bool) Action {
	switch {
	case f.made:
		return ActionWrite
	case changed:
		return ActionAttributes
	}
	return ActionEqual
}

// xattrs returns an entry's extended attributes.
func (r *run) xattrs(e *snapshot.Entry) ([]snapshot.Xattr, error) {
	if len(e.Xattrs) == 0 && e.XattrsID.IsZero() {
		return nil, nil
	}
	return r.tree.Xattrs(r.ctx, e)
}
