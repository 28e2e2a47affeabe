package store

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// history is what has been promised of a store.
type history struct {
	kept map[ID]tree
	gone map[ID]tree // forgotten
	held map[ID]bool
	head ID   // of the chain
	hurt bool // a volume was damaged and has not been mended yet
}

func newHistory(kept map[ID]tree) *history {
	return &history{kept: kept, gone: map[ID]tree{}, held: map[ID]bool{}}
}

func (h *history) clone() *history {
	return &history{maps.Clone(h.kept), maps.Clone(h.gone), maps.Clone(h.held), h.head, h.hurt}
}

// deed is something done to a store; when it returns without an error the history counts.
type deed func(t testing.TB, st *Store, h *history) error

func doBackup(tr tree) deed {
	return func(t testing.TB, st *Store, h *history) error {
		s, err := tr.write(t, st, "d")
		if err == nil {
			h.kept[s.ID] = tr
			delete(h.gone, s.ID)
			h.head = s.Head
			engineOf(st).endPins(st.session.(*lastingSession).way.session.(*localSession)) // as when the job has ended
		}
		return err
	}
}

func doForget(names ...string) deed {
	return func(t testing.TB, st *Store, h *history) error {
		state, err := st.State(t.Context())
		if err != nil {
			return err
		}
		fact := &forgetFact{kind: FactForget}
		for _, s := range state.Snapshots {
			for _, name := range names {
				if h.kept[s.ID].name == name {
					fact.snaps = append(fact.snaps, forgotten{s.ID, s.Slot, s.DatasetNumber, s.Name})
				}
			}
		}
		tentative := h.clone()
		for _, s := range fact.snaps {
			tentative.gone[s.snapshot] = tentative.kept[s.snapshot]
			delete(tentative.kept, s.snapshot)
			delete(h.kept, s.snapshot) // it may be forgotten from now on
		}
		if err = st.session.Append(t.Context(), []FactBody{fact}); err == nil {
			*h = *tentative
		}
		return err
	}
}

// doHold holds everything that is kept.
func doHold(t testing.TB, st *Store, h *history) error {
	var facts []FactBody
	for id := range h.kept {
		facts = append(facts, &holdFact{kind: FactHold, snapshot: id, forever: true})
	}
	err := st.session.Append(t.Context(), facts)
	for id := range h.kept {
		h.held[id] = h.held[id] || err == nil
	}
	return err
}

func doRebuild(t testing.TB, st *Store, _ *history) error {
	err := st.session.Rebuild(t.Context(), nil)
	if e := engineOf(st); err == nil && e.idx.synced == nil {
		e.files.(*lossFiles).watch(st) // it is another index now
	}
	return err
}

// doRepair damages the largest sealed volume, as it lies on the disk, and mends it.
func doRepair(t testing.TB, st *Store, h *history) error {
	e := engineOf(st)
	if err := e.sealCurrent(); err != nil {
		return err
	}
	f := e.files.(*lossFiles)
	f.mu.Lock()
	var largest string
	for name, at := range f.names {
		if len(at.synced) > 20_000 && (largest == "" || len(at.synced) > len(f.names[largest].synced)) {
			largest = name
		}
	}
	if !f.off {
		path := filepath.Join(volumesDir(e.dir), largest)
		data := must1(os.ReadFile(path))
		data[9000] ^= 1
		must(t, os.WriteFile(path, data, 0o600))
		f.names[largest].synced = data
		h.hurt = true
	}
	f.mu.Unlock()
	if err := mend(t, st); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	h.hurt = h.hurt && f.off
	return nil
}

func mend(t testing.TB, st *Store) error {
	_, err := st.Verify(t.Context(), VerifyOptions{Data: true, Repair: true}, func(v VerifyEvent) error { return nil })
	return err
}

func doPrune(t testing.TB, st *Store, _ *history) error {
	_, err := st.Prune(t.Context(), PruneOptions{}, nil)
	return err
}

func doUpkeep(t testing.TB, st *Store, _ *history) error {
	_, err := st.Upkeep(t.Context())
	return err
}

func doCompact(_ testing.TB, st *Store, _ *history) error {
	_, err := tryCompact(st)
	return err
}

// checkHistory: all that was promised is there, whole, and nothing that was forgotten has come back.
func checkHistory(t testing.TB, st *Store, h *history, when string) {
	t.Helper()
	state, err := st.State(t.Context())
	must(t, err)
	there := map[ID]Snapshot{}
	for _, s := range state.Snapshots {
		there[s.ID] = s
		if _, gone := h.gone[s.ID]; gone && !s.Forgotten {
			t.Errorf("%s: forgotten snapshot %s is there", when, h.gone[s.ID].name)
		}
	}
	for id := range h.held {
		if s := there[id]; h.held[id] && !s.HeldForever {
			t.Errorf("%s: snapshot %s is not held", when, h.kept[id].name)
		}
	}
	for id, tr := range h.kept {
		if s, ok := there[id]; !ok || s.Damaged != "" || s.Forgotten {
			t.Errorf("%s: snapshot %s: there %v, forgotten %v, damaged %q", when, tr.name, ok, s.Forgotten, s.Damaged)
		}
		if err := tr.compare(t, st, id); err != nil {
			t.Errorf("%s: snapshot %s: %v", when, tr.name, err)
		}
	}
	findings, err := engineOf(st).checkChain(t.Context(), h.head)
	must(t, err)
	if len(findings) > 0 {
		t.Errorf("%s: chain: %+v", when, findings)
	}
}

// afterLoss goes on with a store after a loss of power: everything promised is kept, now and whatever is done then.
func afterLoss(t testing.TB, dir string, h *history, then []deed, when string) {
	t.Helper()
	h = h.clone()
	small := func(o *Options) { o.Files = newLossFiles(t, dir, -1) }
	st := openTrees(t, dir, small)
	if h.hurt {
		must(t, mend(t, st))
	}
	checkHistory(t, st, h, when+", opened")
	for i, s := range then {
		if err := s(t, st, h); err != nil {
			t.Errorf("%s, step %d: %v", when, i, err)
		}
	}
	checkHistory(t, st, h, when+", gone on with")
	_, err := st.Verify(t.Context(), VerifyOptions{Data: true}, func(v VerifyEvent) error {
		if v.Finding != nil && !v.Finding.Healed && v.Finding.Problem != ProblemTrailer { // parity and no trailer: that may be a volume cut short
			t.Errorf("%s: verify: %+v", when, *v.Finding)
		}
		return nil
	})
	must(t, err)
	closeStore(t, st)
	must(t, os.RemoveAll(filepath.Join(dir, indexName)))
	st = openTrees(t, dir, small)
	checkHistory(t, st, h, when+", new index")
	closeStore(t, st)
}

// losePower does steps until the power goes, at every k-th operation. With more to do next, the holder is killed there instead, another one
// does that, and then the power goes.
func losePower(t *testing.T, from string, h0 *history, limit int64, steps, then []deed, next ...deed) {
	every := 13
	switch {
	case os.Getenv("SNAPFS_TEST_LONG") != "":
		every = 1
	case testing.Short():
		every = 37
	}
	for k := 0; ; k += every {
		h := h0.clone()
		dir := copyStore(t, from)
		unguardAtEnd(t, dir)
		files := newLossFiles(t, dir, k)
		st, err := Open(t.Context(), dir, Options{Unlock: unlockTest, Job: "test", References: treeReferences, Files: files})
		if err == nil {
			if limit > 0 {
				engineOf(st).limit = limit
			}
			files.watch(st)
		}
		for i := 0; err == nil && i < len(steps); i++ {
			err = steps[i](t, st, h)
		}
		if err != nil && !files.off {
			t.Fatalf("operation %d: %v", k, err)
		}
		ended := !files.off
		files.stop()
		if st != nil {
			_ = st.Close() // it can write nothing
		}
		if len(next) > 0 {
			files.off, files.left = false, -1
			st = openTrees(t, dir, func(o *Options) { o.Files = files })
			files.watch(st)
			for _, s := range next {
				must(t, s(t, st, h))
			}
			files.stop()
			_ = st.Close() // it can write nothing
		}
		for _, l := range losses {
			left := files.leave(t, l)
			afterLoss(t, left, h, then, fmt.Sprintf("operation %d (%s), left %v", k, files.op, l))
			removeLeft(t, left)
		}
		removeLeft(t, dir)
		if ended {
			t.Logf("%d operations, one in %d", k, every)
			return
		}
		if t.Failed() {
			t.Fatalf("stopped at operation %d: %s", k, files.op)
		}
	}
}

func removeLeft(t testing.TB, dir string) {
	unguardAll(dir)
	must(t, os.RemoveAll(dir))
}

// TestPowerLoss lets the power go at every 13th operation of all that is done to a store (at each with SNAPFS_TEST_LONG).
func TestPowerLoss(t *testing.T) {
	a, b, c := manyFiles(1, 6, 40_000), manyFiles(2, 6, 40_000), manyFiles(3, 6, 40_000)
	again := []deed{doBackup(tree{"again", a.files}), doUpkeep, doBackup(manyFiles(9, 3, 30_000)), doPrune}
	empty := func() *history { return newHistory(map[ID]tree{}) }
	for name, work := range map[string][]deed{
		"backups": {doBackup(a), doBackup(b), doForget("s1"), doBackup(c)},
		"prune":   {doBackup(a), doForget("s1"), doPrune, doBackup(b)},
		"hold":    {doBackup(a), doHold, doRebuild, doBackup(b), doHold, doBackup(c)},
		"repair":  {doBackup(a), doBackup(b), doRepair, doRebuild, doRepair},
		"compact": {doBackup(a), doCompact, doBackup(b), doCompact, doForget("s1"), doCompact},
	} {
		t.Run(name, func(t *testing.T) {
			losePower(t, newStore(t), empty(), 0, work, again)
		})
	}
	t.Run("killed before", func(t *testing.T) {
		losePower(t, newStore(t), newHistory(map[ID]tree{}), 100_000, []deed{doBackup(a), doForget("s1"), doPrune, doBackup(b)}, nil, again...)
	})
	t.Run("rotation", func(t *testing.T) {
		losePower(t, newStore(t), empty(), 100_000, []deed{doBackup(a), doBackup(b)}, again)
	})
	for name, build := range map[string]func(testing.TB) (string, map[ID]tree){"prune of an old store": wasteful, "upkeep": small} {
		t.Run(name, func(t *testing.T) {
			from, kept := build(t)
			work := []deed{doPrune, doUpkeep}
			if strings.HasPrefix(name, "upkeep") {
				work = []deed{doUpkeep, doCompact}
			}
			losePower(t, from, newHistory(kept), 0, work, again)
		})
	}
}
