package store

import (
	"context"
	"errors"
	"slices"

	"snapfs/store/volume"
)

// replace deals with the volumes that parity could not make whole: what they still hold moves to new volumes, and a fact drops them,
// missing ones too, and damaged frames that nothing needs. While they may be the only place of anything that is needed, damaged bytes
// included, they are left alone: a copy of the store may bring it back. That is so as long as anything needed is lost, wherever,
// unless all frames of a volume are whole.
func (v *verifier) replace(ctx context.Context) error {
	if !v.o.Repair || !v.leftovers() {
		return nil
	}
	e := v.e
	lost, err := v.anythingLost(ctx)
	if err != nil {
		return err
	}
	if !e.canDrop(v.session) {
		return nil // in an append-only store volumes are replaced by sessions with admin rights only; nothing is lost without it
	}
	e.maintenance.Lock()
	defer e.maintenance.Unlock()
	for _, id := range v.left {
		if lost && !v.framesWhole(id) {
			continue
		}
		gone, err := v.moveOut(ctx, id, !lost)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		v.replacedBy(id, gone, err)
	}
	return nil
}

// leftovers reports whether volumes are left that are not whole, and notes the missing ones among them.
func (v *verifier) leftovers() bool {
	for _, f := range v.findings {
		if !f.Healed && (f.Problem == ProblemMissing || f.Problem == ProblemShort) {
			v.left = append(v.left, f.Volume)
		}
	}
	slices.SortFunc(v.left, func(a, b volume.ID) int { return compareBytes(a[:], b[:]) })
	v.left = slices.Compact(v.left)
	return len(v.left) > 0
}

// anythingLost reports whether a snapshot or the list of facts names what is damaged or in no volume. What else was believed to be
// lost is forgotten then: nothing names it.
func (v *verifier) anythingLost(ctx context.Context) (bool, error) {
	lost := slices.ContainsFunc(v.findings, func(f Finding) bool {
		return !f.Healed && (f.Problem == ProblemLost || f.Problem == ProblemNode)
	})
	if !lost {
		v.e.forgetLost()
	}
	if lost || v.needed {
		return true, nil
	}
	var pages []ID
	err := v.e.chainBlobs(ctx, func(_ Kind, id ID) error {
		pages = append(pages, id)
		return nil
	})
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil {
		return true, nil // one cannot be read, and nobody knows those below
	}
	places, err := v.e.lookUpShort(pages)
	return slices.ContainsFunc(places, func(p shortPlace) bool { return !v.e.readable(p) }), err
}

// framesWhole reports whether nothing was found wrong with a volume but with what describes and protects its frames.
func (v *verifier) framesWhole(id volume.ID) bool {
	return !slices.ContainsFunc(v.findings, func(f Finding) bool {
		switch f.Problem {
		case ProblemLabel, ProblemTrailer, ProblemTable, ProblemParity:
			return false
		}
		return f.Volume == id && !f.Healed
	})
}

// moveOut moves what a volume holds and drops it; with damaged also if frames are damaged. Needs maintenance.
func (v *verifier) moveOut(ctx context.Context, id volume.ID, damaged bool) (gone bool, err error) {
	e := v.e
	if e.isOther(id) { // dropped, the file of another volume would go
		return false, nil
	}
	e.commitMu.Lock()
	need, named := e.fold.volumes[id]
	e.flushMu.Lock() // blobs are not being numbered anew
	e.mu.Lock()
	state := e.volumes.byID[id]
	p := &plan{unknown: true}
	missing := state == nil || state.missing
	if !missing && kindMoved(state.kind) && !e.writing(state) && !state.dropped {
		c := &candidate{volumeState: state, wanted: &bitset{}, live: state.size}
		c.wanted.fill(state.blobs)
		p.rewrite = append(p.rewrite, c)
		p.condemn()
	}
	e.mu.Unlock()
	e.flushMu.Unlock()
	e.commitMu.Unlock()
	if missing && named && kindMoved(need.kind) {
		if state == nil {
			state = &volumeState{id: id, kind: need.kind}
		}
		return true, e.drop(ctx, v.session, []*volumeState{state}, nil)
	}
	if len(p.rewrite) > 0 && damaged {
		if err := e.unindexDamaged(state); err != nil {
			return false, e.spare(p, err)
		}
	}
	var r PruneResult
	err = e.execute(ctx, v.session, p, false, &r, func(PruneProgress) {})
	return len(r.Rewritten) > 0, err
}

// replacedBy says of a volume's findings what has become of them.
func (v *verifier) replacedBy(id volume.ID, gone bool, err error) {
	text := "; what it held has been moved to a new volume"
	switch {
	case err != nil && !errors.Is(err, context.Canceled):
		text = "; not replaced: " + err.Error()
	case !gone:
		return
	}
	for i := range v.findings {
		if f := &v.findings[i]; f.Volume == id && (f.Problem != ProblemIndex) {
			switch {
			case gone && f.Problem == ProblemMissing:
				f.Text += "; nothing needs it any more"
			case gone && err == nil && v.nowhere(f.Blobs):
				f.Text += "; nothing needs it, and the rest of the volume has been moved to a new one"
			default:
				f.Text += text
			}
			f.Healed = f.Healed || gone && err == nil
		}
	}
}

// nowhere reports whether some of the blobs are not stored elsewhere either.
func (v *verifier) nowhere(blobs []VerifiedBlob) bool {
	ids := make([]ID, len(blobs))
	for i, b := range blobs {
		ids[i] = b.ID
	}
	lost, err := v.e.stillDamaged(ids)
	return err == nil && len(lost) > 0
}

// isOther reports whether what has the name of a volume is something else.
func (e *engine) isOther(id volume.ID) bool {
	path := volumePath(e.dir, id)
	size, err := fileSize(path)
	if err != nil {
		return false
	}
	label, err := labelOf(path, size)
	return err == nil && (label.Volume != id || label.Store != e.storeID)
}
