package backup

import (
	"strings"
	"testing"
)

// TestLongIgnoreFile: a pattern that lies across the end of what is read of an ignore file counts as none, not by its first part.
func TestLongIgnoreFile(t *testing.T) {
	root := t.TempDir()
	const first = "/wanted"
	write(t, root, map[string]string{
		".gitignore": strings.Repeat("#", maxIgnoreFile-len(first)-1) + "\n" + first + "/cache\n",
		"wanted/f":   "1",
	})
	repo := newFakeRepo(t)
	var warned int
	res := repo.backup(t, Options{Paths: []string{root}, IgnoreFiles: true, Warn: func(string) { warned++ }})
	if got := names(listTree(t, repo.tree(t, res.Snapshot.ID))); got != ".gitignore wanted/ wanted/f" || warned != 1 {
		t.Errorf("%q, %d warnings", got, warned)
	}
}
