package backup

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// TestReusedInode removes a file with two names after it was saved; a new one, of two names as well, gets its inode before it is
// met. It is no third name of the first.
func TestReusedInode(t *testing.T) {
	root := t.TempDir()
	at := func(name string) string { return filepath.Join(root, name) }
	files := map[string]string{"a1": "old", "z1": "", "z2": ""}
	for i := range 4200 { // a1 and z1 are in different windows
		files[fmt.Sprintf("m%d", i)] = ""
	}
	write(t, root, files)
	must(t, os.Link(at("a1"), at("a2")))
	age(t, root)
	inode := func(name string) uint64 {
		info, err := os.Stat(at(name))
		must(t, err)
		return info.Sys().(*syscall.Stat_t).Ino
	}
	was, got := inode("a1"), uint64(0)
	var once sync.Once
	replace := func() {
		must(t, os.Remove(at("a1")))
		must(t, os.Remove(at("a2")))
		for i := 0; i < 100 && got != was; i++ {
			name := fmt.Sprint("new", i)
			must(t, os.WriteFile(at(name), []byte("new"), 0o644))
			if got = inode(name); got == was {
				must(t, os.Rename(at(name), at("z1")))
				must(t, os.Remove(at("z2")))
				must(t, os.Link(at("z1"), at("z2")))
			}
		}
	}
	repo := newFakeRepo(t)
	o := Options{Paths: []string{root}, Dataset: "test", Workers: 1}
	res, err := backupTree(t.Context(), repo, &o, hooks{batchFiles: 1, read: func(name string) {
		if name == "m2000" {
			once.Do(replace)
		}
	}})
	must(t, err)
	if got != was {
		t.Skip("inodes are not used again at once here")
	}
	tree := repo.tree(t, res.Snapshot.ID)
	list := listTree(t, tree)
	for name, want := range map[string]string{"a1": "old", "a2": "old", "z1": "new", "z2": "new"} {
		if e := list[name]; e == nil || string(content(t, tree, e)) != want {
			t.Errorf("%s: %+v", name, e)
		}
	}
}
