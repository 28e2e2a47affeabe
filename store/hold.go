package store

import (
	"context"
	"fmt"
	"time"
)

// Forget takes snapshots out of sight; until a prune has purged them, Unforget brings them back. Forgetting a forgotten one
// changes nothing. If one cannot be forgotten, none is. Errors: ErrNotFound, ErrOnHold, ErrNotAdmin.
func (s *Store) Forget(ctx context.Context, ids []ID) error {
	return s.session.Append(ctx, []FactBody{forgetOf(FactForget, ids)})
}

// Unforget brings forgotten snapshots back. Errors: ErrNotFound (also: purged).
func (s *Store) Unforget(ctx context.Context, ids []ID) error {
	return s.session.Append(ctx, []FactBody{forgetOf(FactUnforget, ids)})
}

func forgetOf(kind FactKind, ids []ID) *forgetFact {
	f := &forgetFact{kind: kind}
	for _, id := range ids {
		f.snaps = append(f.snaps, forgotten{snapshot: id}) // the holder adds what else the fact says
	}
	return f
}

// Hold promises that a snapshot is not removed before a time, or ever if that is zero. Holds only extend: a promise that
// goes further already is ErrHeldLonger, one that ends before it begins ErrHoldOver. Errors: ErrNotFound.
func (s *Store) Hold(ctx context.Context, snapshot ID, until time.Time) error {
	return s.session.Append(ctx, []FactBody{&holdFact{kind: FactHold, snapshot: snapshot, until: until, forever: until.IsZero()}})
}

// Release lifts a snapshot's hold, if it has one. Errors: ErrNotFound, ErrNotAdmin.
func (s *Store) Release(ctx context.Context, snapshot ID) error {
	return s.session.Append(ctx, []FactBody{&holdFact{kind: FactRelease, snapshot: snapshot}})
}

// ConfirmClock says that the clock is right, so that holds are measured by it from now on. The time that counts never
// runs back: if it is ahead of the clock, it stays. Errors: ErrNotAdmin.
func (s *Store) ConfirmClock(ctx context.Context) error {
	return s.session.Append(ctx, []FactBody{&clockFact{}})
}

// prepare checks facts that a session wants to append against the state they will change, and gives what is to be
// written: complete, and without what would change nothing. Needs commitMu.
func (e *engine) prepare(facts []FactBody) ([]FactBody, error) {
	var out []FactBody
	for _, b := range facts {
		if err := e.allowed(b); err != nil {
			return nil, err
		}
		switch f := b.(type) {
		case *forgetFact:
			full, err := e.fullForget(f)
			if err != nil {
				return nil, err
			}
			if len(full.snaps) > 0 {
				out = append(out, full)
			}
			continue
		case *holdFact:
			if e.known(f.snapshot).heldAs(f) {
				continue
			}
		case *clockFact:
			if !e.now().After(e.fold.hold) {
				continue
			}
		}
		out = append(out, b)
	}
	return out, nil
}

// allowed checks one fact. Needs commitMu.
func (e *engine) allowed(b FactBody) error {
	switch f := b.(type) {
	case *tagFact:
		if _, ok := e.fold.slots[f.snapshot]; !ok {
			return fmt.Errorf("snapshot %s: %w", f.snapshot, ErrNotFound)
		}
	case *datasetFact:
		if e.fold.datasets[f.number] == nil {
			return fmt.Errorf("dataset %d: %w", f.number, ErrNotFound)
		}
		if n, ok := e.fold.datasetNumber(f.name); ok && n != f.number {
			return fmt.Errorf("dataset %s: %w", f.name, ErrExists)
		}
	case *holdFact:
		return e.mayHold(f)
	case *forgetFact:
		if f.kind == FactPurge {
			return errNotAppended
		}
	case *clockFact, *recordFact:
	default:
		return errNotAppended
	}
	return nil
}

// known returns a whole snapshot that the facts know, nil if there is none. Needs commitMu.
func (e *engine) known(id ID) *snapshotRecord {
	slot, ok := e.fold.slots[id]
	if !ok || e.fold.snapshots[slot].partial {
		return nil
	}
	return e.fold.snapshots[slot]
}

// mayHold checks a hold or release. Needs commitMu.
func (e *engine) mayHold(f *holdFact) error {
	s := e.known(f.snapshot)
	if s == nil || s.forgotten {
		return fmt.Errorf("snapshot %s: %w", f.snapshot, ErrNotFound)
	}
	if f.kind == FactRelease || f.forever {
		return nil
	}
	switch at := e.holdTime(e.now()); {
	case s.forever:
		return fmt.Errorf("%s %w: for ever", e.nameOf(s), ErrHeldLonger)
	case f.until.Before(s.heldUntil):
		return fmt.Errorf("%s %w: until %s", e.nameOf(s), ErrHeldLonger, s.heldUntil.Format(time.RFC3339))
	case !f.until.After(at):
		return fmt.Errorf("%w: until %s, and it is %s already", ErrHoldOver, f.until.Format(time.RFC3339), at.Format(time.RFC3339))
	}
	return nil
}

// heldAs reports whether a fact would leave the snapshot's hold as it is.
func (s *snapshotRecord) heldAs(f *holdFact) bool {
	switch {
	case f.kind == FactRelease:
		return s.heldUntil.IsZero() && !s.forever
	case f.forever:
		return s.forever
	}
	return s.heldUntil.Equal(f.until)
}

// nameOf is how people call a snapshot.
func (e *engine) nameOf(s *snapshotRecord) string {
	return e.fold.datasetName(s.dataset) + "@" + s.name
}

// fullForget completes a fact that names snapshots, without those that it does not change. Needs commitMu.
func (e *engine) fullForget(f *forgetFact) (*forgetFact, error) {
	at := e.holdTime(e.now())
	full := &forgetFact{kind: f.kind}
	for _, n := range f.snaps {
		s := e.known(n.snapshot)
		switch {
		case s == nil:
			return nil, fmt.Errorf("snapshot %s: %w", n.snapshot, ErrNotFound)
		case s.forgotten == (f.kind == FactForget):
			continue
		case f.kind == FactForget && s.held(at):
			return nil, fmt.Errorf("%s %w %s", e.nameOf(s), ErrOnHold, s.heldText())
		}
		full.snaps = append(full.snaps, forgotten{s.snapshot, s.slot, s.dataset, s.name})
	}
	return full, nil
}

// heldText says how long.
func (s *snapshotRecord) heldText() string {
	if s.forever {
		return "for ever"
	}
	return "until " + s.heldUntil.Format(time.RFC3339)
}
