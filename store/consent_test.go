package store

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// lyingHolder is an append-only store with some snapshots, a client with admin rights, and what its holder can ask it to sign.
func lyingHolder(t *testing.T) (holder, client *Store, snaps []Snapshot, ask func(body FactBody, hold time.Time) error) {
	t.Helper()
	dir := newAppendOnly(t)
	holder = openStore(t, dir)
	t.Cleanup(func() { closeStore(t, holder) })
	client, err := Open(t.Context(), dir, Options{Job: "client", Direct: true})
	must(t, err)
	t.Cleanup(func() { closeStore(t, client) })
	for i := range 4 {
		_, s := putAll(t, holder, "d", string(rune('a'+i)), blobs(uint64(i), 10))
		snaps = append(snaps, s)
	}
	must(t, client.UnlockAdmin(t.Context(), unlockAdminTest))
	e := engineOf(holder)
	var sign signFunc
	e.mu.Lock()
	for s := range e.sessions {
		if f := s.signer(); f != nil {
			sign = f
		}
	}
	e.mu.Unlock()
	if sign == nil {
		t.Fatal("no session has admin rights")
	}
	return holder, client, snaps, func(body FactBody, hold time.Time) error {
		f := &Fact{Kind: body.Kind(), Chain: [16]byte{1}, Seq: 99, Clock: hold, Hold: hold, Body: encodeBody(body)}
		_, err := e.checkedSignature(t.Context(), sign, f.message())
		return err
	}
}

// TestHolderThatLies: an admin's client signs nothing that it has not asked for.
func TestHolderThatLies(t *testing.T) {
	holder, client, snaps, ask := lyingHolder(t)
	now := time.Now()
	for name, body := range map[string]FactBody{
		"forget": forgetOf(FactForget, []ID{snaps[0].ID}), "purge": forgetOf(FactPurge, []ID{snaps[0].ID}),
		"release": &holdFact{kind: FactRelease, snapshot: snaps[0].ID}, "clock": &clockFact{},
		"drop": &volumesFact{kind: FactVolumeDropped}, "replace": &volumesFact{kind: FactReplaced},
		"checkpoint": &checkpointFact{records: newFold().checkpoint()}, "acknowledge": &acknowledgedFact{job: "x"},
	} {
		if err := ask(body, now); !errors.Is(err, errNoSignature) {
			t.Errorf("%s while nothing is asked for: %v", name, err)
		}
	}
	if err := engineOf(holder).askAgain(t); !errors.Is(err, errNoSignature) {
		t.Errorf("the challenge once more: %v", err)
	}
	must(t, client.Forget(t.Context(), []ID{snaps[1].ID}))
	must(t, client.Hold(t.Context(), snaps[0].ID, time.Time{}))
	must(t, client.Release(t.Context(), snaps[0].ID))
	must(t, client.ConfirmClock(t.Context()))
	_, err := client.Prune(t.Context(), PruneOptions{}, nil)
	must(t, err)
	_, err = client.Upkeep(t.Context())
	must(t, err)
	_, err = client.Verify(t.Context(), VerifyOptions{Data: true, Repair: true}, func(VerifyEvent) error { return nil })
	must(t, err)
	state, err := client.State(t.Context())
	must(t, err)
	if len(state.Snapshots) != 3 {
		t.Errorf("%d snapshots, want 3", len(state.Snapshots))
	}
}

// askAgain asks the session with admin rights to show them once more.
func (e *engine) askAgain(t *testing.T) error {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	for s := range e.sessions {
		if sign := s.signer(); sign != nil {
			_, err := sign(context.Background(), append([]byte(adminChallenge), make([]byte, 32)...))
			return err
		}
	}
	return nil
}

// TestConsentByTheStoresClock: what is in the future, the clock says that the store was opened with.
func TestConsentByTheStoresClock(t *testing.T) {
	dir := newAppendOnly(t)
	later := time.Now().AddDate(1, 0, 0)
	clock := func() time.Time { return later }
	holder, err := Open(t.Context(), dir, Options{Unlock: unlockTest, Job: "test", References: testReferences, Now: clock})
	must(t, err)
	defer closeStore(t, holder)
	for _, behind := range []bool{true, false} {
		o := Options{Job: "client", Direct: true, Now: clock}
		if behind {
			o.Now = time.Now
		}
		client, err := Open(t.Context(), dir, o)
		must(t, err)
		must(t, client.UnlockAdmin(t.Context(), unlockAdminTest))
		err = client.ConfirmClock(t.Context())
		var unasked *UnaskedError
		if behind != errors.As(err, &unasked) || !behind && err != nil {
			t.Errorf("a client that is a year behind (%v): %v", behind, err)
		}
		closeStore(t, client)
	}
}

// TestForgetBesidePrune: what another admin forgets while a prune is on its way is pruned as well.
func TestForgetBesidePrune(t *testing.T) {
	holder, client, snaps, _ := lyingHolder(t)
	must(t, client.Forget(t.Context(), []ID{snaps[0].ID}))
	other, err := Open(t.Context(), holder.Dir(), Options{Job: "other", Direct: true})
	must(t, err)
	defer closeStore(t, other)
	must(t, other.UnlockAdmin(t.Context(), unlockAdminTest))
	asked := &client.session.(*lastingSession).way.session.(*remoteSession).asked
	maintenance := &engineOf(holder).maintenance
	maintenance.Lock() // the prune waits, having asked what is forgotten
	type pruned struct {
		r   PruneResult
		err error
	}
	done := make(chan pruned, 1)
	go func() {
		r, err := client.Prune(t.Context(), PruneOptions{}, nil)
		done <- pruned{r, err}
	}()
	for under := false; !under; time.Sleep(time.Millisecond) {
		asked.mu.Lock()
		under = len(asked.list) > 0
		asked.mu.Unlock()
	}
	must(t, other.Forget(t.Context(), []ID{snaps[1].ID}))
	maintenance.Unlock()
	if p := <-done; p.err != nil || p.r.Purged != 2 {
		t.Errorf("%d purged: %v", p.r.Purged, p.err)
	}
	state, err := client.State(t.Context())
	must(t, err)
	if len(state.Snapshots) != 2 {
		t.Errorf("%d snapshots are left, want 2", len(state.Snapshots))
	}
}

// TestConsent: while something is asked for, nothing but that is signed.
func TestConsent(t *testing.T) {
	now := time.Now()
	one, two := ID{1}, ID{2}
	forget, release := consentTo([]FactBody{forgetOf(FactForget, []ID{one})}), consentTo([]FactBody{&holdFact{kind: FactRelease, snapshot: one}})
	clock := consentTo([]FactBody{&clockFact{}})
	prune := consentToPrune(&State{Snapshots: []Snapshot{{ID: one, Forgotten: true}, {ID: two}}})
	repair, look := consentToVerify(VerifyOptions{Repair: true}), consentToVerify(VerifyOptions{})
	for _, c := range []struct {
		name    string
		consent *consent
		body    FactBody
		hold    time.Time
		ok      bool
	}{
		{"forget", forget, forgetOf(FactForget, []ID{one}), now, true},
		{"forget, with another", forget, forgetOf(FactForget, []ID{one, two}), now, false},
		{"purge for forget", forget, forgetOf(FactPurge, []ID{one}), now, false},
		{"forget in the future", forget, forgetOf(FactForget, []ID{one}), now.Add(time.Hour), false},
		{"release", release, &holdFact{kind: FactRelease, snapshot: one}, now, true},
		{"release of another", release, &holdFact{kind: FactRelease, snapshot: two}, now, false},
		{"clock", clock, &clockFact{}, now, true},
		{"clock in the future", clock, &clockFact{}, now.AddDate(1, 0, 0), false},
		{"purge", prune, forgetOf(FactPurge, []ID{one}), now, true},
		{"purge of what is not forgotten", prune, forgetOf(FactPurge, []ID{two}), now, false},
		{"forget for prune", prune, forgetOf(FactForget, []ID{two}), now, false},
		{"drop", prune, &volumesFact{kind: FactVolumeDropped}, now, true},
		{"drop for a look", look, &volumesFact{kind: FactVolumeDropped}, now, false},
		{"acknowledgement", repair, &acknowledgedFact{}, now, true},
		{"purge for a repair", repair, forgetOf(FactPurge, []ID{one}), now, false},
	} {
		var s consents
		s.grant(now.AddDate(0, 0, -1))
		f := &Fact{Kind: c.body.Kind(), Chain: [16]byte{1}, Seq: 7, Clock: now, Hold: c.hold, Body: encodeBody(c.body)}
		refused := errors.New("the holder refuses")
		err := s.during(c.consent, func() error {
			if s.check(f.message(), now) != nil {
				return refused
			}
			return nil
		})
		var unasked *UnaskedError
		if c.ok != (err == nil) || !c.ok && !errors.As(err, &unasked) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil && !strings.Contains(err.Error(), c.body.Kind().String()) {
			t.Errorf("%s: the error does not name it: %v", c.name, err)
		}
		if s.check(f.message(), now) == nil {
			t.Errorf("%s: signed after the call", c.name)
		}
	}
	var s consents // a hold time that was ahead of the clock all along
	s.grant(now.AddDate(0, 1, 0))
	f := &Fact{Kind: FactForget, Chain: [16]byte{1}, Seq: 7, Hold: now.AddDate(0, 1, 0), Body: encodeBody(forgetOf(FactForget, []ID{one}))}
	must(t, s.during(forget, func() error { return s.check(f.message(), now) }))
}
