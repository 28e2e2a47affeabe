package snapshot

import (
	"context"
	"errors"
	"io"

	"snapfs/store"
)

// Affected says that a path of a snapshot needs a blob that is damaged. Of a damaged page of a directory, that is the
// directory: what it held can no longer be named. "/" stands for all of a snapshot.
type Affected struct {
	Snapshot *store.Snapshot
	Path     string
	Blob     store.ID
	Entry    *Entry // of a file, with the record of its content; nil for directories and for snapshots that cannot be read
	Tree     *Tree  // nil if the manifest is damaged
}

// FindAffected calls fn for every path of the complete snapshots that needs one of the blobs, hard-linked names each, a path once
// for each blob. Directories shared by snapshots are walked again only where something is damaged. fn's error ends it.
func FindAffected(ctx context.Context, st Store, damaged func(store.ID) bool, fn func(Affected) error) error {
	state, err := st.State(ctx)
	if err != nil {
		return err
	}
	w := &affectedWalk{st: st, damaged: damaged, fn: fn, clean: map[cleanKey]struct{}{}, cache: NewCache(0)}
	for i := range state.Snapshots {
		s := &state.Snapshots[i]
		if s.Partial {
			continue
		}
		if err := w.snapshot(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// cleanKey names a subtree: its root page, and the link tree if it has linked names.
type cleanKey struct{ dir, links store.ID }

// maxClean bounds what is remembered of subtrees that need nothing damaged, 64 bytes each or so.
const maxClean = 1 << 20

// affectedWalk looks for the paths that need damaged blobs.
type affectedWalk struct {
	st      Store
	damaged func(store.ID) bool
	fn      func(Affected) error
	clean   map[cleanKey]struct{}
	cache   *Cache

	s     *store.Snapshot
	tree  *Tree
	links store.ID         // the link tree that hurt is of
	hurt  map[key]struct{} // its records that are affected
	lost  bool             // pages of it cannot be read
	path  []byte           // of the directory being walked, without a slash at the end
}

func (w *affectedWalk) snapshot(ctx context.Context, s *store.Snapshot) error {
	w.s, w.tree, w.path = s, nil, w.path[:0]
	tree, err := OpenTree(ctx, w.st, w.st.PageKey(), s.ID, w.cache)
	if err != nil {
		if ctx.Err() != nil || !isDamage(err) {
			return err
		}
		return w.report("/", s.ID, nil)
	}
	w.tree = tree
	root := tree.Root()
	if err := w.readLinks(ctx); err != nil {
		return err
	}
	if _, err := w.attributes(root, "/"); err != nil {
		return err
	}
	_, err = w.directory(ctx, root)
	return err
}

func (w *affectedWalk) report(path string, id store.ID, e *Entry) error {
	return w.fn(Affected{Snapshot: w.s, Path: path, Blob: id, Entry: e, Tree: w.tree})
}

// readLinks finds the records of the link tree that are affected.
func (w *affectedWalk) readLinks(ctx context.Context) error {
	if w.links == w.tree.LinkTree() {
		return nil
	}
	w.links, w.hurt, w.lost = w.tree.LinkTree(), map[key]struct{}{}, false
	err := w.tree.Links(ctx, func(f Found) bool {
		if w.needs(ctx, f.Entry, func(store.ID) bool { return false }) {
			w.hurt[key{fs: f.FS, inode: f.Inode}] = struct{}{}
		}
		return true
	})
	if err != nil && ctx.Err() == nil && isDamage(err) {
		w.lost, err = true, nil // each name is looked up by itself
	}
	return err
}

// needs reports whether an entry's attributes or content need damaged blobs; each is given to fn while that returns true.
func (w *affectedWalk) needs(ctx context.Context, e *Entry, fn func(store.ID) bool) (found bool) {
	if !e.XattrsID.IsZero() && w.damaged(e.XattrsID) {
		if found = true; !fn(e.XattrsID) {
			return true
		}
	}
	err := w.tree.Items(ctx, e, 0, func(_ int64, it Item) bool {
		if it.ID.IsZero() || !w.damaged(it.ID) {
			return true
		}
		found = true
		return fn(it.ID)
	})
	var node *NodeError
	if err != nil && errors.As(err, &node) && ctx.Err() == nil {
		found = true
		fn(node.ID)
	}
	return found
}

// file reports what an entry needs, once for each blob.
func (w *affectedWalk) file(ctx context.Context, e *Entry, path string) (hit bool, err error) {
	seen := map[store.ID]bool{}
	hit = w.needs(ctx, e, func(id store.ID) bool {
		if !seen[id] {
			seen[id] = true
			err = w.report(path, id, e)
		}
		return err == nil
	})
	return hit, err
}

// attributes reports a directory whose attributes are damaged.
func (w *affectedWalk) attributes(f Found, path string) (hit bool, err error) {
	if f.XattrsID.IsZero() || !w.damaged(f.XattrsID) {
		return false, nil
	}
	return true, w.report(path, f.XattrsID, nil)
}

// directory walks what is below a directory, unless it is known to need nothing damaged.
func (w *affectedWalk) directory(ctx context.Context, dir Found) (hit bool, err error) {
	k := cleanKey{dir: dir.Dir}
	if dir.Totals.Linked > 0 {
		k.links = w.tree.LinkTree()
	}
	if _, clean := w.clean[k]; clean || dir.Dir.IsZero() {
		return false, nil
	}
	if w.damaged(dir.Dir) {
		return true, w.report(w.pathOf(""), dir.Dir, nil)
	}
	hit, err = w.entries(ctx, dir)
	if err == nil && !hit && len(w.clean) < maxClean {
		w.clean[k] = struct{}{}
	}
	return hit, err
}

// entries goes through a directory; pages of it that are damaged are passed over.
func (w *affectedWalk) entries(ctx context.Context, dir Found) (hit bool, err error) {
	skip := map[store.ID]bool{}
	it := w.tree.Entries(dir)
	it.enter = func(id store.ID, _ Totals) bool { return !skip[id] }
	for {
		f, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			return hit, nil
		}
		var node *NodeError
		if err != nil && ctx.Err() == nil && errors.As(err, &node) {
			if err := w.report(w.pathOf(""), node.ID, nil); err != nil || skip[node.ID] || node.ID == dir.Dir {
				return true, err
			}
			hit, skip[node.ID] = true, true
			continue
		}
		if err != nil {
			return hit, err
		}
		below, err := w.entry(ctx, f)
		if err != nil {
			return hit, err
		}
		hit = hit || below
	}
}

func (w *affectedWalk) entry(ctx context.Context, f Found) (hit bool, err error) {
	switch {
	case f.Linked:
		return w.linked(ctx, f)
	case f.Type != TypeDir:
		if f.XattrsID.IsZero() && f.Content.List.IsZero() && len(f.Content.Items) == 0 {
			return false, nil
		}
		return w.file(ctx, f.Entry, w.pathOf(f.Name))
	}
	hit, err = w.attributes(f, w.pathOf(f.Name))
	if err != nil {
		return hit, err
	}
	length := len(w.path)
	w.path = append(append(w.path, '/'), f.Name...)
	below, err := w.directory(ctx, f)
	w.path = w.path[:length]
	return hit || below, err
}

// linked reports a name of an inode with several.
func (w *affectedWalk) linked(ctx context.Context, f Found) (hit bool, err error) {
	if _, hurt := w.hurt[key{fs: f.FS, inode: f.Inode}]; !hurt && !w.lost {
		return false, nil
	}
	full, err := w.tree.Follow(ctx, f)
	var node *NodeError
	switch {
	case err == nil:
		return w.file(ctx, full.Entry, w.pathOf(f.Name))
	case ctx.Err() == nil && errors.As(err, &node):
		return true, w.report(w.pathOf(f.Name), node.ID, nil)
	case ctx.Err() == nil && isDamage(err):
		return true, w.report(w.pathOf(f.Name), w.tree.LinkTree(), nil)
	}
	return false, err
}

// pathOf is the path of a name in the directory being walked; of the directory itself without a name.
func (w *affectedWalk) pathOf(name string) string {
	switch {
	case name != "":
		return string(w.path) + "/" + name
	case len(w.path) == 0:
		return "/"
	}
	return string(w.path)
}
