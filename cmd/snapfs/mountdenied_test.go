package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestMountWithoutDevice: a user whom /dev/fuse is closed to is told so, and who can change that.
func TestMountWithoutDevice(t *testing.T) {
	info, err := os.Stat("/dev/fuse")
	switch {
	case err != nil:
		t.Skip("no FUSE here: ", err)
	case info.Mode()&0o006 != 0:
		t.Skip("/dev/fuse is open to everybody")
	case os.Geteuid() != 0:
		t.Skip("needs root to become another user")
	}
	if _, err := exec.LookPath("fusermount3"); err != nil {
		t.Skip("no fusermount3")
	}
	dir := t.TempDir()
	for d := dir; d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	program := copyOfThis(t, dir)
	for _, args := range [][]string{{"init", "--no-encryption"}, {"mount", dir + "/mnt"}, {"mount", "-d", dir + "/mnt"}} {
		cmd := process(t, args...)
		cmd.Path = program
		cmd.Env = append(cmd.Env, "SNAPFS_STORE="+dir+"/store", "HOME="+dir)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		code, out := finishes(t, cmd)
		if args[0] == "init" {
			if code != exitDone {
				t.Skip("another user cannot run this test: ", out)
			}
			if err := errors.Join(os.Mkdir(dir+"/mnt", 0o777), os.Chown(dir+"/mnt", 65534, 65534)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want := "snapfs: mount " + dir + "/mnt: this user may not use FUSE: open /dev/fuse: permission denied\nsnapfs: hint: root can mount"
		if code != exitFailed || !strings.HasPrefix(out, want) || strings.Count(out, "\n") != 2 {
			t.Errorf("snapfs %q: exit code %d, %q, want %q", args, code, out, want)
		}
	}
}

// copyOfThis puts this test binary where another user can reach it.
func copyOfThis(t *testing.T, dir string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "snapfs")
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
