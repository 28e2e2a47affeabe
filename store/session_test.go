package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"snapfs/store/volume"
)

// sessionMaker opens one more session with one store.
type sessionMaker func(t *testing.T) (Session, idKeys)

// TestSessions runs the contract of Session against every implementation.
func TestSessions(t *testing.T) {
	makers := map[string]func(t *testing.T, check string) sessionMaker{
		"in the holder":       localSessions,
		"over the socket":     remoteSessions,
		"outlasting":          lastingSessions,
		"outlasting, changed": restlessSessions,
	}
	for name, maker := range makers {
		t.Run(name, func(t *testing.T) {
			for check, f := range sessionContract {
				t.Run(check, func(t *testing.T) { f(t, maker(t, check)) })
			}
		})
	}
}

// localSessions are sessions in the holder's process.
func localSessions(t *testing.T, _ string) sessionMaker {
	st := openStore(t, newStore(t))
	t.Cleanup(func() { closeStore(t, st) })
	e := st.session.(*lastingSession).way.session.(*localSession).e
	return func(t *testing.T) (Session, idKeys) {
		s := e.newSession("local")
		t.Cleanup(func() { s.Close() })
		return s, st.keys
	}
}

// remoteSessions are sessions over the holder's socket.
func remoteSessions(t *testing.T, _ string) sessionMaker {
	st := openStore(t, newStore(t))
	t.Cleanup(func() { closeStore(t, st) })
	return func(t *testing.T) (Session, idKeys) {
		s := newLastingSession(st.Dir(), Options{Job: "remote", Direct: true, Log: discardLog(), Now: time.Now})
		w, err := s.find(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return w.session.(*remoteSession), st.keys
	}
}

// lastingSessions are what Open gives; the first one holds the store.
func lastingSessions(t *testing.T, _ string) sessionMaker {
	dir := newStore(t)
	return func(t *testing.T) (Session, idKeys) {
		st := openStore(t, dir)
		t.Cleanup(func() { closeStore(t, st) })
		return st.session, st.keys
	}
}

// restlessSessions outlast a holder that keeps ending cleanly.
func restlessSessions(t *testing.T, check string) sessionMaker {
	comeBack := 5 * time.Millisecond
	if check == "locks" { // who comes too late loses its lock
		comeBack = 2 * time.Second
	}
	dir := newStore(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	holder, keys := openLasting(t, dir, comeBack)
	wg.Go(func() {
		for {
			select {
			case <-stop:
				holder.Close()
				return
			case <-time.After(10 * time.Millisecond):
			}
			if w, _ := holder.present(); w != nil && w.settled != nil {
				<-w.settled // who waits for a lock gets it
				time.Sleep(10 * time.Millisecond)
			}
			if err := holder.Close(); err != nil {
				t.Errorf("holder: %v", err)
			}
			holder, _ = openLasting(t, dir, comeBack)
		}
	})
	t.Cleanup(func() {
		close(stop)
		wg.Wait()
	})
	return func(t *testing.T) (Session, idKeys) {
		s, _ := openLasting(t, dir, comeBack)
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s, keys
	}
}

// openLasting opens a session that becomes a holder who keeps locks for others so long.
func openLasting(t *testing.T, dir string, comeBack time.Duration) (*lastingSession, idKeys) {
	s := newLastingSession(dir, Options{Unlock: unlockTest, Job: "test", Log: discardLog(), Now: time.Now, References: testReferences})
	s.comeBack = comeBack
	if _, err := s.find(context.Background()); err != nil {
		t.Errorf("open: %v", err)
	}
	return s, newIDKeys(s.bundle)
}

var sessionContract = map[string]func(*testing.T, sessionMaker){
	"blobs":    checkBlobs,
	"largest":  checkLargest,
	"commits":  checkCommits,
	"facts":    checkFacts,
	"holds":    checkHolds,
	"waiting":  checkWaiting,
	"locks":    checkLocks,
	"errors":   checkErrors,
	"rebuild":  checkRebuild,
	"writers":  checkWriters,
	"cancel":   checkCancel,
	"no lists": checkEmptyLists,
	"damage":   checkDamage,
	"verify":   checkVerify,
}

// packOf makes a frame of chunks.
func packOf(k idKeys, data ...[]byte) (Frame, []ID) {
	var raw []byte
	var ids []ID
	f := Frame{Class: ClassData}
	for _, b := range data {
		id := k.id(KindChunk, b)
		f.Blobs = append(f.Blobs, volume.Blob{Kind: uint8(KindChunk), ID: id, Length: uint32(len(b))})
		raw = append(raw, b...)
		ids = append(ids, id)
	}
	f.Pack = volume.NewPacker(volume.LevelFastest).Pack(nil, f.Blobs, raw)
	return f, ids
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func checkBlobs(t *testing.T, open sessionMaker) {
	s, keys := open(t)
	f, ids := packOf(keys, blobs(1, 10, 2000, 100_000)...)
	have, err := s.Have(t.Context(), ids)
	must(t, err)
	if slices.Contains(have, true) {
		t.Fatalf("has what was never put: %v", have)
	}
	grown, err := s.Put(t.Context(), f)
	must(t, err)
	if grown < int64(len(f.Pack)) {
		t.Errorf("grew by %d for a pack of %d", grown, len(f.Pack))
	}
	other, _ := open(t)
	for _, s := range []Session{s, other} {
		have, err := s.Have(t.Context(), append(slices.Clone(ids), ID{1}))
		must(t, err)
		if !slices.Equal(have, []bool{true, true, true, false}) {
			t.Errorf("have %v", have)
		}
		places, err := s.Locate(t.Context(), append(slices.Clone(ids), ID{1}))
		must(t, err)
		if len(places) != 4 || !places[3].IsZero() || places[1].Start != 10 || places[1].Length != 2000 {
			t.Fatalf("places %+v", places)
		}
		stored, err := s.Read(t.Context(), places[0].Volume, places[0].Offset, int(places[0].Stored))
		must(t, err)
		if len(stored) != int(places[0].Stored) || bytes.Equal(stored, make([]byte, len(stored))) {
			t.Error("read something else")
		}
	}
}

// checkLargest stores and reads a chunk as large as any setting allows, which does not compress.
func checkLargest(t *testing.T, open sessionMaker) {
	s, keys := open(t)
	f, ids := packOf(keys, blobs(7, maxChunk)[0])
	_, err := s.Put(t.Context(), f)
	must(t, err)
	places, err := s.Locate(t.Context(), ids)
	must(t, err)
	data, err := s.Read(t.Context(), places[0].Volume, places[0].Offset, int(places[0].Stored))
	must(t, err)
	if len(data) < maxChunk {
		t.Errorf("read %d bytes", len(data))
	}
}

func checkCommits(t *testing.T, open sessionMaker) {
	s, keys := open(t)
	f, ids := packOf(keys, []byte("manifest"))
	_, err := s.Put(t.Context(), f)
	must(t, err)
	start := time.Date(2026, 11, 22, 3, 15, 7, 123456789, time.UTC)
	ask := Commit{Dataset: "etc", Snapshot: ids[0], Name: "one", Start: start, Tags: []string{"b", "a"}, Summary: []byte("sum")}
	snap, err := s.Commit(t.Context(), ask)
	must(t, err)
	again, err := s.Commit(t.Context(), ask)
	must(t, err)
	if snap.Slot != again.Slot || snap.ID != ids[0] || !snap.Start.Equal(start) || snap.Name != "one" || snap.Dataset != "etc" ||
		!slices.Equal(snap.Tags, []string{"a", "b"}) || string(snap.Summary) != "sum" || snap.Partial {
		t.Errorf("snapshot %+v, again %+v", snap, again)
	}
	other, _ := open(t)
	for _, s := range []Session{s, other} {
		st, err := s.State(t.Context(), 0)
		must(t, err)
		if len(st.Snapshots) != 1 || st.Snapshots[0].ID != snap.ID || !st.Snapshots[0].Start.Equal(start) || len(st.Datasets) != 1 {
			t.Fatalf("state %+v", st)
		}
		same, err := s.State(t.Context(), st.Seq)
		must(t, err)
		full, err := s.State(t.Context(), 0)
		must(t, err)
		if same != nil || full == nil || full.Seq != st.Seq {
			t.Errorf("nothing newer: %v; asked anew: %v", same, full)
		}
	}
}

func checkFacts(t *testing.T, open sessionMaker) {
	s, keys := open(t)
	f, ids := packOf(keys, []byte("manifest"))
	_, err := s.Put(t.Context(), f)
	must(t, err)
	snap, err := s.Commit(t.Context(), Commit{Dataset: "d", Snapshot: ids[0], Name: "n"})
	must(t, err)
	before, err := s.State(t.Context(), 0)
	must(t, err)
	must(t, s.Append(t.Context(), []FactBody{
		&tagFact{snapshot: snap.ID, add: []string{"x"}},
		&datasetFact{number: snap.DatasetNumber, name: "e"},
	}))
	st, err := s.State(t.Context(), before.Seq)
	must(t, err)
	if st == nil || !slices.Equal(st.Snapshots[0].Tags, []string{"x"}) || st.Snapshots[0].Dataset != "e" {
		t.Errorf("state %+v", st)
	}
	err = s.Append(t.Context(), []FactBody{&tagFact{snapshot: ID{1}, add: []string{"x"}}})
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("tag of nothing: %v", err)
	}
}

func checkHolds(t *testing.T, open sessionMaker) {
	s, keys := open(t)
	f, ids := packOf(keys, []byte("held"))
	_, err := s.Put(t.Context(), f)
	must(t, err)
	snap, err := s.Commit(t.Context(), Commit{Dataset: "d", Snapshot: ids[0], Name: "n"})
	must(t, err)
	if snap.Head == (ID{}) {
		t.Error("a commit without a head")
	}
	until := time.Now().Add(time.Hour).UTC()
	must(t, s.Append(t.Context(), []FactBody{&holdFact{kind: FactHold, snapshot: snap.ID, until: until}}))
	must(t, s.Admin(t.Context(), func([]byte) ([]byte, error) { return nil, errors.New("asked for nothing") })) // of no effect
	other, _ := open(t)
	st, err := other.State(t.Context(), 0)
	must(t, err)
	if h := st.Snapshots[0]; !h.HeldUntil.Equal(until) || !st.Held(h, time.Now()) || st.HoldTime.IsZero() || st.AppendOnly {
		t.Errorf("state %+v", st)
	}
	forget := []FactBody{forgetOf(FactForget, []ID{snap.ID})}
	for want, body := range map[error]FactBody{
		ErrOnHold:     forget[0],
		ErrHeldLonger: &holdFact{kind: FactHold, snapshot: snap.ID, until: until.Add(-1)},
		ErrNotFound:   &holdFact{kind: FactRelease, snapshot: ID{1}},
	} {
		if err := other.Append(t.Context(), []FactBody{body}); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	must(t, other.Append(t.Context(), []FactBody{&holdFact{kind: FactRelease, snapshot: snap.ID}}))
	must(t, other.Append(t.Context(), forget))
	must(t, s.Append(t.Context(), forget)) // again
	st, err = s.State(t.Context(), 0)
	must(t, err)
	if h := st.Snapshots[0]; !h.Forgotten || !h.HeldUntil.IsZero() {
		t.Errorf("state %+v", st)
	}
}

func checkWaiting(t *testing.T, open sessionMaker) {
	s, keys := open(t)
	st, err := s.State(t.Context(), 0)
	must(t, err)
	must(t, s.Wait(t.Context(), st.Seq+1000)) // another number is newer, whatever it is
	var wg sync.WaitGroup
	for range 3 {
		waiter, _ := open(t)
		wg.Go(func() {
			if err := waiter.Wait(context.Background(), st.Seq); err != nil {
				t.Errorf("wait: %v", err)
			}
		})
	}
	f, ids := packOf(keys, []byte("manifest"))
	_, err = s.Put(t.Context(), f)
	must(t, err)
	_, err = s.Commit(t.Context(), Commit{Dataset: "d", Snapshot: ids[0], Name: "n"})
	must(t, err)
	wg.Wait()
}

func checkLocks(t *testing.T, open sessionMaker) {
	ctx := t.Context()
	s, _ := open(t)
	other, _ := open(t)
	must(t, s.Lock(ctx, "dataset/etc", "backup of etc", false))
	must(t, s.Lock(ctx, "dataset/etc", "backup of etc", false)) // its own
	must(t, other.Lock(ctx, "dataset/usr", "backup of usr", false))
	err := other.Lock(ctx, "dataset/etc", "another", false)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.Job != "backup of etc" || locked.Name != "dataset/etc" {
		t.Fatalf("locked twice: %v", err)
	}
	impatient, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if err := other.Lock(impatient, "dataset/etc", "another", true); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("wait for a lock that is kept: %v", err)
	}
	got := make(chan error, 1)
	go func() { got <- other.Lock(context.Background(), "dataset/etc", "another", true) }()
	must(t, s.Unlock(ctx, "dataset/etc"))
	must(t, <-got)
	must(t, s.Unlock(ctx, "dataset/etc")) // not its own any more: nothing happens
	if err := s.Lock(ctx, "dataset/etc", "mine", false); !errors.As(err, &locked) || locked.Job != "another" {
		t.Fatalf("unlocked by who does not have it: %v", err)
	}
	must(t, other.Close())
	must(t, s.Lock(ctx, "dataset/etc", "mine", true))
}

func checkErrors(t *testing.T, open sessionMaker) {
	s, _ := open(t)
	if _, err := s.Read(t.Context(), volume.ID{1}, 0, 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read of a volume that is not there: %v", err)
	}
	if _, err := s.Read(t.Context(), volume.ID{1}, 0, -1); err == nil {
		t.Error("read of -1 bytes")
	}
	if _, err := s.Put(t.Context(), Frame{Class: 77}); err == nil {
		t.Error("a frame of no class was put")
	}
	if err := s.Pin(t.Context(), []ID{{1}, {2}}); !errors.Is(err, ErrNotFound) {
		t.Errorf("pinned what is not there: %v", err)
	}
	stats, err := s.Stats(t.Context())
	must(t, err)
	if !stats.Encrypted || stats.KeySlots != 1 || stats.StoreID == "" || stats.Created.IsZero() {
		t.Errorf("stats %+v", stats)
	}
}

func checkRebuild(t *testing.T, open sessionMaker) {
	s, keys := open(t)
	f, ids := packOf(keys, blobs(3, 10, 20)...)
	_, err := s.Put(t.Context(), f)
	must(t, err)
	_, err = s.Commit(t.Context(), Commit{Dataset: "d", Snapshot: ids[0], Name: "n"})
	must(t, err)
	var last RebuildProgress
	for range 100 { // a holder that ends tells no more of its progress
		must(t, s.Rebuild(t.Context(), func(p RebuildProgress) { last = p }))
		if last.Volumes > 0 && last.Volumes == last.VolumesTotal {
			break
		}
	}
	if last.Volumes == 0 || last.Volumes != last.VolumesTotal {
		t.Errorf("progress %+v", last)
	}
	must(t, s.Rebuild(t.Context(), nil))
	have, err := s.Have(t.Context(), ids)
	must(t, err)
	if slices.Contains(have, false) {
		t.Error("blobs are gone")
	}
}

func checkWriters(t *testing.T, open sessionMaker) {
	var wg sync.WaitGroup
	for i := range 4 {
		s, keys := open(t)
		wg.Go(func() {
			f, ids := packOf(keys, blobs(uint64(i), 1000, 2000)...)
			_, err := s.Put(context.Background(), f)
			if err == nil {
				_, err = s.Commit(context.Background(), Commit{Dataset: fmt.Sprint("d", i), Snapshot: ids[0], Name: "n"})
			}
			if err != nil {
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	s, _ := open(t)
	st, err := s.State(t.Context(), 0)
	must(t, err)
	if len(st.Snapshots) != 4 || len(st.Datasets) != 4 {
		t.Errorf("%d snapshots, %d datasets", len(st.Snapshots), len(st.Datasets))
	}
}

func checkCancel(t *testing.T, open sessionMaker) {
	s, _ := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	st, err := s.State(ctx, 0)
	must(t, err)
	done := make(chan error, 1)
	go func() { done <- s.Wait(ctx, st.Seq) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("wait: %v", err)
	}
	if _, err := s.Have(ctx, []ID{{1}}); !errors.Is(err, context.Canceled) {
		t.Errorf("have: %v", err)
	}
	if _, err := s.Have(t.Context(), []ID{{1}}); err != nil {
		t.Errorf("the session is broken: %v", err)
	}
}

// checkDamage destroys a frame: once somebody has reported it, everybody's Have counts its blobs as absent, until they are
// stored again.
func checkDamage(t *testing.T, open sessionMaker) {
	ctx := t.Context()
	s, keys := open(t)
	f, ids := packOf(keys, blobs(1, 1000, 2000)...)
	whole, others := packOf(keys, blobs(2, 3000)...)
	for _, f := range []Frame{f, whole} {
		_, err := s.Put(ctx, f)
		must(t, err)
	}
	must(t, s.Rebuild(ctx, nil)) // seals what is written
	places, err := s.Locate(ctx, append(slices.Clone(ids), others...))
	must(t, err)
	must(t, s.Damaged(ctx, []DamagedFrame{{places[0].Volume, places[0].Offset, ids[0]}, {Blob: ids[1]}, {Blob: others[0]}}))
	if list, err := s.DamagedBlobs(ctx); err != nil || len(list) != 0 {
		t.Fatalf("damaged, after a false report: %v, %v", list, err)
	}
	flipByte(t, fileOf(t, places[0].Volume), places[0].Offset+100)
	must(t, s.Damaged(ctx, []DamagedFrame{{places[0].Volume, places[0].Offset, ids[0]}, {Blob: ID{1}}}))
	other, _ := open(t)
	for _, s := range []Session{s, other} {
		list, err := s.DamagedBlobs(ctx)
		must(t, err)
		if len(list) != 3 || !slices.Contains(list, ids[0]) || !slices.Contains(list, ids[1]) || !slices.Contains(list, ID{1}) {
			t.Errorf("damaged: %v", list)
		}
		have, err := s.Have(ctx, append(slices.Clone(ids), others...))
		must(t, err)
		if !slices.Equal(have, []bool{false, false, true}) {
			t.Errorf("have %v", have)
		}
	}
	_, err = other.Put(ctx, f)
	must(t, err)
	list, err := s.DamagedBlobs(ctx)
	must(t, err)
	have, err := s.Have(ctx, ids)
	must(t, err)
	if !slices.Equal(list, []ID{{1}}) || !slices.Equal(have, []bool{true, true}) {
		t.Errorf("stored again: damaged %v, have %v", list, have)
	}
}

// fileOf finds a volume's file among the stores of this test.
func fileOf(t *testing.T, id volume.ID) string {
	t.Helper()
	found, err := filepath.Glob(volumePath(filepath.Join(os.TempDir(), "Test*", "*", "store"), id))
	if err != nil || len(found) != 1 {
		t.Fatalf("volume %s: %v, %v", id, found, err)
	}
	return found[0]
}

func checkEmptyLists(t *testing.T, open sessionMaker) {
	s, _ := open(t)
	have, err := s.Have(t.Context(), nil)
	must(t, err)
	places, err := s.Locate(t.Context(), nil)
	must(t, err)
	if len(have) != 0 || len(places) != 0 {
		t.Errorf("%v %v", have, places)
	}
	must(t, s.Pin(t.Context(), nil))
}
