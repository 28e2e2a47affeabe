package store

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestRootLeavesFilesToOwner: what root makes in somebody's store is the owner's at once, so that a crash of root's
// process locks nobody out.
func TestRootLeavesFilesToOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	const somebody = 54321
	dir := newStore(t)
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, somebody, somebody)
	})
	if err != nil {
		t.Fatal(err)
	}
	st := openStore(t, dir)
	defer closeStore(t, st)
	putAll(t, st, "d", "one", blobs(1, 10, 200<<10))
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if uid, _, err := owner(path); err != nil || uid != somebody {
			t.Errorf("%s belongs to %d, %v", path, uid, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
