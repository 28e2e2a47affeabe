package fs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func names(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestLayout(t *testing.T) {
	src := t.TempDir()
	makeTree(t, src)
	s := serve(t, job{Snapshots: []jobSnapshot{
		{Dataset: "etc", Name: "2026-11-22_03-15-07", Source: src, Start: testStart},
		{Dataset: "etc", Name: "2026-11-20_03-15-07", Source: src, Start: testStart.AddDate(0, 0, -2)},
		{Dataset: "home", Name: "2026-11-23_00-00-00", Source: src, Start: testStart.AddDate(0, 0, 1)},
	}})
	if got, want := names(t, s.dir), []string{"etc", "home"}; !slices.Equal(got, want) {
		t.Errorf("root holds %q, want %q", got, want)
	}
	want := []string{"2026-11-20_03-15-07", "2026-11-22_03-15-07", "latest"}
	if got := names(t, s.path("etc")); !slices.Equal(got, want) {
		t.Errorf("dataset holds %q, want %q", got, want)
	}
	if got, err := os.Readlink(s.path("etc/latest")); err != nil || got != "2026-11-22_03-15-07" {
		t.Errorf("latest is %q, %v", got, err)
	}
	if got, err := os.ReadFile(s.path("home/latest/small")); err != nil || string(got) != "hello\n" {
		t.Errorf("through latest: %q, %v", got, err)
	}
	for path, inode := range map[string]uint64{
		"": rootID, "etc": datasetID(1), "home": datasetID(2), "etc/latest": latestID(1),
		"etc/2026-11-22_03-15-07": 1 << 32, "etc/2026-11-20_03-15-07": 2 << 32,
	} {
		var st unix.Stat_t
		if err := unix.Lstat(s.path(path), &st); err != nil || st.Ino != inode {
			t.Errorf("inode of %q is %#x, want %#x (%v)", path, st.Ino, inode, err)
		}
	}
	if _, err := os.Stat(s.path("etc/none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent snapshot: %v", err)
	}
	if got := s.ask("pins"); got != "3" {
		t.Errorf("%s snapshots pinned, want the 3 looked at", got)
	}
}

func TestReadOnly(t *testing.T) {
	needRoot(t) // others are stopped by modes first
	src := t.TempDir()
	makeTree(t, src)
	s := serve(t, job{Snapshots: []jobSnapshot{{Dataset: "d", Name: "n", Source: src}}})
	file, dir := s.path("d/n/small"), s.path("d/n/sub")
	for name, try := range map[string]func() error{
		"open":     func() error { _, err := os.OpenFile(file, os.O_RDWR, 0); return err },
		"truncate": func() error { return os.Truncate(file, 0) },
		"create":   func() error { _, err := os.Create(dir + "/new"); return err },
		"mkdir":    func() error { return os.Mkdir(dir+"/new", 0o755) },
		"rename":   func() error { return os.Rename(file, dir+"/new") },
		"remove":   func() error { return os.Remove(file) },
		"symlink":  func() error { return os.Symlink("x", dir+"/new") },
		"link":     func() error { return os.Link(file, dir+"/new") },
		"chmod":    func() error { return os.Chmod(file, 0o777) },
		"chown":    func() error { return os.Lchown(file, 1, 1) },
		"times":    func() error { return os.Chtimes(file, testStart, testStart) },
		"setxattr": func() error { return unix.Setxattr(file, "user.x", nil, 0) },
		"mknod":    func() error { return unix.Mknod(dir+"/new", unix.S_IFIFO, 0) },
		"root":     func() error { return os.Mkdir(s.path("new"), 0o755) },
		"dataset":  func() error { return os.Mkdir(s.path("d/new"), 0o755) },
	} {
		if err := try(); !errors.Is(err, unix.EROFS) {
			t.Errorf("%s: %v, want EROFS", name, err)
		}
	}
}

func TestDamageStaysLocal(t *testing.T) {
	src := t.TempDir()
	makeTree(t, src)
	s := serve(t, job{
		Snapshots: []jobSnapshot{{Dataset: "d", Name: "n", Source: src}},
		Damage:    []string{"/sub/deep/er/big", "/sub/one"},
	})
	for range 2 { // logged once
		for _, path := range []string{"d/n/sub/deep/er/big", "d/n/two"} {
			if _, err := os.ReadFile(s.path(path)); !errors.Is(err, unix.EIO) {
				t.Errorf("%s: %v, want EIO", path, err)
			}
		}
	}
	if got, err := os.ReadFile(s.path("d/n/small")); err != nil || string(got) != "hello\n" {
		t.Errorf("sound file: %q, %v", got, err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = s.cmd.Wait() // all is logged then
	log := s.logged()
	for _, want := range []string{"path=/sub/deep/er/big", "path=/two", "snapshot=d@n"} {
		if !strings.Contains(log, want) {
			t.Errorf("log lacks %q:\n%s", want, log)
		}
	}
	if n := strings.Count(log, "level=ERROR"); n != 2 {
		t.Errorf("%d errors logged, want 2:\n%s", n, log)
	}
}

func TestInodesSurviveRemount(t *testing.T) {
	src := t.TempDir()
	makeTree(t, src)
	j := job{Snapshots: []jobSnapshot{{Dataset: "d", Name: "n", Source: src}}}
	list := func() string {
		s := serve(t, j)
		out := run(t, "find", s.path("d"), "-printf", `%P %i %n\n`)
		if err := Unmount(context.Background(), s.dir, false); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if a, b := list(), list(); a != b {
		t.Errorf("first\n%s\nthen\n%s", a, b)
	}
}

func TestManyEntries(t *testing.T) {
	src := t.TempDir()
	const count = 5000
	for i := range count {
		if err := os.WriteFile(filepath.Join(src, fmt.Sprintf("file-%05d", i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := serve(t, job{Snapshots: []jobSnapshot{{Dataset: "d", Name: "n", Source: src}}})
	got := names(t, s.path("d/n"))
	if len(got) != count || got[0] != "file-00000" || got[count-1] != fmt.Sprintf("file-%05d", count-1) {
		t.Errorf("%d names, %s ... %s", len(got), got[0], got[len(got)-1])
	}
	if refs := s.ask("refs 1"); refs == "0" {
		t.Error("no references counted")
	}
	if err := unix.Unmount(s.dir, 0); err != nil {
		t.Fatal(err)
	}
}

func TestReferencesAreGivenBack(t *testing.T) {
	needRoot(t)
	src := t.TempDir()
	makeTree(t, src)
	s := serve(t, job{Snapshots: []jobSnapshot{{Dataset: "d", Name: "n", Source: src}}})
	run(t, "find", s.dir, "-ls")
	if refs := s.ask("refs 1"); refs == "0" {
		t.Fatal("no references counted")
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		// Again and again: what was used a moment ago stays the first time.
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0); err != nil {
			t.Skip(err)
		}
		if s.ask("refs 1") == "0" {
			return
		}
	}
	t.Errorf("%s references left", s.ask("refs 1"))
}

func TestRefresh(t *testing.T) {
	src := t.TempDir()
	makeTree(t, src)
	s := serve(t, job{Snapshots: []jobSnapshot{{Dataset: "d", Name: "n", Source: src}}})
	open, err := os.Open(s.path("d/n/small"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	for _, absent := range []string{"d/m", "e"} { // the kernel remembers that they are not there
		if _, err := os.Stat(s.path(absent)); err == nil {
			t.Fatal(absent, " is there already")
		}
	}
	names(t, s.path("d"))
	before, _ := os.Lstat(s.path("d/latest"))

	s.do("add d m " + src)
	s.do("add e first " + src)
	s.do("forget 1")
	s.do("refresh")
	if got := names(t, s.dir); !slices.Equal(got, []string{"d", "e"}) {
		t.Errorf("root holds %q", got)
	}
	if got := names(t, s.path("d")); !slices.Equal(got, []string{"latest", "m"}) {
		t.Errorf("dataset holds %q", got)
	}
	if got, err := os.Readlink(s.path("d/latest")); got != "m" {
		t.Errorf("latest is %q, %v", got, err)
	}
	after, err := os.Lstat(s.path("d/latest"))
	if err != nil || os.SameFile(before, after) {
		t.Errorf("a moved link is the same inode (%v)", err)
	}
	if _, err := os.Stat(s.path("d/n")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("forgotten snapshot: %v", err)
	}
	if got, err := os.ReadFile(s.path("e/first/small")); err != nil || string(got) != "hello\n" {
		t.Errorf("new dataset: %q, %v", got, err)
	}
	buf := make([]byte, 10)
	if n, err := open.Read(buf); err != nil || string(buf[:n]) != "hello\n" {
		t.Errorf("open file of a forgotten snapshot: %q, %v", buf[:n], err)
	}
}

func TestUnknownNames(t *testing.T) {
	mem := newMemStore(t.TempDir())
	for _, o := range []Options{{Datasets: []string{"none"}}, {Xattrs: "maybe"}} {
		if _, err := mount(context.Background(), mem, t.TempDir(), o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}
