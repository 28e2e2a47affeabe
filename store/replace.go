package store

import (
	"context"
	"errors"
	"slices"

	"snapfs/store/volume"
)

// replace deals with the volumes that parity could not make whole, once it is certain that nothing is lost with them: what they
// still hold moves to new volumes, and a fact drops them, missing ones too. While they may be the only place of anything that a
// snapshot names, damaged bytes included, they are left alone.
func (v *verifier) replace(ctx context.Context) error {
	if !v.o.Repair || !v.leftovers() {
		return nil
	}
	e := v.e
	e.forgetLost()
	if lost, err := e.damagedInFrames(); err != nil || len(lost) > 0 { // what is in no volume has no finding: nothing names it
		return err
	}
	if !e.canDrop(v.session) {
		return nil // in an append-only store volumes are replaced by sessions with admin rights only; nothing is lost without it
	}
	e.maintenance.Lock()
	defer e.maintenance.Unlock()
	for _, id := range v.left {
		gone, err := v.moveOut(ctx, id)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		v.replacedBy(id, gone, err)
	}
	return nil
}

// leftovers reports whether volumes are left that are not whole, and notes the missing ones among them. Nothing may be known to be
// lost.
func (v *verifier) leftovers() bool {
	for _, f := range v.findings {
		switch {
		case f.Healed:
		case f.Problem == ProblemLost || f.Problem == ProblemNode:
			return false
		case f.Problem == ProblemMissing || f.Problem == ProblemShort:
			v.left = append(v.left, f.Volume)
		}
	}
	slices.SortFunc(v.left, func(a, b volume.ID) int { return compareBytes(a[:], b[:]) })
	v.left = slices.Compact(v.left)
	return len(v.left) > 0
}

// moveOut moves what a volume holds and drops it. Needs maintenance.
func (v *verifier) moveOut(ctx context.Context, id volume.ID) (gone bool, err error) {
	e := v.e
	if e.isOther(id) { // dropped, the file of another volume would go
		return false, nil
	}
	e.commitMu.Lock()
	need, named := e.fold.volumes[id]
	e.mu.Lock()
	state := e.volumes.byID[id]
	p := &plan{}
	missing := state == nil || state.missing
	if !missing && kindMoved(state.kind) && !e.writing(state) && !state.dropped {
		c := &candidate{volumeState: state, wanted: &bitset{}, live: state.size}
		c.wanted.fill(state.blobs)
		p.rewrite = append(p.rewrite, c)
		p.condemn()
	}
	e.mu.Unlock()
	e.commitMu.Unlock()
	if missing && named && kindMoved(need.kind) {
		if state == nil {
			state = &volumeState{id: id, kind: need.kind}
		}
		return true, e.drop(ctx, v.session, []*volumeState{state}, nil)
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
			if gone && f.Problem == ProblemMissing {
				text = "; nothing needs it any more"
			}
			f.Text += text
			f.Healed = f.Healed || gone && err == nil
		}
	}
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
