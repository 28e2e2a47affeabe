package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"snapfs/store"
)

// ErrSyntax: a reference, TIME, DURATION or name that is wrong whatever the store holds. The typed errors about such
// text (*TimeError, *DurationError, *NameError) are ErrSyntax too; those about what the store holds are not.
var ErrSyntax = errors.New("malformed")

// UnknownError is a reference to what does not exist.
type UnknownError struct {
	Ref        string
	What       string   // "snapshot", "dataset", "snapshot of dataset X"
	Candidates []string // what could have been meant, best first; fit to be used instead
}

func (e *UnknownError) Error() string { return fmt.Sprintf("%s: no such %s", e.Ref, e.What) }

// AmbiguousError is an ID prefix of several snapshots.
type AmbiguousError struct {
	Ref        string
	Candidates []Listed // oldest first
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%s: %d snapshots begin with it", e.Ref, len(e.Candidates))
}

// TooOldError is a TIME before the dataset's first snapshot.
type TooOldError struct {
	Ref    string
	Oldest Listed
}

func (e *TooOldError) Error() string {
	return fmt.Sprintf("%s: no snapshot is that old, the oldest is %s", e.Ref, e.Oldest.Ref())
}

// mostCandidates bounds how many an UnknownError names.
const mostCandidates = 5

// Target is a resolved SNAP:PATH.
type Target struct {
	Listed
	Path  string // begins with "/"; "/" for the root
	Exact bool   // an ID or DATASET@NAME: it means no other snapshot, whatever else there is
}

// Resolve finds what SNAP or SNAP:PATH names: latest, DATASET, DATASET@TIME or a prefix of an ID, in this order.
// Partial and forgotten snapshots are never found. Whether PATH exists is not looked at.
//
// Errors: *UnknownError, *AmbiguousError, *TooOldError, *ForgottenError; ErrSyntax or a *TimeError, which is one, for wrong usage.
func Resolve(ctx context.Context, st Store, ref string, now time.Time, zone *time.Location) (*Target, error) {
	snap, below := SplitRef(ref)
	if snap == "" {
		return nil, fmt.Errorf("%q names no snapshot: %w", ref, ErrSyntax)
	}
	state, err := st.State(ctx)
	if err != nil {
		return nil, err
	}
	r := resolver{state: state, ref: snap, snapshots: timeline(state, (&Filter{}).accepts)}
	found, err := r.resolve(now, zone)
	if err != nil {
		return nil, err
	}
	l, err := withSummary(*found)
	if err != nil {
		return nil, err
	}
	return &Target{Listed: l, Path: below, Exact: isExact(snap)}, nil
}

// SplitRef cuts SNAP:PATH. The separator is the first ":/"; when what stands before the first ":" has no "@" (a TIME
// has colons, nothing else has), that one. PATH comes back clean, with a slash before it; "/" if there is none.
func SplitRef(ref string) (snap, below string) {
	snap, below, found := strings.Cut(ref, ":")
	if found && strings.Contains(snap, "@") {
		if snap, below, found = strings.Cut(ref, ":/"); !found {
			snap = strings.TrimSuffix(ref, ":")
		}
	}
	return snap, path.Clean("/" + below)
}

// resolver resolves one SNAP.
type resolver struct {
	state     *store.State
	ref       string
	snapshots []store.Snapshot // that may be found, oldest first
}

func (r *resolver) resolve(now time.Time, zone *time.Location) (*store.Snapshot, error) {
	if r.ref == Latest {
		return r.newest(r.snapshots, "snapshot")
	}
	if dataset, at, found := strings.Cut(r.ref, "@"); found {
		return r.at(dataset, at, now, zone)
	}
	if r.hasDataset(r.ref) {
		return r.newest(r.of(r.ref), "complete snapshot in this dataset")
	}
	if isIDPrefix(r.ref) {
		return r.byID()
	}
	return nil, r.unknown("snapshot or dataset", r.nearDatasets(r.ref))
}

func (r *resolver) newest(list []store.Snapshot, what string) (*store.Snapshot, error) {
	if len(list) == 0 {
		return nil, r.unknown(what, nil)
	}
	return &list[len(list)-1], nil
}

// at finds DATASET@TIME.
func (r *resolver) at(dataset, text string, now time.Time, zone *time.Location) (*store.Snapshot, error) {
	at, exact, err := ParseTime(text, now, zone)
	if err != nil {
		return nil, err
	}
	list := r.of(dataset)
	if len(list) == 0 && !r.hasDataset(dataset) {
		return nil, r.unknown("dataset", r.nearDatasets(dataset))
	}
	if exact {
		return r.named(list, text, at)
	}
	if len(list) == 0 {
		return nil, r.unknown("complete snapshot in this dataset", nil)
	}
	i := r.after(list, at)
	if i == 0 {
		oldest, err := withSummary(list[0])
		if err != nil {
			return nil, err
		}
		return nil, &TooOldError{Ref: r.ref, Oldest: oldest}
	}
	return &list[i-1], nil
}

// after returns the index of the first snapshot that begins later than at.
func (r *resolver) after(list []store.Snapshot, at time.Time) int {
	i, _ := slices.BinarySearchFunc(list, at, func(s store.Snapshot, at time.Time) int {
		if s.Start.After(at) {
			return 1
		}
		return -1
	})
	return i
}

// named finds the snapshot that has exactly this name; at is about when it should have begun.
func (r *resolver) named(list []store.Snapshot, name string, at time.Time) (*store.Snapshot, error) {
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].Name == name {
			return &list[i], nil
		}
	}
	slices.SortStableFunc(list, func(a, b store.Snapshot) int {
		return cmp.Compare(a.Start.Sub(at).Abs(), b.Start.Sub(at).Abs())
	})
	var near []string
	for _, s := range list[:min(len(list), mostCandidates)] {
		near = append(near, s.Dataset+"@"+s.Name)
	}
	dataset, _, _ := strings.Cut(r.ref, "@")
	return nil, r.orForgotten(r.unknown("snapshot", near), func(s *store.Snapshot) bool {
		return s.Dataset == dataset && s.Name == name
	})
}

func (r *resolver) byID() (*store.Snapshot, error) {
	var found []store.Snapshot
	for _, s := range r.snapshots {
		if strings.HasPrefix(s.ID.String(), r.ref) {
			found = append(found, s)
		}
	}
	if len(found) == 0 {
		found = r.byOrigin()
	}
	switch len(found) {
	case 0:
		return nil, r.orForgotten(r.unknown("snapshot", nil), func(s *store.Snapshot) bool {
			return strings.HasPrefix(s.ID.String(), r.ref)
		})
	case 1:
		return &found[0], nil
	}
	ambiguous := &AmbiguousError{Ref: r.ref}
	for _, s := range found {
		l, err := withSummary(s)
		if err != nil {
			return nil, err
		}
		ambiguous.Candidates = append(ambiguous.Candidates, l)
	}
	return nil, ambiguous
}

// byOrigin finds imported snapshots by the ID they had where they come from.
func (r *resolver) byOrigin() (found []store.Snapshot) {
	for _, s := range r.snapshots {
		l, err := withSummary(s)
		if err == nil && !l.Summary.OriginSnapshot.IsZero() && strings.HasPrefix(l.Summary.OriginSnapshot.String(), r.ref) {
			found = append(found, s)
		}
	}
	return found
}

// of returns a dataset's snapshots, oldest first.
func (r *resolver) of(dataset string) []store.Snapshot {
	var list []store.Snapshot
	for _, s := range r.snapshots {
		if s.Dataset == dataset {
			list = append(list, s)
		}
	}
	return list
}

func (r *resolver) hasDataset(name string) bool {
	return slices.ContainsFunc(r.state.Datasets, func(d store.Dataset) bool { return d.Name == name })
}

func (r *resolver) unknown(what string, candidates []string) error {
	return &UnknownError{Ref: r.ref, What: what, Candidates: candidates}
}

// nearDatasets returns the datasets whose names are most like name, best first.
func (r *resolver) nearDatasets(name string) []string {
	type rated struct {
		name string
		cost int
	}
	var all []rated
	for _, d := range r.state.Datasets {
		cost := distance(name, d.Name)
		if strings.Contains(d.Name, name) || strings.Contains(name, d.Name) {
			cost = 0
		}
		all = append(all, rated{d.Name, cost})
	}
	slices.SortStableFunc(all, func(a, b rated) int { return a.cost - b.cost })
	var names []string
	for _, d := range all[:min(len(all), mostCandidates)] {
		names = append(names, d.name)
	}
	return names
}

// distance is the number of bytes to insert, remove or replace to make b of a (Levenshtein 1965).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
