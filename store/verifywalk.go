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
	for _, snap := range slices.Backward(st.Snapshots) {
		if snap.Partial {
			continue
		}
		if err := s.Pin(ctx, []ID{snap.ID}); errors.Is(err, ErrNotFound) {
			continue // gone since
		} else if err != nil {
			return err
		}
		w.root = snap.ID
		if err := w.walk(ctx, []reference{{KindManifest, snap.ID}}); err != nil {
			return fmt.Errorf("snapshot %s@%s: %w", snap.Dataset, snap.Name, err)
		}
		v.summary.Snapshots++
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
	lost   map[ID]bool // reported
	root   ID
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
	places, err := e.lookUpShort(ids)
	if err != nil {
		return nil, err
	}
	var nodes []reference
	for i, n := range names {
		switch {
		case places[i].stored == 0 || !e.there(places[i]):
			if err := w.lose(n); err != nil {
				return nil, err
			}
		case (n.kind == KindNode || n.kind == KindManifest) && w.seen.add(places[i]):
			nodes = append(nodes, n)
		}
	}
	return nodes, nil
}

// there reports whether a place lies in a volume that is there.
func (e *engine) there(p shortPlace) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.volumes.byNumber[p.volume].live(p)
}

// lose notes a blob that no volume holds, once. What is only missing from the index is found by looking into the volumes.
func (w *snapshotWalk) lose(n reference) error {
	if w.lost[n.id] {
		return nil
	}
	w.lost[n.id] = true
	places, err := w.v.e.locate([]ID{n.id})
	if err != nil || !places[0].IsZero() {
		return err
	}
	w.v.e.recordDamage(damage{lost: map[ID]struct{}{n.id: {}}})
	w.report(n, ProblemLost, "a snapshot names it, and no volume holds it")
	return nil
}

// unreadable notes a node that cannot be read. Damage of its frame has been recorded when it was read.
func (w *snapshotWalk) unreadable(ctx context.Context, at reference, err error) error {
	var corrupt *CorruptError
	var missing *MissingError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &missing):
		return w.lose(at)
	case !errors.As(err, &corrupt):
		return err
	case w.lost[at.id]:
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
