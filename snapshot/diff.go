package snapshot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
)

// Kinds of changes.
const (
	Added    = "added"
	Removed  = "removed"
	Modified = "modified"
)

// Change is a difference between two trees.
type Change struct {
	Path   string   // below the compared paths, beginning with "/"; "/" for these themselves
	Change string   // Added, Removed, Modified
	What   []string // of Modified, in this order: content mode owner time xattr type
}

// Diff calls fn for each difference between what two paths name, a directory before what is below it, siblings in byte
// order of their names. What is below an added or removed directory is reported name by name.
//
// content is a file's bytes, a symlink's target or a device's number; mode includes inode flags; owner is user and
// group, by number or name; time is mtime. Other times and inode numbers alone are no change. What changed its type is
// Modified.
//
// Directories and pages of large ones that both trees share are not read, unless they hold hard-linked names and the
// link trees differ: then their records are compared. Errors: a *PathError, or what fn returned, which ends the walk.
func Diff(ctx context.Context, a *Tree, pathA string, b *Tree, pathB string, fn func(Change) error) error {
	x, err := a.Walk(ctx, pathA)
	if err != nil {
		return err
	}
	y, err := b.Walk(ctx, pathB)
	if err != nil {
		return err
	}
	d := differ{a: a, b: b, sameLinks: a.SameLinks(b), fn: fn}
	return d.pair(ctx, "/", x, y)
}

// differ compares two trees.
type differ struct {
	a, b      *Tree
	sameLinks bool
	fn        func(Change) error
	fnErr     error // what fn returned
}

func (d *differ) report(path, change string, what []string) error {
	d.fnErr = d.fn(Change{Path: path, Change: change, What: what})
	return d.fnErr
}

// at gives an error of reading its path, once on its way up.
func (d *differ) at(path string, err error) error {
	var located *PathError
	if err == nil || d.fnErr != nil || errors.As(err, &located) {
		return err
	}
	return &PathError{Op: "compare", Path: path, Err: err}
}

// pair compares two entries of one name; either may be missing (no Entry).
func (d *differ) pair(ctx context.Context, path string, x, y Found) error {
	switch {
	case x.Entry == nil:
		return d.whole(ctx, d.b, path, y, Added)
	case y.Entry == nil:
		return d.whole(ctx, d.a, path, x, Removed)
	case x.Type == TypeDir && y.Type == TypeDir:
		if err := d.compare(path, x.Entry, y.Entry); err != nil {
			return err
		}
		return d.directories(ctx, path, x, y)
	}
	if x.Linked && y.Linked && d.sameLinks && x.FS == y.FS && x.Inode == y.Inode {
		return nil
	}
	fx, err := d.a.Follow(ctx, x)
	if err != nil {
		return d.at(path, err)
	}
	fy, err := d.b.Follow(ctx, y)
	if err != nil {
		return d.at(path, err)
	}
	if err := d.compare(path, fx.Entry, fy.Entry); err != nil {
		return err
	}
	if err := d.below(ctx, d.a, path, x, Removed); err != nil {
		return err
	}
	return d.below(ctx, d.b, path, y, Added)
}

func (d *differ) compare(path string, x, y *Entry) error {
	if what := differences(x, y); len(what) > 0 {
		return d.report(path, Modified, what)
	}
	return nil
}

func (d *differ) directories(ctx context.Context, path string, x, y Found) error {
	sameLinks := d.sameLinks && x.FS == y.FS // entries inherit the file system, and with it the key of their record
	skip := func(t Totals) bool { return t.Linked == 0 || sameLinks }
	if x.Dir == y.Dir && skip(x.Totals) {
		return nil
	}
	err := DiffDirs(ctx, d.a, x, d.b, y, skip, func(p, q Found) error {
		e := p.Entry
		if e == nil {
			e = q.Entry
		}
		return d.pair(ctx, joinPath(path, e.Name), p, q)
	})
	return d.at(path, err)
}

// whole reports an entry that is on one side only, and all below it.
func (d *differ) whole(ctx context.Context, t *Tree, path string, f Found, change string) error {
	if err := d.report(path, change, nil); err != nil {
		return err
	}
	return d.below(ctx, t, path, f, change)
}

func (d *differ) below(ctx context.Context, t *Tree, path string, f Found, change string) error {
	if f.Type != TypeDir {
		return nil
	}
	for it := t.Entries(f); ; {
		e, err := it.Next(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return d.at(path, err)
		}
		if err := d.whole(ctx, t, joinPath(path, e.Name), e, change); err != nil {
			return err
		}
	}
}

// joinPath appends a name to a path that begins with "/".
func joinPath(dir, name string) string {
	if dir == "/" {
		return dir + name
	}
	return dir + "/" + name
}

// differences says what differs between two entries, linked ones followed; of directories their own attributes.
func differences(x, y *Entry) []string {
	if x == y {
		return nil
	}
	var what []string
	if x.Type == y.Type && !sameContent(x, y) {
		what = append(what, "content")
	}
	if x.Mode != y.Mode || x.Flags != y.Flags {
		what = append(what, "mode")
	}
	if x.UID != y.UID || x.GID != y.GID || x.User != y.User || x.Group != y.Group {
		what = append(what, "owner")
	}
	if x.Mtime != y.Mtime {
		what = append(what, "time")
	}
	if x.XattrsID != y.XattrsID || !slices.EqualFunc(x.Xattrs, y.Xattrs, sameXattr) {
		what = append(what, "xattr")
	}
	if x.Type != y.Type {
		what = append(what, "type")
	}
	return what
}

// sameContent compares what two entries of one type hold; of directories nothing.
func sameContent(x, y *Entry) bool {
	switch x.Type {
	case TypeFile:
		return x.Size == y.Size && x.Content.List == y.Content.List && slices.Equal(x.Content.Items, y.Content.Items)
	case TypeSymlink:
		return x.Target == y.Target
	case TypeChar, TypeBlock:
		return x.Rdev == y.Rdev
	}
	return true
}

func sameXattr(a, b Xattr) bool { return a.Name == b.Name && bytes.Equal(a.Value, b.Value) }
