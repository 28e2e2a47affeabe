package backup

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestDotDot names what lies above a directory that was reached through a symlink: that is where the kernel goes, not where the
// path without its last name leads.
func TestDotDot(t *testing.T) {
	top := t.TempDir()
	write(t, top, map[string]string{"a/sub/": "", "a/f": "right", "f": "wrong", "only": "wrong"})
	link := filepath.Join(top, "link")
	must(t, os.Symlink("a/sub", link))
	t.Chdir(link)
	for _, path := range []string{"../f", link + "/../f"} {
		repo := newFakeRepo(t)
		res := repo.backup(t, Options{Paths: []string{path}})
		tree := repo.tree(t, res.Snapshot.ID)
		if got := string(content(t, tree, listTree(t, tree)["f"])); got != "right" {
			t.Errorf("%s: %s", path, got)
		}
	}
	for _, path := range []string{"../only", link + "/../only"} {
		repo := newFakeRepo(t)
		if _, err := repo.try(t, Options{Paths: []string{path}}); !errors.Is(err, ErrNothingSaved) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
