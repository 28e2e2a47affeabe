package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"snapfs/store/seal"
	"snapfs/store/volume"
)

// Every kind of volume gets parity unless the store was made without, and what stats says of it outlives the index.
func TestParityOfStore(t *testing.T) {
	for _, test := range []struct {
		name    string
		parity  int
		percent int
	}{{"default", 0, DefaultParity}, {"ten", 10, 10}, {"none", NoParity, 0}} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			o := InitOptions{Slots: []seal.NewSlot{{KeyFile: testKey}}, Parity: test.parity}
			if err := Init(t.Context(), dir, o); err != nil {
				t.Fatal(err)
			}
			st := openStore(t, dir)
			putAll(t, st, "d", "one", blobs(1, 1000, 200<<10, 3000))
			closeStore(t, st)
			before := statsOf(t, dir)
			onDisk := parityOnDisk(t, dir)
			if (before.ParityBytes > 0) != (test.percent > 0) || before.ParityBytes != onDisk {
				t.Errorf("parity %d, on disk %d", before.ParityBytes, onDisk)
			}
			if err := os.RemoveAll(filepath.Join(dir, indexName)); err != nil {
				t.Fatal(err)
			}
			if after := statsOf(t, dir); after.ParityBytes != onDisk {
				t.Errorf("parity %d by the rebuilt index, %d on disk", after.ParityBytes, onDisk)
			}
		})
	}
	o := InitOptions{Slots: []seal.NewSlot{{KeyFile: testKey}}, Parity: MaxParity + 1}
	if err := Init(t.Context(), filepath.Join(t.TempDir(), "store"), o); err == nil {
		t.Error("too much parity accepted")
	}
}

func statsOf(t *testing.T, dir string) Stats {
	t.Helper()
	st := openStore(t, dir)
	defer closeStore(t, st)
	s, err := st.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// parityOnDisk checks all volumes and adds up their parity.
func parityOnDisk(t *testing.T, dir string) (n int64) {
	t.Helper()
	for path, data := range volumeFiles(t, dir) {
		r, err := volume.Check(bytes.NewReader(data), int64(len(data)), volume.CheckOptions{Blocks: true})
		if err != nil || !r.Whole() || !r.Sealed {
			t.Errorf("%s: %+v, %v", path, r, err)
		}
		n += r.Parity
	}
	return n
}

func volumeFiles(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(volumesDir(dir))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, e := range entries {
		path := filepath.Join(volumesDir(dir), e.Name())
		if files[path], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// What was committed while the store stays open heals as well, journal included.
func TestOpenVolumesAreProtected(t *testing.T) {
	dir := newStore(t)
	st := openStore(t, dir)
	defer closeStore(t, st)
	e := engineOf(st)
	e.protectAfter = time.Millisecond
	for i := range uint64(3) {
		putAll(t, st, "d", fmt.Sprint("snapshot ", i), blobs(i, 1000, 200<<10, 30_000))
		waitUntil(t, func() bool { return allProtected(t, dir) })
	}
	s, err := st.Stats(t.Context())
	if err != nil || s.ParityBytes == 0 {
		t.Errorf("stats: %+v, %v", s, err)
	}
	for path, data := range volumeFiles(t, dir) {
		bad := bytes.Clone(data)
		clear(bad[5000:5300])
		healed := filepath.Join(t.TempDir(), "healed")
		f, err := volume.CreateFile(healed, volume.FileOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r, err := volume.Repair(bytes.NewReader(bad), int64(len(bad)), f, volume.RepairOptions{})
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(healed); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %+v, %v", path, r, err)
		}
	}
}

// allProtected reports whether every byte of every volume is covered.
func allProtected(t *testing.T, dir string) bool {
	for _, data := range volumeFiles(t, dir) {
		r, err := volume.Check(bytes.NewReader(data), int64(len(data)), volume.CheckOptions{})
		if err != nil || len(r.Unprotected) > 0 {
			return false
		}
	}
	return true
}

// waitUntil waits for what happens in the background.
func waitUntil(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never happened")
		}
	}
}
