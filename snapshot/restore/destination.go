package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/store"
)

// destination says which directory of the snapshot is restored to which directory of this machine.
type destination struct {
	manifest *snapshot.Manifest
	root     string          // absolute; ends in no slash but for "/"
	dir      snapshot.Found  // the directory of the snapshot whose contents go there
	path     string          // of dir in the snapshot: "/", "/a/b"
	only     *snapshot.Found // restore just this entry of dir

	top   *folder
	syncs []int // one descriptor on each file system reached
}

// planDestination finds out both sides; nothing is made.
func planDestination(ctx context.Context, tree *snapshot.Tree, o *Options) (*destination, error) {
	m := tree.Manifest()
	d := &destination{manifest: m, path: path.Clean("/" + o.Path)}
	found, err := tree.Walk(ctx, d.path)
	if err != nil {
		return nil, &snapshot.PathError{Op: "restore", Path: d.path, Err: err}
	}
	d.dir = found
	if found.Type != snapshot.TypeDir {
		d.only, d.path = &found, path.Dir(d.path)
		if d.dir, err = tree.Walk(ctx, d.path); err != nil {
			return nil, &snapshot.PathError{Op: "restore", Path: d.path, Err: err}
		}
	}
	if !o.InPlace {
		d.root, err = store.AbsolutePath(o.To)
		return d, err
	}
	if m.Host != o.Host && !o.Force {
		return nil, fmt.Errorf("%w: %s", ErrOtherHost, m.Host)
	}
	if m.Found == snapshot.FoundByStream || len(m.Paths) == 0 {
		return nil, ErrNoOrigin
	}
	d.root = d.origin(d.path)
	return d, nil
}

// origin is the path at the source of a path of the snapshot.
func (d *destination) origin(p string) string {
	switch paths := d.manifest.Paths; {
	case len(paths) == 0:
		return p
	case d.manifest.Single:
		return path.Join(paths[0], p)
	case len(paths) == 1: // one file, which stands in the root under its base name
		return path.Join(path.Dir(paths[0]), p)
	}
	return p
}

// source is the path at the source of a path relative to the destination directory.
func (d *destination) source(rel string) string { return d.origin(path.Join(d.path, rel)) }

// upper reports whether a directory (relative to the destination) was no source itself and only leads to one: what else was in
// it is not in the snapshot.
func (d *destination) upper(rel string) bool {
	if d.manifest.Single {
		return false
	}
	at := strings.TrimSuffix(d.source(rel), "/") + "/"
	for _, p := range d.manifest.Paths {
		if strings.HasPrefix(p, at) {
			return true
		}
	}
	return false
}

// totals estimates the work, for progress.
func (d *destination) totals(m *snapshot.Manifest) (entries, bytes int64) {
	switch {
	case d.only != nil:
		return 1, d.only.Size
	case d.path == "/":
		return int64(m.Totals.Entries), int64(m.Totals.Bytes)
	}
	return int64(d.dir.Totals.Entries), int64(d.dir.Totals.Bytes)
}

// done releases what is held for the end.
func (d *destination) done() {
	for _, fd := range d.syncs {
		unix.Close(fd)
	}
	d.syncs = nil
}

// openDestination opens the top folder, making it and its parents if they are missing.
func (r *run) openDestination() error {
	d := r.dest
	chosen := d.only == nil && r.InPlace && !d.upper("") && r.chooser.include == nil
	d.top = newFolder(nil, "", d.dir, chosen)
	fd, made, err := r.openTop()
	if err != nil {
		return &snapshot.PathError{Op: "open", Path: d.root, Err: err}
	}
	if fd < 0 { // dry
		d.top.state = absent
		return nil
	}
	if err := r.adopt(d.top, fd, made); err != nil {
		unix.Close(fd)
		return &snapshot.PathError{Op: "stat", Path: d.root, Err: err}
	}
	switch {
	case made && r.knowsTop():
		d.top.attrs = true
		r.mark(d.top, fd)
	case made:
		return again(func() error { return unix.Fchmod(fd, 0o777&^r.umask) })
	case chosen:
		st, err := fstat(fd)
		d.top.attrs = err == nil && !r.stays(&st, d.dir.Entry)
	}
	return nil
}

// knowsTop reports whether the destination directory, if a restore makes it, is what the snapshot has: not the one that a single file was to be put into,
// unless it stood there.
func (r *run) knowsTop() bool {
	d := r.dest
	return d.only == nil || r.InPlace && (d.manifest.Single || len(d.manifest.Paths) > 1)
}

// openTop returns -1 if the directory is missing and the run is dry.
func (r *run) openTop() (fd int, made bool, err error) {
	if r.InPlace {
		return r.openOrigin(r.dest.root)
	}
	if r.DryRun {
		if _, err := os.Stat(r.dest.root); errors.Is(err, os.ErrNotExist) {
			return -1, false, nil
		}
	} else if made, err = makeTop(r.dest.root); err != nil {
		return -1, false, err
	}
	err = again(func() error {
		fd, err = unix.Open(r.dest.root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return err
	})
	return fd, made, err
}

// makeTop makes the destination directory, closed to others until it is finished, and its parents.
func makeTop(root string) (made bool, err error) {
	err = os.Mkdir(root, 0o700)
	if errors.Is(err, os.ErrNotExist) {
		if err = os.MkdirAll(path.Dir(root), 0o777); err == nil {
			err = os.Mkdir(root, 0o700)
		}
	}
	if errors.Is(err, os.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

// adopt notes what a directory is that was just opened, and gives the descriptor into keeping.
func (r *run) adopt(f *folder, fd int, made bool) error {
	st, err := fstat(fd)
	if err != nil {
		return err
	}
	if made && (st.Uid != r.euid || st.Mode&0o777&^0o700 != 0) && !r.keepsNoOwners(fd, st.Uid) {
		return ErrMoved // not what was made a moment ago
	}
	f.dev, f.ino, f.mode, f.made, f.state = uint64(st.Dev), st.Ino, st.Mode&0o7777, made, present
	f.mounted = !made && mountRoot(fd)
	h := handle{fd: fd}
	if !made || f.parent == nil || f.parent.hands {
		f.flags = h.flags()
		_, noACL := h.xattr(xattrDefaultACL)
		f.hands = noACL == nil || f.flags&flagsKept != 0 || st.Mode&unix.S_ISGID != 0 || st.Gid != r.egid
		if made && noACL == nil { // what is made in it shall not inherit it; its own comes when it is finished
			if err := h.removeXattr(xattrDefaultACL); err != nil {
				return err
			}
		}
	}
	if f.parent == nil || f.parent.dev != f.dev {
		if dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			r.mu.Lock()
			r.dest.syncs = append(r.dest.syncs, dup)
			r.mu.Unlock()
		}
	}
	if made && f.parent != nil && r.Overwrite != OverwriteAlways { // else the next run sets its attributes anyway
		r.mark(f, fd)
	}
	r.folders.add(f, fd)
	return nil
}

// openOrigin opens an original path name by name from "/", making what is missing with the attributes that the
// snapshot knows. A symlink on the way is followed only where nobody but root and the caller could have placed it.
func (r *run) openOrigin(abs string) (fd int, made bool, err error) {
	fd, err = unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	names, known, at := splitPath(abs), len(splitPath(abs)), "/"
	for links := 0; err == nil && len(names) > 0; {
		name := names[0]
		names = names[1:]
		if len(names) < known {
			known--
			at = path.Join(at, name)
		}
		var next int
		next, err = openat(fd, name, passing(names)|unix.O_DIRECTORY, 0)
		made = false
		switch {
		case notThere(err) && r.DryRun:
			unix.Close(fd)
			return -1, false, nil
		case notThere(err):
			next, err = r.makeUpper(fd, name, at)
			made = err == nil
		case err == unix.ENOTDIR || err == unix.ELOOP:
			var target string
			if target, err = r.trustedLink(fd, name); err == nil {
				if links++; links > 40 {
					err = unix.ELOOP
					break
				}
				names = append(splitPath(target), names...)
				from := "."
				if path.IsAbs(target) {
					from = "/"
				}
				next, err = unix.Openat(fd, from, passing(names)|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			}
		}
		unix.Close(fd)
		fd = next
	}
	if err != nil && fd >= 0 {
		unix.Close(fd)
	}
	return fd, made, err
}

// passing is how to open a directory on the way to names: without the right to read it, which others' need not give.
func passing(names []string) int {
	if len(names) > 0 {
		return unix.O_PATH
	}
	return unix.O_RDONLY
}

func splitPath(p string) []string {
	return strings.FieldsFunc(p, func(c rune) bool { return c == '/' })
}

// trustedLink reads a symlink that is owned by root or the caller and stands in such a directory to which nobody else can write.
func (r *run) trustedLink(dir int, name string) (string, error) {
	at, err := fstat(dir)
	if err != nil {
		return "", err
	}
	link, err := statat(dir, name)
	if err != nil {
		return "", err
	}
	if link.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", unix.ENOTDIR
	}
	own := func(uid uint32) bool { return uid == 0 || uid == r.euid }
	if !own(link.Uid) || !own(at.Uid) || at.Mode&0o022 != 0 && at.Mode&unix.S_ISVTX == 0 {
		return "", ErrUnsafeLink
	}
	return readlinkat(dir, name)
}

func readlinkat(dir int, name string) (string, error) {
	buf := make([]byte, 4097) // targets have at most 4095 bytes
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// makeUpper makes a directory above (or at) the original path of what is restored.
func (r *run) makeUpper(dir int, name, abs string) (int, error) {
	if err := unix.Mkdirat(dir, name, 0o700); err != nil {
		return -1, err
	}
	fd, err := openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil || abs == r.dest.root {
		return fd, err
	}
	h := handle{fd: fd}
	e := r.upperEntry(abs)
	if e == nil {
		return fd, h.chmod(0o777 &^ r.umask)
	}
	st, err := fstat(fd)
	if err != nil {
		return fd, err
	}
	xattrs, err := r.tree.Xattrs(r.ctx, e)
	if err != nil {
		xattrs = nil
	}
	s := setter{h: h, cur: currentOf(&st), want: wanted{entry: e, xattrs: xattrs, late: flagsLocking}}
	out, err := s.run()
	r.count.skipped.Add(out.skipped)
	if dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err == nil {
		r.uppers = append(r.uppers, upper{dup, abs, wanted{entry: e, xattrs: xattrs}})
	}
	return fd, err
}

// upper is a directory above the original path of what is restored, made by this run.
type upper struct {
	fd   int
	path string
	want wanted
}

// finishUppers gives the directories above once more what they had: what was made in them has changed their times.
func (r *run) finishUppers() {
	for _, u := range r.uppers {
		st, err := fstat(u.fd)
		if err == nil {
			s := setter{h: handle{fd: u.fd}, cur: currentOf(&st), want: u.want}
			_, err = s.run()
		}
		if err != nil {
			r.fail("set attributes of", u.path, err)
		}
	}
}

// upperEntry is what the snapshot knows of a directory at or above its sources; nil if nothing.
func (r *run) upperEntry(abs string) *snapshot.Entry {
	m := r.tree.Manifest()
	if m.Single {
		if depth := len(splitPath(abs)); depth < len(m.Above) && strings.HasPrefix(m.Paths[0], strings.TrimSuffix(abs, "/")+"/") {
			return &m.Above[depth]
		}
		rel, ok := strings.CutPrefix(abs, m.Paths[0])
		if !ok {
			return nil
		}
		abs = rel
	}
	if found, err := r.tree.Walk(r.ctx, abs); err == nil && found.Type == snapshot.TypeDir {
		return found.Entry
	}
	return nil
}
