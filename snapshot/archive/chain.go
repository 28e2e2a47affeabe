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
	if absent := b.absent(s); len(absent) > 0 && !b.o.Incomplete {
		lacking := 0
		err := b.neededChunks(ctx, func(id store.ID) {
			if _, here := b.index.first(id); !here {
				lacking++
			}
		})
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
