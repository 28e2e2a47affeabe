package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/store"
)

func TestSelection(t *testing.T) {
	src := t.TempDir()
	for _, p := range []string{"a/x.txt", "a/b/y.txt", "a/b/y.bin", "c/z.bin", "top.txt"} {
		write(t, src+"/"+p, []byte(p), 0o644)
	}
	ok(t, os.Mkdir(src+"/none", 0o755))
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	for _, c := range []struct {
		o       Options
		want    string
		entries int64
	}{
		{Options{}, "a a/b a/b/y.bin a/b/y.txt a/x.txt c c/z.bin none top.txt", 9},
		{Options{Path: "/"}, "a a/b a/b/y.bin a/b/y.txt a/x.txt c c/z.bin none top.txt", 9},
		{Options{Path: "a"}, "b b/y.bin b/y.txt x.txt", 4},
		{Options{Path: "/a/b/y.txt"}, "y.txt", 1},
		{Options{Include: []string{"*.txt"}}, "a a/b a/b/y.txt a/x.txt top.txt", 5},
		{Options{Include: []string{"/a/b"}}, "a a/b a/b/y.bin a/b/y.txt", 4},
		{Options{Include: []string{"/a/b", "!*.bin"}}, "a a/b a/b/y.txt", 3},
		{Options{Exclude: []string{"b", "/top.txt"}}, "a a/x.txt c c/z.bin none", 5},
		{Options{Include: []string{"*.txt"}, Exclude: []string{"/a/b/"}}, "a a/x.txt top.txt", 3},
		{Options{Path: "a", Include: []string{"/b/*.bin"}}, "b b/y.bin", 2},
	} {
		dst := t.TempDir() + "/dst"
		c.o.To = dst
		res := mustRun(t, blobs, tree, c.o)
		if got := paths(t, dst); got != c.want || res.Entries != c.entries || res.Written != c.entries {
			t.Errorf("%+v: %s\nwant %s (%+v)", c.o, got, c.want, res)
		}
	}
	if _, err := runThrough(t, context.Background(), blobs, tree, Options{To: t.TempDir(), Path: "a/none"}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	var pattern *snapshot.PatternError
	if _, err := runThrough(t, context.Background(), blobs, tree, Options{To: t.TempDir(), Include: []string{"[a"}}); !errors.As(err, &pattern) || errors.Is(err, ErrOptions) {
		t.Error(err)
	}
}

func TestDryRun(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	everything(t, src)
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	write(t, dst+"/small", []byte("other"), 0o644)
	write(t, dst+"/empty", nil, 0o644)
	before := strings.Join(describe(t, dst), "\n")
	for _, to := range []string{dst, dst + "/missing/too"} {
		items := map[string]string{}
		res := mustRun(t, blobs, tree, Options{To: to, DryRun: true, Verify: true, OnItem: func(i Item) { items[i.Path] = i.Action }})
		if int64(len(items)) != res.Entries || res.Entries != int64(tree.Manifest().Totals.Entries) {
			t.Errorf("%d items of %+v", len(items), res)
		}
		if items[to+"/small"] != ActionWrite || to == dst && items[to+"/empty"] != ActionAttributes {
			t.Error(items)
		}
		if strings.Join(describe(t, dst), "\n") != before {
			t.Fatal("a dry run changed something")
		}
	}
}

func TestInPlace(t *testing.T) {
	base := t.TempDir()
	src := base + "/home/user/data"
	everything(t, src)
	ok(t, os.Chmod(base+"/home/user", 0o711))
	want := t.TempDir()
	blobs := newBlobs()
	above := []snapshot.Entry{}
	m := &maker{t: t, sink: blobs}
	for _, p := range append([]string{""}, strings.Split(strings.TrimPrefix(base, "/")+"/home/user", "/")...) {
		mode := uint32(0o755)
		if p == "user" {
			mode = 0o711
		}
		above = append(above, snapshot.Entry{Name: p, Type: snapshot.TypeDir, Mode: mode, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())})
	}
	tree := open(t, blobs, m.take(src, func(m *snapshot.Manifest) { m.Above = above }))
	unlockLater(t, want)
	mustRun(t, blobs, tree, Options{To: want})
	ok(t, os.Chtimes(want, mtimeOf(t, src), mtimeOf(t, src)))
	ok(t, os.Chmod(want, 0o755))
	here := Options{InPlace: true, Host: "here"}
	if _, err := runThrough(t, context.Background(), blobs, tree, Options{InPlace: true, Host: "elsewhere"}); !errors.Is(err, ErrOtherHost) {
		t.Error(err)
	}
	forced := Options{InPlace: true, Host: "elsewhere", Force: true, DryRun: true}
	if res := mustRun(t, blobs, tree, forced); res.Equal != res.Entries {
		t.Errorf("%+v", res)
	}
	write(t, src+"/big", []byte("spoilt"), 0o600)
	here.Path = "big"
	mustRun(t, blobs, tree, here)
	here.Path = ""
	if res := mustRun(t, blobs, tree, here); res.Written != 0 {
		t.Errorf("%+v", res)
	}
	same(t, want, src)
	ok(t, os.Rename(base+"/home", base+"/away"))
	unlockLater(t, base)
	mustRun(t, blobs, tree, here)
	same(t, want, src)
	var st unix.Stat_t
	ok(t, unix.Stat(base+"/home/user", &st))
	if st.Mode&0o777 != 0o711 {
		t.Errorf("a parent that was made has mode %o", st.Mode)
	}
}

func TestInPlaceLinks(t *testing.T) {
	needRoot(t)
	base := t.TempDir()
	ok(t, os.Chmod(base, 0o755))
	src := base + "/home/data"
	write(t, src+"/f", []byte("f"), 0o644)
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	o := Options{InPlace: true, Host: "here"}
	ok(t, os.Rename(base+"/home", base+"/real"))
	ok(t, os.Symlink("real", base+"/home"))
	write(t, base+"/real/data/f", []byte("old"), 0o644)
	mustRun(t, blobs, tree, o) // root's own link
	if data, _ := os.ReadFile(base + "/real/data/f"); string(data) != "f" {
		t.Errorf("%q", data)
	}
	ok(t, os.Rename(base+"/real/data", base+"/target"))
	ok(t, os.Symlink(base+"/target", base+"/real/data"))
	ok(t, os.Lchown(base+"/real/data", 65534, 65534))
	write(t, base+"/target/f", []byte("old"), 0o644)
	if _, err := runThrough(t, context.Background(), blobs, tree, o); !errors.Is(err, ErrUnsafeLink) {
		t.Error(err)
	}
	ok(t, os.Lchown(base+"/real/data", 0, 0))
	ok(t, os.Chown(base+"/real", 65534, 65534))
	if _, err := runThrough(t, context.Background(), blobs, tree, o); !errors.Is(err, ErrUnsafeLink) {
		t.Error(err)
	}
	if data, _ := os.ReadFile(base + "/target/f"); string(data) != "old" {
		t.Errorf("%q", data)
	}
}

// TestSources: several paths, a single file, a stream.
func TestSources(t *testing.T) {
	src := t.TempDir()
	write(t, src+"/etc/f", []byte("f"), 0o644)
	write(t, src+"/srv/data/g", []byte("g"), 0o644)
	blobs := newBlobs()
	several := open(t, blobs, take(t, blobs, src, func(m *snapshot.Manifest) { m.Single, m.Paths = false, []string{"/etc", "/srv/data"} }))
	dst := t.TempDir()
	mustRun(t, blobs, several, Options{To: dst + "/all"})
	if got := paths(t, dst+"/all"); got != "etc etc/f srv srv/data srv/data/g" {
		t.Error(got)
	}
	d := &destination{manifest: several.Manifest(), path: "/"}
	for rel, upper := range map[string]bool{"": true, "srv": true, "srv/data": false, "etc": false, "srv/dat": false} {
		if d.upper(rel) != upper {
			t.Errorf("upper(%q) is not %v", rel, upper)
		}
	}
	one := t.TempDir()
	write(t, one+"/passwd", []byte("root"), 0o644)
	file := open(t, blobs, take(t, blobs, one, func(m *snapshot.Manifest) { m.Single, m.Paths = false, []string{dst + "/orig/passwd"} }))
	mustRun(t, blobs, file, Options{To: dst + "/file"})
	ok(t, os.Mkdir(dst+"/orig", 0o750))
	mustRun(t, blobs, file, Options{InPlace: true, Host: "here"})
	mustRun(t, blobs, file, Options{InPlace: true, Host: "here", Path: "/passwd"})
	for _, p := range []string{"/file/passwd", "/orig/passwd"} {
		if data, _ := os.ReadFile(dst + p); string(data) != "root" {
			t.Errorf("%s: %q", p, data)
		}
	}
	if st, _ := os.Stat(dst + "/orig"); st.Mode().Perm() != 0o750 {
		t.Error("the directory of a single file was changed")
	}
	stream := open(t, blobs, take(t, blobs, one, func(m *snapshot.Manifest) {
		m.Single, m.Paths, m.Found = false, []string{"/passwd"}, snapshot.FoundByStream
	}))
	if _, err := runThrough(t, context.Background(), blobs, stream, Options{InPlace: true, Host: "here"}); !errors.Is(err, ErrNoOrigin) {
		t.Error(err)
	}
}

// TestDeep restores, restores again and deletes a tree deeper than PATH_MAX with few descriptors.
func TestDeep(t *testing.T) {
	blobs := newBlobs()
	ctx := context.Background()
	const depth = 500
	name := "a-directory"
	data, err := blobs.Put(ctx, store.KindChunk, []byte("bottom"))
	ok(t, err)
	e := snapshot.Entry{Name: "file", Type: snapshot.TypeFile, Mode: 0o644, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), Size: 6,
		Mtime: snapshot.Time{Sec: 1e9}, Content: snapshot.Content{Items: []snapshot.Item{{ID: data, Length: 6}}}}
	for range depth {
		w := snapshot.NewDirWriter(blobs, [32]byte{}, 0)
		ok(t, w.Add(ctx, &e))
		dir, totals, err := w.Finish(ctx)
		ok(t, err)
		e = snapshot.Entry{Name: name, Type: snapshot.TypeDir, Mode: 0o755, UID: e.UID, GID: e.GID, Mtime: e.Mtime, Dir: dir, Totals: totals}
	}
	root := e
	root.Name = ""
	id, err := snapshot.WriteManifest(ctx, blobs, &snapshot.Manifest{Dataset: "d", Name: "n", Paths: []string{"/deep"}, Single: true,
		Root: root, Totals: root.Totals})
	ok(t, err)
	tree := open(t, blobs, id)
	for _, slow := range []bool{false, true} {
		dst := t.TempDir()
		t.Cleanup(func() { _ = exec.Command("rm", "-rf", dst).Run() })
		res := mustRun(t, blobs, tree, Options{To: dst, openDirs: 8, oneByOne: slow})
		if res.Written != depth {
			t.Errorf("%+v", res)
		}
		res = mustRun(t, blobs, tree, Options{To: dst, openDirs: 8, oneByOne: slow, Verify: true})
		if res.Equal != depth {
			t.Errorf("%+v", res)
		}
		top := newBlobs()
		empty := t.TempDir()
		res = mustRun(t, top, open(t, top, take(t, top, empty, nil)), Options{To: dst, Delete: true, Force: true, openDirs: 8, oneByOne: slow})
		if res.Deleted != depth || paths(t, dst) != "" {
			t.Errorf("%+v", res)
		}
	}
}

// TestFull restores to a file system that is too small.
func TestFull(t *testing.T) {
	needRoot(t)
	dst := t.TempDir()
	if err := unix.Mount("none", dst, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("cannot mount tmpfs: ", err)
	}
	defer unix.Unmount(dst, unix.MNT_DETACH)
	src := t.TempDir()
	for i := range 40 {
		write(t, fmt.Sprintf("%s/%d", src, i), noise(int64(i), 100_000), 0o644)
	}
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	res, err := runThrough(t, context.Background(), blobs, tree, Options{To: dst})
	var at *snapshot.PathError
	if !errors.Is(err, ErrFull) || !errors.As(err, &at) || !strings.HasPrefix(at.Path, dst) {
		t.Error(err)
	}
	if res.Written == 0 && os.Getenv(passingVariable) == "" || res.Errors == 0 { // out of a pipe many files are begun before any is finished
		t.Errorf("%+v", res)
	}
	noLeftovers(t, dst)
	ok(t, unix.Mount("", dst, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	if _, err := runThrough(t, context.Background(), blobs, tree, Options{To: dst}); !errors.Is(err, ErrReadOnly) {
		t.Error(err)
	}
}

// asNobody runs TestNobody in a process of its own, in a directory that arg names there.
func asNobody(t *testing.T, arg string) {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	for d := dir; d != "/tmp" && d != "/"; d = d[:strings.LastIndex(d, "/")] {
		_ = os.Chmod(d, 0o755)
	}
	ok(t, os.Mkdir(dir+"/dst", 0o777))
	ok(t, os.Chmod(dir+"/dst", 0o777))
	ok(t, os.MkdirAll(dir+"/dst/passed/mine", 0o711))
	ok(t, os.Chmod(dir+"/dst/passed/mine", 0o777))
	exe, err := os.ReadFile("/proc/self/exe")
	ok(t, err)
	ok(t, os.WriteFile(dir+"/test", exe, 0o755))
	cmd := exec.Command(dir+"/test", "-test.run=^TestNobody$", "-test.v")
	cmd.Dir = dir + "/dst"
	cmd.Env = []string{arg + "=" + dir + "/dst", "TMPDIR=" + dir + "/dst"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestNobody restores without being root, in a process of its own.
func TestNobody(t *testing.T) {
	const arg = "SNAPFS_TEST_NOBODY"
	if os.Getenv(arg) == "" {
		asNobody(t, arg)
		return
	}
	src, dst := os.Getenv(arg)+"/src", os.Getenv(arg)+"/dst"
	write(t, src+"/mine", []byte("mine"), 0o644)
	write(t, src+"/roots", []byte("roots"), 0o755)
	write(t, src+"/closed", []byte("closed"), 0)
	write(t, src+"/locked/in", []byte("in"), 0o644)
	ok(t, os.Chmod(src+"/locked", 0o500))
	labels := unix.Setxattr(os.Getenv(arg)+"/src", "user.label", nil, 0) == nil
	ok(t, unix.Mkfifo(src+"/device", 0o600))
	blobs := newBlobs()
	m := &maker{t: t, sink: blobs, tweak: func(path string, e *snapshot.Entry) {
		switch e.Name {
		case "roots":
			e.UID, e.GID, e.Mode = 0, 0, 0o6755
			e.Xattrs = []snapshot.Xattr{{Name: "security.capability", Value: []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}}
			e.Flags |= flagImmutable
		case "device":
			e.Type, e.Rdev = snapshot.TypeChar, unix.Mkdev(1, 3)
		case "closed":
			ok(t, os.Chmod(path, 0o400)) // for reading it into the snapshot
		}
		if labels && (e.Name == "closed" || e.Name == "locked") {
			e.Xattrs = []snapshot.Xattr{{Name: "user.label", Value: []byte(e.Name)}}
		}
	}}
	tree := open(t, blobs, m.take(src, nil))
	for again := range 3 {
		var failed []string
		res, err := runThrough(t, context.Background(), blobs, tree, Options{To: dst, OnError: func(e *snapshot.PathError) { failed = append(failed, e.Path) }})
		ok(t, err)
		if len(failed) != 1 || failed[0] != dst+"/device" {
			t.Error(failed)
		}
		if res.SkippedMetadata == 0 {
			t.Errorf("%+v", res)
		}
		if again == 1 && (res.Written != 0 || res.BytesWritten != 0) {
			t.Errorf("again: %+v", res)
		}
		var st unix.Stat_t
		ok(t, unix.Stat(dst+"/roots", &st))
		if st.Mode&0o7777 != 0o755 {
			t.Errorf("a file of root's, now of another, has mode %o", st.Mode&0o7777)
		}
		if labels {
			checkLabels(t, dst, again == 1)
		}
		if again == 1 { // a file is missing in a directory that is closed to writing
			ok(t, os.Chmod(dst+"/locked", 0o700))
			ok(t, os.Remove(dst+"/locked/in"))
			ok(t, os.Chmod(dst+"/locked", 0o500))
		}
		ok(t, unix.Stat(dst+"/locked", &st))
		if _, err := os.Stat(dst + "/locked/in"); st.Mode&0o777 != 0o500 || err != nil && again != 1 {
			t.Errorf("locked: %o %v", st.Mode&0o777, err)
		}
	}
	ok(t, os.Chmod(src+"/locked", 0o700))
	ok(t, os.Chmod(dst+"/locked", 0o700))
	inPlaceAsNobody(t, os.Getenv(arg)+"/passed/mine/data")
}

// checkLabels looks at attributes of what is closed to writing, and spoils one of them.
func checkLabels(t *testing.T, dst string, spoil bool) {
	t.Helper()
	ok(t, os.Chmod(dst+"/closed", 0o600))
	for _, name := range []string{"closed", "locked"} {
		if got := fmt.Sprintf("%s", xattrsOf(dst+"/"+name)); got != fmt.Sprintf("[{user.label %s}]", name) {
			t.Errorf("%s has the attributes %s", name, got)
		}
	}
	if spoil {
		ok(t, unix.Setxattr(dst+"/closed", "user.label", []byte("spoilt"), 0))
		ok(t, unix.Setxattr(dst+"/closed", "user.more", []byte("more"), 0))
	}
	ok(t, os.Chmod(dst+"/closed", 0))
}

// inPlaceAsNobody restores below a directory that lets everybody pass and nobody read.
func inPlaceAsNobody(t *testing.T, src string) {
	t.Helper()
	write(t, src+"/f", []byte("f"), 0o644)
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	ok(t, os.RemoveAll(src))
	mustRun(t, blobs, tree, Options{InPlace: true, Host: "here"})
	if data, _ := os.ReadFile(src + "/f"); string(data) != "f" {
		t.Errorf("%q", data)
	}
}

// TestUpperTimes: a directory above what is restored in place, made because it was missing, is as it was.
func TestUpperTimes(t *testing.T) {
	base := t.TempDir()
	src := base + "/src"
	write(t, src+"/a/b/c/file", []byte("f"), 0o644)
	for _, p := range []string{"/a/b/c", "/a/b", "/a"} {
		ok(t, os.Chtimes(src+p, mtimeOf(t, "/"), mtimeOf(t, "/")))
	}
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	want := describe(t, src+"/a")
	ok(t, os.RemoveAll(src+"/a"))
	mustRun(t, blobs, tree, Options{InPlace: true, Host: "here", Path: "a/b/c"})
	for i, got := range describe(t, src+"/a") {
		if got != want[i] {
			t.Errorf("%s\nwas %s", got, want[i])
		}
	}
}

// TestInPlaceTop: the original directory itself is what it was if the policy or the patterns say so.
func TestInPlaceTop(t *testing.T) {
	src := t.TempDir()
	write(t, src+"/dir/file", []byte("x"), 0o644)
	ok(t, os.Chmod(src, 0o755))
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	ok(t, os.Chmod(src, 0o700))
	for _, o := range []Options{{Overwrite: OverwriteNever}, {Overwrite: OverwriteNewer}, {Include: []string{"/dir/file"}}} {
		ok(t, os.Chmod(src, 0o700))
		now := mtimeOf(t, src).Add(1e9)
		ok(t, os.Chtimes(src, now, now))
		o.InPlace, o.Host = true, "here"
		mustRun(t, blobs, tree, o)
		if st, _ := os.Stat(src); st.Mode().Perm() != 0o700 || !st.ModTime().Equal(now) {
			t.Errorf("%+v: %v %v", o, st.Mode(), st.ModTime())
		}
	}
}

// TestInPlaceFile: the directory of a file that is restored in place, made because it was missing, is as it was.
func TestInPlaceFile(t *testing.T) {
	src := t.TempDir()
	write(t, src+"/a/secret/file", []byte("f"), 0o644)
	ok(t, os.Chmod(src+"/a/secret", 0o700))
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	want := describe(t, src+"/a")
	ok(t, os.RemoveAll(src+"/a"))
	mustRun(t, blobs, tree, Options{InPlace: true, Host: "here", Path: "a/secret/file"})
	for i, got := range describe(t, src+"/a") {
		if got != want[i] {
			t.Errorf("%s\nwas %s", got, want[i])
		}
	}
}
