package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// placeSet is a set of blobs that lie in volumes: one bit each.
type placeSet map[uint32][]uint64

// add reports whether the blob at a place was not in the set.
func (s placeSet) add(p shortPlace) bool {
	word, bit := int(p.ordinal>>6), uint64(1)<<(p.ordinal&63)
	bits := s[p.volume]
	if word >= len(bits) {
		bits = append(bits, make([]uint64, max(word+1-len(bits), len(bits)/4))...)
		s[p.volume] = bits
	}
	isNew := bits[word]&bit == 0
	bits[word] |= bit
	return isNew
}

// snapshots walks everything that snapshots name. Each node is read once, whatever leads to it; what else a node names only has to
// lie in a volume.
func (v *verifier) snapshots(ctx context.Context) error {
	e := v.e
	if err := v.progress(func(p *VerifyProgress) { p.Phase = "snapshots" }); err != nil {
		return err
	}
	e.mu.Lock()
	st := e.state
	e.mu.Unlock()
	s := e.newSession(v.session.job)
	defer s.Close()
	w := &snapshotWalk{v: v, seen: placeSet{}, lost: map[ID]bool{}, reader: newReader(e.dir, e.bundle, s, walkCache)}
	defer w.reader.close()
	partial := func(snap Snapshot) bool { return snap.Partial }
	for _, snap := range slices.Backward(slices.DeleteFunc(slices.Clone(st.Snapshots), partial)) {
		if err := w.snapshot(ctx, s, snap); err != nil {
			return err
		}
		v.summary.Snapshots++
	}
	if !v.o.Repair || v.needed || !e.anyDamage() {
		return nil
	}
	w.quiet = true
	for _, snap := range st.Snapshots { // what only these need is no finding, but the next run of their backup relies on it
		if !snap.Partial {
			continue
		}
		if err := w.snapshot(ctx, s, snap); err != nil {
			return err
		}
	}
	return nil
}

// snapshot walks one unless it is gone.
func (w *snapshotWalk) snapshot(ctx context.Context, s *localSession, snap Snapshot) error {
	if err := s.Pin(ctx, []ID{snap.ID}); errors.Is(err, ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	if err := w.walk(ctx, []reference{{KindManifest, snap.ID}}); err != nil {
		return fmt.Errorf("snapshot %s@%s: %w", snap.Dataset, snap.Name, err)
	}
	return nil
}

// walkCache is for decoded frames: nodes that lie together are named together.
const walkCache = 32 << 20

// reference is a blob that something names.
type reference struct {
	kind Kind
	id   ID
}

// snapshotWalk goes down from snapshots to everything they name.
type snapshotWalk struct {
	v      *verifier
	reader *reader
	seen   placeSet
	marks  uint64      // of the engine, when the numbers in seen were given
	lost   map[ID]bool // reported
	quiet  bool        // nothing is reported any more

	reindexed bool // all volumes have been looked into
	index     bool // just now
}

// walk visits blobs and all below them.
func (w *snapshotWalk) walk(ctx context.Context, stack []reference) error {
	for len(stack) > 0 {
		at := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if err := ctx.Err(); err != nil {
			return err
		}
		below, err := w.visit(ctx, at)
		if err != nil {
			return err
		}
		slices.Reverse(below) // the first one next
		stack = append(stack, below...)
	}
	return nil
}

// visit reads a manifest or node and returns the nodes it names that were not seen before.
func (w *snapshotWalk) visit(ctx context.Context, at reference) ([]reference, error) {
	data, err := w.reader.get(ctx, at.kind, at.id)
	if err != nil && ctx.Err() == nil {
		if p, err := w.find(at); err != nil || p.stored == 0 {
			return nil, err
		}
		data, err = w.reader.get(ctx, at.kind, at.id) // it may just have moved
	}
	if err != nil {
		return nil, w.unreadable(ctx, at, err)
	}
	w.v.summary.Nodes++
	var names []reference
	err = w.v.e.references(at.kind, data, func(kind Kind, id ID) { names = append(names, reference{kind, id}) })
	if err != nil {
		w.report(at, ProblemNode, "%v", err)
	}
	if err := w.v.progress(func(*VerifyProgress) {}); err != nil {
		return nil, err
	}
	return w.located(names)
}

// located notes which of the blobs are in no volume and returns the nodes among the others that are new.
func (w *snapshotWalk) located(names []reference) ([]reference, error) {
	ids := make([]ID, len(names))
	for i, n := range names {
		ids[i] = n.id
	}
	e := w.v.e
	places, err := w.places(ids)
	for again := true; again && err == nil; {
		again = false
		for i, n := range names {
			if p := places[i]; p.stored != 0 && e.there(p) {
				continue
			}
			if places[i], err = w.find(n); err != nil {
				return nil, err
			}
			again = again || places[i].stored != 0
		}
		if again {
			places, err = w.places(ids)
		}
	}
	if err != nil {
		return nil, err
	}
	var nodes []reference
	for i, n := range names {
		p := places[i]
		w.v.needed = w.v.needed || p.stored != 0 && !e.readable(p)
		if p.stored != 0 && (n.kind == KindNode || n.kind == KindManifest) && w.seen.add(p) {
			nodes = append(nodes, n)
		}
	}
	return nodes, nil
}

// places finds blobs by the numbers that seen goes by. If blobs have got others, nothing counts as seen: some nodes are read twice.
func (w *snapshotWalk) places(ids []ID) ([]shortPlace, error) {
	e := w.v.e
	e.flushMu.Lock() // blobs are not being numbered anew
	defer e.flushMu.Unlock()
	e.mu.Lock()
	if e.marks != w.marks {
		w.seen, w.marks = placeSet{}, e.marks
	}
	e.mu.Unlock()
	return e.lookUpShort(ids)
}

// there reports whether a place lies in a volume that is there.
func (e *engine) there(p shortPlace) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.volumes.byNumber[p.volume].live(p)
}

// find looks for a blob that the index does not lead to: it may just have moved, or all volumes must be looked into, once. A zero
// place: it is lost, which has been noted.
func (w *snapshotWalk) find(n reference) (p shortPlace, err error) {
	for {
		places, err := w.v.e.lookUpShort([]ID{n.id})
		if err != nil {
			return p, err
		}
		if p = places[0]; p.stored != 0 && w.v.e.there(p) {
			break
		}
		if w.reindexed {
			w.lose(n)
			return shortPlace{}, nil
		}
		w.reindexed, w.index = true, true
		if err := w.v.e.reindex(); err != nil {
			return p, err
		}
	}
	if w.index && !w.lost[n.id] { // since then it is found at once
		w.lost[n.id] = true
		w.report(n, ProblemIndex, "the index lacked a blob that a snapshot names")
	}
	w.index = false
	return p, nil
}

// lose notes a blob that is in no volume, once.
func (w *snapshotWalk) lose(n reference) {
	if w.lost[n.id] || w.quiet {
		return
	}
	w.lost[n.id] = true
	w.v.e.recordDamage(damage{lost: map[ID]struct{}{n.id: {}}})
	w.report(n, ProblemLost, "a snapshot names it, and no volume holds it")
}

// unreadable notes a node that cannot be read. Damage of its frame has been recorded when it was read.
func (w *snapshotWalk) unreadable(ctx context.Context, at reference, err error) error {
	var corrupt *CorruptError
	var missing *MissingError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &missing):
		w.lose(at)
		return nil
	case !errors.As(err, &corrupt):
		return err
	}
	w.v.needed = true
	if w.lost[at.id] || w.quiet {
		return nil
	}
	w.lost[at.id] = true
	w.v.unreadFrame(Finding{
		Problem: ProblemFrame, Volume: corrupt.Volume, Offset: corrupt.Offset, Text: corrupt.Err.Error(),
		Blobs: []VerifiedBlob{{at.kind, at.id}},
	})
	return nil
}

func (w *snapshotWalk) report(at reference, p Problem, format string, args ...any) {
	if w.quiet {
		return
	}
	text := fmt.Sprintf(format, args...)
	w.v.add(Finding{Problem: p, Offset: -1, Text: text, Blobs: []VerifiedBlob{{at.kind, at.id}}})
}

// unreadFrame adds a finding about a frame that only the walk has met, with all its blobs.
func (v *verifier) unreadFrame(f Finding) {
	key := frameKey{f.Volume, f.Offset}
	if v.frames[key] { // with all blobs of the frame
		return
	}
	v.e.mu.Lock()
	ids := v.e.damage.frames[key]
	v.e.mu.Unlock()
	for _, id := range ids {
		if id != f.Blobs[0].ID {
			f.Blobs = append(f.Blobs, VerifiedBlob{ID: id})
		}
	}
	v.add(f)
}
