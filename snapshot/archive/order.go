package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"snapfs/snapshot"
	"snapfs/store/volume"
)

// head takes what the head of a set says: which snapshot is wanted, or that a name means another one with this set than without it. Until
// chunks were handed out that is the one to read; then it is too late.
func (p *pipeReader) head(ctx context.Context, s *openSet) error {
	b := p.b
	if b.target != nil && b.target.Exact {
		return nil
	}
	found, err := b.find(ctx)
	switch {
	case err != nil && b.target == nil:
		return p.wrongOrder(s, err)
	case err != nil:
		return err
	case b.target != nil && b.target.ID == found.ID:
		return nil
	case p.known:
		return &NewerError{From: "set " + s.name(), Newer: found.Listed.Ref(), Taken: b.target.Listed.Ref()}
	}
	b.want(found)
	return b.readChain(ctx)
}

// wrongOrder says that a set came first that does not hold the snapshot.
func (p *pipeReader) wrongOrder(s *openSet, err error) error {
	var unknown *snapshot.UnknownError
	var old *snapshot.TooOldError
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("%w: set %s comes first and does not hold %s", ErrOrder, s.name(), unknown.Ref)
	case errors.As(err, &old):
		return fmt.Errorf("%w: set %s comes first; %v", ErrOrder, s.name(), old)
	}
	return err
}

// knowNow is for chunks that come although nothing said that the metadata is complete.
func (p *pipeReader) knowNow(ctx context.Context, s *openSet) error {
	b := p.b
	if b.target == nil && s.head == nil { // its snapshots are those whose manifests came
		if err := b.resolve(ctx); err != nil {
			return fmt.Errorf("the head of set %s is damaged: %w", s.name(), err)
		}
	}
	if b.target == nil || !p.metadataHere(s) {
		return fmt.Errorf("%w: %s comes before the volumes that say what is wanted", ErrOrder, p.volume)
	}
	return p.knowAll(ctx)
}

// metadataHere reports whether all metadata of the wanted snapshot has come, now that chunks of set s do. Where the record that says so was
// lost, all volumes up to the present one must have been here.
func (p *pipeReader) metadataHere(s *openSet) bool {
	best := p.b.best(p.b.target.ID)
	if best.done || slices.ContainsFunc(best.volumes, func(v *Volume) bool { return v.source != nil }) {
		return true
	}
	if best != s {
		return false
	}
	if p.volume.Label == nil {
		return true // nobody can tell
	}
	for n := uint32(1); n < p.volume.Label.Set.Sequence; n++ {
		if !slices.ContainsFunc(s.volumes, func(v *Volume) bool { return v.Label != nil && v.Label.Set.Sequence == n }) {
			return false
		}
	}
	return true
}

// unneeded is for a volume of a set that the snapshot does not need: if its head is whole, that has come. Before it is known what is needed the order
// is wrong; while chunks come it is passed over, and an error only in the end, if something did not come.
func (p *pipeReader) unneeded(v *Volume) error {
	err := p.b.notOf(v)
	if p.deliver == nil {
		return err
	}
	if p.refused == nil {
		p.refused = err
	}
	p.volume = nil
	return nil
}

// notOf says that a volume is of no set that the snapshot needs. In a pipe that is a matter of order until it is known what is needed.
func (b *Bare) notOf(v *Volume) error {
	err := fmt.Errorf("%s: %w: it holds nothing of %s", v, ErrOtherSet, b.target.Listed.Ref())
	if v.source == nil && !b.pipes.known {
		err = fmt.Errorf("%w: %w", ErrOrder, err)
	}
	return err
}

// readsOn reports whether the pipes are read to their ends: a set may still come with which a name means another snapshot.
func (p *pipeReader) readsOn() bool { return p.deliver != nil && !p.b.target.Exact }

// untold is an error if, of what came, something may hold a newer snapshot and nobody can tell. Every volume of a set would have said it.
func (p *pipeReader) untold() error {
	b := p.b
	if b.target.Exact {
		return nil
	}
	for _, s := range b.sets {
		if !b.chain[s.id] && s.head == nil && len(s.manifests) == 0 && s.label.Created.After(p.from.label.Created) {
			return &NewerError{From: "set " + s.name(), Taken: b.target.Listed.Ref()}
		}
	}
	for _, v := range p.strays {
		if v.set == nil && !slices.ContainsFunc(b.sets, func(s *openSet) bool { return s.ends(v.ID) }) {
			return &NewerError{From: v.String(), Taken: b.target.Listed.Ref()}
		}
	}
	return nil
}

// ends reports whether the end of the set lists a volume.
func (s *openSet) ends(id volume.ID) bool {
	return s.end != nil && slices.ContainsFunc(s.end.Volumes, func(v SetVolume) bool { return v.ID == id })
}

// wantsAll reports whether more than chunks may come that matters: newer snapshots if a name is wanted, parity volumes for volumes that were lost.
func (b *Bare) wantsAll() bool {
	return b.Passes() && (!b.target.Exact || b.pipes.from.parity())
}

// parity reports whether the set has parity volumes.
func (s *openSet) parity() bool { return s.head != nil && s.head.Parity > 0 }

// stranger reports whether a volume is of a set that the snapshot does not need: neither is it read from that, nor does it hold it as well.
func (b *Bare) stranger(v *Volume) bool {
	return b.chain != nil && v.set != nil && !b.chain[v.set.id] && !b.spare(v.set)
}

// spare reports whether a set holds the snapshot, or one that does builds on it.
func (b *Bare) spare(s *openSet) bool {
	return slices.ContainsFunc(b.sets, func(t *openSet) bool {
		return t.holds(b.target.ID) && (t == s || slices.ContainsFunc(t.chain(), func(c ChainSet) bool { return c.ID == s.id }))
	})
}
