package backup

import (
	"context"
	"io"
	"time"

	"snapfs/snapshot"
	"snapfs/store"
)

// Options says what to take a snapshot of, and how. The zero value of each field is the recommendation.
type Options struct {
	Paths   []string // as given: made absolute, merged, a symlink itself followed
	Dataset string   // "": made from the single path
	Tags    []string
	Host    string // "": this machine's name
	Time    time.Time
	Program string

	Exclude           []string // gitignore patterns
	ExcludeFiles      []string // files of such patterns
	IgnoreFiles       bool     // honour .gitignore-like ignore files found in the tree
	ExcludeCaches     bool     // CACHEDIR.TAG
	ExcludeLargerThan int64    // bytes; 0: no limit
	OneFileSystem     bool
	Files             []string // --files-from: save just these (and what is below them)
	UseFiles          bool     // Files counts even when it is empty

	Reread        bool // read every file
	IgnoreInode   bool
	IgnoreCtime   bool
	NewSource     bool // allow another host or other paths than the dataset's newest snapshot
	SkipUnchanged bool
	DryRun        bool
	Wait          bool // for another backup of the dataset

	Workers         int           // 0: one per core
	PartialInterval time.Duration // 0: 10 minutes
	Progress        func(Progress)
	OnError         func(*snapshot.PathError) // each path that existed and could not be read
	Warn            func(msg string)
}

// Progress tells how far a backup is; called at most a few times a second, never concurrently.
type Progress struct {
	Entries, Files int64
	Bytes          int64 // logical size of files seen
	BytesRead      int64
	BytesStored    int64
	Errors         int64
	Current        string
}

// Result is a finished backup.
type Result struct {
	Snapshot    store.Snapshot // zero when dry or skipped
	Dataset     string
	Parent      store.ID
	Entries     int64 // everything below the root
	New         int64 // non-directories, each hard-link name once
	Changed     int64
	Unchanged   int64
	Removed     int64
	Unstable    int64
	Bytes       int64
	BytesRead   int64
	BytesStored int64
	Errors      int64
	Skipped     bool // --skip-unchanged and nothing had changed
	Elapsed     time.Duration
}

// Run takes a snapshot of paths. The snapshot exists when it returns without error; paths that could not be read are
// counted in Result.Errors and given to OnError. Errors: ErrNothingSaved, ErrNewSource, *store.LockedError ...
func Run(ctx context.Context, st *store.Store, o Options) (*Result, error) { panic("todo") }

// StreamOptions says how to save one stream.
type StreamOptions struct {
	Name          string // the file is SNAP:/NAME
	Dataset       string // "": Name
	Tags          []string
	Host          string
	Time          time.Time
	Program       string
	NewSource     bool
	AllowEmpty    bool
	SkipUnchanged bool
	Wait          bool
	Progress      func(Progress)
	Warn          func(msg string)
}

// RunStream saves r as one file. finish is called at the end of the stream, before the commit; its error (a command
// that failed) commits nothing and is returned. finish may be nil. Errors: ErrEmptyStream.
func RunStream(ctx context.Context, st *store.Store, r io.Reader, finish func() error, o StreamOptions) (*Result, error) {
	panic("todo")
}
