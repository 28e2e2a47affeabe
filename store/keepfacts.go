package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"snapfs/store/volume"
)

// keepFacts writes a checkpoint if facts are gone from the journals and the index still knows what they said: the next index made
// from the journals would not. What the index never knew stays missing, and visible. gaps are those that do not matter any
// more. In an append-only store it wants a session with admin rights: errAppendOnly. Without cutOff nothing is done if the newest
// facts are gone, as when the volumes were put back from an older copy: errCutOff.
func (e *engine) keepFacts(ctx context.Context, s *localSession, cutOff bool) (gaps []ChainFinding, err error) {
	e.maintenance.Lock()
	defer e.maintenance.Unlock()
	now, cut, err := e.knows(ctx)
	switch {
	case err != nil || now.whole || !now.differs:
		return nil, err
	case cut && !cutOff:
		return nil, errCutOff
	}
	if !e.canDrop(s) {
		return nil, fmt.Errorf("facts are gone from the journals and only the index knows them: %w", errAppendOnly)
	}
	if gaps, err = e.checkChain(ctx, ID{}); err != nil {
		return nil, err
	}
	c := &compaction{e: e, s: s, bridge: true}
	if err := c.run(ctx); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(gaps, func(g ChainFinding) bool {
		return g.Problem != ChainMissing && g.Problem != ChainCutOff
	}), nil
}

// errCutOff: to go on from the older state takes a rebuild that somebody asked for.
var errCutOff = errors.New("the newest facts are gone from the journals")

// keepFacts does it for a repair. If volumes are gone as well as the newest facts, it is for people to say whether the store was
// put back on purpose. safe: nothing is lost if the index is made anew.
func (v *verifier) keepFacts(ctx context.Context) (kept, safe bool, err error) {
	if v.unfolded {
		return false, true, nil // the index would not do them justice
	}
	lacking := slices.ContainsFunc(v.findings, func(f Finding) bool { return f.Problem == ProblemMissing && !f.Healed })
	gaps, err := v.e.keepFacts(ctx, v.session, !lacking)
	if errors.Is(err, errAppendOnly) || errors.Is(err, errCutOff) || errors.Is(err, errTooManyFacts) {
		v.e.log.Warn("not all is mended", "err", err)
		return false, false, nil
	}
	for _, g := range gaps {
		v.add(Finding{
			Problem: ProblemFacts, Volume: g.Volume, Offset: g.Offset, Healed: true,
			Text: g.Text + "; the index knew what they said, and a checkpoint says it now",
		})
	}
	return len(gaps) > 0, err == nil, err
}

// hurtJournals adds the journals that cannot be read in full, whether their frames were to be read or not: what parity brings back
// need not be written anew.
func (v *verifier) hurtJournals(ctx context.Context) error {
	e := v.e
	e.commitMu.Lock()
	list := e.journalsAt()
	e.commitMu.Unlock()
	read, _, err := e.readJournals(ctx, list)
	for _, j := range read {
		if j.harmed && !slices.Contains(v.hurt, j.id) {
			v.hurt = append(v.hurt, j.id)
		}
	}
	return err
}

// knowledge compares the journals with the index.
type knowledge struct {
	whole   bool // the chain in the journals has no gap
	differs bool // what the journals add up to is not what the index says
}

// knows reads the journals and compares. cut: the newest fact that the index knows is gone.
func (e *engine) knows(ctx context.Context) (k knowledge, cut bool, err error) {
	e.commitMu.Lock()
	c := &compaction{e: e, journals: e.journalsAt(), last: e.fold.last, seq: e.fold.seq, base: e.fold.base}
	known := e.fold.all()
	e.commitMu.Unlock()
	_, facts, err := e.readJournals(ctx, c.journals)
	if err != nil {
		return k, false, err
	}
	if err := c.whole(facts); err != nil && !errors.Is(err, errChainGap) {
		return k, false, err
	} else {
		k.whole = err == nil
	}
	said, err := e.foldOf(facts)
	if err != nil {
		return k, false, err
	}
	cut = !slices.ContainsFunc(facts, func(f journalFact) bool { return f.id == c.last })
	delete(known, string(chainKey))
	delete(said, string(chainKey))
	k.differs = !maps.EqualFunc(known, said, bytes.Equal)
	return k, cut, nil
}

// foldOf is what facts add up to.
func (e *engine) foldOf(facts []journalFact) (map[string][]byte, error) {
	f := newFold()
	f.admin, f.fresh = e.bundle.AppendOnly(), true
	list := make([]lateFact, len(facts))
	for i := range facts {
		list[i] = lateFact{facts[i].Fact, facts[i].id}
	}
	err := f.begin(list)
	for _, fact := range list {
		switch {
		case err != nil:
			return nil, err
		case fact.id == f.last || fact.Seq < f.base.seq:
		case fact.Kind == FactCheckpoint && fact.Prev != f.last && f.seq > 0:
			err = f.unite(fact)
		default:
			err = f.apply(fact.Fact, fact.id)
		}
	}
	return f.all(), err
}

// bridged adds to facts, which are in the order of the chain, the IDs of those that are missing and that others name,
// where there is a gap, if the checkpoint says what they said.
func (c *compaction) bridged(facts []journalFact) (ids []ID) {
	there := make(map[ID]bool, len(facts))
	for _, f := range facts {
		there[f.id] = true
	}
	for _, f := range facts {
		if c.bridge && !c.lost && f.Seq > max(c.base.seq, 1) && !there[f.Prev] {
			ids = append(ids, f.Prev)
			there[f.Prev] = true
		}
		ids = append(ids, f.id)
	}
	if c.bridge && !c.lost && !there[c.last] {
		ids = append(ids, c.last)
	}
	return slices.DeleteFunc(ids, func(id ID) bool { return c.old[id] })
}

// unfoldedJournal reports whether the index lacks facts of a journal, which was damaged when it was read.
func (e *engine) unfoldedJournal(state *volumeState) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return state.kind == volume.Journal && state.harmed > 0
}
