package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"snapfs/store/seal"
	"snapfs/store/volume"
)

// adminKey opens the admin slot of append-only test stores.
var adminKey = bytes.Repeat([]byte{9}, 32)

func unlockAdminTest(context.Context, []seal.Info) (seal.Secret, error) {
	return seal.Secret{KeyFile: adminKey}, nil
}

// newAppendOnly makes an append-only store.
func newAppendOnly(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	unguardAtEnd(t, dir)
	must(t, Init(t.Context(), dir, InitOptions{
		Slots: []seal.NewSlot{{KeyFile: testKey}, {KeyFile: adminKey, Role: seal.RoleAdmin}}, AppendOnly: true, Program: "test",
	}))
	return dir
}

// secondStore opens a store that another one in this process holds.
func secondStore(t testing.TB, dir string) *Store {
	t.Helper()
	st, err := Open(t.Context(), dir, Options{Job: "second", Direct: true})
	must(t, err)
	return st
}

func TestAppendOnly(t *testing.T) {
	for name, second := range map[string]bool{"in the holder": false, "over the socket": true} {
		t.Run(name, func(t *testing.T) {
			dir := newAppendOnly(t)
			st := openStore(t, dir)
			defer func() { closeStore(t, st) }()
			if second {
				holder := st
				st = secondStore(t, dir)
				defer func() { closeStore(t, holder) }()
			}
			checkAppendOnly(t, st)
		})
	}
}

func checkAppendOnly(t *testing.T, st *Store) {
	ctx := t.Context()
	if !st.AppendOnly() {
		t.Error("not append-only")
	}
	_, one := putAll(t, st, "d", "one", blobs(1, 10))
	_, two := putAll(t, st, "d", "two", blobs(2, 10))
	must(t, st.Tag(ctx, one.ID, []string{"x"}, nil))
	must(t, st.Hold(ctx, two.ID, time.Now().Add(time.Hour)))
	refused := map[string]func() error{
		"forget":  func() error { return st.Forget(ctx, []ID{one.ID}) },
		"release": func() error { return st.Release(ctx, two.ID) },
	}
	for what, f := range refused {
		if err := f(); !errors.Is(err, ErrNotAdmin) {
			t.Errorf("%s without admin rights: %v", what, err)
		}
	}
	state, err := st.State(ctx)
	must(t, err)
	if len(state.Refused) != 1 || state.Refused[0].Job != st.job || state.Refused[0].Attempts != 1 {
		t.Errorf("refused: %+v", state.Refused)
	}
	if err := st.UnlockAdmin(ctx, unlockTest); !errors.Is(err, ErrWrongSecret) {
		t.Errorf("an ordinary secret: %v", err)
	}
	must(t, st.UnlockAdmin(ctx, unlockAdminTest))
	must(t, st.Release(ctx, two.ID))
	must(t, st.Forget(ctx, []ID{one.ID}))
	state, err = st.State(ctx)
	must(t, err)
	if !state.Snapshots[0].Forgotten || !state.Snapshots[1].HeldUntil.IsZero() || !state.AppendOnly {
		t.Errorf("state %+v", state)
	}
	must(t, st.Unforget(ctx, []ID{one.ID}))
}

// TestNothingIsDroppedWithoutAdmin: a prune is refused and recorded. Upkeep, which nobody asked for, merges, compacts and drops nothing,
// and is no attempt; with admin rights it does.
func TestNothingIsDroppedWithoutAdmin(t *testing.T) {
	dir := newAppendOnly(t)
	for n := range 10 {
		st := openStore(t, dir)
		putAll(t, st, "d", fmt.Sprint(n), blobs(uint64(n), 1000))
		closeStore(t, st)
	}
	disk := func() map[volume.ID]int64 { return must1(onDisk(volumesDir(dir))) }
	before := disk()
	lacks := func(now map[volume.ID]int64) (gone int) {
		for id := range before {
			if _, there := now[id]; !there {
				gone++
			}
		}
		return gone
	}
	st := openStore(t, dir)
	defer func() { closeStore(t, st) }()
	refused := func(want ...string) {
		t.Helper()
		state, err := st.State(t.Context())
		must(t, err)
		var got []string
		for _, r := range state.Refused {
			got = append(got, fmt.Sprintf("%s by %s, %d", r.What, r.Job, r.Attempts))
		}
		if !slices.Equal(got, want) {
			t.Errorf("refused %q, want %q", got, want)
		}
	}
	res, err := st.Upkeep(t.Context())
	must(t, err)
	if report := compact(t, st); report.Written || len(report.Dropped) > 0 {
		t.Errorf("compacted: %+v", report)
	}
	if n := lacks(disk()); n > 0 || len(res.Removed)+len(res.Rewritten) > 0 {
		t.Errorf("%d volumes are gone: %+v", n, res)
	}
	refused()
	if _, err := st.Prune(t.Context(), PruneOptions{}, nil); !errors.Is(err, ErrNotAdmin) {
		t.Errorf("prune: %v", err)
	}
	refused("prune by test, 1")
	_, err = st.Prune(t.Context(), PruneOptions{DryRun: true}, nil) // takes nothing away
	must(t, err)
	e := engineOf(st)
	s := st.session.(*lastingSession).way.session.(*localSession)
	if err := e.drop(t.Context(), s, []*volumeState{e.volumes.byID[slices.Collect(maps.Keys(before))[0]]}, nil); !errors.Is(err, ErrNotAdmin) {
		t.Errorf("drop: %v", err)
	}
	if n := lacks(disk()); n > 0 {
		t.Errorf("%d volumes are gone", n)
	}
	must(t, st.UnlockAdmin(t.Context(), unlockAdminTest))
	res, err = st.Upkeep(t.Context())
	must(t, err)
	if report := compact(t, st); !report.Written {
		t.Errorf("not compacted: %+v", report)
	}
	if len(res.Rewritten) == 0 || lacks(disk()) < len(res.Rewritten) {
		t.Errorf("an admin's upkeep did nothing: %+v", res)
	}
	_, err = st.Prune(t.Context(), PruneOptions{}, nil)
	must(t, err)
	refused("prune by test, 1")
}

// TestAdminRightsAreTheSessions: another session of the same holder has none.
func TestAdminRightsAreTheSessions(t *testing.T) {
	dir := newAppendOnly(t)
	admin, err := Open(t.Context(), dir, Options{Unlock: unlockAdminTest, Job: "admin"})
	must(t, err)
	other := secondStore(t, dir)
	_, one := putAll(t, other, "d", "one", blobs(1, 10))
	if err := other.Forget(t.Context(), []ID{one.ID}); !errors.Is(err, ErrNotAdmin) {
		t.Errorf("forget by another session: %v", err)
	}
	must(t, admin.Forget(t.Context(), []ID{one.ID})) // the slot it was opened with was an admin's
	e := engineOf(admin)
	if err := e.mayDrop(nil, "upkeep"); !errors.Is(err, ErrNotAdmin) || e.canDrop(nil) {
		t.Errorf("the holder itself: %v", err)
	}
	closeStore(t, other)
	closeStore(t, admin)
}

// TestAdminRightsOutlastTheHolder: who has unlocked them keeps them with the next holder, and as holder.
func TestAdminRightsOutlastTheHolder(t *testing.T) {
	dir := newAppendOnly(t)
	holder := openStore(t, dir)
	st, err := Open(t.Context(), dir, Options{Unlock: unlockTest, Job: "client"})
	must(t, err)
	_, one := putAll(t, st, "d", "one", blobs(1, 10))
	must(t, st.UnlockAdmin(t.Context(), unlockAdminTest))
	closeStore(t, holder)
	must(t, st.Forget(t.Context(), []ID{one.ID}))
	if !isHolder(st) {
		t.Error("not the holder")
	}
	closeStore(t, st)
}

// TestUnsignedFactsDoNotCount: in the journal they are part of the chain, and say nothing.
func TestUnsignedFactsDoNotCount(t *testing.T) {
	dir := newAppendOnly(t)
	now := time.Now()
	st := clockedStore(t, dir, &now)
	_, one := putAll(t, st, "d", "one", blobs(1, 10))
	_, two := putAll(t, st, "d", "two", blobs(2, 10))
	must(t, st.Hold(t.Context(), two.ID, now.Add(48*time.Hour)))
	e := engineOf(st)
	forge := func(signature []byte, hold time.Time, bodies ...FactBody) {
		t.Helper()
		e.commitMu.Lock()
		defer e.commitMu.Unlock()
		end := e.chainEnd()
		end.hold = hold
		batch, err := e.makeFacts(t.Context(), bodies, end, func(int, []byte) ([]byte, error) { return signature, nil })
		must(t, err)
		must(t, e.writeFacts(batch))
	}
	far := now.Add(1000 * time.Hour)
	forge(nil, now, forgetOf(FactForget, []ID{one.ID}))
	forge(make([]byte, 64), now, forgetOf(FactForget, []ID{one.ID}), forgetOf(FactPurge, []ID{one.ID}))
	forge(nil, now, &holdFact{kind: FactRelease, snapshot: two.ID})
	forge(nil, far, &clockFact{})
	forge(nil, far, &tagFact{snapshot: one.ID, add: []string{"far"}})
	forge(nil, now, &checkpointFact{records: newFold().checkpoint()})
	data := engineVolume(e)
	forge(nil, now, &volumesFact{kind: FactVolumeDropped, list: []sealedVolume{data}})
	check := func(what string) {
		t.Helper()
		state, err := st.State(t.Context())
		must(t, err)
		if len(state.Snapshots) != 2 || state.Snapshots[0].Forgotten || !state.Held(state.Snapshots[1], now) || state.HoldTime.After(now.Add(time.Hour)) {
			t.Errorf("%s: %+v", what, state)
		}
		if _, dropped := engineOf(st).fold.dropped[data.id]; dropped {
			t.Errorf("%s: a volume is dropped", what)
		}
		if state.Snapshots[0].Tags[0] != "far" {
			t.Errorf("%s: what needs no signature does not count", what)
		}
	}
	check("at once")
	closeStore(t, st)
	st = clockedStore(t, dir, &now)
	check("opened again")
	closeStore(t, st)
	must(t, os.RemoveAll(filepath.Join(dir, indexName)))
	st = clockedStore(t, dir, &now)
	check("index made anew")
	closeStore(t, st)
	must(t, os.RemoveAll(filepath.Join(dir, indexName)))
	must(t, os.Remove(filepath.Join(dir, configName)))
	must(t, Recreate(t.Context(), dir, Options{Unlock: unlockTest}))
	st = clockedStore(t, dir, &now)
	check("recreated")
	if c := st.config.FeaturesWrite; c[len(c)-1] != featureAppendOnly {
		t.Errorf("features %v", c)
	}
	closeStore(t, st)
}

// engineVolume returns one of the volumes that must exist.
func engineVolume(e *engine) sealedVolume {
	for _, v := range e.fold.volumes {
		return v
	}
	return sealedVolume{}
}

// TestSignaturesDoNotStopCommits: others commit while a session with admin rights is slow to sign, and it gets through
// although they do.
func TestSignaturesDoNotStopCommits(t *testing.T) {
	dir := newAppendOnly(t)
	holder := openStore(t, dir)
	defer closeStore(t, holder)
	_, one := putAll(t, holder, "d", "one", blobs(1, 10))
	admin, err := seal.OpenAdmin(t.Context(), filepath.Join(dir, keysName), unlockAdminTest)
	must(t, err)
	st := secondStore(t, dir)
	defer closeStore(t, st)
	var committing sync.Mutex
	slow := func(message []byte) ([]byte, error) {
		if bytes.HasPrefix(message, []byte(adminChallenge)) || !committing.TryLock() {
			return admin.Sign(message)
		}
		putAll(t, holder, "e", "while it signs", blobs(7, 10)) // would never end if it had to wait for the signature
		return admin.Sign(message)
	}
	must(t, st.session.Admin(t.Context(), slow))
	must(t, st.Forget(t.Context(), []ID{one.ID}))
	state, err := holder.State(t.Context())
	must(t, err)
	if len(state.Snapshots) != 2 || !state.Snapshots[0].Forgotten {
		t.Errorf("state %+v", state)
	}
}

// TestSilentAdmin: a client that never answers gets an error, and nobody waits long for it.
func TestSilentAdmin(t *testing.T) {
	dir := newAppendOnly(t)
	holder := openStore(t, dir)
	defer closeStore(t, holder)
	_, one := putAll(t, holder, "d", "one", blobs(1, 10))
	admin, err := seal.OpenAdmin(t.Context(), filepath.Join(dir, keysName), unlockAdminTest)
	must(t, err)
	st := secondStore(t, dir)
	must(t, st.session.Admin(t.Context(), func(message []byte) ([]byte, error) {
		if !bytes.HasPrefix(message, []byte(adminChallenge)) {
			return nil, errors.New("no")
		}
		return admin.Sign(message)
	}))
	if err := st.Forget(t.Context(), []ID{one.ID}); err == nil {
		t.Error("forgotten without a signature")
	}
	putAll(t, holder, "d", "two", blobs(2, 10))
	closeStore(t, st)
}

// TestHostileSigners: what is not the admin's signature gives no rights.
func TestHostileSigners(t *testing.T) {
	dir := newAppendOnly(t)
	holder := openStore(t, dir)
	defer closeStore(t, holder)
	st := secondStore(t, dir)
	defer closeStore(t, st)
	for _, sign := range []Signer{
		func([]byte) ([]byte, error) { return nil, nil },
		func([]byte) ([]byte, error) { return make([]byte, 64), nil },
		func(m []byte) ([]byte, error) { return m, nil },
		func([]byte) ([]byte, error) { return nil, errors.New("no") },
	} {
		if err := st.session.Admin(t.Context(), sign); err == nil {
			t.Error("admin rights for nothing")
		}
	}
	if engineOf(holder).canDrop(nil) {
		t.Error("everybody may drop")
	}
}

// TestLargeFactsAreSigned: what goes over the socket in parts.
func TestLargeFactsAreSigned(t *testing.T) {
	dir := newAppendOnly(t)
	holder := openStore(t, dir)
	defer closeStore(t, holder)
	st := secondStore(t, dir)
	defer closeStore(t, st)
	must(t, st.UnlockAdmin(t.Context(), unlockAdminTest))
	e := engineOf(holder)
	e.mu.Lock()
	var signer *localSession
	for s := range e.sessions {
		if s.signer() != nil {
			signer = s
		}
	}
	e.mu.Unlock()
	large := &checkpointFact{records: AppendBytes(AppendString(nil, "x-unknown"), make([]byte, 11<<20))}
	client := st.session.(*lastingSession).way.session.(*remoteSession)
	must(t, client.asked.during(&consent{kinds: maintenanceKinds[:]}, func() error {
		return e.appendAs(t.Context(), signer, func() ([]FactBody, error) { return []FactBody{large}, nil })
	}))
	if n := len(e.fold.ignored); n != 0 {
		t.Errorf("%d facts are ignored", n)
	}
}

func TestRefusalsAreNotEndless(t *testing.T) {
	dir := newAppendOnly(t)
	now := time.Now()
	st := clockedStore(t, dir, &now)
	defer func() { closeStore(t, st) }()
	_, one := putAll(t, st, "d", "one", blobs(1, 10))
	for range 3 * refusedLimit {
		for range 3 {
			if err := st.Forget(t.Context(), []ID{one.ID}); !errors.Is(err, ErrNotAdmin) {
				t.Fatal(err)
			}
		}
		now = now.Add(refusalPause)
	}
	check := func() {
		t.Helper()
		state, err := st.State(t.Context())
		must(t, err)
		if len(state.Refused) != refusedLimit || state.Seq > 3+3*refusedLimit {
			t.Errorf("%d refused, %d facts", len(state.Refused), state.Seq)
		}
		if r := state.Refused[refusedLimit-1]; r.What != "forget" || r.Attempts != 3 {
			t.Errorf("refused %+v", r)
		}
	}
	check()
	closeStore(t, st)
	st = clockedStore(t, dir, &now)
	check()
}

func TestAdminSlotsNeedAdmins(t *testing.T) {
	st := openStore(t, newAppendOnly(t))
	defer closeStore(t, st)
	slots, err := KeySlots(st.Dir())
	must(t, err)
	another := NewKeySlot{KeyFile: bytes.Repeat([]byte{1}, 32), Role: seal.RoleAdmin}
	for _, slot := range slots {
		if slot.Role != seal.RoleAdmin {
			continue
		}
		if err := st.RemoveSlot(t.Context(), slot.ID); !errors.Is(err, ErrNotAdmin) {
			t.Errorf("remove: %v", err)
		}
		if _, err := st.ChangeSlot(t.Context(), slot.ID, NewKeySlot{KeyFile: another.KeyFile}); !errors.Is(err, ErrNotAdmin) {
			t.Errorf("change: %v", err)
		}
	}
	if _, err := st.AddSlot(t.Context(), another); !errors.Is(err, ErrNotAdmin) {
		t.Errorf("add: %v", err)
	}
	must(t, st.UnlockAdmin(t.Context(), unlockAdminTest))
	slot, err := st.AddSlot(t.Context(), another)
	must(t, err)
	must(t, st.RemoveSlot(t.Context(), slot.ID))
}
