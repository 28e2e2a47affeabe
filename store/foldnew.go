package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"snapfs/store/volume"
)

// lateFact is a fact that was found when the newest checkpoint had been folded already.
type lateFact struct {
	*Fact
	id ID
}

// foldNew applies facts that the fold has not seen, in the order of the chain, and writes what changed together with
// the watermarks of the journals. A fold of all journals begins with the newest checkpoint; what was found behind that waits
// for foldLate.
func (e *engine) foldNew(x *index, f *fold, news found) error {
	facts := news.inOrder()
	if f.seq == 0 {
		f.fresh = true
		if err := f.begin(facts); err != nil {
			return err
		}
	}
	for _, fact := range facts {
		if fact.id == f.last {
			continue
		}
		if fact.Seq < f.base.seq {
			f.late = append(f.late, fact)
			continue
		}
		if !f.fresh && fact.Seq <= f.seq { // as when a journal comes back: applied now, it would undo what came after it
			return fmt.Errorf("%w: it was made before fact %d was found", errIndexBroken, fact.Seq)
		}
		if err := e.foldOne(f, fact); err != nil {
			return err
		}
	}
	if len(f.late) > 0 && !f.fresh {
		return fmt.Errorf("%w: it was made before journals came back", errIndexBroken)
	}
	e.tellIgnored(f)
	return writeNewFold(x, f, news)
}

// inOrder gives facts in the order of the chain, each once.
func (n *found) inOrder() []lateFact {
	facts := make([]lateFact, len(n.facts))
	for i, f := range n.facts {
		facts[i] = lateFact{f, n.ids[i]}
	}
	slices.SortFunc(facts, func(a, b lateFact) int {
		if a.Seq != b.Seq {
			return sign(a.Seq < b.Seq)
		}
		return compareBytes(a.id[:], b.id[:])
	})
	return slices.CompactFunc(facts, func(a, b lateFact) bool { return a.id == b.id })
}

// begin starts an empty fold with the newest checkpoint that counts, if there is one.
func (f *fold) begin(facts []lateFact) error {
	if f.others = findHistories(facts, f.admin); f.others != nil {
		f.nextDataset = max(f.nextDataset, f.others.most+1)
	}
	for _, fact := range slices.Backward(facts) {
		if fact.Kind != FactCheckpoint || f.admin != nil && !fact.signedBy(f.admin) {
			continue
		}
		return f.apply(fact.Fact, fact.id)
	}
	return nil
}

// foldOne applies the next fact. A checkpoint that does not continue what was folded is one of another history, as when
// a store was rolled back and used again: what it has and the fold lacks is added.
func (e *engine) foldOne(f *fold, fact lateFact) error {
	if f.seq > 0 && (fact.Prev != f.last || fact.Seq != f.seq+1) {
		e.log.Warn("chain of facts is broken", "fact", fact.Seq, "id", fact.id, "after", f.seq)
		if fact.Kind == FactCheckpoint && !f.fresh {
			return fmt.Errorf("%w: it was made before a checkpoint of another history came", errIndexBroken)
		}
	}
	if fact.Kind == FactCheckpoint && fact.Prev != f.last && f.seq > 0 {
		return f.unite(fact)
	}
	return f.apply(fact.Fact, fact.id)
}

// unite adds what a checkpoint of another history has and this one lacks.
func (f *fold) unite(fact lateFact) error {
	if f.admin != nil && !fact.signedBy(f.admin) {
		f.ignored = append(f.ignored, ignoredFact{fact.Kind, fact.Seq, fact.id})
		return nil
	}
	body, err := parseBody(fact.Kind, fact.Body)
	if err != nil {
		return err
	}
	other := newFold()
	if err := other.loadCheckpoint(body.(*checkpointFact)); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	f.others.renumberAll(fact.id, other)
	f.uniteDatasets(other)
	for key, value := range other.records {
		if f.records[key] == nil && key[1] == byte(FactAcknowledged) {
			f.records[key], f.dirty[key] = value, value
		}
	}
	f.uniteSnapshots(other)
	for id, v := range other.volumes {
		if _, known := f.volumes[id]; !known {
			f.mustExist(v)
		}
	}
	if fact.Seq >= f.seq {
		f.chain, f.seq, f.last, f.clock = fact.Chain, fact.Seq, fact.id, fact.Clock
	}
	f.nextSlot, f.nextDataset = max(f.nextSlot, other.nextSlot), max(f.nextDataset, other.nextDataset)
	f.dirty[string(chainKey)] = f.encodeChain()
	return nil
}

func (f *fold) uniteDatasets(other *fold) {
	for n, d := range other.datasets {
		if f.datasets[n] == nil {
			f.datasets[n] = d
			f.given(n)
			f.dirty[string(numberKey(keyDataset, n))] = encodeBody(d)
		}
	}
}

func (f *fold) uniteSnapshots(other *fold) {
	for _, slot := range slices.Sorted(maps.Keys(other.snapshots)) {
		s := other.snapshots[slot]
		if _, known := f.slots[s.snapshot]; known || s.partial {
			f.uniteHold(s)
			continue
		}
		f.commit(&s.commitFact, s.committed)
		at := f.slots[s.snapshot]
		f.snapshots[at].forgotten, f.snapshots[at].heldUntil, f.snapshots[at].forever = s.forgotten, s.heldUntil, s.forever
		f.changed(at)
	}
}

// uniteHold keeps the longer hold of a snapshot that both have.
func (f *fold) uniteHold(s *snapshotRecord) {
	slot, ok := f.slots[s.snapshot]
	if !ok {
		return
	}
	mine := f.snapshots[slot]
	if s.forever && !mine.forever || s.heldUntil.After(mine.heldUntil) {
		mine.forever = mine.forever || s.forever
		if s.heldUntil.After(mine.heldUntil) {
			mine.heldUntil = s.heldUntil
		}
		f.changed(slot)
	}
}

// foldLate looks up which of the facts found behind the newest checkpoint it has replaced, and applies the others: they
// come from a history that it did not know.
func (e *engine) foldLate(x *index, cat *catalogue, f *fold) (err error) {
	defer func() { f.fresh, f.apart, f.others = false, f.apart || f.others != nil, nil }()
	if len(f.late) == 0 {
		return nil
	}
	late := f.late
	f.late = nil
	want := make(map[ID]bool, len(late))
	for _, fact := range late {
		want[fact.id] = true
	}
	r := newReader(e.dir, e.bundle, &indexedPlaces{e: e, x: x, cat: cat}, factPageCache)
	defer func() { err = errors.Join(err, r.close()) }()
	get := pageGetter(func(ctx context.Context, id ID) ([]byte, error) { return r.get(ctx, KindNode, id) })
	known, err := f.base.list.contains(context.Background(), get, want)
	if err != nil {
		e.log.Warn("facts before the checkpoint are not looked at", "err", err, "facts", len(late))
		return nil
	}
	for _, fact := range late {
		if known[fact.id] {
			continue
		}
		e.log.Warn("fact of another history", "fact", fact.Seq, "id", fact.id)
		if fact.Kind == FactCheckpoint {
			err = f.unite(fact)
		} else {
			err = f.apply(fact.Fact, fact.id)
		}
		if err != nil {
			return err
		}
	}
	e.tellIgnored(f)
	return writeNewFold(x, f, found{})
}

// indexedPlaces finds blobs through an index that is being made.
type indexedPlaces struct {
	Session
	e   *engine
	x   *index
	cat *catalogue
}

// Locate implements Session.
func (p *indexedPlaces) Locate(_ context.Context, ids []ID) ([]Place, error) {
	places := make([]Place, len(ids))
	for i, id := range ids {
		value, err := p.x.get(blobKey(id))
		if err != nil {
			return nil, err
		}
		if value == nil {
			continue
		}
		short, err := parseShortPlace(value)
		if err != nil {
			return nil, err
		}
		if v := p.cat.byNumber[short.volume]; v.live(short) {
			places[i] = Place{Volume: v.id, Offset: short.offset, Stored: short.stored, Start: short.start, Length: short.length}
		}
	}
	return places, nil
}

// Read implements Session: what cannot be opened here is not there.
func (p *indexedPlaces) Read(_ context.Context, v volume.ID, _ int64, _ int) ([]byte, error) {
	return nil, fmt.Errorf("volume %s: %w", v, fs.ErrNotExist)
}

// Damaged implements Session: whoever needs the page next finds the damage again.
func (p *indexedPlaces) Damaged(context.Context, []DamagedFrame) error { return nil }

// tellIgnored logs the facts that did not count.
func (e *engine) tellIgnored(f *fold) {
	for _, i := range f.ignored {
		e.log.Warn(i.String())
	}
	f.ignored = nil
}

// writeNewFold writes the changed records with the watermarks of the journals they come from.
func writeNewFold(x *index, f *fold, news found) error {
	if len(f.dirty) == 0 && len(news.journals) == 0 {
		return nil
	}
	err := writeFold(x, f.dirty, func(set func(key, value []byte) error) error {
		for _, v := range news.journals {
			if err := set(volumeKey(v.id), v.encode()); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		clear(f.dirty)
	}
	return err
}
