package store

import (
	"context"
)

// upkeep finishes volumes that a crash left and merges small ones, of at most so many bytes together. It never removes what
// anybody could want: only what the index knows elsewhere.
func (e *engine) upkeep(ctx context.Context, s *localSession, budget int64) (r PruneResult, err error) {
	if e.mayWrite() != nil || !e.canDrop(s) {
		return r, nil
	}
	if !e.maintenance.TryLock() {
		return r, nil // somebody is at it
	}
	defer e.maintenance.Unlock()
	p := e.upkeepPlan(budget)
	if len(p.drop)+len(p.rewrite) > 0 {
		err = e.execute(ctx, s, p, false, &r, func(PruneProgress) {})
	}
	if err == nil {
		err = e.leftovers()
	}
	if err == nil {
		_, err = e.compactJournal(ctx, s, false)
	}
	e.sizeUp(&r, p, false)
	return r, err
}

// upkeepPlan chooses among all volumes that nobody writes; all that the index finds in them stays.
func (e *engine) upkeepPlan(budget int64) *plan {
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	list := e.candidates(func(v *volumeState) (*candidate, bool) {
		c := &candidate{volumeState: v, wanted: &bitset{}, live: v.size}
		c.wanted.fill(v.blobs)
		return c, true
	})
	p := choose(list, e.bytes(), e.limit, PruneOptions{MaxWaste: 100, MaxRewrite: budget})
	p.condemn()
	return p
}
