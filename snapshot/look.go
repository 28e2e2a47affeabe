package snapshot

import (
	"context"
)

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
