package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestHolds(t *testing.T) {
	dir := newStore(t)
	st := openStore(t, dir)
	_, one := putAll(t, st, "d", "one", blobs(1, 10))
	_, two := putAll(t, st, "d", "two", blobs(2, 10))
	ctx, soon := t.Context(), time.Now().Add(time.Hour)
	fails := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	must(t, st.Hold(ctx, one.ID, soon))
	must(t, st.Hold(ctx, one.ID, soon)) // again
	fails("shorter", st.Hold(ctx, one.ID, soon.Add(-1)), ErrHeldLonger)
	must(t, st.Hold(ctx, one.ID, soon.Add(1)))
	must(t, st.Hold(ctx, one.ID, time.Time{}))
	must(t, st.Hold(ctx, one.ID, time.Time{}))
	fails("not for ever", st.Hold(ctx, one.ID, soon), ErrHeldLonger)
	fails("over", st.Hold(ctx, two.ID, time.Now().Add(-1)), ErrHoldOver)
	fails("nothing", st.Hold(ctx, ID{1}, soon), ErrNotFound)
	fails("forget", st.Forget(ctx, []ID{two.ID, one.ID}), ErrOnHold)

	closeStore(t, st)
	must(t, os.RemoveAll(filepath.Join(dir, indexName)))
	st = openStore(t, dir)
	defer func() { closeStore(t, st) }()
	state, err := st.State(ctx)
	must(t, err)
	if s := state.Snapshots; !s[0].HeldForever || s[1].Forgotten || !state.Held(s[0], time.Now().Add(1e6*time.Hour)) {
		t.Fatalf("snapshots %+v", s)
	}
	must(t, st.Release(ctx, one.ID))
	must(t, st.Release(ctx, one.ID))
	must(t, st.Forget(ctx, []ID{one.ID}))
	must(t, st.Forget(ctx, []ID{one.ID}))
	fails("hold of a forgotten one", st.Hold(ctx, one.ID, soon), ErrNotFound)
	before, err := st.State(ctx)
	must(t, err)
	must(t, st.Unforget(ctx, []ID{one.ID}))
	must(t, st.Unforget(ctx, []ID{one.ID}))
	must(t, st.Hold(ctx, one.ID, soon))
	after, err := st.State(ctx)
	must(t, err)
	if after.Seq != before.Seq+2 {
		t.Errorf("%d facts, want 2", after.Seq-before.Seq)
	}
	fails("forget again", st.Forget(ctx, []ID{one.ID}), ErrOnHold)
}

// TestClientsMakeNoFactsOfTheStore: what only the holder decides cannot be appended by a session.
func TestClientsMakeNoFactsOfTheStore(t *testing.T) {
	st := openStore(t, newStore(t))
	defer closeStore(t, st)
	_, snap := putAll(t, st, "d", "one", blobs(1, 10))
	for _, b := range []FactBody{
		&commitFact{snapshot: ID{1}}, &commitFact{partial: true}, &volumesFact{kind: FactVolumeSealed},
		&volumesFact{kind: FactVolumeDropped}, &volumesFact{kind: FactReplaced}, &checkpointFact{}, &refusedFact{},
		forgetOf(FactPurge, []ID{snap.ID}),
	} {
		if err := st.session.Append(t.Context(), []FactBody{b}); !errors.Is(err, errNotAppended) {
			t.Errorf("fact of kind %d: %v", b.Kind(), err)
		}
	}
}
