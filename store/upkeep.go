package store

import (
	"context"
	"encoding/binary"
	"slices"

	"snapfs/store/volume"
)

// upkeepBudget is how much upkeep copies at most.
type upkeepBudget struct {
	bytes int64 // of volumes that are copied whole; 0: no limit
	part  int64 // of one that is larger and that a crash left; 0: only as a whole
}

// upkeep finishes volumes that a crash left and merges small ones, within a budget. It never removes what
// anybody could want: only what the index knows elsewhere. Volumes with something held that lack their flag get it.
func (e *engine) upkeep(ctx context.Context, s *localSession, budget upkeepBudget) (r PruneResult, err error) {
	if e.mayWrite() != nil {
		return r, nil
	}
	if !e.maintenance.TryLock() {
		return r, nil // somebody is at it
	}
	defer e.maintenance.Unlock()
	if e.canDrop(s) {
		r, err = e.tidy(ctx, s, budget)
	}
	if err == nil {
		e.tryGuards(ctx, e.keepGuards)
	}
	return r, err
}

// tidy is what of upkeep removes something. Needs maintenance.
func (e *engine) tidy(ctx context.Context, s *localSession, budget upkeepBudget) (r PruneResult, err error) {
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
func (e *engine) upkeepPlan(budget upkeepBudget) *plan {
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	e.flushMu.Lock() // blobs are not being numbered anew
	defer e.flushMu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	list := e.candidates(func(v *volumeState) (*candidate, bool) {
		if e.damage.in(v.id) {
			return nil, false // it would be read again and again, and stay
		}
		c := &candidate{volumeState: v, wanted: &bitset{}, live: v.size}
		c.wanted.fill(v.blobs)
		return c, true
	})
	p := choose(list, e.bytes(), e.limit, PruneOptions{MaxWaste: 100, MaxRewrite: budget.bytes})
	p.unknown = true
	p.addPart(list, budget.part)
	p.condemn()
	return p
}

// addPart chooses a volume that a crash left and that is too large for all of it to be copied now.
func (p *plan) addPart(list []*candidate, part int64) {
	if part == 0 {
		return
	}
	at := slices.IndexFunc(list, func(c *candidate) bool {
		return !c.sealed && !slices.Contains(p.rewrite, c) && !slices.Contains(p.drop, c)
	})
	if at >= 0 {
		p.rewrite, p.part = append(p.rewrite, list[at]), part
	}
}

// movedKey is the key of the offset up to which nothing in a volume is wanted any more: what was there has been copied.
func movedKey(id volume.ID) []byte { return metaKey("moved " + string(id[:])) }

// noteMoved remembers it for whoever goes on; else he would have to read all of it again.
func (e *engine) noteMoved(v *volumeState, offset int64) error {
	if err := e.enoughIndexSpace(); err != nil {
		return err
	}
	e.indexMu.RLock()
	defer e.indexMu.RUnlock()
	return e.idx.write(func(set func(key, value []byte) error, _ func([]byte) error) error {
		return set(movedKey(v.id), encodeUvarint(uint64(offset)))
	})
}

// movedUpTo is what noteMoved said, 0 if nothing.
func (e *engine) movedUpTo(v *volumeState) int64 {
	e.indexMu.RLock()
	defer e.indexMu.RUnlock()
	value, err := e.idx.get(movedKey(v.id))
	offset, n := binary.Uvarint(value)
	if err != nil || n <= 0 || int64(offset) > v.size {
		return 0
	}
	return int64(offset)
}

// forgetMoved makes all of a volume be looked at again before it is removed.
func (x *index) forgetMoved(id volume.ID) error {
	value, err := x.get(movedKey(id))
	if err != nil || value == nil {
		return err
	}
	return x.write(func(_ func(key, value []byte) error, del func([]byte) error) error { return del(movedKey(id)) })
}
