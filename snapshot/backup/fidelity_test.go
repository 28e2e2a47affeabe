package backup

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

// save backs up root alone and returns its entries.
func save(t *testing.T, root string) (map[string]*snapshot.Entry, *snapshot.Tree, *Result) {
	t.Helper()
	repo := newFakeRepo(t)
	res := repo.backup(t, Options{Paths: []string{root}, OnError: func(e *snapshot.PathError) { t.Errorf("%v", e) }})
	tree := repo.tree(t, res.Snapshot.ID)
	return listTree(t, tree), tree, res
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

func TestSpecialFiles(t *testing.T) {
	root := t.TempDir()
	must(t, unix.Mkfifo(filepath.Join(root, "fifo"), 0o640))
	l, err := net.Listen("unix", filepath.Join(root, "sock"))
	must(t, err)
	defer l.Close()
	long := strings.Repeat("x", 4095)
	must(t, os.Symlink(long, filepath.Join(root, "long")))
	must(t, os.Symlink("nowhere", filepath.Join(root, "dangling")))
	got, _, res := save(t, root)
	if res.New != 4 {
		t.Errorf("new %d", res.New)
	}
	if e := got["fifo"]; e.Type != snapshot.TypeFIFO || e.Mode != 0o640&^umask() {
		t.Errorf("fifo: %+v", e)
	}
	if e := got["sock"]; e.Type != snapshot.TypeSocket {
		t.Errorf("sock: %+v", e)
	}
	if e := got["long"]; e.Type != snapshot.TypeSymlink || e.Target != long || e.Size != 4095 {
		t.Errorf("long: %+v", e)
	}
	if e := got["dangling"]; e.Target != "nowhere" {
		t.Errorf("dangling: %+v", e)
	}
}

func umask() uint32 {
	m := unix.Umask(0)
	unix.Umask(m)
	return uint32(m)
}

func TestDevices(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	must(t, unix.Mknod(filepath.Join(root, "char"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	must(t, unix.Mknod(filepath.Join(root, "block"), unix.S_IFBLK|0o600, int(unix.Mkdev(259, 70000))))
	got, _, _ := save(t, root)
	if e := got["char"]; e.Type != snapshot.TypeChar || e.Rdev != unix.Mkdev(1, 3) {
		t.Errorf("%+v", e)
	}
	if e := got["block"]; e.Type != snapshot.TypeBlock || e.Rdev != unix.Mkdev(259, 70000) {
		t.Errorf("%+v", e)
	}
}

func TestAttributes(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "f")
	must(t, os.WriteFile(path, []byte("x"), 0o600))
	must(t, unix.Chmod(path, 0o4755))
	must(t, os.Mkdir(filepath.Join(root, "d"), 0o700))
	must(t, unix.Chmod(filepath.Join(root, "d"), 0o1777))
	must(t, os.WriteFile(filepath.Join(root, "zero"), nil, 0o000))
	old, late := unix.Timespec{Sec: -1_000_000, Nsec: 123456789}, unix.Timespec{Sec: 5_000_000_000, Nsec: 1}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{old, old}, 0))
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(root, "d"), []unix.Timespec{late, late}, 0))
	if os.Geteuid() != 0 {
		must(t, os.Chmod(filepath.Join(root, "zero"), 0o400))
	}
	got, tree, _ := save(t, root)
	var st unix.Statx_t
	must(t, unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_ALL, &st))
	e := got["f"]
	if e.Mode != 0o4755 || e.Mtime != (snapshot.Time{Sec: -1_000_000, Nsec: 123456789}) || e.Ctime != timeOf(st.Ctime) || e.Btime != timeOf(st.Btime) {
		t.Errorf("f: %+v", e)
	}
	if e.UID != uint32(os.Getuid()) || e.User != userName() || e.GID != uint32(os.Getgid()) || e.Group != groupName() || e.Inode != st.Ino {
		t.Errorf("f: %+v", e)
	}
	if e := got["d/"]; e.Mode != 0o1777 || e.Mtime != (snapshot.Time{Sec: 5_000_000_000, Nsec: 1}) {
		t.Errorf("d: %+v", e)
	}
	if e := got["zero"]; e == nil || e.Size != 0 || len(e.Content.Items) != 0 {
		t.Errorf("zero: %+v", e)
	}
	m := tree.Manifest()
	if !m.Single || m.Root.Mode != 0o755&^umask() && m.Root.Mode != 0o700 && m.Root.Mode&0o700 != 0o700 {
		t.Errorf("root mode %o", m.Root.Mode)
	}
	if n := strings.Count(root, "/"); len(m.Above) != n || m.Above[0].Name != "" || m.Above[1].Name != strings.Split(root, "/")[1] {
		t.Errorf("%d directories above %s: %+v", len(m.Above), root, m.Above)
	}
	if len(m.FileSystems) == 0 || m.FileSystems[0].Type == "" || m.FileSystems[0].MountPath == "" {
		t.Errorf("file systems %+v", m.FileSystems)
	}
}

func TestHardLinks(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"a/1": "content", "b/": "", "c/other": "x"})
	for i := range 300 {
		must(t, os.Link(filepath.Join(root, "a/1"), filepath.Join(root, "b", fmt.Sprint(i))))
	}
	must(t, os.Symlink("x", filepath.Join(root, "s")))
	must(t, os.Link(filepath.Join(root, "s"), filepath.Join(root, "c/s")))
	age(t, root)
	repo := newFakeRepo(t)
	res := repo.backup(t, Options{Paths: []string{root}})
	if res.BytesRead != 8 || res.Bytes != 301*7+1 || res.New != 304 || res.Entries != 307 {
		t.Errorf("%+v", res)
	}
	tree := repo.tree(t, res.Snapshot.ID)
	compare(t, tree, root)
	got := listTree(t, tree)
	if e := got["b/299"]; e.Nlink != 301 {
		t.Errorf("%+v", e)
	}
	if e := got["c/s"]; e.Nlink != 2 || e.Target != "x" {
		t.Errorf("%+v", e)
	}
	if m := tree.Manifest(); m.Links != 2 || m.Totals.Linked != 303 {
		t.Errorf("%+v", m.Totals)
	}

	again := repo.backup(t, Options{Paths: []string{root}})
	if counts4(again) != "new 0 changed 0 unchanged 304 removed 0" || again.BytesRead != 0 {
		t.Error(counts4(again), again.BytesRead)
	}
	if a, b := tree.Manifest(), repo.tree(t, again.Snapshot.ID).Manifest(); a.LinkTree != b.LinkTree || a.Root.Dir != b.Root.Dir {
		t.Error("unchanged links are written anew")
	}

	must(t, os.WriteFile(filepath.Join(root, "b/7"), []byte("changed"), 0o644))
	age(t, root)
	third := repo.backup(t, Options{Paths: []string{root}})
	if counts4(third) != "new 0 changed 301 unchanged 3 removed 0" || third.BytesRead != 7 {
		t.Error(counts4(third), third.BytesRead)
	}
	compare(t, repo.tree(t, third.Snapshot.ID), root)

	// One name is left: no link any more.
	must(t, os.Remove(filepath.Join(root, "c/s")))
	must(t, os.RemoveAll(filepath.Join(root, "b")))
	age(t, root)
	fourth := repo.backup(t, Options{Paths: []string{root}})
	tree = repo.tree(t, fourth.Snapshot.ID)
	compare(t, tree, root)
	if m := tree.Manifest(); m.Links != 0 || m.Totals.Linked != 0 {
		t.Errorf("%+v", m)
	}
}

func TestSparse(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "sparse")
	f, err := os.Create(path)
	must(t, err)
	const size = 3 << 40
	data := bytes.Repeat([]byte("data"), 16<<10)
	_, err = f.WriteAt(data, 1<<30)
	must(t, err)
	_, err = f.WriteAt(data, 2<<40)
	must(t, err)
	must(t, f.Truncate(size))
	must(t, f.Close())
	must(t, os.WriteFile(filepath.Join(root, "empty-hole"), nil, 0o600))
	must(t, os.Truncate(filepath.Join(root, "empty-hole"), 1000))
	age(t, root)
	got, tree, res := save(t, root)
	if !keepsHoles(t, path) {
		t.Skip("the file system keeps no holes")
	}
	if res.BytesRead != int64(2*len(data)) {
		t.Errorf("%d bytes read of %d that are no holes", res.BytesRead, 2*len(data))
	}
	e := got["sparse"]
	if e.Size != size {
		t.Errorf("size %d", e.Size)
	}
	buf := make([]byte, len(data))
	if _, err := tree.ReadAt(t.Context(), e, buf, 2<<40); err != nil || !bytes.Equal(buf, data) {
		t.Errorf("data differs: %v", err)
	}
	if at, err := tree.NextData(t.Context(), e, 0); at != 1<<30 || err != nil {
		t.Errorf("data at %d: %v", at, err)
	}
	if at, err := tree.NextHole(t.Context(), e, 2<<40); at != 2<<40+int64(len(data)) || err != nil {
		t.Errorf("hole at %d: %v", at, err)
	}
	if e := got["empty-hole"]; len(e.Content.Items) != 1 || !e.Content.Items[0].ID.IsZero() || e.Size != 1000 {
		t.Errorf("%+v", e)
	}
}

// groupName is the name of the group that files made here get.
func groupName() string {
	g, err := user.LookupGroupId(fmt.Sprint(os.Getgid()))
	if err != nil {
		return ""
	}
	return g.Name
}

// keepsHoles reports whether a file that begins with a hole has one.
func keepsHoles(t *testing.T, path string) bool {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	at, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_HOLE)
	must(t, err)
	return at == 0
}

func TestXattrs(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"f": "x", "d/": "", "big": "y"})
	path := filepath.Join(root, "f")
	if err := unix.Setxattr(path, "user.one", []byte("1"), 0); err != nil {
		t.Skipf("no extended attributes here: %v", err)
	}
	must(t, unix.Setxattr(path, "user.empty", nil, 0))
	large := bytes.Repeat([]byte("v"), 2000)
	must(t, unix.Setxattr(filepath.Join(root, "big"), "user.big", large, 0))
	acl := []byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 4, 0, 1, 0, 0, 0, 4, 0, 5, 0, 255, 255, 255, 255,
		16, 0, 5, 0, 255, 255, 255, 255, 32, 0, 5, 0, 255, 255, 255, 255}
	aclErr := unix.Setxattr(filepath.Join(root, "d"), "system.posix_acl_default", acl, 0)
	must(t, os.Symlink("x", filepath.Join(root, "s")))
	symErr := unix.Lsetxattr(filepath.Join(root, "s"), "trusted.t", []byte("link"), 0)
	age(t, root)
	got, tree, _ := save(t, root)
	set, err := tree.Xattrs(t.Context(), got["f"])
	must(t, err)
	if len(set) != 2 || set[0].Name != "user.empty" || string(set[1].Value) != "1" {
		t.Errorf("f: %+v", set)
	}
	set, err = tree.Xattrs(t.Context(), got["big"])
	must(t, err)
	if got["big"].XattrsID.IsZero() || len(set) != 1 || !bytes.Equal(set[0].Value, large) {
		t.Errorf("big: %+v", got["big"])
	}
	if aclErr == nil {
		if set, _ = tree.Xattrs(t.Context(), got["d/"]); len(set) != 1 || !bytes.Equal(set[0].Value, acl) {
			t.Errorf("d: %+v", set)
		}
	}
	if symErr == nil {
		if set, _ = tree.Xattrs(t.Context(), got["s"]); len(set) != 1 || string(set[0].Value) != "link" {
			t.Errorf("s: %+v", set)
		}
	}
}

func TestInodeFlags(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	write(t, root, map[string]string{"nodump": "x", "append": "y", "d/x": ""})
	set := func(name string, flags int) {
		f, err := os.Open(filepath.Join(root, name))
		must(t, err)
		defer f.Close()
		now, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		if err == nil {
			err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(now)&^settableFlags|flags)
		}
		if err != nil {
			t.Skipf("no inode flags here: %v", err)
		}
	}
	set("nodump", flagNoDump)
	set("append", flagAppend|flagNoAtime)
	defer set("append", 0)
	set("d", flagNoDump)
	age(t, root)
	got, _, _ := save(t, root)
	for name, want := range map[string]uint32{"nodump": flagNoDump, "append": flagAppend | flagNoAtime, "d/": flagNoDump, "d/x": flagNoDump} {
		if have := got[name].Flags; have != want && name != "d/x" {
			t.Errorf("%s: flags %#x, not %#x", name, have, want)
		}
	}
}

// deep makes a tree of so many levels, whose path no call could take at once, and returns a function that removes it.
func deep(t testing.TB, root, name string, levels int) {
	t.Helper()
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	for range levels {
		must(t, unix.Mkdirat(fd, name, 0o755))
		next, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		must(t, err)
		unix.Close(fd)
		fd = next
	}
	f, err := unix.Openat(fd, "bottom", unix.O_CREAT|unix.O_WRONLY, 0o644)
	must(t, err)
	_, err = unix.Write(f, []byte("deep"))
	must(t, err)
	unix.Close(f)
	unix.Close(fd)
	t.Cleanup(func() { removeDeep(root, name) })
}

// removeDeep goes down and removes on the way up: os.RemoveAll would hold a descriptor for each level.
func removeDeep(root, name string) {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return
	}
	for {
		next, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			break
		}
		unix.Close(fd)
		fd = next
	}
	unix.Unlinkat(fd, "bottom", 0)
	for {
		up, err := unix.Openat(fd, "..", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		unix.Close(fd)
		if err != nil {
			return
		}
		if fd = up; unix.Unlinkat(fd, name, unix.AT_REMOVEDIR) != nil {
			unix.Close(fd)
			return
		}
	}
}

// memoryDir is a directory in memory where there is one: for trees that cost a disk many seconds.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "snapfs-backup-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestDeepTree(t *testing.T) {
	root := memoryDir(t)
	levels := 5000
	if testing.Short() {
		levels = 600
	}
	deep(t, root, strings.Repeat("n", 200), levels)
	age(t, root)
	repo := newFakeRepo(t)
	fds := openFDs(t)
	res := repo.backup(t, Options{Paths: []string{root}, Exclude: []string{"/none/*.x"}, OnError: func(e *snapshot.PathError) { t.Errorf("%.200v", e) }})
	if res.Entries != int64(levels)+1 || res.New != 1 {
		t.Errorf("%+v", res)
	}
	again := repo.backup(t, Options{Paths: []string{root}})
	if counts4(again) != "new 0 changed 0 unchanged 1 removed 0" {
		t.Error(counts4(again))
	}
	if now := openFDs(t); now != fds {
		t.Errorf("%d descriptors open, before %d", now, fds)
	}
}

func openFDs(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("no /proc: %v", err)
	}
	return len(list)
}
