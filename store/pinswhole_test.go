package store

import (
	"bytes"
	"fmt"
	"testing"
)

// TestWholePinsOfAVolumeThatLeaves: of a session it is only known that it pins something in a volume, as after a change of the holder. A
// blob of it is stored again by another session, and its first volume is merged with others: the second copy is what is pinned.
func TestWholePinsOfAVolumeThatLeaves(t *testing.T) {
	st := openTrees(t, newStore(t))
	defer closeStore(t, st)
	e := engineOf(st)
	s := e.newSession("backup")
	id := putChunk(t, s, twice)
	sealData(t, e)
	e.mu.Lock()
	e.coarsenPins()
	e.mu.Unlock()
	for n := range mergeTiers { // so that upkeep merges them with the first one
		putChunk(t, s, bytes.Repeat(fmt.Appendf(nil, "%06d", n), 30000))
		sealData(t, e)
	}
	again := e.newSession("again")
	putChunk(t, again, twice)
	must(t, e.flush(false)) // the volume is still being written
	r, err := st.Upkeep(t.Context())
	must(t, err)
	if len(r.Rewritten) <= mergeTiers {
		t.Fatalf("%d volumes merged", len(r.Rewritten))
	}
	forgetAll(t, st, commitChunk(t, again, "again", id))
	mustPrune(t, st, PruneOptions{})
	commitChunk(t, s, "late", id)
	checkChunk(t, st, id, twice)
}

// TestRescueWhileAVolumeLeaves looks into all volumes while a prune is about to copy a chunk that a session wrote, and of which there is an older
// copy that nobody pins.
func TestRescueWhileAVolumeLeaves(t *testing.T) {
	st := openTrees(t, newStore(t))
	defer closeStore(t, st)
	e := engineOf(st)
	first, waste, dead, s := e.newSession("first"), e.newSession("waste"), e.newSession("dead"), e.newSession("backup")
	commitChunk(t, first, "kept", putChunk(t, first, blobs(1, 4<<20)[0]))
	first = e.newSession("first")
	id := putChunk(t, first, twice)
	sealData(t, e)
	gone := []Snapshot{commitChunk(t, first, "first", id)}
	gone = append(gone, commitChunk(t, dead, "dead", putChunk(t, dead, blobs(2, 200_000)[0])))
	sealData(t, e)
	putChunk(t, s, twice)
	gone = append(gone, commitChunk(t, waste, "waste", putChunk(t, waste, blobs(3, 4<<20)[0])))
	sealData(t, e)
	forgetAll(t, st, gone...)
	looked := false
	r, err := st.Prune(t.Context(), PruneOptions{MaxWaste: 10}, func(p PruneProgress) {
		if p.Phase == PhaseDrop {
			looked = true
			must(t, e.reindex())
		}
	})
	must(t, err)
	if !looked || len(r.Rewritten) != 1 {
		t.Fatalf("%+v", r)
	}
	mustPrune(t, st, PruneOptions{})
	commitChunk(t, s, "late", id)
	checkChunk(t, st, id, twice)
}

// TestPruneOfTheCopyTheIndexLeadsTo: all volumes are read again, and from then on the index leads to a copy that nobody pins. When that goes, the
// one that is pinned is found.
func TestPruneOfTheCopyTheIndexLeadsTo(t *testing.T) {
	st := openTrees(t, newStore(t))
	defer closeStore(t, st)
	e := engineOf(st)
	first, second, s := e.newSession("first"), e.newSession("second"), e.newSession("backup")
	id := putChunk(t, first, twice)
	older := exchange(t, e)
	putChunk(t, second, twice)
	sealData(t, e)
	finish(t, e, older)
	gone := []Snapshot{commitChunk(t, first, "first", id), commitChunk(t, second, "second", id)}
	mustHave(t, s, id)
	must(t, e.reindex())
	forgetAll(t, st, gone...)
	mustPrune(t, st, PruneOptions{})
	commitChunk(t, s, "late", id)
	checkChunk(t, st, id, twice)
}
