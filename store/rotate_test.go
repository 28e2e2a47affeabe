package store

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"snapfs/store/volume"
)

// engineOf is the engine of a store that this process holds.
func engineOf(st *Store) *engine {
	return st.session.(*lastingSession).way.session.(*localSession).e
}

// TestRotation fills volumes with a tiny limit from many writers, commits and rebuilds meanwhile, and opens the store
// again: every snapshot that was committed is whole.
func TestRotation(t *testing.T) {
	dir := newStore(t)
	st := openStore(t, dir)
	engineOf(st).limit = 600 << 10
	const writers, rounds = 8, 4
	var group sync.WaitGroup
	sets := make([][][]byte, writers*rounds)
	for n := range writers {
		group.Go(func() {
			for r := range rounds {
				i := n*rounds + r
				sets[i] = blobs(uint64(100+i), 180<<10, 3000, 140<<10, 70<<10, 60<<10)
				if err := tryBackup(t, st, sets[i], byte(i)); err != nil {
					t.Errorf("writer %d: %v", n, err)
				}
			}
		})
	}
	for range 3 {
		if err := st.Rebuild(t.Context(), nil); err != nil {
			t.Errorf("rebuild: %v", err)
		}
	}
	group.Wait()
	checkSets(t, st, sets)
	closeStore(t, st)
	st = openStore(t, dir)
	defer closeStore(t, st)
	checkSets(t, st, sets)
	state, err := st.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(state.Snapshots) != len(sets) {
		t.Errorf("%d of %d snapshots", len(state.Snapshots), len(sets))
	}
	for _, s := range state.Snapshots {
		if s.Damaged != "" {
			t.Errorf("snapshot %s: %s", s.Name, s.Damaged)
		}
	}
}

// checkSets reads blobs back.
func checkSets(t *testing.T, st *Store, sets [][][]byte) {
	t.Helper()
	for i, data := range sets {
		for k, b := range data {
			got, err := st.Get(t.Context(), KindChunk, st.BlobID(KindChunk, b))
			if err != nil || string(got) != string(b) {
				t.Fatalf("set %d blob %d: %v", i, k, err)
			}
		}
	}
}

// slowSync holds back the syncs of data volumes until it is told to go on.
type slowSync struct {
	Files
	wait    atomic.Bool
	waiting chan struct{}
	release chan struct{}
	synced  sync.Map // volume path
}

func (f *slowSync) Create(path string, keepCached bool) (volume.File, error) {
	file, err := f.Files.Create(path, keepCached)
	return &slowFile{file, f, path, keepCached}, err
}

type slowFile struct {
	volume.File
	f          *slowSync
	path       string
	keepCached bool
}

func (f *slowFile) Sync() error {
	if !f.keepCached && f.f.wait.Load() {
		f.f.waiting <- struct{}{}
		<-f.f.release
	}
	err := f.File.Sync()
	f.f.synced.Store(f.path, true)
	return err
}

// TestCommitWaitsForRotation: one session fills a volume that holds another's frames; the other's commit must not
// come before the sync of that volume, and must name it.
func TestCommitWaitsForRotation(t *testing.T) {
	dir := newStore(t)
	own, err := filesFor(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := &slowSync{Files: own, waiting: make(chan struct{}), release: make(chan struct{})}
	st, err := Open(t.Context(), dir, Options{Unlock: unlockTest, Files: files})
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, st)
	e := engineOf(st)
	e.limit = 300 << 10
	mine, other := e.newSession("mine"), e.newSession("other")
	putFrame(t, mine, blobs(1, 200<<10)[0], st)
	first := e.current[volume.Data].id
	files.wait.Store(true)
	done := make(chan error)
	go func() {
		_, err := other.Put(t.Context(), frameOf(st, blobs(2, 200<<10)[0]))
		done <- err
	}()
	<-files.waiting // the volume is being sealed
	files.wait.Store(false)
	committed := make(chan error)
	go func() {
		_, err := mine.Commit(t.Context(), Commit{Dataset: "d", Snapshot: ID{1}, Name: "n"})
		if _, ok := files.synced.Load(volumePath(dir, first)); !ok {
			err = errors.Join(err, errors.New("committed before the volume was synced"))
		}
		committed <- err
	}()
	select {
	case err := <-committed:
		t.Errorf("commit did not wait: %v", err)
	default:
	}
	files.release <- struct{}{}
	if err := errors.Join(<-done, <-committed); err != nil {
		t.Fatal(err)
	}
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	if e.fold.volumes[first].length == 0 {
		t.Error("the commit does not name the volume")
	}
}

func frameOf(st *Store, data []byte) Frame {
	rows := []volume.Blob{{Kind: uint8(KindChunk), ID: st.BlobID(KindChunk, data), Length: uint32(len(data))}}
	return Frame{Class: ClassData, Blobs: rows, Pack: volume.NewPacker(volume.LevelNone).Pack(nil, rows, data)}
}

func putFrame(t *testing.T, s Session, data []byte, st *Store) {
	t.Helper()
	if _, err := s.Put(t.Context(), frameOf(st, data)); err != nil {
		t.Fatal(err)
	}
}

// TestFullDiskKeepsWhatWasWritten: a write that fails costs the frame it was for, not those before it, which a client
// may rely on after the holder has gone.
func TestFullDiskKeepsWhatWasWritten(t *testing.T) {
	dir := newStore(t)
	own, err := filesFor(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := &faultyFiles{Files: own, err: syscall.ENOSPC, left: -1}
	st, err := Open(t.Context(), dir, Options{Unlock: unlockTest, Files: files})
	if err != nil {
		t.Fatal(err)
	}
	e := engineOf(st)
	good, bad := blobs(1, 200<<10)[0], blobs(2, 200<<10)[0]
	client := e.newSession("client")
	putFrame(t, client, good, st)
	files.mu.Lock()
	files.left = 0
	files.mu.Unlock()
	if _, err := e.newSession("other").Put(t.Context(), frameOf(st, bad)); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("put on a full disk: %v", err)
	}
	closeStore(t, st)
	st = openStore(t, dir)
	defer closeStore(t, st)
	checkSets(t, st, [][][]byte{{good}})
	var missing *MissingError
	if _, err := st.Get(t.Context(), KindChunk, st.BlobID(KindChunk, bad)); !errors.As(err, &missing) {
		t.Errorf("what was refused: %v", err)
	}
}

// TestHitOnFailingVolume: whoever was told of a blob just before its volume failed must not commit.
func TestHitOnFailingVolume(t *testing.T) {
	dir := newStore(t)
	own, err := filesFor(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := &faultyFiles{Files: own, err: errInjected, left: -1}
	st, err := Open(t.Context(), dir, Options{Unlock: unlockTest, Files: files})
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, st)
	e := engineOf(st)
	data := blobs(1, 200<<10)[0]
	putFrame(t, e.newSession("first"), data, st)
	files.mu.Lock()
	files.left = 0 // the next sync
	files.mu.Unlock()
	var group sync.WaitGroup
	failures := make([]error, 8)
	for i := range failures {
		s := e.newSession(fmt.Sprint(i))
		group.Go(func() {
			have, err := s.Have(t.Context(), []ID{st.BlobID(KindChunk, data)})
			if err != nil {
				failures[i] = err
				return
			}
			_, failures[i] = s.Commit(t.Context(), Commit{Dataset: "d", Snapshot: ID{byte(i + 1)}, Name: fmt.Sprint(i)})
			if failures[i] == nil && have[0] {
				if p, err := s.Locate(t.Context(), []ID{st.BlobID(KindChunk, data)}); err != nil || p[0].IsZero() {
					t.Errorf("session %d committed a hit that is gone: %v", i, err)
				}
			}
		})
	}
	group.Wait()
}

// TestFailureTwoHaveMet: two meet a failed sync, and the first has not come to say so yet when the second has closed the volume. Who relies on
// what is lost must not commit.
func TestFailureTwoHaveMet(t *testing.T) {
	dir := newStore(t)
	own, err := filesFor(dir)
	must(t, err)
	files := &faultyFiles{Files: own, err: errInjected, left: -1}
	st, err := Open(t.Context(), dir, Options{Unlock: unlockTest, Files: files})
	must(t, err)
	defer closeStore(t, st)
	e := engineOf(st)
	s := e.newSession("backup")
	defer s.Close()
	putFrame(t, s, blobs(1, 200<<10)[0], st)
	files.mu.Lock()
	files.left = 0 // the next sync
	files.mu.Unlock()
	e.mu.Lock()
	v := e.current[volume.Data]
	e.mu.Unlock()
	if v.sync() == nil {
		t.Fatal("the sync has not failed")
	}
	if err := e.syncVolumes(); !errors.Is(err, ErrWriteFailed) {
		t.Errorf("the second: %v", err)
	}
	if _, err := s.Commit(t.Context(), Commit{Dataset: "d", Snapshot: ID{1}, Name: "lost"}); !errors.Is(err, ErrWriteFailed) {
		t.Errorf("committed: %v", err)
	}
}
