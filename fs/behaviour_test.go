package fs

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/posixtest"
	"golang.org/x/sys/unix"
)

func TestPosix(t *testing.T) {
	src := t.TempDir()
	makeTree(t, src)
	manyFiles(t, filepath.Join(src, "many"), 700)
	s := serve(t, job{Snapshots: []jobSnapshot{{Dataset: "d", Name: "n", Source: src}}})
	for _, dir := range []string{"", "d", "d/n", "d/n/many"} {
		t.Run("consistent/"+dir, func(t *testing.T) { posixtest.ReadDirConsistency(t, s.path(dir)) })
		t.Run("seek/"+dir, func(t *testing.T) { seekDir(t, s.path(dir)) })
	}
}

func manyFiles(t *testing.T, dir string, n int) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := os.WriteFile(filepath.Join(dir, strings.Repeat("x", 1+i%200)+string(rune('a'+i/200))), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// seekDir goes back to every offset a directory gave and reads on from there.
func seekDir(t *testing.T, dir string) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	type entry struct {
		name string
		off  int64
	}
	buf := make([]byte, 4096)
	read := func() (entries []entry) {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil {
			t.Fatal(err)
		}
		for b := buf[:n]; len(b) > 0; {
			reclen := int(b[16]) | int(b[17])<<8
			var off int64
			for i := 7; i >= 0; i-- {
				off = off<<8 | int64(b[8+i])
			}
			name, _, _ := strings.Cut(string(b[19:reclen]), "\x00")
			entries = append(entries, entry{name, off})
			b = b[reclen:]
		}
		return entries
	}
	var all []entry
	for got := read(); len(got) > 0; got = read() {
		all = append(all, got...)
	}
	for i := len(all) - 1; i > 0; i -= 1 + len(all)/50 {
		if _, err := unix.Seek(fd, all[i-1].off, 0); err != nil {
			t.Fatal(err)
		}
		if got := read(); len(got) == 0 || got[0] != all[i] {
			t.Fatalf("after %+v comes %+v, want %+v", all[i-1], got[:min(len(got), 1)], all[i])
		}
	}
}

func TestDotDot(t *testing.T) {
	src := t.TempDir()
	makeTree(t, src)
	s := serve(t, job{Snapshots: []jobSnapshot{{Dataset: "d", Name: "n", Source: src}}})
	for path, want := range map[string]string{"d": "", "d/n": "d", "d/n/sub": "d/n", "d/n/sub/deep/er": "d/n/sub/deep"} {
		var st unix.Stat_t
		if err := unix.Stat(s.path(want), &st); err != nil {
			t.Fatal(err)
		}
		if got := inodeOf(t, s.path(path), ".."); got != st.Ino {
			t.Errorf("%s/.. is %#x, want %#x", path, got, st.Ino)
		}
	}
}

// inodeOf is the inode number in a directory listing.
func inodeOf(t *testing.T, dir, name string) uint64 {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	buf := make([]byte, 8192)
	n, err := unix.ReadDirent(fd, buf)
	if err != nil {
		t.Fatal(err)
	}
	for b := buf[:n]; len(b) > 0; b = b[int(b[16])|int(b[17])<<8:] {
		if got, _, _ := strings.Cut(string(b[19:]), "\x00"); got == name {
			var ino uint64
			for i := 7; i >= 0; i-- {
				ino = ino<<8 | uint64(b[i])
			}
			return ino
		}
	}
	t.Fatalf("%s has no %s", dir, name)
	return 0
}

func TestStatfs(t *testing.T) {
	src := t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "file"), pattern(1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	s := serve(t, job{Snapshots: []jobSnapshot{
		{Dataset: "a", Name: "n", Source: src}, {Dataset: "b", Name: "n", Source: src}, {Dataset: "c", Name: "n", Source: src},
	}, Options: Options{Datasets: []string{"a", "b"}}})
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		t.Fatal(err)
	}
	if got := int64(st.Blocks) * st.Bsize; got != 2<<20 || st.Files != 2 || st.Bavail != 0 || st.Namelen != 255 {
		t.Errorf("%d bytes, %d files, %d free, names of %d", got, st.Files, st.Bavail, st.Namelen)
	}
	if st.Flags&unix.ST_RDONLY == 0 || st.Flags&unix.ST_NOSUID == 0 || st.Flags&unix.ST_NODEV == 0 {
		t.Errorf("flags %#x", st.Flags)
	}
	if got := names(t, s.dir); len(got) != 2 {
		t.Errorf("datasets shown: %v", got)
	}
}

func TestLongNames(t *testing.T) {
	src := t.TempDir()
	longest := strings.Repeat("x", nameMax)
	manyFiles(t, filepath.Join(src, longest), 1)
	s := serve(t, job{Snapshots: []jobSnapshot{{Dataset: "data", Name: "n", Source: src}}})
	for _, dir := range []string{s.path(), s.path("data"), s.path("data", "latest")} {
		if _, err := os.Lstat(filepath.Join(dir, longest+"x")); !errors.Is(err, unix.ENAMETOOLONG) {
			t.Errorf("a name of %d bytes in %s: %v", nameMax+1, dir, err)
		}
		if _, err := os.Lstat(filepath.Join(dir, longest[1:])); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a name of %d bytes in %s: %v", nameMax-1, dir, err)
		}
	}
	if _, err := os.Lstat(s.path("data", "latest", longest)); err != nil {
		t.Error(err)
	}
}

func TestMountTable(t *testing.T) {
	store := t.TempDir()
	s := serve(t, job{Store: store})
	info, err := mountAt(s.dir)
	if err != nil || info.source != store || info.user != os.Geteuid() {
		t.Errorf("%+v, %v", info, err)
	}
	all, err := Mounts()
	found := false
	for _, m := range all {
		found = found || m == s.dir
	}
	if err != nil || !found {
		t.Errorf("%v, %v", all, err)
	}
	if os.Geteuid() == 0 {
		kb, err := os.ReadFile(filepath.Join("/sys/class/bdi", info.device, "read_ahead_kb"))
		if err != nil || strings.TrimSpace(string(kb)) != readAhead {
			t.Errorf("readahead %q, %v", kb, err)
		}
	}
}

// TestOverlay writes above a snapshot.
func TestOverlay(t *testing.T) {
	needRoot(t)
	src := t.TempDir()
	makeTree(t, src)
	s := serve(t, job{Snapshots: []jobSnapshot{{Dataset: "d", Name: "n", Source: src}}})
	base := t.TempDir()
	if err := unix.Mount("tmpfs", base, "tmpfs", 0, "size=16m"); err != nil {
		t.Skip("no tmpfs: ", err)
	}
	defer unix.Unmount(base, unix.MNT_DETACH)
	for _, d := range []string{"upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(base, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	merged := filepath.Join(base, "merged")
	options := "lowerdir=" + s.path("d/n") + ",upperdir=" + base + "/upper,workdir=" + base + "/work,redirect_dir=on,xino=on"
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		t.Skip("no overlayfs: ", err)
	}
	defer unix.Unmount(merged, unix.MNT_DETACH)
	if err := os.WriteFile(filepath.Join(merged, "small"), []byte("changed"), 0o644); err != nil {
		t.Error(err)
	}
	if err := os.Rename(filepath.Join(merged, "sub"), filepath.Join(merged, "moved")); err != nil {
		t.Error(err)
	}
	if out := run(t, "cmp", filepath.Join(merged, "moved/deep/er/big"), filepath.Join(src, "sub/deep/er/big")); out != "" {
		t.Error(out)
	}
	if got, err := os.ReadFile(s.path("d/n/small")); err != nil || string(got) != "hello\n" {
		t.Errorf("the snapshot: %q, %v", got, err)
	}
}

func TestInodeFlags(t *testing.T) {
	needRoot(t)
	needTool(t, "lsattr")
	needTool(t, "chattr")
	src := t.TempDir()
	file := filepath.Join(src, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("chattr", "+d", file).CombinedOutput(); err != nil {
		t.Skipf("no inode flags here: %s", out)
	}
	s := serve(t, job{Snapshots: []jobSnapshot{{Dataset: "d", Name: "n", Source: src}}})
	got, _, _ := strings.Cut(run(t, "lsattr", s.path("d/n/file")), " ")
	if !strings.Contains(got, "d") {
		t.Errorf("flags %q", got)
	}
}

// TestCloseLeavesNothing mounts in this process, and does not look at the mount.
func TestCloseLeavesNothing(t *testing.T) {
	needFUSE(t)
	needRoot(t)
	mem := newMemStore(t.TempDir())
	src := t.TempDir()
	makeTree(t, src)
	mustImport(t, mem, "d", "n", src, testStart)
	dir := t.TempDir()
	before, files := runtime.NumGoroutine(), openFiles(t)
	for range 3 {
		m, err := mount(context.Background(), mem, dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		run(t, "cat", filepath.Join(dir, "d/latest/sub/deep/er/big"))
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if err := m.Close(); err != nil {
			t.Errorf("closed twice: %v", err)
		}
		if err := m.Wait(); err != nil {
			t.Error(err)
		}
	}
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > before && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before {
		buf := make([]byte, 1<<16)
		t.Errorf("%d goroutines, before %d\n%s", n, before, buf[:runtime.Stack(buf, true)])
	}
	if n := openFiles(t); n > files {
		t.Errorf("%d open files, before %d", n, files)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(all)
}

func TestCloseWhenBusy(t *testing.T) {
	needRoot(t)
	src := t.TempDir()
	makeTree(t, src)
	s := serve(t, job{Snapshots: []jobSnapshot{{Dataset: "d", Name: "n", Source: src}}})
	f, err := os.Open(s.path("d/n/small"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if _, err = mountAt(s.dir); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrNotMounted) {
		t.Errorf("not detached: %v", err)
	}
	buf := make([]byte, 6)
	if _, err := f.Read(buf); err != nil || string(buf) != "hello\n" {
		t.Errorf("%q, %v", buf, err)
	}
	f.Close()
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("server: %v", err)
	}
}
