package snapshot

import (
	"context"
	"time"

	"snapfs/store"
)

// Store is what looking over many snapshots needs; *store.Store is one.
type Store interface {
	Source
	State(ctx context.Context) (*store.State, error)
	PageKey() [32]byte
}

// Listed is a snapshot with its summary.
type Listed struct {
	store.Snapshot
	Summary *Summary
}

// Filter says which snapshots List returns. Zero: all complete ones that are not forgotten.
type Filter struct {
	Dataset   string
	Tag       string
	Host      string
	Last      int  // per dataset... the newest N of all that match; 0: all
	Forgotten bool // the forgotten instead
}

// List returns snapshots in timeline order (start time, then slot), oldest first.
func List(ctx context.Context, st Store, f Filter) ([]Listed, error) { panic("todo") }

// Target is a resolved SNAP:PATH.
type Target struct {
	Listed
	Path string // "/" for the root; begins with "/"
}

// Resolve finds what SNAP or SNAP:PATH names (CONTRACT.md, Names). Errors: *UnknownError, *AmbiguousError,
// *TimeError, ErrSyntax.
func Resolve(ctx context.Context, st Store, ref string, now time.Time, zone *time.Location) (*Target, error) {
	panic("todo")
}

// ParseTime reads a TIME and returns the instant it means (the end of what it names) or, for a snapshot name, exact = true.
func ParseTime(s string, now time.Time, zone *time.Location) (at time.Time, exact bool, err error) {
	panic("todo")
}

// ParseDuration reads DURATION: integers with s, min, h, d, w, mo, y. Months and years are calendar units.
func ParseDuration(s string) (Duration, error) { panic("todo") }

// Duration is a calendar duration.
type Duration struct {
	Years, Months, Days int
	Seconds             int64
}

// Before returns t minus d, in t's zone.
func (d Duration) Before(t time.Time) time.Time { panic("todo") }

// After returns t plus d, in t's zone.
func (d Duration) After(t time.Time) time.Time { panic("todo") }

// SnapshotName is the directory name for a start time: 2026-11-22_03-15-07, with -2, -3 ... if taken has it.
func SnapshotName(start time.Time, taken func(string) bool) string { panic("todo") }

// DatasetName checks a dataset name against the rules, and DefaultDataset makes one from an absolute path.
func DatasetName(s string) error { panic("todo") }

// DefaultDataset: see DatasetName.
func DefaultDataset(path string) string { panic("todo") }

// Change is a difference between two trees.
type Change struct {
	Path   string   // below the compared directories
	Change string   // added, removed, modified
	What   []string // of modified: content mode owner time xattr type
}

// Diff calls fn for each difference between two subtrees, in path order. Shared subtrees are skipped by node ID.
func Diff(ctx context.Context, a *Tree, pathA string, b *Tree, pathB string, fn func(Change) error) error {
	panic("todo")
}

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
}

// Find calls fn for every match in every snapshot, visiting each distinct node once.
func Find(ctx context.Context, st Store, o FindOptions, fn func(Match) error) error { panic("todo") }

// Version is one state of a file over time.
type Version struct {
	Path      string
	Entry     *Entry
	Snapshots []Listed // that have it, oldest first
}

// Versions returns the distinct states of a path (below the dataset's snapshots) over time, oldest first.
func Versions(ctx context.Context, st Store, snapshots []Listed, path string) ([]Version, error) {
	panic("todo")
}
