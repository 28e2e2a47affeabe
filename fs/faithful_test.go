package fs

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

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
