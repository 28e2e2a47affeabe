package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestHoldClock(t *testing.T) {
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		hold, clock, now, want time.Duration // from noon
	}{
		"at once":                       {0, 0, 0, 0},
		"a nanosecond later":            {0, 0, 1, 1},
		"set back a nanosecond":         {0, 0, -1, 0},
		"set back for years":            {0, 0, -1000 * day, 0},
		"a day later":                   {0, 0, day, day},
		"a day and a nanosecond later":  {0, 0, day + 1, 0},
		"years ahead":                   {0, 0, 1000 * day, 0},
		"ahead, the first moment":       {0, 10 * day, 10 * day, 0},
		"ahead, an hour on":             {0, 10 * day, 10*day + time.Hour, time.Hour},
		"ahead, a day on":               {0, 10 * day, 11 * day, day},
		"ahead, more than a day on":     {0, 10 * day, 11*day + 1, 0},
		"ahead, then back a little":     {0, 10 * day, 10*day - time.Hour, 0},
		"ahead, then right again":       {0, 10 * day, time.Hour, time.Hour},
		"behind, then right again":      {0, -10 * day, time.Hour, time.Hour},
		"behind, the clock runs on":     {0, -10 * day, -10*day + time.Hour, 0},
		"behind, then far ahead":        {0, -10 * day, 2 * day, 0},
		"daily, a second late":          {0, 0, day + time.Second, 0},
		"daily, the day after that one": {0, day + time.Second, 2 * day, day - time.Second},
	} {
		clock := holdClock{noon.Add(c.hold), noon.Add(c.clock)}
		if got := clock.at(noon.Add(c.now)); !got.Equal(noon.Add(c.want)) {
			t.Errorf("%s: %v after noon, want %v", name, got.Sub(noon), c.want)
		}
	}
	if got := (holdClock{}).at(noon); !got.Equal(noon) {
		t.Errorf("of an empty store: %v", got)
	}
}

// clockedStore is a store whose clock a test sets.
func clockedStore(t *testing.T, dir string, now *time.Time) *Store {
	t.Helper()
	st, err := Open(t.Context(), dir, Options{Unlock: unlockTest, Job: "test", References: testReferences, Now: func() time.Time { return *now }})
	must(t, err)
	return st
}

func TestClocksDoNotEndHolds(t *testing.T) {
	dir := newStore(t)
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	start, hour, day := now, time.Hour, 24*time.Hour
	st := clockedStore(t, dir, &now)
	_, snap := putAll(t, st, "d", "one", blobs(1, 10))
	putAll(t, st, "d", "two", blobs(2, 10))
	until := now.Add(7 * day)
	must(t, st.Hold(t.Context(), snap.ID, until))

	forget := func(what string, want error) {
		t.Helper()
		err := st.Forget(t.Context(), []ID{snap.ID})
		if !errors.Is(err, want) {
			t.Fatalf("%s, clock %v on: forget: %v, want %v", what, now.Sub(start), err, want)
		}
		state, err := st.State(t.Context())
		must(t, err)
		if held := state.Held(state.Snapshots[0], now); held != (want != nil) {
			t.Fatalf("%s, clock %v on: held %v", what, now.Sub(start), held)
		}
	}
	reopen := func() {
		closeStore(t, st)
		st = clockedStore(t, dir, &now)
	}
	tick := func() { must(t, st.Tag(t.Context(), snap.ID, []string{"t"}, nil)) }

	forget("fresh", ErrOnHold)
	now = until.Add(365 * day)
	forget("clock a year ahead", ErrOnHold)
	tick()
	forget("and a fact with it", ErrOnHold)
	reopen()
	forget("and a new holder", ErrOnHold)
	closeStore(t, st)
	must(t, os.RemoveAll(filepath.Join(dir, indexName)))
	st = clockedStore(t, dir, &now)
	forget("and a new index", ErrOnHold)
	now = start.Add(-1000 * day)
	tick()
	forget("clock set back", ErrOnHold)
	now = start.Add(hour)
	tick()
	forget("clock right again", ErrOnHold)
	for now.Before(until.Add(-day)) { // days with a backup each
		now = now.Add(23 * hour)
		tick()
		forget("a day on", ErrOnHold)
	}
	now = until.Add(-1)
	tick()
	forget("a nanosecond before the end", ErrOnHold)
	now = until
	forget("at the end", nil)
}

func TestClockIsConfirmed(t *testing.T) {
	dir := newStore(t)
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	st := clockedStore(t, dir, &now)
	_, snap := putAll(t, st, "d", "one", blobs(1, 10))
	must(t, st.Hold(t.Context(), snap.ID, now.Add(7*day)))
	now = now.Add(30 * day)
	if err := st.Forget(t.Context(), []ID{snap.ID}); !errors.Is(err, ErrOnHold) {
		t.Fatalf("before the clock is confirmed: %v", err)
	}
	before, err := st.State(t.Context())
	must(t, err)
	must(t, st.ConfirmClock(t.Context()))
	confirmed := now
	must(t, st.ConfirmClock(t.Context())) // changes nothing
	after, err := st.State(t.Context())
	must(t, err)
	if after.Seq != before.Seq+1 || !after.HoldTime.Equal(now) {
		t.Errorf("%d facts, hold time %v", after.Seq-before.Seq, after.HoldTime)
	}
	now = now.Add(-20 * day) // the clock that was confirmed was wrong: what it let go stays let go
	must(t, st.ConfirmClock(t.Context()))
	closeStore(t, st)
	must(t, os.RemoveAll(filepath.Join(dir, indexName)))
	st = clockedStore(t, dir, &now)
	defer func() { closeStore(t, st) }()
	state, err := st.State(t.Context())
	must(t, err)
	if !state.HoldTime.Equal(confirmed) {
		t.Errorf("hold time %v ran back", state.HoldTime)
	}
	must(t, st.Forget(t.Context(), []ID{snap.ID}))
}
