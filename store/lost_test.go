package store

import (
	"errors"
	"testing"

	"snapfs/store/volume"
)

// TestLostFramesAreNotForgotten: a sync fails, and the holder ends before a client hears of it. With the next holder the client
// must not commit what it believes to be there.
func TestLostFramesAreNotForgotten(t *testing.T) {
	dir := newStore(t)
	own, err := filesFor(dir)
	must(t, err)
	files := &faultyFiles{Files: own, err: errInjected, left: 1 << 30}
	st, err := Open(t.Context(), dir, Options{Unlock: unlockTest, Files: files})
	must(t, err)
	e := engineOf(st)
	id, unhurt := [16]byte{7}, [16]byte{8}
	client := e.newSessionOf(id, "client", 1)
	_ = e.newSessionOf(unhurt, "other", 1)
	data := []byte("what only the client has")
	blob := volume.Blob{Kind: uint8(KindChunk), ID: st.BlobID(KindChunk, data), Length: uint32(len(data))}
	pack := volume.NewPacker(volume.LevelFastest).Pack(nil, []volume.Blob{blob}, data)
	_, err = client.Put(t.Context(), Frame{Class: ClassData, Blobs: []volume.Blob{blob}, Pack: pack})
	must(t, err)
	files.mu.Lock()
	files.left = 0
	files.mu.Unlock()
	if err := e.syncVolumes(); !errors.Is(err, errInjected) {
		t.Fatalf("sync: %v", err)
	}
	crash(t, st)

	st = openStore(t, dir)
	defer closeStore(t, st)
	e = engineOf(st)
	client = e.newSessionOf(id, "client", 1)
	if _, err := client.Commit(t.Context(), Commit{Dataset: "d", Snapshot: ID{1}, Name: "n"}); !errors.Is(err, ErrWriteFailed) {
		t.Errorf("the client goes on: %v", err)
	}
	must(t, client.Close())
	client = e.newSessionOf(id, "client", 1) // its record is gone with it
	must(t, client.failure())
	must(t, client.Close())
	other := e.newSessionOf(unhurt, "other", 1)
	must(t, other.failure())
	must(t, other.Close())
}
