package backup

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

// manyFiles makes n fifos in dir: they cost fewest calls.
func manyFiles(t testing.TB, dir string, n int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(fd)
	for i := range n {
		must(t, unix.Mknodat(fd, fmt.Sprintf("file-%07d", i), unix.S_IFIFO|0o644, 0))
	}
}

// TestLargeDirectory goes through many windows. With SNAPFS_TEST_ENTRIES=1000000 it is the real thing.
func TestLargeDirectory(t *testing.T) {
	n := 50_000
	if s := os.Getenv("SNAPFS_TEST_ENTRIES"); s != "" {
		var err error
		n, err = strconv.Atoi(s)
		must(t, err)
	}
	root := memoryDir(t)
	manyFiles(t, root, n)
	age(t, root)
	repo := newFakeRepo(t)
	first := repo.backup(t, Options{Paths: []string{root}})
	if first.New != int64(n) || first.Entries != int64(n) {
		t.Errorf("%+v", first)
	}
	puts := repo.Puts
	again := repo.backup(t, Options{Paths: []string{root}})
	if again.Unchanged != int64(n) || repo.Puts > puts+2 {
		t.Errorf("%s, %d blobs put", counts4(again), repo.Puts-puts)
	}
	// One name in the middle: a few pages are written, the rest is replayed.
	must(t, unix.Unlink(fmt.Sprintf("%s/file-%07d", root, n/2)))
	third := repo.backup(t, Options{Paths: []string{root}})
	if got := counts4(third); got != fmt.Sprintf("new 0 changed 0 unchanged %d removed 1", n-1) {
		t.Error(got)
	}
	tree := repo.tree(t, third.Snapshot.ID)
	if tree.Root().Totals.Entries != uint64(n-1) {
		t.Errorf("%+v", tree.Root().Totals)
	}
	at := 0
	must(t, tree.List(t.Context(), tree.Root(), 0, func(f snapshot.Found) bool {
		if at == n/2 {
			at++
		}
		if f.Name != fmt.Sprintf("file-%07d", at) {
			t.Errorf("%s at %d", f.Name, at)
			return false
		}
		at++
		return true
	}))
}
