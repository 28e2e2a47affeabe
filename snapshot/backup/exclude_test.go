package backup

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

func names(m map[string]*snapshot.Entry) string {
	return strings.Join(slices.Sorted(maps.Keys(m)), " ")
}

func TestExcludes(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{
		"a.o": "1", "a.c": "2", "sub/b.o": "3", "sub/keep.o": "4", "sub/.gitignore": "*.c\n!x.c\n", "sub/d.c": "5", "sub/x.c": "6",
		"build/x": "7", "sub/build/y": "8", "cache/CACHEDIR.TAG": cacheSignature + "\nmore", "cache/data": "9", "cache/d/e": "0",
		"nocache/CACHEDIR.TAG": "something else", "nocache/data": "1", "large": strings.Repeat("x", 5000), "sub/.snapfsignore": "/snapdir/\n",
		"sub/snapdir/z": "", "sub/deep/snapdir/z": "",
	})
	all := "a.c a.o build/ build/x cache/ cache/CACHEDIR.TAG cache/d/ cache/d/e cache/data large nocache/ nocache/CACHEDIR.TAG " +
		"nocache/data sub/ sub/.gitignore sub/.snapfsignore sub/b.o sub/build/ sub/build/y sub/d.c sub/deep/ sub/deep/snapdir/ sub/deep/snapdir/z " +
		"sub/keep.o sub/snapdir/ sub/snapdir/z sub/x.c"
	patterns := filepath.Join(t.TempDir(), "patterns")
	must(t, os.WriteFile(patterns, []byte("# comment\n/build/\n"), 0o600))
	for _, c := range []struct {
		what string
		o    Options
		gone string
	}{
		{"nothing", Options{}, ""},
		{"by name", Options{Exclude: []string{"*.o"}}, "a.o sub/b.o sub/keep.o"},
		{"included again", Options{Exclude: []string{"*.o", "!keep.o"}}, "a.o sub/b.o"},
		{"anchored", Options{Exclude: []string{"/build"}}, "build/ build/x"},
		{"directories", Options{Exclude: []string{"build/"}}, "build/ build/x sub/build/ sub/build/y"},
		{"below", Options{Exclude: []string{"sub/**"}}, "sub/.gitignore sub/.snapfsignore sub/b.o sub/build/ sub/build/y sub/d.c sub/deep/ sub/deep/snapdir/ sub/deep/snapdir/z sub/keep.o sub/snapdir/ sub/snapdir/z sub/x.c"},
		{"nothing below an excluded directory comes back", Options{Exclude: []string{"/sub", "!/sub/keep.o"}}, "sub/ sub/.gitignore sub/.snapfsignore sub/b.o sub/build/ sub/build/y sub/d.c sub/deep/ sub/deep/snapdir/ sub/deep/snapdir/z sub/keep.o sub/snapdir/ sub/snapdir/z sub/x.c"},
		{"absolute", Options{Exclude: []string{root + "/sub/*.o", "!" + root + "/sub/keep.o"}}, "sub/b.o"},
		{"the source itself", Options{Exclude: []string{root, filepath.Base(root)}}, ""},
		{"file", Options{ExcludeFiles: []string{patterns}}, "build/ build/x"},
		{"ignore files", Options{IgnoreFiles: true}, "sub/d.c sub/snapdir/ sub/snapdir/z"},
		{"options before ignore files", Options{IgnoreFiles: true, Exclude: []string{"!*.c"}}, "sub/snapdir/ sub/snapdir/z"},
		{"caches", Options{ExcludeCaches: true}, "cache/d/ cache/d/e cache/data"},
		{"large", Options{ExcludeLargerThan: 4999}, "large"},
		{"not so large", Options{ExcludeLargerThan: 5000}, ""},
	} {
		repo := newFakeRepo(t)
		c.o.Paths = []string{root}
		res := repo.backup(t, c.o)
		got := names(listTree(t, repo.tree(t, res.Snapshot.ID)))
		want := slices.DeleteFunc(strings.Split(all, " "), func(s string) bool { return slices.Contains(strings.Split(c.gone, " "), s) })
		if got != strings.Join(want, " ") {
			t.Errorf("%s:\n%s, not\n%s", c.what, got, strings.Join(want, " "))
		}
	}
}

func TestExcludedIsRemoved(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"a": "1", "d/b": "2", "d/c": "3"})
	repo := newFakeRepo(t)
	repo.backup(t, Options{Paths: []string{root}})
	res := repo.backup(t, Options{Paths: []string{root}, Exclude: []string{"/d"}})
	if got := counts4(res); got != "new 0 changed 0 unchanged 1 removed 2" {
		t.Error(got)
	}
	if m := repo.tree(t, res.Snapshot.ID).Manifest(); len(m.Excludes) != 1 || m.Excludes[0] != "/d" {
		t.Errorf("%q", m.Excludes)
	}
}

func TestBadPattern(t *testing.T) {
	_, err := newFakeRepo(t).try(t, Options{Paths: []string{t.TempDir()}, Exclude: []string{"a[b"}})
	if err == nil || !strings.Contains(err.Error(), "a[b") {
		t.Error(err)
	}
}

func TestSources(t *testing.T) {
	top := t.TempDir()
	write(t, top, map[string]string{"a/x": "1", "a/in/y": "2", "b/z": "3", "f": "4", "other": "5", "a/in/skip": "", "b/skip": ""})
	must(t, os.Symlink("a", filepath.Join(top, "link")))
	must(t, os.Symlink("f", filepath.Join(top, "flink")))
	at := func(names ...string) (out []string) {
		for _, n := range names {
			out = append(out, filepath.Join(top, n))
		}
		return out
	}
	up := func() string { // what lies above top
		var s []string
		for i, c := range top {
			if c == '/' && i > 0 {
				s = append(s, top[1:i+1])
			}
		}
		return strings.Join(append(s, top[1:]+"/"), " ")
	}()
	full := func(names ...string) string {
		for i := range names {
			names[i] = top[1:] + "/" + names[i]
		}
		return up + " " + strings.Join(names, " ")
	}
	for _, c := range []struct {
		what  string
		o     Options
		want  string
		paths []string
	}{
		{"directory", Options{Paths: at("a")}, "in/ in/skip in/y x", at("a")},
		{"symlink", Options{Paths: at("link")}, "in/ in/skip in/y x", at("link")},
		{"file", Options{Paths: at("f")}, "f", at("f")},
		{"symlink to a file", Options{Paths: at("flink")}, "flink", at("flink")},
		{"several", Options{Paths: at("f", "b")}, full("b/", "b/skip", "b/z", "f"), at("b", "f")},
		{"nested", Options{Paths: at("a/in", "a", "a")}, "in/ in/skip in/y x", at("a")},
		{"through a symlink", Options{Paths: at("link/in", "f")}, full("f", "link/", "link/in/", "link/in/skip", "link/in/y"), at("f", "link/in")},
		{"named is not excluded", Options{Paths: at("a", "a/in", "b"), Exclude: []string{"/in", "a", "skip"}}, full("a/", "a/in/", "a/in/y", "a/x", "b/", "b/z"), at("a", "b")},
		{"relative to each", Options{Paths: at("a", "a/in", "b"), Exclude: []string{"/skip", "/x", "/z"}}, full("a/", "a/in/", "a/in/y", "b/"), at("a", "b")},
		{"absolute for one", Options{Paths: at("a", "b"), Exclude: at("b/skip")}, full("a/", "a/in/", "a/in/skip", "a/in/y", "a/x", "b/", "b/z"), at("a", "b")},
		{"files", Options{Paths: at("a"), Files: []string{"in", "nothing/here"}, UseFiles: true}, "in/ in/skip in/y", at("a")},
		{"absolute files", Options{Paths: at("a", "b"), Files: append(at("b/z", "other"), "x")}, full("a/", "a/x", "b/", "b/z"), at("a", "b")},
		{"no files", Options{Paths: at("a"), UseFiles: true}, "", at("a")},
		{"files alone", Options{Files: at("a/x", "f")}, full("a/", "a/x", "f"), at("a/x", "f")},
	} {
		repo := newFakeRepo(t)
		res := repo.backup(t, c.o)
		tree := repo.tree(t, res.Snapshot.ID)
		if got := names(listTree(t, tree)); got != c.want {
			t.Errorf("%s:\n%q, not\n%q", c.what, got, c.want)
		}
		if !slices.Equal(tree.Manifest().Paths, c.paths) {
			t.Errorf("%s: paths %q", c.what, tree.Manifest().Paths)
		}
		again := repo.backup(t, c.o)
		if tree2 := repo.tree(t, again.Snapshot.ID); tree2.Root().Dir != tree.Root().Dir && len(c.paths) == 1 {
			t.Errorf("%s: the same source gives another tree", c.what)
		}
	}
}

func TestMissingSource(t *testing.T) {
	top := t.TempDir()
	write(t, top, map[string]string{"a/x": "1"})
	repo := newFakeRepo(t)
	var paths []string
	o := Options{
		Paths:   []string{filepath.Join(top, "a"), filepath.Join(top, "missing")},
		OnError: func(e *snapshot.PathError) { paths = append(paths, e.Path) },
	}
	res := repo.backup(t, o)
	if res.Errors != 1 || len(paths) != 1 || paths[0] != filepath.Join(top, "missing") {
		t.Errorf("%d errors, %q", res.Errors, paths)
	}
	if m := repo.tree(t, res.Snapshot.ID).Manifest(); m.ErrorCount != 1 || m.Errors[0].Path != paths[0] {
		t.Errorf("%+v", m.Errors)
	}
	o.Paths = o.Paths[1:]
	if _, err := repo.try(t, o); err == nil || !strings.Contains(err.Error(), ErrNothingSaved.Error()) {
		t.Error(err)
	}
}

// TestMissingFiles lists names that are not there.
func TestMissingFiles(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"a/x": "1"})
	repo := newFakeRepo(t)
	var paths []string
	o := Options{
		Paths: []string{root}, Files: []string{"a/x", "a/no", "not/there/at/all", "/elsewhere"},
		OnError: func(e *snapshot.PathError) { paths = append(paths, e.Path) },
	}
	res := repo.backup(t, o)
	slices.Sort(paths)
	want := []string{"/elsewhere", root + "/a/no", root + "/not/there/at/all"}
	slices.Sort(want) // the temporary directory may lie anywhere
	if !slices.Equal(paths, want) || res.Errors != 3 {
		t.Errorf("%q, not %q", paths, want)
	}
	if got := names(listTree(t, repo.tree(t, res.Snapshot.ID))); got != "a/ a/x" {
		t.Error(got)
	}
	o.Files = o.Files[1:]
	if _, err := repo.try(t, o); err != nil {
		t.Error(err) // the directory "a" was saved
	}
	o.Files = []string{"no"}
	if _, err := repo.try(t, o); !errors.Is(err, ErrNothingSaved) {
		t.Error(err)
	}
}

func TestOneFileSystem(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	write(t, root, map[string]string{"a/x": "1", "m/": "", "p/": ""})
	if err := unix.Mount("none", filepath.Join(root, "m"), "tmpfs", 0, ""); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	defer unix.Unmount(filepath.Join(root, "m"), 0)
	must(t, unix.Mount("none", filepath.Join(root, "p"), "proc", 0, ""))
	defer unix.Unmount(filepath.Join(root, "p"), 0)
	write(t, root, map[string]string{"m/y": "2", "m/sub/z": "3"})
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Paths: []string{root}}, "a/ a/x m/ m/sub/ m/sub/z m/y p/"},
		{Options{Paths: []string{root}, OneFileSystem: true}, "a/ a/x m/ p/"},
		{Options{Paths: []string{root, filepath.Join(root, "m/sub")}, OneFileSystem: true}, "a/ a/x m/ m/sub/ m/sub/z p/"},
		{Options{Paths: []string{root, filepath.Join(root, "m")}, OneFileSystem: true}, "a/ a/x m/ m/sub/ m/sub/z m/y p/"},
	} {
		repo := newFakeRepo(t)
		res := repo.backup(t, c.o)
		tree := repo.tree(t, res.Snapshot.ID)
		if got := names(listTree(t, tree)); got != c.want {
			t.Errorf("%q, not %q", got, c.want)
		}
		fs := tree.Manifest().FileSystems
		if len(fs) < 2 || fs[0].Index == fs[1].Index || listTree(t, tree)["m/"].FS == tree.Root().FS {
			t.Errorf("file systems %+v", fs)
		}
		again := repo.backup(t, c.o)
		if repo.tree(t, again.Snapshot.ID).Root().Dir != tree.Root().Dir {
			t.Error("the same source gives another tree")
		}
	}
}

func TestStoreInside(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"a": "1", "store/volumes/v": "2"})
	repo := newFakeRepo(t)
	repo.dir = filepath.Join(root, "store")
	res := repo.backup(t, Options{Paths: []string{root}})
	if got := names(listTree(t, repo.tree(t, res.Snapshot.ID))); got != "a store/" {
		t.Error(got)
	}
}
