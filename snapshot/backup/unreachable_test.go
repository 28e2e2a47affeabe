package backup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/store"
)

// TestNeverOpens has a name that is there and cannot be opened, whatever the reason: that is an error, not a file that vanished.
func TestNeverOpens(t *testing.T) {
	for _, errno := range []error{unix.ENOENT, unix.ESTALE, unix.ENXIO, unix.ELOOP} {
		root := t.TempDir()
		write(t, root, map[string]string{"f": "0", "g": "1"})
		repo := newFakeRepo(t)
		var failed []string
		o := Options{Paths: []string{root}, Dataset: "test", OnError: func(e *snapshot.PathError) { failed = append(failed, e.Path) }}
		res, err := backupTree(t.Context(), repo, &o, hooks{fail: func(name string) error {
			if name == "f" {
				return errno
			}
			return nil
		}})
		must(t, err)
		if res.Errors != 1 || len(failed) != 1 || failed[0] != filepath.Join(root, "f") {
			t.Errorf("%v: %d errors: %q", errno, res.Errors, failed)
		}
	}
}

// TestLinksUnreadable: of a file with many names the last ones can be opened.
func TestLinksUnreadable(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"l0": "3", "other": "4"})
	for i := 1; i < 8; i++ {
		must(t, os.Link(filepath.Join(root, "l0"), filepath.Join(root, fmt.Sprint("l", i))))
	}
	age(t, root)
	repo := newFakeRepo(t)
	var mu sync.Mutex
	bad := map[string]bool{}
	o := Options{Paths: []string{root}, Dataset: "test"}
	res, err := backupTree(t.Context(), repo, &o, hooks{fail: func(name string) error {
		mu.Lock()
		defer mu.Unlock()
		if name[0] == 'l' && (bad[name] || len(bad) < 6) {
			bad[name] = true
			return unix.EIO
		}
		return nil
	}})
	must(t, err)
	if got := names(listTree(t, repo.tree(t, res.Snapshot.ID))); len(got) != len("l1 l2 other") || res.Errors != 6 {
		t.Errorf("%q, %d errors", got, res.Errors)
	}
}

// TestRootLinkMoves points a PATH that is a symlink elsewhere: what it led to at the beginning is saved to the end.
func TestRootLinkMoves(t *testing.T) {
	top := t.TempDir()
	files := map[string]string{}
	for i := range 200 {
		files[fmt.Sprintf("one/d%02d/s%d/f", i%20, i)] = fmt.Sprint(i)
	}
	write(t, top, files)
	must(t, os.Mkdir(filepath.Join(top, "two"), 0o755))
	link := filepath.Join(top, "current")
	must(t, os.Symlink("one", link))
	repo := newFakeRepo(t)
	var once atomic.Bool
	o := Options{Paths: []string{link}, Dataset: "test", Workers: 1}
	res, err := backupTree(t.Context(), repo, &o, hooks{
		begun:      func(r *run) { r.fds.limit = 1 },
		batchFiles: 1,
		before: func(string) {
			if once.CompareAndSwap(false, true) {
				must(t, os.Remove(link))
				must(t, os.Symlink("two", link))
			}
		},
	})
	must(t, err)
	compare(t, repo.tree(t, res.Snapshot.ID), filepath.Join(top, "one"))
}

// TestDirectoryReplaced puts another directory in the place of one that is being scanned, and removes that.
func TestDirectoryReplaced(t *testing.T) {
	top := t.TempDir()
	files := map[string]string{}
	for i := range 20 {
		files[fmt.Sprintf("d/s%d/f", i)] = fmt.Sprint(i)
		files[fmt.Sprintf("d/f%d", i)] = fmt.Sprint(i)
	}
	write(t, top, files)
	repo := newFakeRepo(t)
	var once atomic.Bool
	o := Options{Paths: []string{top}, Dataset: "test", Workers: 1}
	res, err := backupTree(t.Context(), repo, &o, hooks{
		begun:      func(r *run) { r.fds.limit = 1 },
		batchFiles: 1,
		before: func(string) {
			if once.CompareAndSwap(false, true) {
				d := filepath.Join(top, "d")
				must(t, os.Rename(d, filepath.Join(top, "old")))
				for name := range files {
					must(t, os.MkdirAll(filepath.Dir(filepath.Join(top, name)), 0o755))
					must(t, os.WriteFile(filepath.Join(top, name), []byte("new"), 0o644))
				}
				must(t, os.RemoveAll(filepath.Join(top, "old")))
			}
		},
	})
	must(t, err)
	compare(t, repo.tree(t, res.Snapshot.ID), top)
}

// TestPathRemoved removes the PATH itself while it is scanned.
func TestPathRemoved(t *testing.T) {
	root := filepath.Join(t.TempDir(), "d")
	write(t, root, map[string]string{"a/f": "1", "g": "2"})
	repo := newFakeRepo(t)
	var failed []string
	o := Options{Paths: []string{root}, Dataset: "test", OnError: func(e *snapshot.PathError) { failed = append(failed, e.Path) }}
	_, err := backupTree(t.Context(), repo, &o, hooks{before: func(string) { os.RemoveAll(root) }})
	must(t, err)
	if len(failed) != 1 || failed[0] != root {
		t.Errorf("%q", failed)
	}
}

// TestWalkerFails has each Put fail, those of directories when nothing else is under way included: nobody waits for ever.
func TestWalkerFails(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"a/b/c/d/f": "0"})
	for at := 1; at < 8; at++ {
		repo := newFakeRepo(t)
		repo.failAt = at
		done := make(chan error, 1)
		go func() {
			_, err := backupTree(t.Context(), repo, &Options{Paths: []string{root}, Dataset: "test"}, hooks{})
			done <- err
		}()
		select {
		case err := <-done:
			if !errors.Is(err, store.ErrNoSpace) {
				t.Errorf("%d: %v", at, err)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("put %d failed, and the run goes on for ever", at)
		}
	}
}
