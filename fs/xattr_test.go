package fs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

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
