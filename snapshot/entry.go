package snapshot

import (
	"context"

	"snapfs/store"
)

// Source is where nodes, manifests and chunks are read from. *store.Store is one.
type Source interface {
	Get(ctx context.Context, kind store.Kind, id store.ID) ([]byte, error)
}

// Sink is where they are put. *store.Writer is one.
type Sink interface {
	Put(ctx context.Context, kind store.Kind, data []byte) (store.ID, error)
}

// Type is what an entry is.
type Type uint8

// Types of entries. On disk; append only.
const (
	TypeFile    Type = 1
	TypeDir     Type = 2
	TypeSymlink Type = 3
	TypeFIFO    Type = 4
	TypeSocket  Type = 5
	TypeChar    Type = 6
	TypeBlock   Type = 7
)

// Time is a file time: seconds since 1970 (negative before) and 0..999,999,999 nanoseconds after them.
type Time struct {
	Sec  int64
	Nsec uint32
}

// Xattr is one extended attribute, with its full name ("user.x", "system.posix_acl_access").
type Xattr struct {
	Name  string
	Value []byte
}

// Item is a stretch of a file: a chunk, or a hole if ID is zero.
type Item struct {
	ID     store.ID
	Length int64
}

// Content is a file's list of items: in the entry when short, else in pages below List.
// Both empty: an empty file.
type Content struct {
	Items []Item
	List  store.ID
	Holes int64 // with List: the bytes of it that are holes
}

// Totals are sums over everything below a directory, the directory itself not counted.
type Totals struct {
	Entries uint64 // names, directories included
	Bytes   uint64 // sizes of regular files that are not linked
	Linked  uint64 // names whose entry is in the link tree
}

// Entry is one name in a directory, the root of a snapshot, or a record of the link tree.
// Entries returned by this package are shared and must not be changed.
type Entry struct {
	Name   string // any bytes but NUL and '/'
	Type   Type
	Linked bool   // only Name, Type, FS and Inode are set: the rest is in the link tree's record
	Fresh  bool   // mtime or ctime was not older than a clock tick when read: read again next time
	FS     uint32 // index into Manifest.FileSystems; stored only where it changes
	Inode  uint64 // at the source

	Mode        uint32 // permission, set-id and sticky bits: 07777
	Flags       uint32 // inode flags, FS_IOC_GETFLAGS
	UID, GID    uint32
	User, Group string // names at the source; "" if unknown
	Rdev        uint64 // devices: as in stat
	Size        int64  // regular files and symlinks, bytes
	Mtime       Time
	Ctime       Time
	Btime       Time // zero if unknown

	Target   string // of a symlink
	Xattrs   []Xattr
	XattrsID store.ID // set instead of Xattrs when they exceed 1 KiB: Tree.Xattrs reads both
	Content  Content  // regular files
	Dir      store.ID // directories: root page; zero if empty
	Totals   Totals   // directories

	Nlink uint32 // link-tree records: names in this snapshot; 0 elsewhere (means 1)
}

// FileSystem is one file system the snapshot reaches into.
type FileSystem struct {
	Index     uint32
	MountPath string
	Type      string // ext4, xfs ...
	UUID      string // "" if unknown
}

// PathError is an error met while reading a source path.
type PathError struct {
	Op   string
	Path string
	Err  error
}

func (e *PathError) Error() string { return e.Op + " " + e.Path + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *PathError) Unwrap() error { return e.Err }
