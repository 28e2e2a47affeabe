package snapshot

import (
	"context"
	"time"

	"snapfs/store"
)

// How a backup found what had changed. On disk; append only.
const (
	FoundByScan    = "scan"
	FoundByJournal = "journal"
	FoundByStream  = "stream"
)

// Manifest is what a snapshot is: its blob's ID is the snapshot's ID.
type Manifest struct {
	Dataset        string // as named at the time
	Name           string // directory name in the mount
	Host           string
	User           string
	Paths          []string // absolute source paths, sorted; for a stream "/NAME"
	Excludes       []string
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
	ErrorCount     uint64 // Errors holds the first 10,000
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

// WriteManifest stores m and returns the snapshot's ID.
func WriteManifest(ctx context.Context, sink Sink, m *Manifest) (store.ID, error) { panic("todo") }

// ReadManifest reads a snapshot's manifest.
func ReadManifest(ctx context.Context, src Source, id store.ID) (*Manifest, error) { panic("todo") }

// Summary is what lists show of a snapshot without reading its manifest: it stands in the commit fact.
type Summary struct {
	Host        string
	User        string
	Paths       []string
	Parent      store.ID
	End         time.Time
	Offset      int // seconds east of UTC
	Entries     uint64
	Bytes       uint64
	BytesStored uint64
	Errors      uint64
	Single      bool
	HasXattrs   bool // some entry has extended attributes: decides mount --xattrs auto
	Program     string
}

// Encode gives the form for store.Commit.Summary.
func (s *Summary) Encode() []byte { panic("todo") }

// ParseSummary is the inverse of Encode.
func ParseSummary(data []byte) (*Summary, error) { panic("todo") }
