package snapshot

import (
	"context"
	"io"
	"io/fs"
	"strings"
	"syscall"

	"snapfs/store"
)

// Found is an entry and where it stands in its snapshot.
type Found struct {
	*Entry
	// Position is the preorder rank: 0 for the root, then every name in directory order. For a link-tree record
	// it is the rank in the link tree with LinkBit set. Inode number in the mount = slot << 32 | Position.
	Position uint32
}

// LinkBit marks positions in the link tree.
const LinkBit uint32 = 1 << 31

// Tree is a snapshot opened for reading. Safe for concurrent use. It holds no table: memory is the Cache's.
// Errors of its methods are *NodeError where a stored blob is to blame.
type Tree struct {
	src      Source
	pageKey  [32]byte
	manifest *Manifest
	cache    *Cache
}

// OpenTree reads the manifest and returns the tree; cache may be nil (one of its own).
func OpenTree(ctx context.Context, src Source, pageKey [32]byte, id store.ID, cache *Cache) (*Tree, error) {
	m, err := ReadManifest(ctx, src, id)
	if err != nil {
		return nil, err
	}
	if cache == nil {
		cache = NewCache(0)
	}
	return &Tree{src: src, pageKey: pageKey, manifest: m, cache: cache}, nil
}

// PageKey is the key whose hash cuts the store's pages: for writing a directory anew.
func (t *Tree) PageKey() [32]byte { return t.pageKey }

// Manifest returns the snapshot's manifest.
func (t *Tree) Manifest() *Manifest { return t.manifest }

// Root returns the root directory, Position 0.
func (t *Tree) Root() Found { return Found{Entry: &t.manifest.Root} }

// Lookup finds a name in a directory in O(log n) pages: fs.ErrNotExist if there is none. A linked entry is
// returned as it stands; see Follow.
func (t *Tree) Lookup(ctx context.Context, dir Found, name string) (Found, error) {
	if dir.Type != TypeDir {
		return Found{}, syscall.ENOTDIR
	}
	if dir.Dir.IsZero() {
		return Found{}, fs.ErrNotExist
	}
	k := key{name: name}
	base := uint64(dir.Position) + 1
	p, err := t.page(ctx, dirRef(dir.Entry))
	for err == nil {
		i := p.seek(k)
		if p.level == 0 {
			if i == p.len() || p.entries[i].Name != name {
				return Found{}, fs.ErrNotExist
			}
			return found(p, i, base), nil
		}
		base += p.before[i]
		p, err = t.child(ctx, p, i, dir.FS)
	}
	return Found{}, err
}

// found is entry i of a leaf whose first entry has position base.
func found(p *page, i int, base uint64) Found {
	return Found{Entry: &p.entries[i], Position: uint32(base + p.before[i])}
}

// List calls fn for the entries of a directory in byte order of their names, from the first whose Position is
// at least from (0: all), until fn returns false.
func (t *Tree) List(ctx context.Context, dir Found, from uint32, fn func(Found) bool) error {
	it := t.Entries(dir)
	it.fromPosition(from)
	return it.each(ctx, fn)
}

// ListFrom is List beginning with the first name that is not less than name.
func (t *Tree) ListFrom(ctx context.Context, dir Found, name string, fn func(Found) bool) error {
	it := t.Entries(dir)
	it.fromName(name)
	return it.each(ctx, fn)
}

// Pages is List of a whole directory, but asks enter before it reads a page, with the page's ID and the totals
// of what it holds and all below; if enter returns false the page is left out. The same ID means the same
// names and entries (linked ones may differ in their records) and the same directories below.
func (t *Tree) Pages(ctx context.Context, dir Found, enter func(store.ID, Totals) bool, fn func(Found) bool) error {
	if !dir.Dir.IsZero() && !enter(dir.Dir, dir.Totals) {
		return nil
	}
	it := t.Entries(dir)
	it.enter = enter
	return it.each(ctx, fn)
}

func (it *DirIter) each(ctx context.Context, fn func(Found) bool) error {
	for {
		f, err := it.Next(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if !fn(f) {
			return nil
		}
	}
}

// Walk finds a path below the root ("", "/" and "." mean the root), not following symlinks. Errors:
// fs.ErrNotExist, syscall.ENOTDIR; wrapped in a *PathError.
func (t *Tree) Walk(ctx context.Context, path string) (Found, error) {
	at := t.Root()
	for rest := path; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		if name == "" || name == "." {
			continue
		}
		next, err := t.Lookup(ctx, at, name)
		if err != nil {
			return Found{}, &PathError{Op: "look up", Path: path, Err: err}
		}
		at = next
	}
	return at, nil
}

// ref says where a page is and what it must be.
type ref struct {
	id    store.ID
	kind  pageKind
	fs    uint32
	level int // -1: any, for a root
	sum   sums
}

func dirRef(dir *Entry) ref {
	return ref{id: dir.Dir, kind: pageDirectory, fs: dir.FS, level: -1, sum: sums{Totals: dir.Totals}}
}

// page returns a page that is what r says.
func (t *Tree) page(ctx context.Context, r ref) (*page, error) {
	p, err := t.cache.get(ctx, t.src, cacheKey{id: r.id, kind: r.kind, fs: r.fs})
	if err != nil {
		return nil, err
	}
	if r.level >= 0 && p.level != r.level {
		return nil, &NodeError{store.KindNode, r.id, malformed("page of level %d, not %d", p.level, r.level)}
	}
	same := p.sum == r.sum
	if r.level < 0 && r.kind == pageLinks {
		same = p.sum.Entries == r.sum.Entries // the manifest says no more of a link tree
	}
	if !same {
		return nil, &NodeError{store.KindNode, r.id, malformed("totals are not those above the page")}
	}
	return p, nil
}

// child returns the page below record i of p. fs is the directory's file system.
func (t *Tree) child(ctx context.Context, p *page, i int, fs uint32) (*page, error) {
	b := &p.branches[i]
	c, err := t.page(ctx, ref{id: b.id, kind: p.kind, fs: fs, level: p.level - 1, sum: b.sum})
	if err != nil || p.kind == pageContent {
		return c, err
	}
	if c.key(0) != b.first || i+1 < p.len() && c.key(c.len()-1).compare(p.branches[i+1].first) >= 0 {
		return nil, &NodeError{store.KindNode, b.id, malformed("keys are not those above the page")}
	}
	return c, nil
}
