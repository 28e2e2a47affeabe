package snapshot

import (
	"cmp"
	"context"
	"fmt"
	"slices"

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

// Ref is how commands name the snapshot for people: DATASET@NAME.
func (l *Listed) Ref() string { return l.Dataset + "@" + l.Name }

// Filter says which snapshots List returns. Zero: all complete ones that are not forgotten.
type Filter struct {
	Dataset   string
	Tag       string
	Host      string
	Last      int  // the newest so many of all that match; 0: all
	Forgotten bool // the forgotten ones instead
}

// List returns snapshots in timeline order (start time, then slot), oldest first. Partial ones are never listed.
func List(ctx context.Context, st Store, f Filter) ([]Listed, error) {
	state, err := st.State(ctx)
	if err != nil {
		return nil, err
	}
	found := timeline(state, f.accepts)
	if f.Host == "" && f.Last > 0 {
		found = found[max(0, len(found)-f.Last):] // before summaries are read
	}
	listed := make([]Listed, 0, len(found))
	for i := range found {
		l, err := withSummary(found[i])
		if err != nil {
			return nil, err
		}
		if f.Host == "" || l.Summary.Host == f.Host {
			listed = append(listed, l)
		}
	}
	if f.Last > 0 {
		listed = listed[max(0, len(listed)-f.Last):]
	}
	return listed, nil
}

// accepts decides by what the facts say; the host stands in the summary and is looked at later.
func (f *Filter) accepts(s *store.Snapshot) bool {
	return !s.Partial && s.Forgotten == f.Forgotten &&
		(f.Dataset == "" || s.Dataset == f.Dataset) &&
		(f.Tag == "" || slices.Contains(s.Tags, f.Tag))
}

// timeline returns the snapshots that accept agrees to, oldest first.
func timeline(state *store.State, accept func(*store.Snapshot) bool) []store.Snapshot {
	var found []store.Snapshot
	for i := range state.Snapshots {
		if s := &state.Snapshots[i]; accept(s) {
			found = append(found, *s)
		}
	}
	slices.SortFunc(found, compareTimeline)
	return found
}

func compareTimeline(a, b store.Snapshot) int {
	return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.Slot, b.Slot))
}

func withSummary(s store.Snapshot) (Listed, error) {
	l := Listed{Snapshot: s, Summary: &Summary{}}
	if len(s.Summary) == 0 {
		return l, nil
	}
	summary, err := ParseSummary(s.Summary)
	if err != nil {
		return l, fmt.Errorf("snapshot %s@%s: summary: %w", s.Dataset, s.Name, err)
	}
	l.Summary = summary
	return l, nil
}
