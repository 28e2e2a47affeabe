package store

import "time"

// holdStep is how far the clock may be beyond the hold time and still be believed.
const holdStep = 24 * time.Hour

// holdClock is the clock that holds end by, as of the newest fact. It never runs back. It follows the clock while that is
// no more than a day beyond it. A clock that is further ahead was perhaps set: then the hold time stands, and goes on only
// by what passes between one fact and the next (a day at most), until somebody confirms the clock. So holds end late when
// a store rests for days, and never more than a day early because a clock was set.
type holdClock struct {
	hold  time.Time // of the newest fact; zero: there is none
	clock time.Time // as it was read then
}

// at is the hold time when the clock says now.
func (c holdClock) at(now time.Time) time.Time {
	switch passed := now.Sub(c.clock); {
	case c.hold.IsZero():
		return now
	case !now.After(c.hold):
		return c.hold
	case !now.After(c.hold.Add(holdStep)):
		return now
	case passed > 0 && passed <= holdStep:
		return c.hold.Add(passed)
	}
	return c.hold
}

// believed is how far a fact may move the hold time on.
func (c holdClock) believed(hold time.Time) bool {
	return c.hold.IsZero() || !hold.After(c.hold.Add(holdStep))
}

// Held reports whether a snapshot cannot be forgotten when the clock says now.
func (st *State) Held(s Snapshot, now time.Time) bool {
	return s.HeldForever || s.HeldUntil.After(st.HoldClock(now))
}

// HoldClock is the time that holds are measured by when the clock says now.
func (st *State) HoldClock(now time.Time) time.Time { return holdClock{st.HoldTime, st.Clock}.at(now) }

// held reports whether a hold of the snapshot reaches beyond a hold time.
func (s *snapshotRecord) held(at time.Time) bool { return s.forever || s.heldUntil.After(at) }

// holdTime is the hold time now. Needs commitMu.
func (e *engine) holdTime(now time.Time) time.Time {
	return holdClock{e.fold.hold, e.fold.clock}.at(now)
}
