package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"snapfs/store/seal"
)

// TestInitAtOnce: of several that make a store in the same directory one succeeds, and the others leave it alone.
func TestInitAtOnce(t *testing.T) {
	for range 20 {
		dir := t.TempDir()
		var group sync.WaitGroup
		var made atomic.Int32
		for range 4 {
			group.Go(func() {
				err := Init(t.Context(), dir, InitOptions{Slots: []seal.NewSlot{{KeyFile: testKey}}})
				switch {
				case err == nil:
					made.Add(1)
				case !errors.Is(err, ErrNotEmpty) && !errors.Is(err, ErrStoreExists):
					t.Error(err)
				}
			})
		}
		group.Wait()
		if made.Load() != 1 {
			t.Fatalf("%d made a store", made.Load())
		}
		closeStore(t, openStore(t, dir))
	}
}

// TestFailedInit leaves nothing in the directory.
func TestFailedInit(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	if err := Init(t.Context(), dir, InitOptions{}); err == nil {
		t.Fatal("a store without a key slot")
	}
	if info, err := os.Stat(dir); err != nil || info.Mode() != os.ModeDir|os.ModeSetgid|0o755 {
		t.Errorf("directory has another mode: %v %v", info.Mode(), err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) > 0 {
		t.Errorf("left: %v %v", list, err)
	}
}

// TestInitParents: the power may go right after Init, so the names of all directories that it made must be on the disk. The
// store's own is synced at the end.
func TestInitParents(t *testing.T) {
	top := t.TempDir()
	var synced []string
	err := makeParents(filepath.Join(top, "a", "b", "c", "store"), func(dir string) error {
		synced = append(synced, dir)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{top, filepath.Join(top, "a"), filepath.Join(top, "a", "b")}
	if !slices.Equal(synced, want) {
		t.Errorf("synced %q, want %q", synced, want)
	}
	if err := makeParents(filepath.Join(top, "a", "b", "c", "store"), nil); err != nil {
		t.Error("with all of them there:", err)
	}
}
