package store

import (
	"errors"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// TestPinsOutlastTheHolder: what an idle client pins is kept by a holder that it has never spoken to.
func TestPinsOutlastTheHolder(t *testing.T) {
	dir := newStore(t)
	trees := []tree{manyFiles(1, 30, 50_000), manyFiles(2, 30, 50_000), manyFiles(3, 30, 50_000)}
	var snaps []Snapshot
	for _, tr := range trees {
		st := openTrees(t, dir)
		snaps = append(snaps, tr.mustWrite(t, st))
		closeStore(t, st)
	}
	holder := startProcess(t, dir, "")
	client := openTrees(t, dir)
	if isHolder(client) {
		t.Fatal("the client holds the store")
	}
	must(t, client.Pin(t.Context(), snaps[0].ID))
	w := client.NewWriter()
	fresh := manyFiles(4, 10, 50_000)
	relied := slices.Concat(trees[1].files[:15], fresh.files)
	var ids []ID
	for _, f := range relied {
		id, err := w.Put(t.Context(), KindChunk, f)
		must(t, err)
		ids = append(ids, id)
	}
	must(t, w.Flush(t.Context()))
	holder.kill(t)

	st := openTrees(t, dir)
	if !isHolder(st) {
		t.Fatal("nobody holds the store")
	}
	forgetAll(t, st, snaps...)
	mustPrune(t, st, PruneOptions{})
	trees[0].check(t, st, snaps[0])
	checkAll(t, st, ids, relied)

	have, err := client.session.Have(t.Context(), ids) // it comes back, and goes on
	must(t, err)
	if slices.Contains(have, false) {
		t.Error("what the client relied on is gone")
	}
	mustPrune(t, st, PruneOptions{})
	trees[0].check(t, client, snaps[0])
	checkAll(t, client, ids, relied)
	must(t, client.Unpin(t.Context(), snaps[0].ID))
	closeStore(t, client)
	mustPrune(t, st, PruneOptions{})
	closeStore(t, st)
	st = openTrees(t, dir)
	defer closeStore(t, st)
	for i, s := range snaps {
		if trees[i].compare(t, st, s.ID) == nil {
			t.Errorf("snapshot %d is still there", i)
		}
	}
	checkAll(t, st, ids[15:], fresh.files) // unfinished work of the client
	if n := recordsOfSessions(t, st); n > 1 {
		t.Errorf("%d sessions in the index", n)
	}
}

func recordsOfSessions(t *testing.T, st *Store) int {
	t.Helper()
	found, err := loadSessions(engineOf(st).idx)
	must(t, err)
	return len(found)
}

// TestDeadSessionsAreBuried: what only a dead process pinned goes, at once.
func TestDeadSessionsAreBuried(t *testing.T) {
	cmd := exec.Command("sleep", "100")
	must(t, cmd.Start())
	p, now := processOf(cmd.Process.Pid), time.Now()
	if p.dead(now, now) {
		t.Error("a living process counts as dead")
	}
	other := p
	other.started++
	if !other.dead(now, now) {
		t.Error("a process counts as alive because another one has its number")
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	if !p.dead(now, now) {
		t.Error("a dead process counts as alive")
	}
	if unknown := (processID{boot: p.boot}); unknown.dead(now, now) || !unknown.dead(now.Add(-2*unknownPatience), now) {
		t.Error("a process that cannot be looked up")
	}
	rebooted := p
	rebooted.boot = "another run " + p.boot
	if !rebooted.dead(now, now) {
		t.Error("a process from before the machine started again counts as alive")
	}
}

// TestPruneFromAfar: the same over the socket; a snapshot that is pinned is not purged, one that is purged cannot be pinned.
func TestPruneFromAfar(t *testing.T) {
	dir := newStore(t)
	st := openTrees(t, dir)
	defer func() { closeStore(t, st) }()
	a, b := manyFiles(1, 30, 50_000), manyFiles(2, 30, 50_000)
	one, two := a.mustWrite(t, st), b.mustWrite(t, st)
	closeStore(t, st)
	st = openTrees(t, dir) // a session pins what it wrote until it ends
	client := openTrees(t, dir, func(o *Options) { o.Direct = true })
	defer closeStore(t, client)
	must(t, client.Pin(t.Context(), one.ID))
	forgetAll(t, st, one)
	var phases []string
	o := PruneOptions{DryRun: true, Forget: []ID{two.ID}}
	foreseen, err := client.Prune(t.Context(), o, func(p PruneProgress) { phases = append(phases, p.Phase) })
	must(t, err)
	if foreseen.Purged != 1 || foreseen.BytesFreed < 1_000_000 || !slices.Contains(phases, PhaseMark) {
		t.Errorf("%+v, phases %v", foreseen, phases)
	}
	done, err := client.Prune(t.Context(), PruneOptions{}, nil)
	must(t, err)
	if done.Purged != 0 {
		t.Errorf("%+v", done)
	}
	a.check(t, client, one)
	must(t, client.Unpin(t.Context(), one.ID))
	done, err = client.Prune(t.Context(), PruneOptions{}, nil)
	must(t, err)
	if done.Purged != 1 || done.BytesFreed < 1_000_000 {
		t.Errorf("%+v", done)
	}
	b.check(t, client, two)
	if err := client.Pin(t.Context(), one.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("pinned what was purged: %v", err)
	}
	_, err = client.Upkeep(t.Context())
	must(t, err)
}
