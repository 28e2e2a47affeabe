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
	sealData(t, e)
	commitChunk(t, again, "again", id)
	snap := e.state.Snapshots[0]
	e.mu.Lock()
	for number, v := range e.volumes.byNumber { // the volume of the second copy stays as it is
		if p, err := e.indexed([]ID{id}, []int{0}); err == nil && number == p[0].volume {
			v.leaving = &bitset{}
			v.leaving.fill(v.blobs)
			defer func() { v.leaving = nil }()
		}
	}
	e.mu.Unlock()
	r, err := st.Upkeep(t.Context())
	must(t, err)
	if len(r.Rewritten) == 0 {
		t.Fatal("nothing was merged")
	}
	e.mu.Lock()
	for _, v := range e.volumes.byNumber {
		v.leaving = nil
	}
	e.mu.Unlock()
	forgetAll(t, st, snap)
	mustPrune(t, st, PruneOptions{})
	commitChunk(t, s, "late", id)
	checkChunk(t, st, id, twice)
}
