package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/store"
)

// paths lists everything below dir.
func paths(t testing.TB, dir string) string {
	t.Helper()
	var out []string
	_ = filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		ok(t, err)
		if p != dir {
			out = append(out, strings.TrimPrefix(p, dir+"/"))
		}
		return nil
	})
	sort.Strings(out)
	return strings.Join(out, " ")
}

func TestDelete(t *testing.T) {
	src := t.TempDir()
	write(t, src+"/keep/a", []byte("a"), 0o644)
	write(t, src+"/top", []byte("t"), 0o644)
	write(t, src+"/ign/.gitignore", []byte("*.o\n/built/\n"), 0o644)
	write(t, src+"/cache/CACHEDIR.TAG", []byte("Signature: 8a477f597d28d172789f06886806bc55"), 0o644)
	const always = "cache cache/CACHEDIR.TAG ign ign/.gitignore keep keep/a top"
	for _, c := range []struct {
		name   string
		change func(*snapshot.Manifest)
		opts   Options
		extra  []string // made in the destination before
		left   []string // of extra, and directories they stand in
	}{
		{name: "plain", extra: []string{"x", "keep/b", "old/deep/er/f", "cache/c"}},
		{name: "not asked for", opts: Options{DryRun: true}, extra: []string{"x", "old/f"}, left: []string{"x", "old", "old/f"}},
		{name: "excluded", change: func(m *snapshot.Manifest) { m.Excludes = []string{"*.tmp", "/old/precious", src + "/keep/here"} },
			extra: []string{"x.tmp", "old/precious/f", "old/other", "keep/here", "keep/deep/y.tmp", "here"},
			left:  []string{"x.tmp", "old", "old/precious", "old/precious/f", "keep/here", "keep/deep", "keep/deep/y.tmp"}},
		{name: "unreadable then", change: func(m *snapshot.Manifest) {
			m.Errors = []snapshot.FileError{{Path: src + "/secret"}, {Path: src + "/keep"}, {Path: src + "/old/bad"}}
			m.ErrorCount = 3
		}, extra: []string{"secret/f", "keep/b", "old/bad", "old/good"}, left: []string{"secret", "secret/f", "keep/b", "old", "old/bad"}},
		{name: "ignore files", change: func(m *snapshot.Manifest) { m.IgnoreFiles = true },
			extra: []string{"ign/x.o", "ign/sub/y.o", "ign/built/z", "x.o", "ign/x.c"},
			left:  []string{"ign/x.o", "ign/sub", "ign/sub/y.o", "ign/built", "ign/built/z"}},
		{name: "caches", change: func(m *snapshot.Manifest) { m.ExcludeCaches = true },
			extra: []string{"cache/c", "other/CACHEDIR.TAG", "other/c", "x"}, left: []string{"cache/c", "other", "other/CACHEDIR.TAG", "other/c"}},
		{name: "large files", change: func(m *snapshot.Manifest) { m.ExcludeLargerThan = 3 },
			extra: []string{"x", "keep/long-content"}, left: []string{"keep/long-content"}},
		{name: "included", opts: Options{Include: []string{"*.x"}}, extra: []string{"a.x", "b.y", "keep/c.x", "old/d.x", "old/e"},
			left: []string{"b.y", "old", "old/e", "cache", "ign", "keep", "keep/a", "top"}},
		{name: "not chosen", opts: Options{Exclude: []string{"/keep"}}, extra: []string{"keep/b", "x"}, left: []string{"keep/b"}},
		{name: "below a path", opts: Options{Path: "keep"}, extra: []string{"x"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			blobs := newBlobs()
			tree := open(t, blobs, take(t, blobs, src, c.change))
			dst := t.TempDir()
			mustRun(t, blobs, tree, Options{To: dst, Path: c.opts.Path})
			for _, p := range c.extra {
				write(t, dst+"/"+p, []byte(p), 0o644)
			}
			o := c.opts
			o.To, o.Delete = dst, true
			if c.name == "not asked for" {
				o = Options{To: dst}
			}
			before := paths(t, dst)
			o.DryRun = true
			dry := mustRun(t, blobs, tree, o)
			if paths(t, dst) != before {
				t.Fatal("a dry run changed something")
			}
			o.DryRun = false
			res := mustRun(t, blobs, tree, o)
			if res.Deleted != dry.Deleted {
				t.Errorf("%d deleted, %d announced", res.Deleted, dry.Deleted)
			}
			want := append(strings.Fields(always), c.left...)
			if c.opts.Path != "" {
				want = []string{"a"}
			}
			sort.Strings(want)
			uniq := want[:0]
			for i, w := range want {
				if i == 0 || w != want[i-1] {
					uniq = append(uniq, w)
				}
			}
			if got := paths(t, dst); got != strings.Join(uniq, " ") {
				t.Errorf("left\n%s\nwant\n%s", got, strings.Join(uniq, " "))
			}
		})
	}
}

// TestDeleteMany: directories that are listed in many parts, with names that stay in all of them.
func TestDeleteMany(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	write(t, src+"/kept", []byte("kept"), 0o644)
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, func(m *snapshot.Manifest) { m.Excludes = []string{"*.tmp"} }))
	const n = 600
	long := strings.Repeat("x", 200)
	for _, dir := range []string{"", "/gone", "/stays"} {
		for i := range n {
			write(t, fmt.Sprintf("%s%s/%04d%s", dst, dir, i, long), nil, 0o644)
			if dir != "/gone" && i%2 == 0 {
				write(t, fmt.Sprintf("%s%s/%04d%s.tmp", dst, dir, i, long), nil, 0o644)
			}
		}
	}
	o := Options{To: dst, Delete: true, DryRun: true, namesAtOnce: 1}
	dry := mustRun(t, blobs, tree, o)
	o.DryRun = false
	res := mustRun(t, blobs, tree, o)
	if want := int64(3*n + 1); res.Deleted != want || dry.Deleted != want {
		t.Errorf("%d deleted, %d announced, want %d", res.Deleted, dry.Deleted, want)
	}
	for _, p := range strings.Fields(paths(t, dst)) {
		if p != "kept" && p != "stays" && !strings.HasSuffix(p, ".tmp") {
			t.Fatalf("%s is left", p)
		}
	}
}

func TestDeleteRefused(t *testing.T) {
	src := t.TempDir()
	ok(t, os.Mkdir(src+"/empty", 0o755))
	write(t, src+"/f", []byte("f"), 0o644)
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	many := open(t, blobs, take(t, blobs, src, func(m *snapshot.Manifest) { m.ErrorCount = 10_001 }))
	listed := open(t, blobs, take(t, blobs, src, func(m *snapshot.Manifest) { m.OnlyListed = true }))
	dst := t.TempDir()
	write(t, dst+"/mine", nil, 0o644)
	for _, c := range []struct {
		tree *snapshot.Tree
		o    Options
		want error
	}{
		{tree, Options{To: "/", Path: "/"}, ErrDeleteRoot},
		{tree, Options{To: "/../", Path: "/"}, ErrDeleteRoot},
		{tree, Options{To: dst, Path: "empty"}, ErrDeleteEmpty},
		{many, Options{To: dst}, ErrDeleteErrors},
		{listed, Options{To: dst}, ErrDeleteListed},
	} {
		c.o.Delete = true
		if _, err := runThrough(t, context.Background(), blobs, c.tree, c.o); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.o, err, c.want)
		}
	}
	if paths(t, dst) != "mine" {
		t.Error(paths(t, dst))
	}
	mustRun(t, blobs, tree, Options{To: dst, Path: "empty", Delete: true, Force: true})
	if paths(t, dst) != "" {
		t.Error(paths(t, dst))
	}
}

// TestDeleteProtected: protected paths, mounts, several sources.
func TestDeleteProtected(t *testing.T) {
	src := t.TempDir()
	write(t, src+"/home/a/f", []byte("a"), 0o644)
	write(t, src+"/srv/f", []byte("s"), 0o644)
	blobs := newBlobs()
	several := open(t, blobs, take(t, blobs, src, func(m *snapshot.Manifest) { m.Single, m.Paths = false, []string{"/home/a", "/srv"} }))
	dst := t.TempDir()
	for _, p := range []string{"home/b/x", "home/a/x", "srv/store/volumes/1", "srv/other/x", "top"} {
		write(t, dst+"/"+p, nil, 0o644)
	}
	left := "home home/a home/a/f home/b home/b/x srv srv/f srv/store srv/store/volumes srv/store/volumes/1 top"
	o := Options{To: dst, Delete: true, Protect: []string{dst + "/srv/store"}}
	if os.Geteuid() == 0 {
		ok(t, os.MkdirAll(dst+"/srv/mnt/in", 0o755))
		write(t, dst+"/srv/bound/f", nil, 0o644)
		if err := unix.Mount("none", dst+"/srv/mnt/in", "tmpfs", 0, "size=64k"); err == nil {
			defer unix.Unmount(dst+"/srv/mnt/in", unix.MNT_DETACH)
			write(t, dst+"/srv/mnt/in/data", nil, 0o644)
			write(t, dst+"/srv/mnt/gone", nil, 0o644)
			left = strings.Replace(left, " srv/store ", " srv/mnt srv/mnt/in srv/mnt/in/data srv/store ", 1)
		}
		elsewhere := t.TempDir()
		write(t, elsewhere+"/precious", nil, 0o644)
		if err := unix.Mount(elsewhere, dst+"/srv/bound", "", unix.MS_BIND, ""); err == nil {
			defer unix.Unmount(dst+"/srv/bound", unix.MNT_DETACH)
			left = strings.Replace(left, " srv/f ", " srv/bound srv/bound/precious srv/f ", 1)
		}
	}
	mustRun(t, blobs, several, o)
	if got := paths(t, dst); got != left {
		t.Errorf("left\n%s\nwant\n%s", got, left)
	}
}

// TestStoreIsLeft: the store and what is protected are known under any name, and nothing is restored into the store.
func TestStoreIsLeft(t *testing.T) {
	src, base := t.TempDir(), t.TempDir()
	write(t, src+"/a/store/f", []byte("f"), 0o644)
	write(t, src+"/a/kept/f", []byte("f"), 0o644)
	write(t, src+"/a/g", []byte("g"), 0o644)
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	dst := base + "/dst"
	for _, p := range []string{"a/store/volumes/1", "a/store/x", "a/kept/x", "a/x"} {
		write(t, dst+"/"+p, nil, 0o644)
	}
	ok(t, os.Symlink(dst+"/a", base+"/link"))
	o := Options{To: dst, Delete: true, Store: base + "/link/store", Protect: []string{base + "/link/kept"}}
	var reported []error
	o.OnError = func(e *snapshot.PathError) { reported = append(reported, e) }
	result, err := runThrough(t, context.Background(), blobs, tree, o)
	if err != nil || result.Errors != 1 || len(reported) != 1 || !errors.Is(reported[0], store.ErrInside) {
		t.Errorf("%+v, %v, %v", result, reported, err)
	}
	if got, want := paths(t, dst), "a a/g a/kept a/kept/f a/kept/x a/store a/store/volumes a/store/volumes/1 a/store/x"; got != want {
		t.Errorf("left\n%s\nwant\n%s", got, want)
	}
	for _, to := range []string{base + "/link/store", dst + "/a/store/new/deep"} {
		if _, err := runThrough(t, context.Background(), blobs, tree, Options{To: to, Store: dst + "/a/store"}); !errors.Is(err, store.ErrInside) {
			t.Errorf("%s: %v", to, err)
		}
	}
}

// TestDeleteLeavesFlags: a directory that stays, because something in it is kept, stays locked.
func TestDeleteLeavesFlags(t *testing.T) {
	needRoot(t)
	src, dst := t.TempDir(), t.TempDir()
	write(t, src+"/a", []byte("a"), 0o644)
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, func(m *snapshot.Manifest) { m.Excludes = []string{"*.tmp"} }))
	write(t, dst+"/extra/keep.tmp", []byte("k"), 0o644)
	write(t, dst+"/extra/go", []byte("g"), 0o644)
	unlockLater(t, dst)
	h := handle{fd: openForFlags(t, dst+"/extra")}
	defer h.close()
	before := h.flags()
	if err := h.setFlags(before | flagImmutable); err != nil {
		t.Skip("no inode flags here: ", err)
	}
	mustRun(t, blobs, tree, Options{To: dst, Delete: true})
	if got := paths(t, dst); got != "a extra extra/keep.tmp" {
		t.Error(got)
	}
	if h.flags()&flagImmutable == 0 {
		t.Error("the directory is not locked any more")
	}
	_ = h.setFlags(before)
}

func openForFlags(t *testing.T, path string) int {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	ok(t, err)
	return fd
}

// TestDeleteBindMount: a directory that the snapshot has is a mount point now, of the same file system: what is mounted there is left alone.
func TestDeleteBindMount(t *testing.T) {
	needRoot(t)
	base := t.TempDir()
	src, dst, other := base+"/src", base+"/dst", base+"/other"
	write(t, src+"/a", []byte("a"), 0o644)
	ok(t, os.MkdirAll(src+"/d/sub", 0o755))
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	write(t, other+"/precious", []byte("p"), 0o644)
	write(t, other+"/sub/precious", []byte("p"), 0o644)
	ok(t, os.MkdirAll(dst+"/d", 0o755))
	write(t, dst+"/extra", []byte("x"), 0o644)
	if err := unix.Mount(other, dst+"/d", "", unix.MS_BIND, ""); err != nil {
		t.Skip("cannot mount: ", err)
	}
	defer unix.Unmount(dst+"/d", unix.MNT_DETACH)
	mustRun(t, blobs, tree, Options{To: dst, Delete: true})
	if got := paths(t, dst); got != "a d d/precious d/sub d/sub/precious" {
		t.Error(got)
	}
}
