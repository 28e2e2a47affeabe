package backup

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

const nobodyEnv = "SNAPFS_TEST_NOBODY"

// TestWithoutRights runs TestNobody in a process without root's rights.
func TestWithoutRights(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become somebody else; TestNobody runs by itself then")
	}
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		must(t, os.Chmod(d, 0o755))
	}
	self, err := os.Executable()
	must(t, err)
	in, err := os.Open(self)
	must(t, err)
	defer in.Close()
	program := filepath.Join(dir, "test")
	out, err := os.OpenFile(program, os.O_CREATE|os.O_WRONLY, 0o755)
	must(t, err)
	_, err = io.Copy(out, in)
	must(t, errors.Join(err, out.Chmod(0o755), out.Close()))
	home := filepath.Join(dir, "home")
	must(t, os.Mkdir(home, 0o777))
	must(t, os.Chmod(home, 0o777))
	must(t, os.WriteFile(filepath.Join(home, "of-root"), []byte("readable, but not without access time"), 0o644))
	cmd := exec.Command(program, "-test.run", "^TestNobody$", "-test.v")
	cmd.Dir = home
	cmd.Env = append(os.Environ(), nobodyEnv+"="+home, "TMPDIR="+home)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	text, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EACCES) {
		t.Skip("another user cannot run programs here")
	}
	if err != nil || !strings.Contains(string(text), "--- PASS: TestNobody") {
		t.Errorf("%v\n%s", err, text)
	}
}

// TestNobody meets what cannot be read.
func TestNobody(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	root := os.Getenv(nobodyEnv)
	if root == "" {
		root = t.TempDir()
	}
	write(t, root, map[string]string{"src/ok": "1", "src/secret": "2", "src/closed/x": "3", "src/blind/y": "4", "only/z": "5"})
	src := filepath.Join(root, "src")
	for name, mode := range map[string]os.FileMode{"src/secret": 0, "src/closed": 0, "src/blind": 0o100, "only": 0o100} {
		must(t, os.Chmod(filepath.Join(root, name), mode))
		defer os.Chmod(filepath.Join(root, name), 0o700)
	}
	repo := newFakeRepo(t)
	var errs []string
	o := Options{Paths: []string{src}, OnError: func(e *snapshot.PathError) {
		rel, _ := filepath.Rel(src, e.Path)
		errs = append(errs, fmt.Sprint(rel, " ", e.Err))
	}}
	for range 2 {
		errs = nil
		res := repo.backup(t, o)
		slices.Sort(errs)
		if got := strings.Join(errs, ", "); got != "blind permission denied, closed permission denied, secret permission denied" || res.Errors != 3 {
			t.Error(got)
		}
		if got := names(listTree(t, repo.tree(t, res.Snapshot.ID))); got != "blind/ closed/ ok" {
			t.Error(got)
		}
	}
	o = Options{Paths: []string{filepath.Join(root, "only")}, Dataset: "only"}
	if _, err := repo.try(t, o); !errors.Is(err, ErrNothingSaved) || !strings.Contains(err.Error(), "permission denied") {
		t.Error(err)
	}
	o = Options{Paths: []string{filepath.Join(src, "secret")}, Dataset: "secret"}
	if _, err := repo.try(t, o); !errors.Is(err, ErrNothingSaved) || !strings.Contains(err.Error(), "permission denied") {
		t.Error(err)
	}
	// What may only be passed is passed.
	o = Options{Paths: []string{filepath.Join(root, "only/z"), src}, Dataset: "several"}
	res := repo.backup(t, o)
	if got := listTree(t, repo.tree(t, res.Snapshot.ID)); got[root[1:]+"/only/z"] == nil {
		t.Errorf("%q", names(got))
	}
	if _, err := os.Stat(filepath.Join(root, "of-root")); err == nil {
		res := repo.backup(t, Options{Paths: []string{filepath.Join(root, "of-root")}, Dataset: "file"})
		if res.New != 1 {
			t.Errorf("%+v", res)
		}
	}
}
