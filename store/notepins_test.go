package store

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"

	"snapfs/store/volume"
)

// spaceFiles call a function whenever somebody asks for the space on the disk.
type spaceFiles struct {
	Files
	asked func()
}

func (f *spaceFiles) Space(path string) (free, total int64, err error) {
	f.asked()
	return f.Files.Space(path)
}

// openSpaced opens a store for tests that do something when its files are asked for space.
func openSpaced(t *testing.T, dir string) (*Store, *spaceFiles) {
	t.Helper()
	own, err := filesFor(dir)
	must(t, err)
	files := &spaceFiles{own, func() {}}
	return openTrees(t, dir, func(o *Options) { o.Files = files }), files
}

// TestPinsAreRecordedBeforeAnybodyIsTold: while one call of a session writes down which volume it uses, no other one is answered as if that
// were done.
func TestPinsAreRecordedBeforeAnybodyIsTold(t *testing.T) {
	st, files := openSpaced(t, newStore(t))
	defer closeStore(t, st)
	e := engineOf(st)
	writer, s := e.newSession("writer"), e.newSession("backup")
	id := putChunk(t, writer, twice)
	var once sync.Once
	files.asked = func() {
		once.Do(func() { // it is about to be written
			e.mu.Lock()
			defer e.mu.Unlock()
			if !s.pins.fresh {
				t.Error("another call would not wait for the record")
			}
		})
	}
	mustHave(t, s, id)
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.pins.fresh {
		t.Error("it would be written again and again")
	}
}

// TestPinsOnAFullDisk: what a session was told of while there was no room to write it down is written later, with the session itself: the next
// holder knows it.
func TestPinsOnAFullDisk(t *testing.T) {
	dir := newStore(t)
	st := openTrees(t, dir)
	snap := tree{name: "old", files: [][]byte{twice}}.mustWrite(t, st)
	closeStore(t, st)
	own, err := filesFor(dir)
	must(t, err)
	files := &lowFiles{Files: own, free: -1}
	st = openTrees(t, dir, func(o *Options) { o.Files = files })
	e := engineOf(st)
	s := e.newSession("backup")
	id := st.BlobID(KindChunk, twice)
	files.free = 0
	mustHave(t, s, id)
	files.free = -1
	mustHave(t, s, id)
	crash(t, st)

	st = openTrees(t, dir)
	defer closeStore(t, st)
	forgetAll(t, st, snap)
	mustPrune(t, st, PruneOptions{})
	s = engineOf(st).newSessionOf(s.id, "backup", 0)
	commitChunk(t, s, "late", id)
	checkChunk(t, st, id, twice)
}

// TestLostWhileCommitting: frames that a session writes while its snapshot is being committed are lost. The next holder knows that it has failed.
func TestLostWhileCommitting(t *testing.T) {
	dir := newStore(t)
	st, files := openSpaced(t, dir)
	e := engineOf(st)
	s := e.newSession("backup")
	putChunk(t, s, []byte("synced"))
	v := e.current[volume.Data]
	manifest := []byte("Tpartial")
	id, frame := blobFrame(e, ClassMetadata, KindManifest, manifest)
	_, err := s.Put(t.Context(), frame)
	must(t, err)
	files.asked = func() { // the fact is about to be written
		files.asked = func() {}
		putChunk(t, s, twice)
		if err := e.failed(v, errors.New("medium lost")); !errors.Is(err, ErrWriteFailed) {
			t.Error(err)
		}
	}
	_, err = s.Commit(t.Context(), Commit{Dataset: "d", Snapshot: id, Name: "partial", Start: time.Unix(1e9, 0), Partial: true})
	must(t, err)
	if s.failure() == nil {
		t.Fatal("nothing was lost")
	}
	crash(t, st)
	st = openTrees(t, dir)
	defer closeStore(t, st)
	if err := engineOf(st).newSessionOf(s.id, "backup", 0).failure(); !errors.Is(err, ErrWriteFailed) {
		t.Errorf("the next holder goes on with what is lost: %v", err)
	}
}

// TestUnfinishedSinceACommit: what a session writes while its snapshot is being committed is not part of that, and stays for a while when
// the session ends.
func TestUnfinishedSinceACommit(t *testing.T) {
	st, files := openSpaced(t, newStore(t))
	defer closeStore(t, st)
	s := engineOf(st).newSession("backup")
	putChunk(t, s, []byte("before"))
	id, frame := blobFrame(s.e, ClassMetadata, KindManifest, []byte("Tpartial"))
	_, err := s.Put(t.Context(), frame)
	must(t, err)
	var chunk ID
	files.asked = func() { // the fact is about to be written
		files.asked = func() {}
		chunk = putChunk(t, s, twice)
	}
	_, err = s.Commit(t.Context(), Commit{Dataset: "d", Snapshot: id, Name: "partial", Start: time.Unix(1e9, 0), Partial: true})
	must(t, errors.Join(err, s.Close()))
	mustPrune(t, st, PruneOptions{})
	checkChunk(t, st, chunk, twice)
}

// TestUnfinishedWhileRebuilding: a session ends without a commit while the index is made anew; what it wrote stays for a while.
func TestUnfinishedWhileRebuilding(t *testing.T) {
	dir := newStore(t)
	st := openTrees(t, dir)
	s := engineOf(st).newSession("backup")
	chunk := putChunk(t, s, twice)
	must(t, st.Rebuild(t.Context(), func(RebuildProgress) { must(t, s.Close()) }))
	mustPrune(t, st, PruneOptions{})
	checkChunk(t, st, chunk, twice)
	closeStore(t, st)
	st = openTrees(t, dir)
	defer closeStore(t, st)
	mustPrune(t, st, PruneOptions{})
	checkChunk(t, st, chunk, twice)
}

// TestUnfinishedBesideARebuild: that somebody left unfinished work is noted in the index that counts, by the numbers that volumes have there.
func TestUnfinishedBesideARebuild(t *testing.T) {
	st, files := openSpaced(t, newStore(t))
	defer closeStore(t, st)
	e := engineOf(st)
	s := e.newSession("backup")
	for n := range byte(9) {
		putChunk(t, s, bytes.Repeat([]byte{n}, 1000))
		sealData(t, e)
	}
	files.asked = func() {
		files.asked = func() {}
		must(t, st.Rebuild(t.Context(), nil))
	}
	e.leaveUnfinished(&s.pins)
	written, err := loadCatalogue(e.idx)
	must(t, err)
	for id, v := range e.volumes.byID {
		w := written.byID[id]
		if w == nil || w.number != v.number || v.kind == volume.Data && (v.unfinished == 0 || w.unfinished == 0) {
			t.Errorf("volume %s: number %d, unfinished %d; in the index %+v", id, v.number, v.unfinished, w)
		}
	}
}
