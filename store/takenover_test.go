package store

import (
	"testing"
)

// TestPinsOutlastAHolderThatEnds: what a client was told of and wrote is kept by the next holder although the one before ended in order.
func TestPinsOutlastAHolderThatEnds(t *testing.T) {
	dir := newStore(t)
	old := manyFiles(1, 30, 50_000)
	st := openTrees(t, dir)
	snap := old.mustWrite(t, st)
	closeStore(t, st)

	holder := openTrees(t, dir)
	client := openTrees(t, dir, func(o *Options) { o.Direct = true })
	defer closeStore(t, client)
	w := client.NewWriter()
	var ids []ID
	relied := old.files[:15]
	for _, f := range relied {
		id, err := w.Put(t.Context(), KindChunk, f)
		must(t, err)
		ids = append(ids, id)
	}
	must(t, w.Flush(t.Context()))
	if n := w.Stats().NewBlobs; n != 0 {
		t.Fatalf("%d new blobs", n)
	}
	forgetAll(t, holder, snap)
	closeStore(t, holder)

	next := openTrees(t, dir)
	defer closeStore(t, next)
	if !isHolder(next) {
		t.Fatal("nobody holds the store")
	}
	mustPrune(t, next, PruneOptions{})
	checkAll(t, next, ids, relied)
	tr := tree{name: "new", files: relied}
	tr.check(t, client, tr.mustWrite(t, client))
	if n := w.Stats().NewBlobs; n != 0 {
		t.Errorf("%d blobs were stored again", n)
	}
}
