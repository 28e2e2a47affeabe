package archive

import (
	"context"
	"slices"
	"time"

	"snapfs/store"
)

// Choose lists what a set of a pool should hold when nobody says it: the newest snapshot of each dataset, and every one that no usable
// set of the pool holds yet; only of some datasets if any are named. For a full set it is the same: what older sets hold they keep.
func Choose(state *store.State, pool string, datasets []string) []store.ID {
	var own Sets
	for _, s := range state.Archives {
		if s.Pool == pool {
			own = append(own, s)
		}
	}
	newest := map[uint32]store.Snapshot{}
	var candidates []store.Snapshot
	for _, s := range state.Snapshots {
		if s.Partial || s.Forgotten || len(datasets) > 0 && !slices.Contains(datasets, s.Dataset) {
			continue
		}
		candidates = append(candidates, s)
		if n, ok := newest[s.DatasetNumber]; !ok || later(s, n) {
			newest[s.DatasetNumber] = s
		}
	}
	held := own.held()
	var ids []store.ID
	for _, s := range candidates {
		if newest[s.DatasetNumber].ID == s.ID || !held[s.ID] {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

func later(a, b store.Snapshot) bool {
	c := a.Start.Compare(b.Start)
	return c > 0 || c == 0 && a.Slot > b.Slot
}

// held are the snapshots in usable sets.
func (list Sets) held() map[store.ID]bool {
	held := map[store.ID]bool{}
	for i := range list {
		if _, ok := list.Chain(&list[i]); !ok {
			continue
		}
		for _, s := range list[i].Snapshots {
			held[s.ID] = true
		}
	}
	return held
}

// Expire ends the sets that were kept long enough and that no other needs: their lists are given up, and their volumes may be
// overwritten. It returns them; with dryRun nothing is done.
func Expire(ctx context.Context, st *store.Store, now time.Time, dryRun bool) ([]store.ArchiveSet, error) {
	if !dryRun {
		unlock, err := st.LockCatalogue(ctx) // nobody builds on what is just about to go
		if err != nil {
			return nil, err
		}
		defer unlock()
	}
	state, err := st.State(ctx)
	if err != nil {
		return nil, err
	}
	var gone []store.ArchiveSet
	for _, s := range Sets(state.Archives).Expiring(now) {
		gone = append(gone, *s)
		if dryRun {
			continue
		}
		if err := expire(ctx, st, s, now); err != nil {
			return gone[:len(gone)-1], err
		}
	}
	return gone, nil
}

// expire leaves of a set what is needed to know its volumes again. Errors: *store.LockedError for an unfinished one that may just be gone on with.
func expire(ctx context.Context, st *store.Store, s *store.ArchiveSet, now time.Time) error {
	if s.Finished.IsZero() {
		unlock, err := st.LockArchives(ctx, s.Pool, false)
		if err != nil {
			return err
		}
		defer unlock()
		state, err := st.State(ctx) // it may have been finished in the meantime
		if err != nil {
			return err
		}
		if s = Sets(state.Archives).byID(s.ID); !s.Finished.IsZero() || !s.Expired.IsZero() {
			return nil
		}
	}
	e := *s
	e.Expired, e.Snapshots, e.Resume, e.Volumes = now.UTC(), nil, nil, slices.Clone(s.Volumes)
	for i := range e.Volumes {
		e.Volumes[i].Chunks = store.ID{}
	}
	return st.SetArchive(ctx, e)
}
