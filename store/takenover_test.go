package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"snapfs/store/wire"
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

// TestHolderThatKnowsNothing: the index is lost when the holder ends. A client that relies on what it was told before is refused by the next one,
// which may have pruned it meanwhile; one that relies on nothing goes on.
func TestHolderThatKnowsNothing(t *testing.T) {
	for _, becomes := range []string{"client", "holder"} {
		t.Run(becomes, func(t *testing.T) {
			dir := newStore(t)
			old := manyFiles(1, 30, 50_000)
			st := openTrees(t, dir)
			snap := old.mustWrite(t, st)
			closeStore(t, st)
			holder := openTrees(t, dir)
			client, idle := openTrees(t, dir), openTrees(t, dir)
			have, err := client.Have(t.Context(), []ID{client.BlobID(KindChunk, old.files[0])})
			if err != nil || !have[0] {
				t.Fatalf("have %v: %v", have, err)
			}
			have, err = idle.Have(t.Context(), []ID{{1}})
			if err != nil || have[0] {
				t.Fatalf("have %v: %v", have, err)
			}
			forgetAll(t, holder, snap)
			crash(t, holder)
			must(t, os.RemoveAll(filepath.Join(dir, indexName)))
			if becomes == "client" {
				next := openTrees(t, dir)
				defer closeStore(t, next)
			}
			tr := tree{name: "new", files: old.files[:1]}
			if _, err := tr.write(t, client, "d"); !errors.Is(err, ErrForgotten) {
				t.Errorf("it goes on: %v", err)
			}
			_ = client.Close()
			tr.check(t, idle, tr.mustWrite(t, idle))
			closeStore(t, idle)
		})
	}
}

// TestUnknownProcess: a client whose process cannot be looked up, as one in another container, is not taken for the holder's own: it would count as
// dead as soon as that has ended.
func TestUnknownProcess(t *testing.T) {
	dir := newStore(t)
	st := openTrees(t, dir)
	old := manyFiles(1, 1, 50_000)
	old.mustWrite(t, st)
	e := engineOf(st)
	p := &peer{server: st.session.(*lastingSession).way.server}
	_, err := p.hello(&wire.Hello{Session: [16]byte{1}, Job: "backup"})
	must(t, err)
	have, err := p.session.Have(t.Context(), []ID{st.BlobID(KindChunk, old.files[0])})
	if err != nil || !have[0] {
		t.Fatalf("have %v: %v", have, err)
	}
	found, err := loadSessions(e.idx)
	must(t, err)
	if a := found[[16]byte{1}]; a == nil || a.process.pid != 0 || a.process.dead(a.heard, a.heard) {
		t.Errorf("%+v", a)
	}
	must(t, p.close())
	closeStore(t, st)
}
