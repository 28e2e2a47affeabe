package store

import (
	"os"
	"testing"
)

// TestDamagedIsStoredAgain damages every large blob: once reading has shown it, putting the same data heals the store.
func TestDamagedIsStoredAgain(t *testing.T) {
	dir := newStore(t)
	data := blobs(9, 500<<10, 600<<10, 10, 20, 30)
	st := openStore(t, dir)
	ids, _ := putAll(t, st, "d", "one", data)
	places, err := st.Locate(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, st)
	for _, p := range places[:3] { // the small ones share a frame
		path := volumePath(dir, p.Volume)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		whole[p.Offset+int64(p.Stored)/2] ^= 1
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	st = openStore(t, dir)
	for i, id := range ids {
		if _, err := st.GetInto(t.Context(), KindChunk, id, nil); err == nil && i < 2 {
			t.Fatalf("blob %d is not damaged", i)
		}
	}
	putAll(t, st, "d", "two", data)
	checkAll(t, st, ids, data)
	closeStore(t, st)
	st = openStore(t, dir)
	defer closeStore(t, st)
	checkAll(t, st, ids, data)
}
