package backup

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMappedFile changes a file through a mapping: only the first change of a clean page moves the file's times.
func TestMappedFile(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "f")
	must(t, os.WriteFile(path, bytes.Repeat([]byte("0"), 8192), 0o644))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	defer unix.Munmap(m)
	age(t, root)
	before, err := os.Stat(path)
	must(t, err)
	m[0] = '1'
	if after, err := os.Stat(path); err != nil || after.ModTime().Equal(before.ModTime()) {
		t.Skip("changes through a mapping move no times here")
	}
	age(t, root)
	repo := newFakeRepo(t)
	repo.backup(t, Options{Paths: []string{root}})
	m[0] = '2'
	age(t, root)
	res := repo.backup(t, Options{Paths: []string{root}})
	tree := repo.tree(t, res.Snapshot.ID)
	if got := content(t, tree, listTree(t, tree)["f"]); got[0] != '2' {
		t.Errorf("%c is saved", got[0])
	}
}
