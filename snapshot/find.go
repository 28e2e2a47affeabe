package snapshot

import "context"

// Match is a hit of Find.
type Match struct {
	Snapshot Listed
	Path     string
	Entry    *Entry // followed if linked
}

// FindOptions says where to look and for what.
type FindOptions struct {
	Pattern   string
	Regexp    bool
	Snapshots []Listed
	Memory    int64 // for what is known of directories seen before, bytes; 0: 64 MiB

	Progress func(FindProgress) // called often; may be nil
}

// FindProgress is how far a search is.
type FindProgress struct {
	Snapshots int // searched
	Pages     int64
	Current   string // the directory in work
}

// Find calls fn for every entry that matches in every snapshot, in the order of the snapshots and in each a directory
// before what is below it, siblings in byte order of their names.
//
// A pattern without a slash is matched against base names, else against the whole path from the snapshot's directory,
// where "*" does not match a slash and "**" stands for any number of names; it is a shell pattern (its first slash may
// be left out) or, with Regexp, an RE2 expression that may match anywhere. Shell patterns match byte by byte; in RE2
// only wildcards match bytes that are no UTF-8.
//
// Each distinct node is read once, however many snapshots share it, as long as what is known of all of them fits into
// Memory; beyond it nodes are read again. Directories that cannot be read because stored data is damaged are left out;
// their errors come joined at the end. Other errors: *PatternError, and what fn returned, which ends the search.
func Find(ctx context.Context, st Store, o FindOptions, fn func(Match) error) error {
	p, err := newPathPattern(o.Pattern, o.Regexp)
	if err != nil {
		return err
	}
	f := finder{pattern: p, fn: fn, memo: newFindMemo(o.Memory), progress: o.Progress}
	cache := NewCache(0)
	for i := range o.Snapshots {
		if err := f.snapshot(ctx, st, &o.Snapshots[i], cache); err != nil {
			return err
		}
		f.done.Snapshots++
	}
	return f.damage.err()
}

// finder searches one snapshot after the other.
type finder struct {
	pattern  *pathPattern
	fn       func(Match) error
	memo     *findMemo
	damage   damage
	progress func(FindProgress)
	done     FindProgress

	at   *Listed // the snapshot in work
	tree *Tree
}

func (f *finder) snapshot(ctx context.Context, st Store, s *Listed, cache *Cache) error {
	tree, err := OpenTree(ctx, st, st.PageKey(), s.ID, cache)
	if err != nil {
		return f.failed(ctx, &PathError{Op: "search", Path: s.Ref(), Err: err})
	}
	f.at, f.tree = s, tree
	f.memo.nextSnapshot()
	_, err = f.directory(ctx, tree.Root().Entry, "/")
	return err
}

// failed returns nil for damage, which is remembered.
func (f *finder) failed(ctx context.Context, err error) error {
	if f.damage.take(ctx, err) {
		return nil
	}
	return err
}

// directory searches a directory and returns what is known of it now, nil if that could not be kept.
func (f *finder) directory(ctx context.Context, dir *Entry, path string) (*findNode, error) {
	if dir.Dir.IsZero() || !f.pattern.enter(path) {
		return noFinds, nil
	}
	return f.page(ctx, dirRef(dir), path, func() (*page, error) { return f.tree.page(ctx, dirRef(dir)) })
}

// page searches a page of the directory at path; load reads it.
func (f *finder) page(ctx context.Context, r ref, path string, load func() (*page, error)) (*findNode, error) {
	k := f.key(r, path)
	if n, ok := f.memo.get(k); ok {
		return n, f.replay(ctx, n, path)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p, err := load()
	if err != nil {
		return nil, f.failed(ctx, &PathError{Op: "search", Path: f.at.Ref() + ":" + path, Err: err})
	}
	if f.done.Pages++; f.progress != nil {
		f.done.Current = path
		f.progress(f.done)
	}
	n := &findNode{}
	for i := range p.len() {
		if n, err = f.record(ctx, n, p, i, r.fs, path); err != nil {
			return nil, err
		}
	}
	return f.memo.put(k, n), nil
}

// record searches one record of a page and adds the finds to n, if that is not nil. It returns n, or nil when the
// finds could not be kept.
func (f *finder) record(ctx context.Context, n *findNode, p *page, i int, fs uint32, path string) (*findNode, error) {
	if p.level > 0 {
		b := &p.branches[i]
		below, err := f.page(ctx, ref{id: b.id, fs: fs}, path, func() (*page, error) { return f.tree.child(ctx, p, i, fs) })
		return n.add(findPart{below: below}), err
	}
	e := &p.entries[i]
	hit := f.pattern.match(path, e.Name)
	if !hit && e.Type != TypeDir {
		return n, nil
	}
	part := findPart{name: e.Name, below: noFinds}
	at := joinPath(path, e.Name)
	if hit {
		if err := f.emit(ctx, e, at); err != nil {
			return nil, err
		}
		part.hit = e
	}
	if e.Type == TypeDir {
		var err error
		if part.below, err = f.directory(ctx, e, at); err != nil {
			return nil, err
		}
	}
	return n.add(part), nil
}

func (f *finder) emit(ctx context.Context, e *Entry, path string) error {
	followed, err := f.tree.Follow(ctx, Found{Entry: e})
	if err != nil {
		return f.failed(ctx, &PathError{Op: "search", Path: f.at.Ref() + ":" + path, Err: err})
	}
	return f.fn(Match{Snapshot: *f.at, Path: path, Entry: followed.Entry})
}

// replay reports what is known of a page again, for the snapshot in work.
func (f *finder) replay(ctx context.Context, n *findNode, path string) error {
	for i := range n.parts {
		part := &n.parts[i]
		at := path
		if part.name != "" {
			at = joinPath(path, part.name)
		}
		if part.hit != nil {
			if err := f.emit(ctx, part.hit, at); err != nil {
				return err
			}
		}
		if err := f.replay(ctx, part.below, at); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// key is what the finds below a page depend on.
func (f *finder) key(r ref, path string) findKey {
	k := findKey{id: r.id, fs: r.fs}
	if f.pattern.whole {
		k.path = path
	}
	return k
}
