package restore

import (
	"context"
	"fmt"
	"time"

	"snapfs/snapshot"
	"snapfs/store"
)

// Reader is where chunks come from; *store.Store is one. If it also has *store.Store's method BlobID, files
// at the destination are compared without reading the store.
type Reader interface {
	// GetInto returns a blob, in dst's memory if that suffices.
	GetInto(ctx context.Context, kind store.Kind, id store.ID, dst []byte) ([]byte, error)
	// Locate tells where blobs lie; a zero Place where that is not known.
	Locate(ctx context.Context, ids []store.ID) ([]store.Place, error)
}

// Overwrite says what to do with what is in the way. Whatever the policy, directories are merged.
type Overwrite string

// The policies.
const (
	OverwriteAlways Overwrite = "always" // the default: "" means it
	OverwriteNewer  Overwrite = "newer"  // only what has an earlier mtime than in the snapshot
	OverwriteNever  Overwrite = "never"  // nothing that exists is touched, its attributes neither
)

// Options says where to restore to, and how. The zero value of each field is the recommendation.
type Options struct {
	Path    string // below the snapshot's directory; "" or "/": everything
	To      string // destination directory; made if missing
	InPlace bool   // the original paths instead of To
	Force   bool   // in place on another host; delete "/", with an empty snapshot or one of listed files

	Include, Exclude []string // gitignore patterns relative to Path
	Overwrite        Overwrite
	Quick            bool // equal by type, size and mtime
	Delete           bool
	Verify           bool // read back and compare what was written
	Patch            bool // write changed stretches of regular files with one link in place
	DryRun           bool

	Store    string   // the directory of the store, in which nothing is touched; "": none is known
	Protect  []string // absolute paths never touched by Delete, under whatever name: snapfs mounts, volumes
	Host     string   // this machine's name, for InPlace
	Workers  int      // 0: two per core
	Scratch  string   // for what outgrows memory; "": the system's temporary directory
	Progress func(Progress)
	OnError  func(*snapshot.PathError)
	OnItem   func(Item) // DryRun and --verbose: what is (or would be) done with each path

	oneByOne    bool // as on a kernel without openat2
	openDirs    int  // descriptors of directories kept open; 0: as many as the limits of the process suggest
	namesAtOnce int  // names of one directory held in memory by Delete; 0: 65,536
	flushEvery  int64
	syncfs      func(fd int) error
}

// Action is what was done with a path, or would be.
type Action = string

// Actions of an Item.
const (
	ActionWrite      Action = "write"      // made, replaced or patched
	ActionEqual      Action = "equal"      // nothing to do
	ActionAttributes Action = "attributes" // content equal, attributes corrected
	ActionDelete     Action = "delete"
	ActionSkip       Action = "skip" // kept because of Overwrite, or because it is the store
)

// Item is one thing done to the destination.
type Item struct {
	Path   string // absolute, at the destination
	Action Action
}

// Progress tells how far a restore is.
type Progress struct {
	Entries, EntriesTotal int64
	Bytes, BytesTotal     int64
	Current               string
}

// Result is a finished restore. Every entry is written, equal, skipped by the overwrite policy, or an error.
type Result struct {
	Entries         int64
	Written         int64 // made, replaced or patched
	Equal           int64 // those with corrected attributes included
	Deleted         int64
	BytesWritten    int64
	SkippedMetadata int64 // owners, privileged xattrs and flags that could not be set, not being root
	SkippedSockets  int64 // Dump only: tar has no sockets
	Errors          int64
	Damaged         int64 // of Errors: because stored data is damaged
	Elapsed         time.Duration
}

// Run restores. Entries that could not be written are counted in Result.Errors and given to OnError; the callbacks are
// never called concurrently. An error means that the restore ended before its end: refused (the Err values of this
// package), cancelled, or a destination that takes no more (ErrFull, ErrReadOnly); the Result then tells how far it came,
// and running it again finishes it. When Run returns without error, everything written has reached the disk.
func Run(ctx context.Context, r Reader, tree *snapshot.Tree, o Options) (*Result, error) {
	if err := o.check(); err != nil {
		return &Result{}, err
	}
	start := time.Now()
	run, err := newRun(ctx, r, tree, o)
	if err != nil {
		return &Result{}, err
	}
	defer run.close()
	err = run.restore()
	result := run.result()
	result.Elapsed = time.Since(start)
	return result, err
}

func (o *Options) check() error {
	switch o.Overwrite {
	case "":
		o.Overwrite = OverwriteAlways
	case OverwriteAlways, OverwriteNewer, OverwriteNever:
	default:
		return fmt.Errorf("overwrite %q: %w", o.Overwrite, ErrOptions)
	}
	if o.InPlace == (o.To != "") {
		return fmt.Errorf("a destination or in place: %w", ErrOptions)
	}
	return nil
}
