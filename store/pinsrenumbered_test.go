package store

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"snapfs/store/volume"
)

// TestPinsInARepairedVolume: blobs of a volume get other numbers when it is repaired, as those that were damaged count again. What a
// session was told of before is still what it pins.
func TestPinsInARepairedVolume(t *testing.T) {
	dir := newStore(t)
	st := openTrees(t, dir)
	var snaps []Snapshot
	var ids []ID
	data := [][]byte{bytes.Repeat([]byte("first "), 30000), twice, bytes.Repeat([]byte("last "), 30000)}
	for _, d := range data {
		s := engineOf(st).newSession("before")
		ids = append(ids, putChunk(t, s, d))
		snaps = append(snaps, commitChunk(t, s, string(d[:4]), ids[len(ids)-1]))
	}
	closeStore(t, st)
	for path, b := range readVolumes(t, dir) {
		if l := layoutOf(t, b); l.kind == volume.Data {
			flipByte(t, path, l.blobs[0].Offset+200)
			flipByte(t, path, l.tables[0].Offset+100)
		}
	}
	must(t, os.RemoveAll(filepath.Join(dir, indexName)))

	st = openTrees(t, dir)
	defer closeStore(t, st)
	s := engineOf(st).newSession("backup")
	have, err := s.Have(t.Context(), ids)
	must(t, err)
	if have[0] || !have[1] || !have[2] {
		t.Fatalf("have %v", have)
	}
	if sum, findings := verified(t, st.session, VerifyOptions{Data: true, Repair: true}); sum.Findings == 0 || sum.Findings != sum.Healed {
		t.Fatalf("%+v", findings)
	}
	forgetAll(t, st, snaps...)
	mustPrune(t, st, PruneOptions{})
	commitChunk(t, s, "late", ids[2])
	checkChunk(t, st, ids[1], data[1])
	checkChunk(t, st, ids[2], data[2])
}
