package store

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"

	"snapfs/store/volume"
)

// blobFrame makes a frame of one blob.
func blobFrame(e *engine, class Class, kind Kind, data []byte) (ID, Frame) {
	id := e.idKeys.id(kind, data)
	rows := []volume.Blob{{Kind: uint8(kind), ID: id, Length: uint32(len(data))}}
	return id, Frame{Class: class, Blobs: rows, Pack: volume.NewPacker(volume.LevelNone).Pack(nil, rows, data)}
}

// putChunk stores a chunk without asking whether it is there: two sessions that ask before either stores it do so.
func putChunk(t *testing.T, s *localSession, data []byte) ID {
	t.Helper()
	id, frame := blobFrame(s.e, ClassData, KindChunk, data)
	if _, err := s.Put(t.Context(), frame); err != nil {
		t.Fatal(err)
	}
	return id
}

// commitChunk commits a snapshot of one chunk that the store has, and ends the session.
func commitChunk(t *testing.T, s *localSession, name string, chunk ID) Snapshot {
	t.Helper()
	manifest := append(append([]byte{'T', byte(KindChunk)}, chunk[:]...), name...)
	id, frame := blobFrame(s.e, ClassMetadata, KindManifest, manifest)
	_, err := s.Put(t.Context(), frame)
	var snap Snapshot
	if err == nil {
		snap, err = s.Commit(t.Context(), Commit{Dataset: "d", Snapshot: id, Name: name, Start: time.Unix(1e9, 0)})
	}
	if err = errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	return snap
}

// mustHave asks for a chunk that is there.
func mustHave(t *testing.T, s Session, id ID) {
	t.Helper()
	have, err := s.Have(t.Context(), []ID{id})
	if err != nil || !have[0] {
		t.Fatalf("have %v: %v", have, err)
	}
}

func checkChunk(t *testing.T, st *Store, id ID, want []byte) {
	t.Helper()
	got, err := st.Get(t.Context(), KindChunk, id)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("chunk of %d bytes: %d read: %v", len(want), len(got), err)
	}
}

// sealData ends the volumes that are being written, so that the index leads to what they hold.
func sealData(t *testing.T, e *engine) {
	t.Helper()
	if err := e.sealCurrent(); err != nil {
		t.Fatal(err)
	}
}

// pruneNow is one attempt of a prune, with something happening when the first snapshot has been marked.
func pruneNow(t *testing.T, e *engine, marked func()) {
	t.Helper()
	s := e.newSession("prune")
	defer s.Close()
	e.maintenance.Lock()
	defer e.maintenance.Unlock()
	var once sync.Once
	p := &pruning{e: e, s: s, progress: func(PruneProgress) { once.Do(marked) }}
	if err := p.run(t.Context(), true); err != nil {
		t.Fatal(err)
	}
}

var twice = bytes.Repeat([]byte("twice "), 30000)

// TestPruneSameChunkTwice has two sessions store one chunk. The snapshot of the one to whose copy the index leads is forgotten and
// pruned before the other commits: what that one wrote is there.
func TestPruneSameChunkTwice(t *testing.T) {
	for _, order := range []string{"the later copy is indexed last", "the later copy is indexed first"} {
		t.Run(order, func(t *testing.T) {
			st := openTrees(t, newStore(t))
			defer closeStore(t, st)
			e := engineOf(st)
			waste, late, early := e.newSession("waste"), e.newSession("late"), e.newSession("early")
			put := func(s *localSession) ID {
				putChunk(t, waste, bytes.Repeat([]byte("waste of "+s.job), 30000)) // so that the volume is rewritten
				return putChunk(t, s, twice)
			}
			var id ID
			if order == "the later copy is indexed last" {
				id = put(late)
				sealData(t, e)
				put(early)
				sealData(t, e)
			} else {
				id = put(early)
				older := exchange(t, e)
				put(late)
				sealData(t, e)
				finish(t, e, older)
			}
			forgetAll(t, st, commitChunk(t, early, "early", id), commitChunk(t, waste, "waste", id))
			mustPrune(t, st, PruneOptions{})
			mustPrune(t, st, PruneOptions{})
			commitChunk(t, late, "late", id)
			mustPrune(t, st, PruneOptions{})
			checkChunk(t, st, id, twice)
		})
	}
}

// exchange begins the next volume for data, as far as rotate does before it may write to the index, and returns the one before.
func exchange(t *testing.T, e *engine) *openVolume {
	t.Helper()
	next, err := e.createVolume(volume.Data)
	if err != nil {
		t.Fatal(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	before := e.current[volume.Data]
	e.current[volume.Data] = next
	return before
}

// finish is the rest of rotate.
func finish(t *testing.T, e *engine, v *openVolume) {
	t.Helper()
	e.flushMu.Lock()
	defer e.flushMu.Unlock()
	if err := e.flushVolume(v, true); err != nil {
		t.Fatal(err)
	}
}

// TestPruneWhileVolumeIsExchanged writes to a volume whose successor has begun already, after a prune has taken down what
// sessions pin.
func TestPruneWhileVolumeIsExchanged(t *testing.T) {
	st := openTrees(t, newStore(t))
	defer closeStore(t, st)
	e := engineOf(st)
	tree{name: "kept", files: [][]byte{[]byte("kept")}}.mustWrite(t, st)
	s := e.newSession("backup")
	putChunk(t, s, bytes.Repeat([]byte("before "), 30000))
	v := exchange(t, e)
	var id ID
	pruneNow(t, e, func() {
		row, frame := blobFrame(e, ClassData, KindChunk, twice)
		id = row
		_, ok, err := v.append(s, volume.FrameBlobs, frame.Pack, func(offset int64, stored uint32) {
			e.noteWritten(s, v, offset, stored, frame.Blobs)
		}, frame.Blobs)
		if err != nil || !ok {
			t.Errorf("append: %v", err)
		}
		finish(t, e, v)
	})
	commitChunk(t, s, "late", id)
	checkChunk(t, st, id, twice)
}

// TestPruneBesideUnsyncedCopy prunes while a chunk of a snapshot is stored a second time; that copy is lost to a failed write before
// it is synced. The snapshot is whole.
func TestPruneBesideUnsyncedCopy(t *testing.T) {
	st := openTrees(t, newStore(t))
	defer closeStore(t, st)
	e := engineOf(st)
	first, second := e.newSession("first"), e.newSession("second")
	defer second.Close()
	id := putChunk(t, first, twice)
	commitChunk(t, first, "kept", id)
	sealData(t, e)
	putChunk(t, second, twice)
	pruneNow(t, e, func() {})
	e.mu.Lock()
	v := e.current[volume.Data]
	e.mu.Unlock()
	if err := e.failed(v, errors.New("medium lost")); !errors.Is(err, ErrWriteFailed) {
		t.Fatal(err)
	}
	checkChunk(t, st, id, twice)
}

// TestHaveAfterIndexMoved asks for a chunk that has got another place: whoever asked before is to ask again, and the answer pins the
// place that counts now.
func TestHaveAfterIndexMoved(t *testing.T) {
	st := openTrees(t, newStore(t))
	defer closeStore(t, st)
	e := engineOf(st)
	first, second, asker := e.newSession("first"), e.newSession("second"), e.newSession("asker")
	id := putChunk(t, first, twice)
	gone := commitChunk(t, first, "first", id)
	sealData(t, e)
	moves := e.moves
	putChunk(t, second, twice)
	sealData(t, e)
	if e.moves == moves {
		t.Error("nobody would ask again")
	}
	mustHave(t, asker, id)
	forgetAll(t, st, gone, commitChunk(t, second, "second", id))
	mustPrune(t, st, PruneOptions{})
	commitChunk(t, asker, "asker", id)
	checkChunk(t, st, id, twice)
}
