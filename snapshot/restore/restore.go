package restore

import (
	"context"
	"io"
	"time"

	"snapfs/snapshot"
	"snapfs/store"
)

// Reader is where chunks come from; *store.Store is one.
type Reader interface {
	Get(ctx context.Context, kind store.Kind, id store.ID) ([]byte, error)
	GetInto(ctx context.Context, kind store.Kind, id store.ID, dst []byte) ([]byte, error)
	Locate(ctx context.Context, ids []store.ID) ([]store.Place, error)
	Prefetch(kind store.Kind, ids ...store.ID)
}

// Overwrite says what to do with what is in the way.
type Overwrite string

// The policies.
const (
	OverwriteAlways Overwrite = "always" // the default: "" means it
	OverwriteNewer  Overwrite = "newer"
	OverwriteNever  Overwrite = "never"
)

// Options says where to restore to, and how. The zero value of each field is the recommendation.
type Options struct {
	Path    string // below the snapshot's directory; "" or "/": everything
	To      string // destination directory; made if missing
	InPlace bool   // the original paths instead of To
	Force   bool   // in place on another host; delete "/" or with an empty snapshot

	Include, Exclude []string // gitignore patterns relative to Path
	Overwrite        Overwrite
	Quick            bool // equal by type, size and mtime
	Delete           bool
	Verify           bool // read back and compare what was written
	Patch            bool // write changed stretches of regular files with one link in place
	DryRun           bool

	Protect  []string // absolute paths never touched by Delete: the store, snapfs mounts
	Host     string   // this machine's name, for InPlace
	Workers  int
	Scratch  string // for spilled places; "": the system's temporary directory
	Progress func(Progress)
	OnError  func(*snapshot.PathError)
	OnItem   func(Item) // DryRun and --verbose: what is (or would be) done with each path
}

// Item is one thing done to the destination.
type Item struct {
	Path   string
	Action string // write, equal, delete, skip, attributes
}

// Progress tells how far a restore is.
type Progress struct {
	Entries, EntriesTotal int64
	Bytes, BytesTotal     int64
	Current               string
}

// Result is a finished restore.
type Result struct {
	Entries         int64
	Written         int64
	Equal           int64
	Deleted         int64
	BytesWritten    int64
	SkippedMetadata int64 // owners, privileged xattrs and flags that could not be set, not being root
	Errors          int64
	Damaged         int64 // of Errors: because stored data is damaged
	Elapsed         time.Duration
}

// Run restores. Entries that could not be written are counted in Result.Errors and given to OnError.
func Run(ctx context.Context, r Reader, tree *snapshot.Tree, o Options) (*Result, error) {
	panic("todo")
}

// Dump writes the subtree at path as a PAX tar stream.
func Dump(ctx context.Context, r Reader, tree *snapshot.Tree, path string, w io.Writer) (*Result, error) {
	panic("todo")
}
