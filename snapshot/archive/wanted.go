package archive

import (
	"context"
	"slices"

	"snapfs/snapshot"
	"snapfs/store"
)

// choose reads the heads, finds the snapshot that is wanted, and indexes the sets it needs.
func (b *Bare) choose(ctx context.Context) error {
	for _, s := range b.sets {
		for _, v := range s.volumes {
			if !v.Parity() && s.readHead(v) {
				break
			}
		}
	}
	if b.o.Resolve == nil {
		return b.indexSets(ctx, b.newestFirst())
	}
	if len(b.sets) == 0 {
		return nil
	}
	for _, s := range b.sets {
		if s.head == nil { // its snapshots are those whose manifests are found
			if err := b.indexSets(ctx, []*openSet{s}); err != nil {
				return err
			}
		}
	}
	err := b.resolve(ctx)
	if err != nil && b.hasPipes() {
		return nil // it may be there
	}
	if err != nil {
		return err
	}
	return b.readChain(ctx)
}

func (b *Bare) hasPipes() bool {
	return slices.ContainsFunc(b.inputs, func(in *input) bool { return in.pipe != nil })
}

// resolve finds the wanted snapshot among those that are known now, and the sets it needs.
func (b *Bare) resolve(ctx context.Context) error {
	target, err := b.find(ctx)
	if err == nil {
		b.want(target)
	}
	return err
}

// find is what is wanted of the snapshots that are known now.
func (b *Bare) find(ctx context.Context) (*snapshot.Target, error) {
	b.mu.Lock()
	b.state = nil
	b.mu.Unlock()
	return b.o.Resolve(ctx, b)
}

// want notes the wanted snapshot, and the sets it needs.
func (b *Bare) want(target *snapshot.Target) {
	b.target = target
	s := b.best(target.ID)
	b.chain = map[[16]byte]bool{s.id: true}
	if s.head != nil {
		for _, c := range s.head.Chain {
			b.chain[c.ID] = true
		}
	}
}

// best is the set to read a snapshot from: one whose chain is here, of those the newest.
func (b *Bare) best(id store.ID) *openSet {
	var best *openSet
	complete := false
	for _, s := range b.newestFirst() {
		if !s.holds(id) {
			continue
		}
		all := s.head != nil && !slices.ContainsFunc(s.head.Chain, func(c ChainSet) bool { return b.setByID(c.ID) == nil })
		if best == nil || all && !complete {
			best, complete = s, all
		}
	}
	return best
}

func (s *openSet) holds(id store.ID) bool {
	if s.head == nil {
		return slices.Contains(s.manifests, id)
	}
	return slices.ContainsFunc(s.head.Snapshots, func(r HeadSnapshot) bool { return r.ID == id })
}

func (b *Bare) setByID(id [16]byte) *openSet {
	for _, s := range b.sets {
		if s.id == id {
			return s
		}
	}
	return nil
}

// newestFirst are the sets in the order in which they are best read.
func (b *Bare) newestFirst() []*openSet {
	list := slices.Clone(b.sets)
	slices.SortStableFunc(list, func(x, y *openSet) int { return y.label.Created.Compare(x.label.Created) })
	return list
}

// readChain indexes the sets that are needed and refuses volumes that were named and are not.
func (b *Bare) readChain(ctx context.Context) error {
	var needed []*openSet
	for _, s := range b.newestFirst() {
		if b.chain[s.id] {
			needed = append(needed, s)
			continue
		}
		for _, v := range s.volumes {
			if v.named && b.stranger(v) {
				return b.notOf(v)
			}
		}
	}
	return b.indexSets(ctx, needed)
}
