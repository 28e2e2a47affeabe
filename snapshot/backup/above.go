package backup

import (
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

// entryAt describes a directory by its path, with its attributes but without contents.
func (r *run) entryAt(path string) (*snapshot.Entry, error) {
	fd, err := openDirectory(unix.AT_FDCWD, appendName(nil, path), true)
	if err != nil {
		return nil, &snapshot.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	if err := statxFD(fd, &st); err != nil {
		return nil, &snapshot.PathError{Op: "stat", Path: path, Err: err}
	}
	e := &snapshot.Entry{}
	if path != "/" {
		e.Name = filepath.Base(path)
	}
	fs := r.fs.of(devOf(&st), func() string { return path }, true)
	r.describe(e, &st, fs, r.now())
	e.Flags = inodeFlags(fd, fs)
	var x xattrReader
	e.Xattrs, err = r.xattrsAt(&x, fd, appendName(nil, "."))
	if err != nil {
		return nil, &snapshot.PathError{Op: "read attributes of", Path: path, Err: err}
	}
	slices.SortFunc(e.Xattrs, func(a, b snapshot.Xattr) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	r.noteXattrs(e.Xattrs)
	return e, nil
}

// above describes the directories above a path, outermost first: who may pass them decides who may see what is below.
func (r *run) above(path string) []snapshot.Entry {
	var out []snapshot.Entry
	for path != "/" {
		path = filepath.Dir(path)
		e, err := r.entryAt(path)
		if err != nil {
			r.warn("attributes of a directory above the source are not saved: " + err.Error())
			e = &snapshot.Entry{Type: snapshot.TypeDir, Mode: 0o700}
			if path != "/" {
				e.Name = filepath.Base(path)
			}
		}
		out = append(out, *e)
	}
	slices.Reverse(out)
	return out
}
