package store

import (
	"os"
	"path/filepath"
	"testing"

	"snapfs/store/volume"
)

// TestKilledBetweenFrames: frames are written side by side. One that a killed process had not written while a later one was there
// is no damage, however much is committed after that, and the volume is tidied up.
func TestKilledBetweenFrames(t *testing.T) {
	dir := newStore(t)
	st := openStore(t, dir)
	e := engineOf(st)
	s := e.newSession("killed")
	data := blobs(1, 200<<10, 210<<10, 220<<10)
	for _, b := range data {
		putFrame(t, s, b, st)
	}
	id := e.current[volume.Data].id
	places, err := s.Locate(t.Context(), []ID{st.BlobID(KindChunk, data[1])})
	must(t, err)
	crash(t, st)
	must(t, os.RemoveAll(filepath.Join(dir, indexName))) // nothing was noted of it yet
	file, err := os.OpenFile(volumePath(dir, id), os.O_RDWR, 0)
	must(t, err)
	_, err = file.WriteAt(make([]byte, places[0].Stored), places[0].Offset)
	must(t, err)
	must(t, file.Close())

	st = openStore(t, dir)
	putAll(t, st, "d", "one", append(blobs(2, 10), data[0], data[2]))
	sum, findings := verified(t, st.session, VerifyOptions{Data: true})
	if len(findings) > 0 {
		t.Errorf("%+v: %+v", sum, findings)
	}
	_, err = st.Upkeep(t.Context())
	must(t, err)
	closeStore(t, st)
	st = openStore(t, dir)
	defer closeStore(t, st)
	checkSets(t, st, [][][]byte{{data[0], data[2]}})
	if _, err := os.Stat(volumePath(dir, id)); !os.IsNotExist(err) {
		t.Errorf("the volume that was never sealed is still there: %v", err)
	}
}
