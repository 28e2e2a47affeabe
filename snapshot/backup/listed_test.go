package backup

import (
	"os"
	"path/filepath"
	"testing"
)

// TestListedLink lists symlinks: they are saved as such.
func TestListedLink(t *testing.T) {
	top := t.TempDir()
	write(t, top, map[string]string{"src/x": "1", "src/d/y": "1", "secret": "2", "other/in": "3"})
	src := filepath.Join(top, "src")
	must(t, os.Symlink("../secret", filepath.Join(src, "link")))
	must(t, os.Symlink("../other", filepath.Join(src, "dirlink")))
	must(t, os.Symlink("nowhere", filepath.Join(src, "dangling")))
	repo := newFakeRepo(t)
	res := repo.backup(t, Options{Paths: []string{src}, UseFiles: true, Files: []string{"x", "link", "dirlink", "dangling"}})
	tree := repo.tree(t, res.Snapshot.ID)
	got := listTree(t, tree)
	if s := names(got); s != "dangling dirlink link x" || res.Errors != 0 {
		t.Errorf("%q, %d errors", s, res.Errors)
	}
}
