package store

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"snapfs/store/volume"
)

// TestDescriptorsAreBounded reads from more volumes than a reader keeps open, from several goroutines.
func TestDescriptorsAreBounded(t *testing.T) {
	dir := newStore(t)
	st := openStore(t, dir)
	defer closeStore(t, st)
	engineOf(st).limit = 8 << 10 // a volume a blob
	var data [][]byte
	for i := range maxOpened + 60 {
		data = append(data, blobs(uint64(i), 140<<10)...)
	}
	putAll(t, st, "d", "n", data)
	before := volumesOpen(t, dir)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for i, b := range data {
				got, err := st.GetInto(t.Context(), KindChunk, st.BlobID(KindChunk, b), nil)
				if err != nil || string(got) != string(b) {
					t.Errorf("blob %d: %v", i, err)
					return
				}
			}
		})
	}
	group.Wait()
	if n := volumesOpen(t, dir) - before; n > maxOpened {
		t.Errorf("%d volumes are open for reading, %d are meant to be", n, maxOpened)
	}
	r := st.reader
	if err := r.close(); err != nil {
		t.Error(err)
	}
	if n := volumesOpen(t, dir); n > before {
		t.Errorf("%d descriptors left", n-before)
	}
	if _, err := r.use(volume.ID{}); err == nil {
		t.Error("a closed reader opens volumes")
	}
}

// volumesOpen counts the descriptors of this process that are volumes of a store.
func volumesOpen(t *testing.T, dir string) (n int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("needs /proc")
	}
	for _, fd := range list {
		target, err := os.Readlink(filepath.Join("/proc/self/fd", fd.Name()))
		if err == nil && strings.HasPrefix(target, volumesDir(dir)) {
			n++
		}
	}
	return n
}
