package snapshot

import (
	"context"

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

// Cache keeps decoded pages for several Trees, up to a byte budget. Safe for concurrent use.
type Cache struct{}

// NewCache returns a cache of about so many bytes; 0 means 16 MiB.
func NewCache(bytes int64) *Cache { panic("todo") }

// Tree is a snapshot opened for reading. Safe for concurrent use. It holds no table: memory is the Cache's.
type Tree struct{}

// OpenTree reads the manifest and returns the tree; cache may be nil (one of its own).
func OpenTree(ctx context.Context, src Source, pageKey [32]byte, id store.ID, cache *Cache) (*Tree, error) {
	panic("todo")
}

// Manifest returns the snapshot's manifest.
func (t *Tree) Manifest() *Manifest { panic("todo") }

// Root returns the root directory, Position 0.
func (t *Tree) Root() Found { panic("todo") }

// Lookup finds a name in a directory in O(log n) pages: fs.ErrNotExist if there is none. A linked entry is
// returned as it stands; see Follow.
func (t *Tree) Lookup(ctx context.Context, dir Found, name string) (Found, error) { panic("todo") }

// List calls fn for the entries of a directory in byte order of their names, from the first whose Position is
// at least from (0: all), until fn returns false.
func (t *Tree) List(ctx context.Context, dir Found, from uint32, fn func(Found) bool) error {
	panic("todo")
}

// ListFrom is List beginning with the first name that is not less than name.
func (t *Tree) ListFrom(ctx context.Context, dir Found, name string, fn func(Found) bool) error {
	panic("todo")
}

// Follow replaces a linked entry by its record in the link tree, with the name kept; other entries are returned unchanged.
func (t *Tree) Follow(ctx context.Context, f Found) (Found, error) { panic("todo") }

// At returns what has a position: an entry (followed if linked), or with LinkBit a link-tree record (without a name).
func (t *Tree) At(ctx context.Context, position uint32) (Found, error) { panic("todo") }

// PathAt returns the path, beginning with "/", of a position without LinkBit; for people.
func (t *Tree) PathAt(ctx context.Context, position uint32) (string, error) { panic("todo") }

// Walk finds a path below the root ("", "/" and "." mean the root), not following symlinks.
func (t *Tree) Walk(ctx context.Context, path string) (Found, error) { panic("todo") }

// Links calls fn for every record of the link tree, in order of (FS, Inode).
func (t *Tree) Links(ctx context.Context, fn func(Found) bool) error { panic("todo") }

// Xattrs returns an entry's extended attributes, wherever they are stored.
func (t *Tree) Xattrs(ctx context.Context, e *Entry) ([]Xattr, error) { panic("todo") }

// Items calls fn for the items of a regular file's content in order, with the offset of each, from the one that
// covers offset, until fn returns false.
func (t *Tree) Items(ctx context.Context, e *Entry, offset int64, fn func(offset int64, it Item) bool) error {
	panic("todo")
}

// ReadAt reads from a regular file as io.ReaderAt does; holes read as zeros.
func (t *Tree) ReadAt(ctx context.Context, e *Entry, p []byte, off int64) (int, error) { panic("todo") }

// NextData and NextHole answer lseek's SEEK_DATA and SEEK_HOLE; io.EOF stands for ENXIO.
func (t *Tree) NextData(ctx context.Context, e *Entry, off int64) (int64, error) { panic("todo") }

// NextHole: see NextData.
func (t *Tree) NextHole(ctx context.Context, e *Entry, off int64) (int64, error) { panic("todo") }
