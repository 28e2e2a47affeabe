package snapshot

import (
	"context"
	"fmt"
	"time"

	"snapfs/store"
)

// Bounds of the list of errors in a manifest.
const (
	MaxErrors      = 10_000
	maxErrorsBytes = 1 << 20
)

// How a backup found what had changed. On disk; append only.
const (
	FoundByScan    = "scan"
	FoundByJournal = "journal"
	FoundByStream  = "stream"
)

// Manifest is what a snapshot is: its blob's ID is the snapshot's ID.
type Manifest struct {
	Dataset  string // as named at the time
	Name     string // directory name in the mount
	Host     string
	User     string
	Paths    []string // absolute source paths, sorted; for a stream "/NAME"
	Excludes []string // patterns, gitignore syntax, relative to each path; those of files with patterns included

	// What else was left out.
	IgnoreFiles       bool  // what ignore files in the tree match
	ExcludeCaches     bool  // directories with a CACHEDIR.TAG
	OneFileSystem     bool  // other file systems below the paths
	ExcludeLargerThan int64 // files of more bytes; 0: none
	OnlyListed        bool  // what a list of files did not name

	Start, End     time.Time
	Offset         int      // of the backup command's zone, seconds east of UTC
	Parent         store.ID // zero: none
	Root           Entry    // attributes of the source directory (one path), or of "/" (several, single file, stream)
	Single         bool     // one directory path: the root shows its contents; else the root shows absolute paths or the file
	Above          []Entry  // attributes of the directories above a single path, outermost ("/") first
	LinkTree       store.ID // zero: no linked names
	Links          uint64   // records in the link tree
	FileSystems    []FileSystem
	Totals         Totals // of the whole snapshot, Bytes with linked names counted each
	Errors         []FileError
	ErrorCount     uint64 // all of them; Errors holds the first 10,000, of 1 MiB at most
	Found          string
	Tags           []string
	Program        string
	Unstable       uint64
	StartedEarlier bool // start lies before the parent's

	// Origin of an import; zero otherwise.
	OriginStore    string
	OriginSnapshot store.ID
}

// FileError is a path that existed and could not be read.
type FileError struct {
	Path  string
	Error string
}

// WriteManifest stores m and returns the snapshot's ID. Of m.Errors as many are kept as are allowed;
// m.ErrorCount counts all.
func WriteManifest(ctx context.Context, sink Sink, m *Manifest) (store.ID, error) {
	if err := m.check(); err != nil {
		return store.ID{}, err
	}
	id, err := sink.Put(ctx, store.KindManifest, m.encode())
	if err != nil {
		return store.ID{}, fmt.Errorf("storing the manifest: %w", err)
	}
	return id, nil
}

// ReadManifest reads a snapshot's manifest. Errors: *NodeError.
func ReadManifest(ctx context.Context, src Source, id store.ID) (*Manifest, error) {
	data, err := src.Get(ctx, store.KindManifest, id)
	if err != nil {
		return nil, &NodeError{store.KindManifest, id, err}
	}
	m, _, err := decodeManifest(data)
	if err != nil {
		return nil, &NodeError{store.KindManifest, id, err}
	}
	return m, nil
}

// check refuses what no reader would accept.
func (m *Manifest) check() error {
	if err := checkManifestEntry(&m.Root); err != nil {
		return fmt.Errorf("root: %w", err)
	}
	for i := range m.Above {
		if err := checkManifestEntry(&m.Above[i]); err != nil {
			return fmt.Errorf("directory above: %w", err)
		}
	}
	for i, fs := range m.FileSystems {
		if i > 0 && fs.Index <= m.FileSystems[i-1].Index {
			return fmt.Errorf("%w: file systems out of order", ErrEntry)
		}
	}
	if m.LinkTree.IsZero() != (m.Links == 0) || m.Links > maxEntries || m.Totals.Entries > maxEntries {
		return fmt.Errorf("%w: impossible totals", ErrEntry)
	}
	return nil
}

func checkManifestEntry(e *Entry) error {
	if e.Type != TypeDir || e.Linked {
		return fmt.Errorf("%w: not a directory", ErrEntry)
	}
	return e.check()
}

// keptErrors is how many errors fit into the manifest.
func keptErrors(list []FileError) int {
	size := 0
	for i, e := range list {
		if size += len(e.Path) + len(e.Error) + 8; size > maxErrorsBytes || i == MaxErrors {
			return i
		}
	}
	return len(list)
}
