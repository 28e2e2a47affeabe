package fs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

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
