package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"snapfs/store/volume"
)

// compact writes a checkpoint as upkeep would.
func compact(t testing.TB, st *Store) CompactReport {
	t.Helper()
	report, err := tryCompact(st)
	must(t, err)
	return report
}

func tryCompact(st *Store) (CompactReport, error) {
	s := st.session.(*lastingSession).way.session.(*localSession)
	return s.e.compactJournal(context.Background(), s, true)
}

// lasting is what of a state must survive compaction, a new index and anything else.
func lasting(t testing.TB, st *Store) State {
	t.Helper()
	state, err := st.State(t.Context())
	must(t, err)
	out := *state
	out.Seq, out.Head, out.Clock, out.HoldTime = 0, ID{}, time.Time{}, time.Time{}
	out.Snapshots = slices.Clone(out.Snapshots)
	for i := range out.Snapshots {
		s := &out.Snapshots[i]
		s.Committed, s.Tags = s.Committed.Round(0).UTC(), append([]string{}, s.Tags...)
	}
	return out
}

func checkLasting(t testing.TB, what string, st *Store, want State) {
	t.Helper()
	if got := lasting(t, st); !reflect.DeepEqual(got, want) {
		t.Fatalf("%s:\n%+v\nwant\n%+v", what, got, want)
	}
}

// reindex opens a store with an index made anew from the volumes.
func reindex(t testing.TB, st *Store, open func() *Store) *Store {
	t.Helper()
	closeStore(t, st)
	must(t, os.RemoveAll(filepath.Join(st.Dir(), indexName)))
	return open()
}

// journalCount is how many journals lie in the directory.
func journalCount(t testing.TB, dir string) (n int) {
	t.Helper()
	disk, err := onDisk(volumesDir(dir))
	must(t, err)
	for id, size := range disk {
		if label, err := labelOf(volumePath(dir, id), size); err == nil && label.Kind == volume.Journal {
			n++
		}
	}
	return n
}

// TestCompactionKeepsTheState: whatever happens to a store, with checkpoints at any moment, its state is the same after each, also
// from an index made anew, and every head ever given out is known.
func TestCompactionKeepsTheState(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	dir := newStore(t)
	open := func() *Store { return openStore(t, dir) }
	st := open()
	var heads []ID
	for round := range 40 {
		_, snap := putAll(t, st, fmt.Sprint("d", round%3), fmt.Sprint("n", round), blobs(uint64(round), 50))
		heads = append(heads, snap.Head)
		state, err := st.State(t.Context())
		must(t, err)
		some := state.Snapshots[rng.IntN(len(state.Snapshots))]
		switch rng.IntN(6) {
		case 0:
			must(t, st.Tag(t.Context(), some.ID, []string{fmt.Sprint("t", round)}, nil))
		case 1:
			if !some.Forgotten {
				must(t, st.Hold(t.Context(), some.ID, time.Time{}))
			}
		case 2:
			if !some.Forgotten {
				must(t, st.Release(t.Context(), some.ID))
			}
		case 3:
			if err := st.Forget(t.Context(), []ID{some.ID}); !errors.Is(err, ErrOnHold) {
				must(t, err)
			}
		case 4:
			must(t, st.Unforget(t.Context(), []ID{some.ID}))
		case 5:
			must(t, st.RenameDataset(t.Context(), some.Dataset, fmt.Sprint("r", round)))
		}
		want := lasting(t, st)
		switch rng.IntN(5) {
		case 0:
			compact(t, st)
			checkLasting(t, "compacted", st, want)
		case 1:
			closeStore(t, st)
			st = open()
			checkLasting(t, "opened again", st, want)
		case 2:
			crash(t, st)
			st = open()
			checkLasting(t, "after a crash", st, want)
		case 3:
			st = reindex(t, st, open)
			checkLasting(t, "index made anew", st, want)
		}
	}
	defer func() { closeStore(t, st) }()
	want := lasting(t, st)
	for range 3 {
		compact(t, st)
		checkLasting(t, "compacted", st, want)
		putAll(t, st, "last", "last", nil) // the same commit again
		must(t, st.Tag(t.Context(), st.lastSnapshot(t), []string{"x"}, nil))
		want = lasting(t, st)
		closeStore(t, st)
		st = open()
	}
	if n := journalCount(t, dir); n > 8 {
		t.Errorf("%d journals are left", n)
	}
	st = reindex(t, st, open)
	checkLasting(t, "in the end", st, want)
	for i, head := range heads {
		checkHead(t, st, head, fmt.Sprint("head ", i))
	}
	state, err := st.State(t.Context())
	must(t, err)
	_, snap := putAll(t, st, "new", "new", blobs(99, 10))
	if newest := state.Snapshots[len(state.Snapshots)-1]; snap.Slot != newest.Slot+1 {
		t.Errorf("slot %d after %d", snap.Slot, newest.Slot)
	}
}

func (s *Store) lastSnapshot(t testing.TB) ID {
	state, err := s.State(t.Context())
	must(t, err)
	return state.Snapshots[len(state.Snapshots)-1].ID
}

// checkHead makes sure that the chain is whole and knows a head.
func checkHead(t testing.TB, st *Store, head ID, what string) {
	t.Helper()
	findings, err := engineOf(st).checkChain(t.Context(), head)
	must(t, err)
	if len(findings) > 0 {
		t.Fatalf("%s: %+v", what, findings)
	}
}

// TestManyTinyJournals: one for each run; compaction leaves few, and their count does not grow.
func TestManyTinyJournals(t *testing.T) {
	dir := newStore(t)
	for round := range 4 {
		for i := range 12 {
			st := openStore(t, dir)
			putAll(t, st, "d", fmt.Sprint(round, "-", i), blobs(uint64(100*round+i), 20))
			closeStore(t, st)
		}
		st := openStore(t, dir)
		report := compact(t, st)
		want := lasting(t, st)
		if !report.Written || report.Facts == 0 || round > 1 && len(report.Dropped) < 12 {
			t.Errorf("round %d: %+v", round, report)
		}
		st = reindex(t, st, func() *Store { return openStore(t, dir) })
		checkLasting(t, "index made anew", st, want)
		closeStore(t, st)
		if n := journalCount(t, dir); n > 28 {
			t.Errorf("round %d: %d journals", round, n)
		}
	}
	st := openStore(t, dir)
	defer closeStore(t, st)
	if report, err := engineOf(st).compactJournal(t.Context(), nil, false); err != nil || report.Written {
		t.Errorf("a checkpoint that is not due: %+v %v", report, err)
	}
	if n := len(engineOf(st).fold.dropped); n > 14 {
		t.Errorf("%d volumes are remembered that are gone", n)
	}
	checkHead(t, st, ID{}, "in the end")
}

// TestCompactionCutShort: at each write, sync, or creation, by a failure or by a kill. The state stays what it was.
func TestCompactionCutShort(t *testing.T) {
	for name, kill := range map[string]bool{"failure": false, "kill": true} {
		t.Run(name, func(t *testing.T) {
			dir := newStore(t)
			for i := range 6 {
				st := openStore(t, dir)
				putAll(t, st, "d", fmt.Sprint(i), blobs(uint64(i), 20))
				if i > 2 {
					compact(t, st)
				}
				closeStore(t, st)
			}
			st := openStore(t, dir)
			want := lasting(t, st)
			head := engineOf(st).fold.last
			closeStore(t, st)
			for k := 0; ; k++ {
				if !compactFailingAt(t, dir, k, kill) {
					t.Logf("%d operations", k)
					return
				}
				st := openStore(t, dir)
				checkLasting(t, fmt.Sprint("after operation ", k), st, want)
				st = reindex(t, st, func() *Store { return openStore(t, dir) })
				checkLasting(t, fmt.Sprint("after operation ", k, ", index made anew"), st, want)
				checkHead(t, st, head, fmt.Sprint("after operation ", k))
				must(t, st.Tag(t.Context(), st.lastSnapshot(t), []string{"x"}, nil)) // something to compact
				want = lasting(t, st)
				closeStore(t, st)
			}
		})
	}
}

// compactFailingAt lets the k-th file operation of a compaction fail, or kills the holder there; false if there is none.
func compactFailingAt(t *testing.T, dir string, k int, kill bool) bool {
	t.Helper()
	files, err := filesFor(dir)
	must(t, err)
	faulty := &faultyFiles{Files: files, err: errInjected, left: 1 << 30}
	st, err := Open(t.Context(), dir, Options{Unlock: unlockTest, Job: "test", Files: faulty})
	must(t, err)
	faulty.mu.Lock()
	faulty.left = k
	faulty.mu.Unlock()
	_, err = tryCompact(st)
	faulty.mu.Lock()
	hit := faulty.hit
	faulty.left = 1 << 30
	faulty.mu.Unlock()
	if hit == (err == nil) {
		t.Errorf("operation %d: hit %v, error %v", k, hit, err)
	}
	if kill {
		crash(t, st)
	} else {
		_ = st.Close()
	}
	return hit
}

// copyVolumes copies all volumes of a store, as they are now.
func copyVolumes(t *testing.T, from, to string) {
	t.Helper()
	must(t, os.MkdirAll(to, 0o700))
	disk, err := onDisk(from)
	must(t, err)
	for id := range disk {
		data, err := os.ReadFile(filepath.Join(from, id.String()))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(to, id.String()), data, 0o600))
	}
}

// TestRolledBackAndCompacted: a store rolled back to a copy and used again, with checkpoints in both histories; when the volumes
// come together again, every snapshot of both is there, whichever is read first.
func TestRolledBackAndCompacted(t *testing.T) {
	for name, compacted := range map[string][2]bool{
		"none": {false, false}, "the first": {true, false}, "the second": {false, true}, "both": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newStore(t)
			open := func() *Store { return openStore(t, dir) }
			before, first := filepath.Join(t.TempDir(), "before"), filepath.Join(t.TempDir(), "first")
			commit := func(st *Store, names ...string) {
				for i, n := range names {
					putAll(t, st, "d", n, blobs(uint64(len(n)*100+i), 20))
				}
			}
			st := open()
			commit(st, "common", "held")
			must(t, st.Hold(t.Context(), st.lastSnapshot(t), time.Time{}))
			closeStore(t, st)
			copyVolumes(t, volumesDir(dir), before)

			st = open()
			commit(st, "a-one", "a-two", "a-three")
			for i := range 2 {
				if compacted[0] {
					compact(t, st)
				}
				commit(st, fmt.Sprint("a-later", i))
			}
			closeStore(t, st)
			copyVolumes(t, volumesDir(dir), first)

			unguardAll(dir)
			must(t, os.RemoveAll(volumesDir(dir)))
			must(t, os.Rename(before, volumesDir(dir)))
			must(t, os.RemoveAll(filepath.Join(dir, indexName)))
			st = open()
			commit(st, "bb-one", "bb-two")
			for i := range 2 {
				if compacted[1] {
					compact(t, st)
				}
				commit(st, fmt.Sprint("bb-later", i))
			}
			closeStore(t, st)
			unguardAll(dir)
			copyVolumes(t, first, volumesDir(dir)) // into a store with an index
			st = open()
			want := []string{"a-later0", "a-later1", "a-one", "a-three", "a-two", "bb-later0", "bb-later1", "bb-one", "bb-two", "common", "held"}
			check := func(what string) {
				t.Helper()
				state, err := st.State(t.Context())
				must(t, err)
				var got []string
				for _, s := range state.Snapshots {
					got = append(got, s.Name)
					if s.Damaged != "" || s.HeldForever != (s.Name == "held") {
						t.Errorf("%s: %+v", what, s)
					}
				}
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Errorf("%s: %v", what, got)
				}
			}
			check("come together")
			st = reindex(t, st, open)
			check("index made anew")
			commit(st, "after")
			want = append([]string{want[0], want[1], want[2], want[3], want[4], "after"}, want[5:]...)
			slices.Sort(want)
			compact(t, st)
			check("compacted")
			st = reindex(t, st, open)
			check("compacted, index made anew")
			closeStore(t, st)
		})
	}
}

// TestDroppedJournalsComeBack: copies of journals that were dropped long ago change nothing.
func TestDroppedJournalsComeBack(t *testing.T) {
	dir := newStore(t)
	open := func() *Store { return openStore(t, dir) }
	st := open()
	_, gone := putAll(t, st, "d", "gone", blobs(1, 20))
	putAll(t, st, "d", "kept", blobs(2, 20))
	must(t, st.Forget(t.Context(), []ID{gone.ID}))
	closeStore(t, st)
	kept := filepath.Join(t.TempDir(), "kept")
	copyVolumes(t, volumesDir(dir), kept)
	for i := range 5 {
		st = open()
		if i == 0 {
			e := engineOf(st)
			must(t, e.appendAs(t.Context(), nil, func() ([]FactBody, error) { return []FactBody{forgetOf(FactPurge, []ID{gone.ID})}, nil }))
		}
		must(t, st.Tag(t.Context(), st.lastSnapshot(t), []string{fmt.Sprint(i)}, nil))
		compact(t, st)
		closeStore(t, st)
	}
	st = open()
	want := lasting(t, st)
	if len(want.Snapshots) != 1 {
		t.Fatalf("%+v", want)
	}
	closeStore(t, st)
	copyVolumes(t, kept, volumesDir(dir))
	st = open()
	checkLasting(t, "journals are back", st, want)
	st = reindex(t, st, open)
	checkLasting(t, "index made anew", st, want)
	compact(t, st)
	checkLasting(t, "compacted", st, want)
	closeStore(t, st)
}

func TestFactList(t *testing.T) {
	pages := map[ID][]byte{}
	get := pageGetter(func(_ context.Context, id ID) ([]byte, error) {
		if pages[id] == nil {
			return nil, &MissingError{KindNode, id}
		}
		return pages[id], nil
	})
	next, put := uint64(0), 0
	newID := func() ID {
		next++
		var id ID
		for i := range 8 {
			id[i] = byte(next >> (8 * i))
		}
		return id
	}
	w := &factListWriter{put: func(page []byte) (ID, error) {
		put++
		id := ID{31: 1, 0: byte(put), 1: byte(put >> 8)}
		pages[id] = page
		return id, nil
	}}
	var all []ID
	var list factList
	for _, n := range []int{1, 1, factPageSize - 3, 1, 1, 1, 3 * factPageSize, 5, factPageSize*40 + 7} {
		must(t, w.open(t.Context(), get, list.root))
		before := put
		for range n {
			id := newID()
			all = append(all, id)
			must(t, w.add(0, id))
		}
		var err error
		list.root, err = w.finish()
		must(t, err)
		if wrote := put - before; wrote > n/factPageSize+4 {
			t.Errorf("%d pages for %d facts", wrote, n)
		}
		var got []ID
		must(t, list.eachFromEnd(t.Context(), get, func(ids []ID) bool {
			got = append(slices.Clone(ids), got...)
			return true
		}))
		if !slices.Equal(got, all) {
			t.Fatalf("%d facts, want %d", len(got), len(all))
		}
	}
	visited := 0
	must(t, list.pages(t.Context(), get, func(ID) error { visited++; return nil }))
	if visited != (len(all)+factPageSize-1)/factPageSize+1 {
		t.Errorf("%d pages", visited)
	}
	list.tail = []ID{{1, 2, 3}}
	found, err := list.contains(t.Context(), get, map[ID]bool{all[0]: true, all[len(all)-1]: true, {9, 9, 9, 9, 9, 9, 9, 9, 9}: true, {1, 2, 3}: true})
	if err != nil || len(found) != 3 {
		t.Errorf("%d found, %v", len(found), err)
	}
	if _, _, err := parseFactPage(encodeFactPage(4, all[:1])); err == nil {
		t.Error("a page of a level that cannot be")
	}
	if _, _, err := parseFactPage(encodeFactPage(0, nil)); err == nil {
		t.Error("an empty page")
	}
}

// TestTooManyFactsForACheckpoint: the journal stays as it is, and nothing else is disturbed.
func TestTooManyFactsForACheckpoint(t *testing.T) {
	dir := newStore(t)
	st := openTrees(t, dir)
	for i := range 40 {
		tree{fmt.Sprint("t", i), blobs(uint64(i), 100)}.mustWrite(t, st)
	}
	e := engineOf(st)
	want := lasting(t, st)
	e.checkpointLimit = 1000
	before := journalCount(t, dir)
	if report := compact(t, st); report.Written {
		t.Error("written all the same")
	}
	if _, err := st.Prune(t.Context(), PruneOptions{}, nil); err != nil {
		t.Errorf("prune: %v", err)
	}
	if n := journalCount(t, dir); n != before {
		t.Errorf("%d journals, %d before", n, before)
	}
	checkLasting(t, "not compacted", st, want)
	wantClean(t, st.session, VerifyOptions{Data: true})
	e.checkpointLimit = maxCheckpointSize
	if report := compact(t, st); !report.Written {
		t.Error("not written when there is room")
	}
	checkLasting(t, "compacted", st, want)
	closeStore(t, st)
}
