package backup

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestXattrErrors: attributes that cannot be listed are not none.
func TestXattrErrors(t *testing.T) {
	var x xattrReader
	if set, err := x.of(-1); err != unix.EBADF {
		t.Errorf("%v, %v", set, err)
	}
}

const noProcEnv = "SNAPFS_TEST_NO_PROC"

// TestWithoutProc backs up where no /proc is mounted, as in a chroot: attributes of names are read through it.
func TestWithoutProc(t *testing.T) {
	needRoot(t)
	if os.Getenv(noProcEnv) == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestWithoutProc$", "-test.v")
		cmd.Env = append(os.Environ(), noProcEnv+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	must(t, unix.Mount("none", "/proc", "tmpfs", 0, ""))
	root := t.TempDir()
	write(t, root, map[string]string{"a": "1", "d/x": "2"})
	must(t, os.Symlink("a", filepath.Join(root, "link")))
	must(t, unix.Mkfifo(filepath.Join(root, "pipe"), 0o600))
	must(t, unix.Mkfifo(filepath.Join(root, "pipe1"), 0o600))
	must(t, os.Link(filepath.Join(root, "pipe1"), filepath.Join(root, "pipe2")))
	var warned int
	repo := newFakeRepo(t)
	res := repo.backup(t, Options{Paths: []string{root, t.TempDir()}, Dataset: "several", Warn: func(string) { warned++ }})
	if res.Errors != 0 || res.New != 6 || warned != 1 {
		t.Errorf("%s, %d errors, %d warnings", counts4(res), res.Errors, warned)
	}
	res = repo.backup(t, Options{Paths: []string{root}, Dataset: "one"})
	if got := names(listTree(t, repo.tree(t, res.Snapshot.ID))); got != "a d/ d/x link pipe pipe1 pipe2" || res.Errors != 0 {
		t.Errorf("%q, %d errors", got, res.Errors)
	}
}
