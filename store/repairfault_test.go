package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"snapfs/store/volume"
)

// tornStore is a damaged store that parity does not make whole, with what a repair does for it all the same.
type tornStore struct {
	dir    string
	ids    []ID // chunks
	data   [][]byte
	source [][]byte // what the source files still hold, as for --from-source
	noted  bool     // what is lost stays mentioned

	snapshots int // that there must be in the end; 0: those that were there
}

// repair is what verify --repair does, with --from-source if there is a source.
func (s tornStore) repair(t testing.TB, st *Store) error {
	none := func(VerifyEvent) error { return nil }
	if _, err := st.Verify(t.Context(), VerifyOptions{Data: true, Repair: true}, none); err != nil {
		return err
	}
	w := st.NewWriter()
	lost, err := st.DamagedBlobs(t.Context())
	for _, data := range s.source {
		if err == nil && slices.Contains(lost, st.BlobID(KindChunk, data)) {
			_, err = w.Put(t.Context(), KindChunk, data)
		}
	}
	if err == nil {
		err = w.Flush(t.Context())
	}
	return err
}

// readable is what of a store can be had: which chunks, and what its facts say.
type readable struct {
	chunks []bool
	state  State
}

func (s tornStore) readable(t testing.TB, st *Store) (r readable) {
	t.Helper()
	for i, id := range s.ids {
		got, err := st.Get(t.Context(), KindChunk, id)
		if err == nil && !bytes.Equal(got, s.data[i]) {
			t.Errorf("chunk %d is read, and wrong", i)
		}
		r.chunks = append(r.chunks, err == nil)
	}
	r.state = lasting(t, st)
	return r
}

// holds: what could be had before can be had still.
func (r readable) holds(t testing.TB, before readable, when string) {
	t.Helper()
	for i, was := range before.chunks {
		if was && !r.chunks[i] {
			t.Errorf("%s: chunk %d is lost", when, i)
		}
	}
	for _, s := range before.state.Snapshots {
		if !slices.ContainsFunc(r.state.Snapshots, func(now Snapshot) bool {
			return now.ID == s.ID && now.Name == s.Name && slices.Equal(now.Tags, s.Tags) && now.Forgotten == s.Forgotten && now.HeldForever == s.HeldForever
		}) {
			t.Errorf("%s: snapshot %s is not as it was", when, s.Name)
		}
	}
}

// tornStores are damaged beyond parity in all ways that a repair deals with.
var tornStores = map[string]func(t *testing.T) tornStore{
	"moved to new volumes": func(t *testing.T) (s tornStore) {
		s.data = blobs(1, 100, 150_000, 300_000)
		s.dir, s.ids = storeWith(t, DefaultParity, s.data)
		changeVolumes(t, s.dir, func(b []byte, l layout) []byte { clear(b[l.trailer.Contents:]); return b }, volume.Data, volume.Metadata)
		return s
	},
	"nothing needs what is lost": func(t *testing.T) (s tornStore) {
		s.dir = newStore(t)
		gone, stays := blobs(1, 140_000), blobs(2, 150_000, 160_000)
		st := openStore(t, s.dir)
		_, snap := putAll(t, st, "d", "gone", gone)
		missing := first(volumesOf(t, st, st.BlobID(KindChunk, gone[0])))
		closeStore(t, st)
		st = openStore(t, s.dir)
		s.ids, _ = putAll(t, st, "d", "stays", stays)
		_, also := putAll(t, st, "d", "also gone", append(blobs(3, 170_000), stays...))
		s.data = stays
		id := st.BlobID(KindChunk, blobs(3, 170_000)[0])
		places, err := st.Locate(t.Context(), []ID{id})
		must(t, err)
		closeStore(t, st)
		changeFile(t, volumePath(s.dir, places[0].Volume), func(b []byte) []byte {
			l := layoutOf(t, b)
			b[places[0].Offset+int64(places[0].Stored)-1] ^= 1
			return wipe(b, l.parity...)
		})
		must(t, os.Remove(volumePath(s.dir, missing)))
		st = openStore(t, s.dir)
		_, _ = verified(t, st.session, VerifyOptions{Data: true}) // so that prune does not move what is damaged
		forgetAll(t, st, snap, also)
		mustPrune(t, st, PruneOptions{MaxWaste: 100})
		closeStore(t, st)
		return s
	},
	"stored anew from the source": func(t *testing.T) (s tornStore) {
		s.data = blobs(1, 140_000, 150_000, 160_000)
		s.source = s.data
		s.dir, s.ids = storeWith(t, DefaultParity, s.data)
		changeVolumes(t, s.dir, func(b []byte, l layout) []byte {
			b[l.blobs[1].End()-1] ^= 1
			clear(b[l.trailer.Contents:])
			return b
		}, volume.Data)
		return s
	},
	"a journal renewed":                          func(t *testing.T) (s tornStore) { return tornJournal(t, "parity", false, 5) },
	"the journal with the checkpoint renewed":    func(t *testing.T) (s tornStore) { return tornJournal(t, "parity", true, 3) },
	"facts that the index knows":                 func(t *testing.T) (s tornStore) { return tornJournal(t, "facts", false, 5) },
	"facts that the index knows, a checkpoint's": func(t *testing.T) (s tornStore) { return tornJournal(t, "facts", true, 3) },
	"lost facts acknowledged": func(t *testing.T) (s tornStore) {
		s = tornJournal(t, "facts", false, 5)
		must(t, os.RemoveAll(filepath.Join(s.dir, indexName)))
		s.noted = true
		return s
	},
	"a lost checkpoint acknowledged": func(t *testing.T) (s tornStore) {
		dir, journals, _ := chainStore(t, true)
		must(t, os.Remove(volumePath(dir, journals[3])))
		must(t, os.RemoveAll(filepath.Join(dir, indexName)))
		return tornStore{dir: dir, noted: true}
	},
	"a journal that parity heals, and its facts count again": func(t *testing.T) tornStore {
		dir, journals, _ := chainStore(t, false)
		changeFile(t, volumePath(dir, journals[5]), func(b []byte) []byte { b[leastVolume+200] ^= 1; return b })
		must(t, os.RemoveAll(filepath.Join(dir, indexName)))
		return tornStore{dir: dir, snapshots: 8}
	},
	"two histories acknowledged": func(t *testing.T) tornStore { return tornStore{dir: mergedStore(t), noted: true} },
}

// tornJournal is a store with a journal that is damaged in its facts, parity included, or in its parity alone.
func tornJournal(t *testing.T, part string, compacted bool, which int) tornStore {
	dir, journals, _ := chainStore(t, compacted)
	changeFile(t, volumePath(dir, journals[which]), func(b []byte) []byte {
		from, to := leastVolume, len(b)-leastVolume-volume.TrailerSize
		if part == "parity" {
			from = (from + to) / 2
		}
		for i := from; i < to; i++ {
			b[i] ^= 0xff
		}
		return b
	})
	return tornStore{dir: dir}
}

func changeFile(t testing.TB, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, change(b), 0o600))
}

// TestRepairBeyondParityFailingOperations fails the k-th operation of repairs that do more than parity can, with an error of the disk,
// on a full disk, and as if the process was killed there, for every eighth k (each with SNAPFS_TEST_LONG): nothing that could be read is
// lost, and the next repair ends the work.
func TestRepairBeyondParityFailingOperations(t *testing.T) {
	step := 8
	if os.Getenv("SNAPFS_TEST_LONG") != "" {
		step = 1
	}
	for name, build := range tornStores {
		t.Run(name, func(t *testing.T) {
			from := build(t)
			st := openStore(t, copyStore(t, from.dir))
			before := from.readable(t, st)
			closeStore(t, st)
			for i, fault := range []error{errInjected, syscall.ENOSPC, errPower} {
				k := i % step
				for from.failRepair(t, k, fault, before) {
					if k += step; t.Failed() || k > 500 {
						t.Fatalf("stopped at operation %d, %v", k-step, fault)
					}
				}
				t.Logf("%d operations, one in %d failed with %v", k, step, fault)
			}
		})
	}
}

// failRepair fails the k-th operation; with errPower nobody does anything after it. hit: there are so many.
func (s tornStore) failRepair(t *testing.T, k int, fault error, before readable) (hit bool) {
	s.dir = copyStore(t, s.dir)
	defer removeStore(t, s.dir)
	files := faultyAt(t, s.dir, k, fault)
	files.lasting = fault == errPower
	st, err := Open(t.Context(), s.dir, Options{Unlock: unlockTest, Job: "test", Files: files, References: testReferences})
	if err == nil {
		err = s.repair(t, st)
		s.readable(t, st).holds(t, before, "before closing")
		if files.lasting {
			crash(t, st)
		} else {
			_ = st.Close() // what it could not write is said below
		}
	}
	if err != nil && !errors.Is(err, fault) && !errors.Is(err, ErrWriteFailed) {
		t.Errorf("operation %d: %v", k, err)
	}
	st = openStore(t, s.dir)
	s.readable(t, st).holds(t, before, "opened again")
	for range 2 { // what is lost of the chain is told once
		if err := s.repair(t, st); err != nil {
			t.Errorf("operation %d: next repair: %v", k, err)
		}
	}
	s.wantDone(t, st, before)
	st = reindex(t, st, func() *Store { return openStore(t, s.dir) })
	s.wantDone(t, st, before)
	closeStore(t, st)
	return files.hit
}

// wantDone: all is well, but for what is mentioned for ever.
func (s tornStore) wantDone(t *testing.T, st *Store, before readable) {
	t.Helper()
	now := s.readable(t, st)
	now.holds(t, before, "repaired")
	if slices.Contains(now.chunks, false) {
		t.Errorf("chunks that can be had: %v", now.chunks)
	}
	if n := len(now.state.Snapshots); s.snapshots > 0 && n != s.snapshots {
		t.Errorf("%d snapshots, want %d", n, s.snapshots)
	}
	if s.noted {
		wantNotes(t, st)
	} else {
		wantClean(t, st.session, VerifyOptions{Data: true})
	}
}
