package store

import (
	"os"
	"path/filepath"
	"testing"
)

// TestRebuildPrefersLaterCopies: a blob stored again because its first place was damaged is read from the second, also
// after the index was made anew.
func TestRebuildPrefersLaterCopies(t *testing.T) {
	for range 4 { // volumes have random names
		dir := newStore(t)
		st := openStore(t, dir)
		data := blobs(1, 200<<10)
		ids, _ := putAll(t, st, "d", "one", data)
		places, err := st.Locate(t.Context(), ids)
		if err != nil {
			t.Fatal(err)
		}
		closeStore(t, st)
		flipByte(t, volumePath(dir, places[0].Volume), places[0].Offset+5000)
		st = openStore(t, dir)
		if _, err := st.Get(t.Context(), KindChunk, ids[0]); err == nil {
			t.Fatal("damage not noticed")
		}
		putAll(t, st, "d", "two", data)
		closeStore(t, st)
		if err := os.RemoveAll(filepath.Join(dir, indexName)); err != nil {
			t.Fatal(err)
		}
		st = openStore(t, dir)
		checkAll(t, st, ids, data)
		closeStore(t, st)
	}
}

func flipByte(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}
