package fs

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	nobody  = "65534"
	someone = "12345"
)

// as runs a program as another user and returns what it says.
func as(uid string, args ...string) (string, error) {
	args = append([]string{"--reuid", uid, "--regid", uid, "--clear-groups"}, args...)
	out, err := exec.Command("setpriv", args...).CombinedOutput()
	return string(out), err
}

// openTemp is a directory that everybody can reach.
func openTemp(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestOnlyTheMountingUserEnters(t *testing.T) {
	needRoot(t)
	needTool(t, "setpriv")
	src := openTemp(t)
	makeTree(t, src)
	s := serve(t, job{Dir: openTemp(t), Snapshots: []jobSnapshot{{Dataset: "d", Name: "n", Source: src}}})
	if out, err := as(nobody, "ls", s.path("d")); err == nil || !strings.Contains(out, "Permission denied") {
		t.Errorf("another user sees %q", out)
	}
	run(t, "ls", s.path("d"))
}

func TestOthersEnterAsTheModesSay(t *testing.T) {
	needRoot(t)
	needTool(t, "setpriv")
	src := openTemp(t)
	makeTree(t, src)
	if err := os.Mkdir(filepath.Join(src, "closed"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := serve(t, job{Dir: openTemp(t), Options: Options{AllowOther: true},
		Snapshots: []jobSnapshot{{Dataset: "d", Name: "n", Source: src}}})
	for path, want := range map[string]bool{"small": true, "empty": false, "secret": false, "sub/deep/er/big": false, "closed/x": false} {
		out, err := as(nobody, "cat", s.path("d/n", path))
		if (err == nil) != want {
			t.Errorf("%s: readable %v, want %v (%s)", path, err == nil, want, out)
		}
	}
	if out, err := as(someone, "cat", s.path("d/n/empty")); err != nil { // 0600, his own
		t.Errorf("owner: %v %s", err, out)
	}
}

func TestSnapshotIsNoMoreOpenThanItsSourceWas(t *testing.T) {
	needRoot(t)
	needTool(t, "setpriv")
	home := filepath.Join(openTemp(t), "home")
	src := filepath.Join(home, "data")
	if err := os.MkdirAll(src, 0o755); err != nil {
		t.Fatal(err)
	}
	makeTree(t, src)
	for _, c := range []struct {
		mode os.FileMode
		want bool
	}{{0o700, false}, {0o755, true}, {0o750, false}, {0o711, true}} {
		if err := os.Chmod(home, c.mode); err != nil {
			t.Fatal(err)
		}
		s := serve(t, job{Dir: openTemp(t), Options: Options{AllowOther: true},
			Snapshots: []jobSnapshot{{Dataset: "d", Name: "n", Source: src}}})
		out, err := as(nobody, "cat", s.path("d/n/small"))
		if (err == nil) != c.want {
			t.Errorf("below a directory of mode %o: readable %v, want %v (%s)", c.mode, err == nil, c.want, out)
		}
		run(t, "cat", s.path("d/n/small"))
	}
}

func TestACLs(t *testing.T) {
	needRoot(t)
	needTool(t, "setpriv")
	needTool(t, "setfacl")
	src := openTemp(t)
	for name, acl := range map[string]string{
		"refused": "u:12345:---,o::r", // others may, he may not
		"granted": "u:12345:r,o::---", // he may, others may not
		"group":   "u:65534:rw,g::---,o::---",
	} {
		path := filepath.Join(src, name)
		if err := os.WriteFile(path, []byte("x"), 0o640); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("setfacl", "-m", acl, path).CombinedOutput(); err != nil {
			t.Skipf("no ACLs here: %s", out)
		}
	}
	type reader struct{ uid, file string }
	for _, c := range []struct {
		xattrs string
		want   map[reader]bool
	}{
		{XattrsOn, map[reader]bool{{someone, "refused"}: false, {nobody, "refused"}: true, {someone, "granted"}: true,
			{nobody, "granted"}: false, {nobody, "group"}: true}},
		{XattrsOff, map[reader]bool{{someone, "refused"}: false, {nobody, "refused"}: false, {someone, "granted"}: false,
			{nobody, "granted"}: false, {nobody, "group"}: false}}, // stricter, never more open
	} {
		t.Run(c.xattrs, func(t *testing.T) {
			s := serve(t, job{Dir: openTemp(t), Options: Options{AllowOther: true, Xattrs: c.xattrs},
				Snapshots: []jobSnapshot{{Dataset: "d", Name: "n", Source: src}}})
			for r, want := range c.want {
				out, err := as(r.uid, "cat", s.path("d/n", r.file))
				if (err == nil) != want {
					t.Errorf("user %s, %s: readable %v, want %v (%s)", r.uid, r.file, err == nil, want, out)
				}
			}
		})
	}
}

func TestShownOwner(t *testing.T) {
	needRoot(t)
	src := t.TempDir()
	makeTree(t, src)
	setXattrs(t, src)
	uid, gid, umask := uint32(1001), uint32(1002), uint32(0o027)
	s := serve(t, job{Options: Options{UID: &uid, GID: &gid, Umask: &umask},
		Snapshots: []jobSnapshot{{Dataset: "d", Name: "n", Source: src}}})
	for path, mode := range map[string]uint32{
		"": unix.S_IFDIR | 0o550, "d": unix.S_IFDIR | 0o550, "d/n/small": unix.S_IFREG | 0o640,
		"d/n/sub": unix.S_IFDIR | 0o1750, "d/n/suid": unix.S_IFREG | 0o6750, "d/latest": unix.S_IFLNK | 0o777,
	} {
		var st unix.Stat_t
		if err := unix.Lstat(s.path(path), &st); err != nil || st.Uid != uid || st.Gid != gid || st.Mode != mode {
			t.Errorf("%q: owner %d:%d mode %o, want mode %o (%v)", path, st.Uid, st.Gid, st.Mode, mode, err)
		}
	}
	if _, err := unix.Getxattr(s.path("d/n/two"), aclAccess, make([]byte, 100)); !errors.Is(err, unix.ENODATA) {
		t.Errorf("ACL of another owner is shown: %v", err)
	}
}

// TestWithoutRoot mounts as a plain user through fusermount3.
func TestWithoutRoot(t *testing.T) {
	needRoot(t)
	needTool(t, "setpriv")
	needTool(t, "fusermount3")
	if !othersMayUseFUSE() {
		withOpenFUSE(t)
		return
	}
	base := openTemp(t)
	src, dir, storeDir := filepath.Join(base, "src"), filepath.Join(base, "mnt"), filepath.Join(base, "store")
	for _, d := range []string{src, dir, storeDir} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(d, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(src, "file"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(base, "program")
	copyProgram(t, program)
	j := job{Dir: dir, Store: storeDir, Snapshots: []jobSnapshot{{Dataset: "d", Name: "n", Source: src}}}
	s := serve(t, j, "setpriv", "--reuid", nobody, "--regid", nobody, "--clear-groups",
		"env", "TMPDIR="+base, program)
	if out, err := as(nobody, "cat", s.path("d/latest/file")); err != nil || out != "text" {
		t.Errorf("%q, %v\n%s", out, err, s.logged())
	}
	if out, err := as(nobody, "touch", s.path("d/latest/new")); err == nil || !strings.Contains(out, "Read-only") {
		t.Errorf("%q, %v", out, err)
	}
	if err := s.cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("server: %v\n%s", err, s.logged())
	}
	if _, err := mountAt(dir); !errors.Is(err, ErrNotMounted) {
		t.Errorf("still mounted: %v", err)
	}
	t.Run("allow other", func(t *testing.T) {
		if userAllowOther() {
			t.Skip("allowed by /etc/fuse.conf")
		}
		j.Options.AllowOther = true
		_, err := tryServe(t, j, "setpriv", "--reuid", nobody, "--regid", nobody, "--clear-groups", program)
		if err == nil || !strings.Contains(err.Error(), "user_allow_other") {
			t.Errorf("%v", err)
		}
	})
	t.Run("unmounted by root", func(t *testing.T) {
		j.Options.AllowOther = false
		s := serve(t, j, "setpriv", "--reuid", nobody, "--regid", nobody, "--clear-groups", program)
		if err := Unmount(context.Background(), dir, false); err != nil {
			t.Error(err)
		}
		if err := s.cmd.Wait(); err != nil {
			t.Errorf("server: %v", err)
		}
	})
}

func othersMayUseFUSE() bool {
	info, err := os.Stat("/dev/fuse")
	return err == nil && info.Mode()&0o006 == 0o006
}

const innerEnv = "SNAPFS_FS_TEST_INNER"

// withOpenFUSE runs the test again where /dev/fuse is open to all, as it is where there is udev.
func withOpenFUSE(t *testing.T) {
	t.Helper()
	needTool(t, "unshare")
	if os.Getenv(innerEnv) != "" {
		t.Skip("/dev/fuse cannot be opened to others")
	}
	const script = `mknod -m 666 "$0/fuse" c 10 229 && mount --bind "$0/fuse" /dev/fuse && exec "$@"`
	cmd := exec.Command("unshare", "-m", "sh", "-c", script, t.TempDir(), os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), innerEnv+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if strings.Contains(string(out), "--- SKIP") {
		t.Skipf("%s", out)
	}
}

func copyProgram(t *testing.T, to string) {
	t.Helper()
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
