package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// makeTree fills a directory with one of everything.
func makeTree(t testing.TB, root string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(root, "sub/deep/er"), 0o755))
	must(os.WriteFile(filepath.Join(root, "small"), []byte("hello\n"), 0o644))
	must(os.WriteFile(filepath.Join(root, "empty"), nil, 0o600))
	must(os.WriteFile(filepath.Join(root, "sub/deep/er/big"), pattern(3<<20+17), 0o640))
	must(os.WriteFile(filepath.Join(root, "secret"), []byte("x"), 0o000))
	must(os.WriteFile(filepath.Join(root, "name\nwith \xff bytes"), []byte("y"), 0o644))
	must(os.WriteFile(filepath.Join(root, strings.Repeat("n", 255)), []byte("z"), 0o644))
	must(os.Symlink(strings.Repeat("t", 4095), filepath.Join(root, "longlink")))
	must(os.Symlink("small", filepath.Join(root, "link")))
	must(os.WriteFile(filepath.Join(root, "sub/one"), []byte("linked"), 0o644))
	must(os.Link(filepath.Join(root, "sub/one"), filepath.Join(root, "two")))
	must(os.Link(filepath.Join(root, "sub/one"), filepath.Join(root, "sub/deep/three")))
	must(unix.Mkfifo(filepath.Join(root, "fifo"), 0o600))
	must(os.Chmod(filepath.Join(root, "sub"), 0o777|os.ModeSticky))
	must(os.WriteFile(filepath.Join(root, "suid"), []byte("#!"), 0o755))
	must(os.Chmod(filepath.Join(root, "suid"), 0o755|os.ModeSetuid|os.ModeSetgid))
	sparse(t, filepath.Join(root, "sparse"))
	if os.Geteuid() == 0 {
		must(unix.Mknod(filepath.Join(root, "char"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		must(unix.Mknod(filepath.Join(root, "block"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 1<<17+3))))
		must(os.Lchown(filepath.Join(root, "empty"), 12345, 54321))
	}
	old := time.Unix(-1234567890, 987654321)
	must(os.Chtimes(filepath.Join(root, "small"), old, old))
	must(os.Chtimes(filepath.Join(root, "sub/deep"), time.Unix(1<<33, 5), time.Unix(1<<33, 5)))
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 ^ i>>9)
	}
	return b
}

// sparse makes data at 1 MiB and 5 MiB of 8 MiB.
func sparse(t testing.TB, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, off := range []int64{1 << 20, 5 << 20} {
		if _, err := f.WriteAt(pattern(64<<10), off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(8 << 20); err != nil {
		t.Fatal(err)
	}
}

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

func TestFaithful(t *testing.T) {
	needRoot(t)
	src := t.TempDir()
	makeTree(t, src)
	setXattrs(t, src)
	s := serve(t, job{Snapshots: []jobSnapshot{{Dataset: "d", Name: "n", Source: src}}})
	mnt := s.path("d/n")
	t.Run("rsync", func(t *testing.T) {
		needTool(t, "rsync")
		if out := run(t, "rsync", "-aHAXnc", "--delete", "--itemize-changes", src+"/", mnt+"/"); out != "" {
			t.Errorf("differs:\n%s", out)
		}
	})
	t.Run("diff", func(t *testing.T) {
		run(t, "diff", "-r", "--no-dereference", "-x", "fifo", "-x", "char", "-x", "block", src, mnt)
	})
	t.Run("tar", func(t *testing.T) {
		needTool(t, "tar")
		tarball := filepath.Join(t.TempDir(), "x.tar")
		run(t, "tar", "--xattrs", "--acls", "-C", mnt, "-cf", tarball, ".")
		run(t, "tar", "--xattrs", "--acls", "-C", src, "--compare", "-f", tarball)
	})
	t.Run("getfattr", func(t *testing.T) {
		needTool(t, "getfattr")
		dump := func(dir string) string {
			cmd := exec.Command("getfattr", "-d", "-R", "-h", "-m", "-", ".")
			cmd.Dir = dir
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			return sortedBlocks(string(out))
		}
		if got, want := dump(mnt), dump(src); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
	t.Run("stat", func(t *testing.T) { compareStat(t, src, mnt) })
}

func sortedBlocks(s string) string {
	blocks := strings.Split(s, "\n\n")
	slices.Sort(blocks)
	return strings.Join(blocks, "\n\n")
}

func setXattrs(t testing.TB, root string) {
	t.Helper()
	if err := unix.Setxattr(filepath.Join(root, "small"), "user.color", []byte("blue\x00green"), 0); err != nil {
		t.Skip("no extended attributes here: ", err)
	}
	if err := unix.Setxattr(filepath.Join(root, "sub"), "user.large", pattern(3000), 0); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		_ = unix.Setxattr(filepath.Join(root, "suid"), "trusted.t", []byte("1"), 0)
	}
	if _, err := exec.LookPath("setfacl"); err == nil {
		run(t, "setfacl", "-m", "u:12345:r,g:54321:rw", filepath.Join(root, "two"))
		run(t, "setfacl", "-d", "-m", "u:12345:rwx", filepath.Join(root, "sub"))
	}
}

// compareStat compares what rsync does not look at.
func compareStat(t *testing.T, src, mnt string) {
	err := filepath.Walk(src, func(path string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(src, path)
		want, got := statx(t, path), statx(t, filepath.Join(mnt, rel))
		if got.Mode != want.Mode || got.Uid != want.Uid || got.Gid != want.Gid || got.Mtime != want.Mtime ||
			got.Ctime != want.Ctime || got.Rdev_major != want.Rdev_major || got.Rdev_minor != want.Rdev_minor {
			t.Errorf("%q: got %+v, want %+v", rel, got, want)
		}
		if got.Mask&unix.STATX_BTIME != 0 && got.Btime != want.Btime {
			t.Errorf("%q: born %v, want %v", rel, got.Btime, want.Btime)
		}
		if want.Mode&unix.S_IFMT != unix.S_IFDIR && (got.Size != want.Size || got.Nlink != want.Nlink) {
			t.Errorf("%q: size %d nlink %d, want %d and %d", rel, got.Size, got.Nlink, want.Size, want.Nlink)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func statx(t *testing.T, path string) unix.Statx_t {
	t.Helper()
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st); err != nil {
		t.Fatal(err)
	}
	return st
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

func TestHoles(t *testing.T) {
	src := t.TempDir()
	sparse(t, filepath.Join(src, "sparse"))
	s := serve(t, job{Snapshots: []jobSnapshot{{Dataset: "d", Name: "n", Source: src}}})
	f, err := os.Open(s.path("d/n/sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, c := range []struct {
		off    int64
		whence int
		want   int64
		err    error
	}{
		{0, unix.SEEK_DATA, 1 << 20, nil},
		{0, unix.SEEK_HOLE, 0, nil},
		{1 << 20, unix.SEEK_HOLE, 1<<20 + 64<<10, nil},
		{2 << 20, unix.SEEK_DATA, 5 << 20, nil},
		{6 << 20, unix.SEEK_DATA, 0, unix.ENXIO},
		{8 << 20, unix.SEEK_HOLE, 0, unix.ENXIO},
	} {
		got, err := unix.Seek(int(f.Fd()), c.off, c.whence)
		if !errors.Is(err, c.err) || err == nil && got != c.want {
			t.Errorf("seek(%d, %d) = %d, %v, want %d, %v", c.off, c.whence, got, err, c.want, c.err)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Blocks != 2*64<<10/512 {
		t.Errorf("%d blocks, want %d (%v)", st.Blocks, 2*64<<10/512, err)
	}
	got, err := os.ReadFile(s.path("d/n/sparse"))
	want, _ := os.ReadFile(filepath.Join(src, "sparse"))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("content differs (%v)", err)
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

func TestXattrModes(t *testing.T) {
	plain, rich := t.TempDir(), t.TempDir()
	makeTree(t, plain)
	makeTree(t, rich)
	setXattrs(t, rich)
	for _, c := range []struct {
		mode, source string
		want         error
	}{
		{XattrsAuto, plain, unix.ENOTSUP}, {"", rich, nil}, {XattrsOff, rich, unix.ENOTSUP}, {XattrsOn, plain, nil},
	} {
		t.Run(c.mode+filepath.Base(c.source), func(t *testing.T) {
			s := serve(t, job{Snapshots: []jobSnapshot{{Dataset: "d", Name: "n", Source: c.source}}, Options: Options{Xattrs: c.mode}})
			buf := make([]byte, 256)
			n, err := unix.Getxattr(s.path("d/n/small"), xattrSnapshot, buf)
			if !errors.Is(err, c.want) || err == nil && string(buf[:n]) != "d@n" {
				t.Errorf("%s is %q, %v; want error %v", xattrSnapshot, buf[:max(n, 0)], err, c.want)
			}
			if c.want != nil {
				return
			}
			if n, err = unix.Getxattr(s.path("d/n/sub/one"), xattrID, buf); err != nil || n != 64 {
				t.Errorf("%s has %d bytes, %v", xattrID, n, err)
			}
			if n, err := unix.Listxattr(s.path("d/n/empty"), buf); err != nil || n != 0 {
				t.Errorf("list of a file without attributes: %q, %v", buf[:n], err)
			}
		})
	}
}

// TestXattrsUnsupported looks for what ls asks first: what nothing has is refused in a way that it remembers.
func TestXattrsUnsupported(t *testing.T) {
	src := t.TempDir()
	makeTree(t, src)
	if err := unix.Setxattr(filepath.Join(src, "small"), "user.some", []byte("x"), 0); err != nil {
		t.Skip("no extended attributes here: ", err)
	}
	s := serve(t, job{Snapshots: []jobSnapshot{{Dataset: "d", Name: "n", Source: src}}})
	for name, want := range map[string]error{
		aclAccess: unix.EOPNOTSUPP, aclDefault: unix.EOPNOTSUPP, "security.selinux": unix.EOPNOTSUPP, "security.capability": unix.ENODATA,
		"user.other": unix.ENODATA, "user.some": nil,
	} {
		if _, err := unix.Getxattr(s.path("d/n/small"), name, make([]byte, 256)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
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

func TestUnmount(t *testing.T) {
	src := t.TempDir()
	makeTree(t, src)
	ctx := context.Background()
	j := job{Snapshots: []jobSnapshot{{Dataset: "d", Name: "n", Source: src}}}
	t.Run("ends the process", func(t *testing.T) {
		s := serve(t, j)
		if err := Unmount(ctx, s.dir, false); err != nil {
			t.Fatal(err)
		}
		var status syscall.WaitStatus
		if pid, err := syscall.Wait4(s.cmd.Process.Pid, &status, syscall.WNOHANG, nil); pid == 0 || err != nil {
			t.Errorf("server still runs (%v)", err)
		}
		if err := Unmount(ctx, s.dir, false); !errors.Is(err, ErrNotMounted) {
			t.Errorf("again: %v", err)
		}
	})
	t.Run("busy, then lazy", func(t *testing.T) {
		s := serve(t, j)
		f, err := os.Open(s.path("d/n/sub/deep/er/big"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := Unmount(ctx, s.dir, false); !errors.Is(err, ErrBusy) {
			t.Errorf("busy: %v", err)
		}
		if err := Unmount(ctx, s.dir, true); err != nil {
			t.Errorf("lazy: %v", err)
		}
		if _, err := os.Stat(s.path("d")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("still there: %v", err)
		}
		if _, err := f.ReadAt(make([]byte, 100), 2<<20); err != nil {
			t.Errorf("open file: %v", err)
		}
		f.Close()
		if err := s.cmd.Wait(); err != nil {
			t.Errorf("server: %v", err)
		}
	})
	t.Run("by signal", func(t *testing.T) {
		s := serve(t, j)
		if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := s.cmd.Wait(); err != nil {
			t.Errorf("server: %v", err)
		}
		if _, err := mountAt(s.dir); !errors.Is(err, ErrNotMounted) {
			t.Errorf("still mounted: %v", err)
		}
	})
	t.Run("killed server", func(t *testing.T) {
		s := serve(t, j)
		s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		if _, err := tryServe(t, job{Dir: s.dir}); err == nil || !strings.Contains(err.Error(), ErrStale.Error()) {
			t.Errorf("mounting over a dead mount: %v", err)
		}
		if err := Unmount(ctx, s.dir, false); err != nil {
			t.Errorf("umount of a dead mount: %v", err)
		}
	})
	t.Run("not mounted", func(t *testing.T) {
		if err := Unmount(ctx, t.TempDir(), false); !errors.Is(err, ErrNotMounted) {
			t.Error(err)
		}
		if err := Unmount(ctx, t.TempDir()+"/none", false); !errors.Is(err, ErrMissing) && !errors.Is(err, ErrNotMounted) {
			t.Error(err)
		}
	})
}

func TestBadMountpoints(t *testing.T) {
	base := t.TempDir()
	storeDir := filepath.Join(base, "up/store")
	for _, d := range []string{"up/store/volumes", "full", "ok", "else"} {
		if err := os.MkdirAll(filepath.Join(base, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(base, "full/file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(base, "up/store/volumes"), filepath.Join(base, "alias")); err != nil {
		t.Fatal(err)
	}
	mem := newMemStore(storeDir)
	for dir, want := range map[string]error{
		"none": ErrMissing, "none/deeper": ErrMissing, "full": ErrNotEmpty, "full/file": ErrNotDirectory,
		"full/file/below": ErrNotDirectory,
	} {
		_, err := mount(context.Background(), mem, filepath.Join(base, dir), Options{})
		var named *MountError
		if !errors.Is(err, want) || !errors.As(err, &named) || named.Path != filepath.Join(base, dir) {
			t.Errorf("%s: %v, want %v", dir, err, want)
		}
	}
	for dir, want := range map[string]error{
		"up/store": ErrOverStore, "up/store/volumes": ErrInsideStore, "up": ErrAboveStore, "alias": ErrInsideStore,
	} {
		_, err := mount(context.Background(), mem, filepath.Join(base, dir), Options{NonEmpty: true})
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", dir, err, want)
		}
	}
	t.Run("mounted already", func(t *testing.T) {
		s := serve(t, job{Dir: filepath.Join(base, "ok")})
		if _, err := mount(context.Background(), mem, s.dir, Options{NonEmpty: true}); !errors.Is(err, ErrMounted) {
			t.Errorf("%v", err)
		}
	})
	t.Run("non-empty", func(t *testing.T) {
		serve(t, job{Dir: filepath.Join(base, "full"), Options: Options{NonEmpty: true}})
	})
}

func TestUnknownNames(t *testing.T) {
	mem := newMemStore(t.TempDir())
	for _, o := range []Options{{Datasets: []string{"none"}}, {Xattrs: "maybe"}} {
		if _, err := mount(context.Background(), mem, t.TempDir(), o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}
