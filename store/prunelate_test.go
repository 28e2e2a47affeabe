package store

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"
)

// TestForgottenWhilePruning: a snapshot that is made, of parts of one that is about to be purged, and forgotten again while a prune marks is
// purged by the next one; until then it can be wanted again.
func TestForgottenWhilePruning(t *testing.T) {
	dir := newStore(t)
	st := openTrees(t, dir)
	tree{name: "kept", files: [][]byte{[]byte("kept")}}.mustWrite(t, st)
	parent := manyFiles(1, 30, 50_000)
	old := parent.mustWrite(t, st)
	closeStore(t, st)
	st = openTrees(t, dir) // a session pins what it wrote until it ends
	defer closeStore(t, st)
	e := engineOf(st)
	forgetAll(t, st, old)
	manifest, err := st.Get(t.Context(), KindManifest, old.ID)
	must(t, err)
	var late Snapshot
	pruneNow(t, e, func() {
		s := e.newSession("backup")
		must(t, s.Pin(t.Context(), []ID{old.ID}))
		id, frame := blobFrame(e, ClassMetadata, KindManifest, append(slices.Clone(manifest), " late"...))
		_, err := s.Put(t.Context(), frame)
		must(t, err)
		late, err = s.Commit(t.Context(), Commit{Dataset: "d", Snapshot: id, Name: "late", Start: time.Unix(1e9, 0)})
		must(t, errors.Join(err, s.Close()))
		forgetAll(t, st, late)
	})
	fact := &forgetFact{kind: FactUnforget, snaps: []forgotten{{late.ID, late.Slot, late.DatasetNumber, late.Name}}}
	must(t, st.session.Append(t.Context(), []FactBody{fact}))
	parent.check(t, st, late)
}

// TestPruneKeepsTheWholeCopy: the index leads to a copy of a chunk that is known to be damaged. The other one, which is whole, stays.
func TestPruneKeepsTheWholeCopy(t *testing.T) {
	dir := newStore(t)
	st := openTrees(t, dir)
	e := engineOf(st)
	s := e.newSession("backup")
	id := putChunk(t, s, twice)
	commitChunk(t, s, "kept", id)
	closeStore(t, st)
	other := storedTwice(t, dir, id)
	b, err := os.ReadFile(volumePath(dir, other))
	must(t, err)
	at := layoutOf(t, b).blobs[0].Offset
	flipByte(t, volumePath(dir, other), at+200)

	st = openTrees(t, dir, func(o *Options) { o.Now = func() time.Time { return time.Now().Add(2 * unfinishedFor) } })
	defer closeStore(t, st)
	must(t, engineOf(st).noteDamage(t.Context(), []DamagedFrame{{other, at, id}}))
	mustPrune(t, st, PruneOptions{})
	must(t, engineOf(st).reindex())
	checkChunk(t, st, id, twice)
}
