package main

import (
	"cmp"
	"context"
	"slices"
	"time"

	"snapfs/snapshot"
	"snapfs/snapshot/retention"
	"snapfs/store"
)

// chooseRuled applies rules to each dataset by itself.
func chooseRuled(ctx context.Context, st *store.Store, o forgetOptions, now time.Time) ([]forgetChoice, error) {
	state, err := st.State(ctx)
	if err != nil {
		return nil, err
	}
	groups, err := ruledGroups(ctx, st, o.datasets)
	if err != nil {
		return nil, err
	}
	var choices []forgetChoice
	for _, group := range groups {
		asked := make([]retention.Snapshot, len(group))
		for i := range group {
			asked[i] = ruledSnapshot(&group[i], state, o.tag, now)
		}
		for i, d := range retention.Decide(asked, o.rules, now, o.zone) {
			if asked[i].Apart {
				continue
			}
			c := forgetChoice{Listed: group[i], keep: d.Keep}
			for _, r := range d.Reasons {
				c.reasons = append(c.reasons, r.String())
			}
			choices = append(choices, c)
		}
	}
	return choices, nil
}

// ruledGroups are the snapshots of each dataset, of all if none is named.
func ruledGroups(ctx context.Context, st *store.Store, datasets []string) (groups [][]snapshot.Listed, err error) {
	var all []snapshot.Listed
	if len(datasets) == 0 {
		if all, err = snapshot.List(ctx, st, snapshot.Filter{}); err != nil {
			return nil, err
		}
	}
	slices.Sort(datasets)
	for _, d := range slices.Compact(datasets) {
		list, err := datasetSnapshots(ctx, st, d)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	slices.SortStableFunc(all, func(a, b snapshot.Listed) int { return cmp.Compare(a.Dataset, b.Dataset) })
	for list := range chunksBy(all, func(a, b *snapshot.Listed) bool { return a.DatasetNumber == b.DatasetNumber }) {
		groups = append(groups, list)
	}
	return groups, nil
}

// chunksBy gives the longest runs of neighbours that belong together.
func chunksBy[T any](list []T, same func(a, b *T) bool) func(yield func([]T) bool) {
	return func(yield func([]T) bool) {
		for from := 0; from < len(list); {
			to := from + 1
			for to < len(list) && same(&list[from], &list[to]) {
				to++
			}
			if !yield(list[from:to]) {
				return
			}
			from = to
		}
	}
}

// ruledSnapshot is what the rules look at. A damaged snapshot lacks something, as one with errors does.
func ruledSnapshot(l *snapshot.Listed, state *store.State, tag string, now time.Time) retention.Snapshot {
	return retention.Snapshot{
		Start: l.Start, Commit: uint64(l.Slot), Tags: l.Tags,
		Errors: l.Summary.Errors > 0 || l.Damaged != "",
		Held:   state.Held(l.Snapshot, now),
		Apart:  tag != "" && !slices.Contains(l.Tags, tag),
	}
}
