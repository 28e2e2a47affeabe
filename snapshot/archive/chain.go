package archive

import (
	"context"
	"fmt"
	"slices"

	"snapfs/store"
	"snapfs/store/volume"
)

// checkChain looks whether what was given is enough for the wanted snapshot: sets of which no volume is here are an error if something of
// them is needed, single volumes that are missing are told.
func (b *Bare) checkChain(ctx context.Context) error {
	if b.target == nil {
		return nil
	}
	s := b.best(b.target.ID)
	if s == nil {
		return fmt.Errorf("%s: %w", b.target.Listed.Ref(), ErrNothing)
	}
	if b.Passes() {
		return nil // Pass tells, in the end
	}
	if err := b.readSpares(ctx, s); err != nil {
		return err
	}
	if absent := b.absent(s); len(absent) > 0 && !b.o.Incomplete {
		lacking, _, err := b.lacks(ctx)
		if err != nil {
			return err
		}
		if lacking > 0 {
			return &ParentError{Set: s.name(), Missing: absent, Chunks: lacking}
		}
	}
	b.noteAllMissing(s)
	return nil
}

// lacks counts the chunks that the snapshot needs and that are in no volume, and the metadata that cannot be read.
func (b *Bare) lacks(ctx context.Context) (chunks, metadata int, err error) {
	metadata, err = b.neededChunks(ctx, func(id store.ID) {
		if _, here := b.index.first(id); !here {
			chunks++
		}
	})
	return chunks, metadata, err
}

// readSpares reads other sets that hold the snapshot as well, and what they build on, if something of it is lacking: the newest may never have been
// finished.
func (b *Bare) readSpares(ctx context.Context, s *openSet) error {
	var spares []*openSet
	whole := len(b.absent(s)) == 0
	for _, t := range b.newestFirst() {
		switch {
		case b.chain[t.id]:
			whole = whole && t.end != nil && len(t.missing(s.head)) == 0
		case t.holds(b.target.ID):
			spares = append(spares, t)
			for _, c := range t.chain() {
				if parent := b.setByID(c.ID); parent != nil && !b.chain[c.ID] && !slices.Contains(spares, parent) {
					spares = append(spares, parent)
				}
			}
		}
	}
	if whole || len(spares) == 0 {
		return nil
	}
	chunks, metadata, err := b.lacks(ctx)
	if err != nil || chunks+metadata == 0 {
		return err
	}
	for _, t := range spares {
		b.chain[t.id] = true
	}
	return b.indexSets(ctx, spares)
}

// chain are the sets that a set builds on, as far as its head is known.
func (s *openSet) chain() []ChainSet {
	if s.head == nil {
		return nil
	}
	return s.head.Chain
}

// absent are the sets that s builds on and of which no volume is here.
func (b *Bare) absent(s *openSet) (list []ChainSet) {
	if s.head == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(s.head.Chain), func(c ChainSet) bool { return b.setByID(c.ID) != nil })
}

func (b *Bare) noteAllMissing(s *openSet) {
	for _, t := range b.sets {
		if b.chain[t.id] {
			b.noteMissing(t, s)
		}
	}
}

// noteMissing tells which volumes of a set are not here.
func (b *Bare) noteMissing(t, wanted *openSet) {
	missing := t.missing(wanted.head)
	for _, g := range missing {
		b.o.Note(g.text(t.name(), "is missing", "are missing"))
	}
	if len(missing) > 0 && slices.ContainsFunc(t.volumes, func(v *Volume) bool { return v.Parity() && v.source == nil }) {
		b.o.Note(fmt.Sprintf("the parity volumes of set %s replace lost ones where they can be read anywhere: in files, or in scratch that holds all that comes", t.name()))
	}
}

// missing lists the numbers of a set's volumes that are not here. Behind the last that is here some may be missing unnoticed, unless
// a parity volume names them or child, a set that builds on this one, says how many there are.
func (s *openSet) missing(child *Head) []gap {
	last := uint32(0)
	var here []uint32
	for _, v := range s.volumes {
		if v.Label == nil {
			continue
		}
		if !v.Parity() {
			here = append(here, v.Label.Set.Sequence)
		} else if p, err := ParseSetParity(v.Label.Set.Parity); err == nil {
			for _, c := range p.Covered {
				last = max(last, c.Number)
			}
		}
	}
	if s.end != nil {
		for _, v := range s.end.Volumes {
			last = max(last, v.Number)
		}
	}
	if child != nil && s.end == nil {
		if i := slices.IndexFunc(child.Chain, func(c ChainSet) bool { return c.ID == s.id }); i >= 0 {
			last = max(last, uint32(max(0, child.Chain[i].Volumes-s.parityVolumes(child.Chain[i].Volumes))))
		}
	}
	return gapsIn(here, last)
}

// gap is a run of numbers of volumes that are not here. Labels are not signed: one may claim any number, so nothing is counted one by one.
type gap struct{ first, last uint32 }

// text says something of the volumes of a set with these numbers.
func (g gap) text(set, ofOne, ofMany string) string {
	if g.first == g.last {
		return fmt.Sprintf("volume %d of set %s %s", g.first, set, ofOne)
	}
	return fmt.Sprintf("volumes %d to %d of set %s %s", g.first, g.last, set, ofMany)
}

// gapsIn finds the numbers from 1 to last, and below any that is here, that are not.
func gapsIn(here []uint32, last uint32) (list []gap) {
	here = slices.Clone(here)
	slices.Sort(here)
	next := uint64(1)
	for _, n := range here {
		if uint64(n) > next {
			list = append(list, gap{uint32(next), n - 1})
		}
		next = max(next, uint64(n)+1)
	}
	if uint64(last) >= next {
		list = append(list, gap{uint32(next), last})
	}
	return list
}

// parityVolumes is how many of a set's volumes hold parity, given how many there are.
func (s *openSet) parityVolumes(all int) int {
	if s.head == nil || s.head.Parity == 0 {
		return 0
	}
	groups := 1
	for all-groups*s.head.Parity > groups*volume.SetData {
		groups++
	}
	return groups * s.head.Parity
}
