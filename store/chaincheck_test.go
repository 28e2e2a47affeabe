package store

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"snapfs/store/volume"
)

// chainStore makes a store with a journal for each of some snapshots; with a checkpoint after the fourth if compacted. It returns
// the journals in order and the heads.
func chainStore(t *testing.T, compacted bool) (dir string, journals []volume.ID, heads []ID) {
	t.Helper()
	dir = newStore(t)
	for i := range 8 {
		st := openStore(t, dir)
		_, snap := putAll(t, st, "d", fmt.Sprint(i), blobs(uint64(i), 20))
		heads = append(heads, snap.Head)
		if i == 3 && compacted {
			compact(t, st)
		}
		e := engineOf(st)
		id := e.journal.id
		closeStore(t, st)
		journals = append(journals, id)
	}
	return dir, journals, heads
}

// chainProblems opens a store and checks its chain.
func chainProblems(t *testing.T, dir string, head ID) (problems []ChainProblem) {
	t.Helper()
	st := openStore(t, dir)
	defer closeStore(t, st)
	findings, err := engineOf(st).checkChain(t.Context(), head)
	must(t, err)
	for _, f := range findings {
		problems = append(problems, f.Problem)
		t.Log(f.Problem, f.Text)
	}
	slices.Sort(problems)
	return slices.Compact(problems)
}

func TestChainTampering(t *testing.T) {
	removeIndex := func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Join(dir, indexName))) }
	for _, c := range []struct {
		name   string
		tamper func(t *testing.T, dir string, journals []volume.ID)
		head   int // whose head is remembered; -1: none
		want   []ChainProblem
	}{
		{"nothing", func(*testing.T, string, []volume.ID) {}, 7, nil},
		{"nothing, an old head", func(*testing.T, string, []volume.ID) {}, 0, nil},
		{"a journal removed", func(t *testing.T, dir string, j []volume.ID) {
			must(t, os.Remove(volumePath(dir, j[5])))
		}, -1, []ChainProblem{ChainMissing}},
		{"a journal removed, and the index", func(t *testing.T, dir string, j []volume.ID) {
			must(t, os.Remove(volumePath(dir, j[5])))
			removeIndex(t, dir)
		}, -1, []ChainProblem{ChainMissing}},
		{"a journal damaged", func(t *testing.T, dir string, j []volume.ID) {
			must(t, os.Truncate(volumePath(dir, j[5]), 4200))
		}, -1, []ChainProblem{ChainMissing}},
		{"the newest cut off", func(t *testing.T, dir string, j []volume.ID) {
			must(t, os.Remove(volumePath(dir, j[7])))
		}, -1, []ChainProblem{ChainCutOff}},
		{"the newest cut off, and the index", func(t *testing.T, dir string, j []volume.ID) {
			must(t, os.Remove(volumePath(dir, j[7])))
			removeIndex(t, dir)
		}, -1, nil}, // what only a remembered head can show
		{"the newest cut off, and the index, with a head", func(t *testing.T, dir string, j []volume.ID) {
			must(t, os.Remove(volumePath(dir, j[7])))
			removeIndex(t, dir)
		}, 7, []ChainProblem{ChainUnknownHead}},
		{"cut off before the head, which is older", func(t *testing.T, dir string, j []volume.ID) {
			must(t, os.Remove(volumePath(dir, j[7])))
			removeIndex(t, dir)
		}, 6, nil},
		{"forged by who has the keys", func(t *testing.T, dir string, _ []volume.ID) {
			st := openStore(t, dir)
			e := engineOf(st)
			e.commitMu.Lock()
			defer closeStore(t, st)
			defer e.commitMu.Unlock()
			end := e.chainEnd()
			end.seq, end.prev = end.seq-1, ID{1} // the number of the newest once more
			batch, err := e.makeFacts(t.Context(), []FactBody{&tagFact{snapshot: ID{1}}}, end, nil)
			must(t, err)
			must(t, e.writeFacts(batch))
		}, -1, []ChainProblem{ChainReordered, ChainTwice}},
	} {
		for _, compacted := range []bool{false, true} {
			name := c.name
			if compacted {
				name += ", behind a checkpoint"
			}
			t.Run(name, func(t *testing.T) {
				dir, journals, heads := chainStore(t, compacted)
				c.tamper(t, dir, journals)
				var head ID
				if c.head >= 0 {
					head = heads[c.head]
				}
				if got := chainProblems(t, dir, head); !slices.Equal(got, c.want) {
					t.Errorf("%v, want %v", got, c.want)
				}
			})
		}
	}
}

// TestDamagedJournalIsNamed: parity would heal it; until then the finding says where.
func TestDamagedJournalIsNamed(t *testing.T) {
	dir, journals, _ := chainStore(t, false)
	path := volumePath(dir, journals[4])
	data, err := os.ReadFile(path)
	must(t, err)
	data[4096+volume.HeaderSize+10] ^= 1
	must(t, os.WriteFile(path, data, 0o600))
	st := openStore(t, dir)
	defer closeStore(t, st)
	findings, err := engineOf(st).checkChain(t.Context(), ID{})
	must(t, err)
	if len(findings) == 0 || findings[0].Problem != ChainDamaged || findings[0].Volume != journals[4] {
		t.Errorf("%+v", findings)
	}
	if report := compact(t, st); report.Written {
		t.Error("a checkpoint was written over facts that are missing")
	}
}

// TestAppendOnlyCompaction: only with admin rights, signed, and what was not signed shows.
func TestAppendOnlyCompaction(t *testing.T) {
	dir := newAppendOnly(t)
	open := func() *Store { return openStore(t, dir) }
	st := open()
	_, one := putAll(t, st, "d", "one", blobs(1, 20))
	putAll(t, st, "d", "two", blobs(2, 20))
	must(t, st.Hold(t.Context(), one.ID, time.Time{}))
	if err := st.Forget(t.Context(), []ID{st.lastSnapshot(t)}); err == nil {
		t.Error("forgotten without admin rights")
	}
	if report := compact(t, st); report.Written {
		t.Error("compacted without admin rights")
	}
	for range 3 {
		must(t, st.UnlockAdmin(t.Context(), unlockAdminTest))
		must(t, st.Tag(t.Context(), one.ID, []string{"x"}, nil))
		want := lasting(t, st)
		if report := compact(t, st); !report.Written {
			t.Error("not compacted")
		}
		checkLasting(t, "compacted", st, want)
		st = reindex(t, st, open)
		checkLasting(t, "index made anew", st, want)
	}
	checkHead(t, st, one.Head, "signed")
	e := engineOf(st)
	e.commitMu.Lock()
	batch, err := e.makeFacts(t.Context(), []FactBody{&checkpointFact{records: newFold().checkpoint()}}, e.chainEnd(), nil)
	must(t, err)
	must(t, e.writeFacts(batch))
	e.commitMu.Unlock()
	want := lasting(t, st)
	if len(want.Snapshots) != 2 {
		t.Fatalf("an unsigned checkpoint counts: %+v", want)
	}
	st = reindex(t, st, open)
	checkLasting(t, "an unsigned checkpoint", st, want)
	closeStore(t, st)
	if got := chainProblems(t, dir, one.Head); !slices.Equal(got, []ChainProblem{ChainUnsigned}) {
		t.Errorf("%v", got)
	}
}

// TestVolumesWithoutFacts: sealed volumes and not one fact are damage, what a first backup left that was killed is none.
func TestVolumesWithoutFacts(t *testing.T) {
	dir := newStore(t)
	st := openStore(t, dir)
	e := engineOf(st)
	e.limit = 300 << 10
	s := e.newSession("killed")
	for _, b := range blobs(1, 200<<10, 200<<10, 200<<10) { // a volume is full and sealed
		putFrame(t, s, b, st)
	}
	crash(t, st)
	must(t, os.RemoveAll(filepath.Join(dir, indexName)))
	st = openStore(t, dir)
	if _, findings := verified(t, st.session, VerifyOptions{Data: true}); len(findings) > 0 {
		t.Errorf("after a killed first backup: %+v", findings)
	}
	closeStore(t, st)

	disk, err := onDisk(volumesDir(dir))
	must(t, err)
	for id, size := range disk {
		if label, err := labelOf(volumePath(dir, id), size); err == nil && label.Kind == volume.Journal {
			must(t, os.Remove(volumePath(dir, id)))
		}
	}
	must(t, os.RemoveAll(filepath.Join(dir, indexName)))
	st = openStore(t, dir)
	defer closeStore(t, st)
	sum, findings := verified(t, st.session, VerifyOptions{Data: true})
	if sum.Findings != 1 || sum.Healed != 0 || findings[0].Problem != ProblemFacts {
		t.Errorf("without any fact: %+v", findings)
	}
	if left, _ := repairOnce(t, st); left != 1 {
		t.Errorf("%d findings are left", left)
	}
	wantNotes(t, st, "all facts are missing")
}
