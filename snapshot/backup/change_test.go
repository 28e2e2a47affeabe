package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/store"
)

func TestUnchanged(t *testing.T) {
	base := snapshot.Entry{
		Type: snapshot.TypeFile, Size: 5, Inode: 7, Mode: 0o644, UID: 1, GID: 2,
		Mtime: snapshot.Time{Sec: 100, Nsec: 5}, Ctime: snapshot.Time{Sec: 200, Nsec: 6},
	}
	same := unix.Statx_t{
		Mode: unix.S_IFREG | 0o644, Size: 5, Ino: 7, Uid: 1, Gid: 2,
		Mtime: unix.StatxTimestamp{Sec: 100, Nsec: 5}, Ctime: unix.StatxTimestamp{Sec: 200, Nsec: 6},
	}
	for _, c := range []struct {
		what   string
		change func(e *snapshot.Entry, st *unix.Statx_t, o *Options)
		want   bool
	}{
		{"same", func(*snapshot.Entry, *unix.Statx_t, *Options) {}, true},
		{"type", func(_ *snapshot.Entry, st *unix.Statx_t, _ *Options) { st.Mode = unix.S_IFLNK | 0o644 }, false},
		{"size", func(_ *snapshot.Entry, st *unix.Statx_t, _ *Options) { st.Size++ }, false},
		{"mtime", func(_ *snapshot.Entry, st *unix.Statx_t, _ *Options) { st.Mtime.Nsec++ }, false},
		{"ctime", func(_ *snapshot.Entry, st *unix.Statx_t, _ *Options) { st.Ctime.Sec++ }, false},
		{"ctime ignored", func(_ *snapshot.Entry, st *unix.Statx_t, o *Options) { st.Ctime.Sec++; o.IgnoreCtime = true }, true},
		{"mode, ctime ignored", func(_ *snapshot.Entry, st *unix.Statx_t, o *Options) {
			st.Ctime.Sec++
			st.Mode = unix.S_IFREG | 0o600
			o.IgnoreCtime = true
		}, false},
		{"inode", func(_ *snapshot.Entry, st *unix.Statx_t, _ *Options) { st.Ino++ }, false},
		{"inode ignored", func(_ *snapshot.Entry, st *unix.Statx_t, o *Options) { st.Ino++; o.IgnoreInode = true }, true},
		{"fresh", func(e *snapshot.Entry, _ *unix.Statx_t, _ *Options) { e.Fresh = true }, false},
		{"reread", func(_ *snapshot.Entry, _ *unix.Statx_t, o *Options) { o.Reread = true }, false},
		{"device", func(e *snapshot.Entry, st *unix.Statx_t, _ *Options) {
			e.Type, e.Rdev, st.Mode, st.Rdev_major = snapshot.TypeChar, unix.Mkdev(1, 3), unix.S_IFCHR|0o644, 2
		}, false},
	} {
		e, st, o := base, same, Options{}
		c.change(&e, &st, &o)
		if got := (&run{o: &o}).unchanged(&e, &st); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
	if (&run{o: &Options{}}).unchanged(nil, &same) {
		t.Error("nothing is unchanged")
	}
}

func TestFresh(t *testing.T) {
	now := time.Unix(1000, 500_000_000)
	tick := 4 * time.Millisecond
	at := func(d time.Duration) unix.StatxTimestamp {
		when := now.Add(d)
		return unix.StatxTimestamp{Sec: when.Unix(), Nsec: uint32(when.Nanosecond())}
	}
	whole := func(sec int64) unix.StatxTimestamp { return unix.StatxTimestamp{Sec: sec} }
	for _, c := range []struct {
		what         string
		mtime, ctime unix.StatxTimestamp
		want         bool
	}{
		{"old", at(-time.Hour), at(-time.Hour), false},
		{"just now", at(0), at(0), true},
		{"within a tick", at(-3 * time.Millisecond), at(-3 * time.Millisecond), true},
		{"beyond a tick", at(-5 * time.Millisecond), at(-5 * time.Millisecond), false},
		{"attributes just now", at(-time.Hour), at(0), true},
		{"clock was ahead", at(time.Hour), at(time.Hour), true},
		{"time set far ahead", at(time.Hour), at(-time.Hour), false},
		{"whole seconds", whole(999), whole(999), true},
		{"older whole seconds", whole(997), whole(997), false},
	} {
		st := unix.Statx_t{Mtime: c.mtime, Ctime: c.ctime}
		if got := fresh(&st, tick, now); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

// TestSameTick changes a file within the tick in which it was read: same size, same times.
func TestSameTick(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "f")
	repo := newFakeRepo(t)
	for i := range 20 {
		want := fmt.Sprintf("%04d", i)
		must(t, os.WriteFile(path, []byte(want), 0o644))
		res := repo.backup(t, Options{Paths: []string{root}})
		tree := repo.tree(t, res.Snapshot.ID)
		if got := string(content(t, tree, listTree(t, tree)["f"])); got != want {
			t.Fatalf("%s in the snapshot, %s in the file", got, want)
		}
	}
}

// mutate backs up root while hook acts on it.
func mutate(t *testing.T, root string, h hooks) (map[string]*snapshot.Entry, *snapshot.Tree, *Result) {
	t.Helper()
	repo := newFakeRepo(t)
	o := Options{Paths: []string{root}, Dataset: "test", OnError: func(e *snapshot.PathError) { t.Errorf("%v", e) }}
	res, err := backupTree(t.Context(), repo, &o, h)
	if err != nil {
		t.Fatal(err)
	}
	tree := repo.tree(t, res.Snapshot.ID)
	return listTree(t, tree), tree, res
}

func TestChangedWhileRead(t *testing.T) {
	const small, large = 10, 20 << 20
	for _, size := range []int{small, 200 << 10, large} {
		root := t.TempDir()
		path := filepath.Join(root, "f")
		must(t, os.WriteFile(path, make([]byte, size), 0o644))
		age(t, root)
		var calls atomic.Int32
		got, tree, res := mutate(t, root, hooks{read: func(string) {
			if n := calls.Add(1); n <= 2 {
				must(t, os.WriteFile(path, []byte(strings.Repeat(fmt.Sprint(n), size/2*int(n))), 0o644))
				time.Sleep(12 * time.Millisecond)
			}
		}})
		if res.Unstable != 0 || calls.Load() != 3 {
			t.Errorf("size %d: unstable %d after %d readings", size, res.Unstable, calls.Load())
		}
		want, err := os.ReadFile(path)
		must(t, err)
		if string(content(t, tree, got["f"])) != string(want) {
			t.Errorf("size %d: content differs", size)
		}
	}
}

func TestUnstable(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"f": "0", "g": "stable"})
	n := 1
	got, _, res := mutate(t, root, hooks{read: func(name string) {
		if name == "f" {
			n++
			must(t, os.WriteFile(filepath.Join(root, "f"), []byte(strings.Repeat("x", n)), 0o644))
		}
	}})
	if res.Unstable != 1 || n != 2+maxTries || res.Errors != 0 {
		t.Errorf("%+v after %d readings", res, n-1)
	}
	if e := got["f"]; !e.Fresh || e.Size != 1+maxTries {
		t.Errorf("%+v", e)
	}
}

func TestReplacedWhileRead(t *testing.T) {
	for _, c := range []struct {
		what    string
		replace func(path string) error
		want    string // in the snapshot
	}{
		{"vanished", func(string) error { return nil }, "g"},
		{"directory", func(p string) error {
			return errors.Join(os.Mkdir(p, 0o755), os.WriteFile(p+"/x", []byte("in"), 0o644))
		}, "f/ f/x g"},
		{"symlink", func(p string) error { return os.Symlink("g", p) }, "f g"},
		{"fifo", func(p string) error { return unix.Mkfifo(p, 0o644) }, "f g"},
		{"another file", func(p string) error { return os.WriteFile(p, []byte("another"), 0o644) }, "f g"},
	} {
		for _, links := range []int{1, 2} {
			root, outside := t.TempDir(), t.TempDir()
			write(t, root, map[string]string{"f": "0", "g": "stable"})
			if links == 2 {
				must(t, os.Link(filepath.Join(root, "f"), filepath.Join(outside, "f")))
				age(t, root)
			}
			path := filepath.Join(root, "f")
			done := false
			r := hooks{before: func(name string) {
				if name == "f" && !done {
					done = true
					must(t, os.Remove(path))
					must(t, c.replace(path))
					age(t, root)
				}
			}}
			got, tree, res := mutate(t, root, r)
			if s := names(got); s != c.want || res.Errors != 0 || !done {
				t.Errorf("%s: %q, not %q, %+v", c.what, s, c.want, res)
			}
			if c.want == "f g" || c.want == "g" {
				if s := got["f"]; c.what == "another file" && string(content(t, tree, s)) != "another" {
					t.Errorf("%s: %+v", c.what, s)
				}
			}
		}
	}
}

func TestReplacedDirectory(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"d/x": "0", "e/y": "1", "f": "2"})
	repo := newFakeRepo(t)
	repo.backup(t, Options{Paths: []string{root}})
	must(t, os.RemoveAll(filepath.Join(root, "d")))
	must(t, os.WriteFile(filepath.Join(root, "d"), []byte("file"), 0o644))
	must(t, os.Remove(filepath.Join(root, "f")))
	write(t, root, map[string]string{"f/z": "dir"})
	res := repo.backup(t, Options{Paths: []string{root}})
	if got := counts4(res); got != "new 2 changed 0 unchanged 1 removed 2" {
		t.Error(got)
	}
	compare(t, repo.tree(t, res.Snapshot.ID), root)
}

// unreadable makes opening fail as for a user without rights, even for root.
func TestUnreadable(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"a": "1", "bad": "2", "l1": "3", "d/x": "4"})
	must(t, os.Link(filepath.Join(root, "l1"), filepath.Join(root, "l2")))
	age(t, root)
	repo := newFakeRepo(t)
	first := repo.backup(t, Options{Paths: []string{root}})
	var errs []string
	fail := hooks{fail: func(name string) error {
		if name == "bad" || name == "l1" || name == "l2" {
			return syscall.EIO
		}
		return nil
	}}
	o := Options{Paths: []string{root}, Dataset: "test", Reread: true, OnError: func(e *snapshot.PathError) {
		errs = append(errs, filepath.Base(e.Path))
		if !errors.Is(e, syscall.EIO) {
			t.Errorf("%v", e)
		}
	}}
	res, err := backupTree(t.Context(), repo, &o, fail)
	must(t, err)
	if res.Errors != 3 || len(errs) != 3 {
		t.Errorf("%d errors: %q", res.Errors, errs)
	}
	if got := counts4(res); got != "new 0 changed 0 unchanged 2 removed 0" {
		t.Error(got)
	}
	tree := repo.tree(t, res.Snapshot.ID)
	if got := names(listTree(t, tree)); got != "a d/ d/x" {
		t.Error(got)
	}
	if m := tree.Manifest(); m.ErrorCount != 3 || m.Links != 0 {
		t.Errorf("%+v", m)
	}
	if tree.Root().Dir == repo.tree(t, first.Snapshot.ID).Root().Dir {
		t.Error("same tree")
	}
}

func TestStoreFails(t *testing.T) {
	root := t.TempDir()
	files := map[string]string{"big": strings.Repeat("0123456789", 3<<20)}
	for i := range 3000 {
		files[fmt.Sprintf("d%d/f%d", i%7, i)] = fmt.Sprint(i)
	}
	write(t, root, files)
	fds := openFDs(t)
	for _, at := range []int{1, 2, 5, 100, 200, 260, 1500} {
		repo := newFakeRepo(t)
		repo.failAt = at
		if _, err := repo.try(t, Options{Paths: []string{root}}); !errors.Is(err, store.ErrNoSpace) {
			t.Errorf("put %d failed: %v", at, err)
		}
		if len(repo.state.Snapshots) != 0 || len(repo.locked) != 0 {
			t.Errorf("put %d failed and something is left", at)
		}
	}
	if now := openFDs(t); now != fds {
		t.Errorf("%d descriptors open, before %d", now, fds)
	}
}

func TestInterrupted(t *testing.T) {
	root := t.TempDir()
	files := map[string]string{}
	for i := range 300 {
		files[fmt.Sprintf("d%d/f%d", i%7, i)] = fmt.Sprint(i)
	}
	write(t, root, files)
	repo := newFakeRepo(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var n atomic.Int32
	o := Options{Paths: []string{root}, Dataset: "test"}
	_, err := backupTree(ctx, repo, &o, hooks{read: func(string) {
		if n.Add(1) == 150 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || len(repo.state.Snapshots) != 0 {
		t.Errorf("%v, %d snapshots", err, len(repo.state.Snapshots))
	}
	res := repo.backup(t, Options{Paths: []string{root}})
	compare(t, repo.tree(t, res.Snapshot.ID), root)
}
