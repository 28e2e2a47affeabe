package restore

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newHash() hash.Hash { return sha256.New() }

func write(t testing.TB, path string, data []byte, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func noise(seed int64, n int) []byte {
	b := make([]byte, n)
	rand.New(rand.NewSource(seed)).Read(b)
	return b
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// aclBytes makes user::rwx,user:1234:r-x,group::r--,mask::rwx,other::---.
func aclBytes() []byte {
	var b bytes.Buffer
	b.Write([]byte{2, 0, 0, 0})
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{1, 7, ^uint32(0)}, {2, 5, 1234}, {4, 4, ^uint32(0)}, {0x10, 7, ^uint32(0)}, {0x20, 0, ^uint32(0)}} {
		b.Write([]byte{byte(e.tag), 0, byte(e.perm), 0, byte(e.id), byte(e.id >> 8), byte(e.id >> 16), byte(e.id >> 24)})
	}
	return b.Bytes()
}

// everything fills dir with one of each kind. As root also with what only root can make.
func everything(t testing.TB, dir string) {
	t.Helper()
	root := os.Geteuid() == 0
	write(t, dir+"/empty", nil, 0o644)
	write(t, dir+"/small", []byte("hello\n"), 0o640)
	write(t, dir+"/exec", []byte("#!/bin/sh\n"), 0o755)
	write(t, dir+"/closed", []byte("nobody"), 0)
	write(t, dir+"/big", noise(1, 5<<20+17), 0o644)
	write(t, dir+"/sub/deeper/file", noise(2, 100_000), 0o600)
	write(t, dir+"/name with\nnewline", []byte("x"), 0o644)
	write(t, dir+"/bytes \xff\xfe", []byte("y"), 0o644)
	write(t, dir+"/"+strings.Repeat("n", 255), []byte("z"), 0o644)
	ok(t, os.Mkdir(dir+"/emptydir", 0o700))
	ok(t, os.Symlink("../dangling", dir+"/link"))
	ok(t, os.Symlink(strings.Repeat("l", 4095), dir+"/longlink"))
	ok(t, unix.Mkfifo(dir+"/fifo", 0o620))
	ok(t, unix.Mknod(dir+"/socket", unix.S_IFSOCK|0o666, 0))
	write(t, dir+"/a/linked", []byte("one of three"), 0o644)
	ok(t, os.Link(dir+"/a/linked", dir+"/a/linked2"))
	ok(t, os.MkdirAll(dir+"/z/y", 0o755))
	ok(t, os.Link(dir+"/a/linked", dir+"/z/y/linked3"))
	ok(t, os.Link(dir+"/fifo", dir+"/z/fifo2"))
	f, err := os.Create(dir + "/sparse")
	ok(t, err)
	_, err = f.WriteAt(noise(3, 128<<10), 1<<20)
	ok(t, err)
	_, err = f.WriteAt(noise(4, 4096), 64<<20)
	ok(t, err)
	ok(t, f.Truncate(1<<40))
	f.Close()
	f, err = os.Create(dir + "/allhole")
	ok(t, err)
	ok(t, f.Truncate(3<<30))
	f.Close()
	if unix.Setxattr(dir+"/small", "user.note", []byte("a\x00b=c"), 0) == nil {
		ok(t, unix.Setxattr(dir+"/sub", "user.large", noise(5, 3000), 0))
		ok(t, unix.Setxattr(dir+"/exec", xattrACL, aclBytes(), 0))
		ok(t, unix.Setxattr(dir+"/sub", xattrDefaultACL, aclBytes(), 0))
	}
	if root {
		ok(t, os.Chown(dir+"/small", 1234, 5678))
		ok(t, os.Lchown(dir+"/link", 7, 8))
		ok(t, os.Chmod(dir+"/exec", 0o755|os.ModeSetuid|os.ModeSetgid))
		ok(t, os.Chmod(dir+"/emptydir", 0o777|os.ModeSticky))
		ok(t, os.Chmod(dir+"/sub", 0o775|os.ModeSetgid))
		ok(t, unix.Mknod(dir+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		ok(t, unix.Mknod(dir+"/block", unix.S_IFBLK|0o600, int(unix.Mkdev(7, 200))))
		_ = unix.Setxattr(dir+"/exec", "security.capability", []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0)
		_ = unix.Lsetxattr(dir+"/link", "trusted.l", []byte("on a link"), 0)
	}
	for i, when := range []unix.Timespec{{Sec: -1_000_000_000, Nsec: 1}, {Sec: 5_000_000_000, Nsec: 999_999_999}, {Sec: 0, Nsec: 0}} {
		ts := []unix.Timespec{when, when}
		path := []string{"/small", "/sub/deeper", "/link"}[i]
		ok(t, unix.UtimesNanoAt(unix.AT_FDCWD, dir+path, ts, unix.AT_SYMLINK_NOFOLLOW))
	}
	setFlags(dir+"/small", 0x40) // nodump
	if root {
		setFlags(dir+"/a/linked", flagImmutable)
		setFlags(dir+"/sub/deeper/file", flagAppend)
		setFlags(dir+"/sub/deeper", flagImmutable)
	}
	unlockLater(t, dir)
}

func setFlags(path string, flags uint32) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	h := handle{fd: fd}
	_ = h.setFlags(h.flags() | flags)
}

// unlockLater makes a tree removable when the test ends.
func unlockLater(t testing.TB, dir string) {
	t.Cleanup(func() {
		_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && (d.Type().IsRegular() || d.IsDir()) {
				if fl := flagsOf(path); fl&flagsLocking != 0 {
					fd, err := unix.Open(path, unix.O_RDONLY, 0)
					if err == nil {
						_ = handle{fd: fd}.setFlags(fl &^ flagsLocking)
						unix.Close(fd)
					}
				}
			}
			return nil
		})
	})
}

func TestRoundTrip(t *testing.T) {
	for _, slow := range []bool{false, true} {
		t.Run(fmt.Sprint("one by one ", slow), func(t *testing.T) {
			src, dst := t.TempDir(), t.TempDir()+"/new/dst"
			everything(t, src)
			blobs := newBlobs()
			tree := open(t, blobs, take(t, blobs, src, nil))
			unlockLater(t, dst)
			res := mustRun(t, blobs, tree, Options{To: dst, Verify: true, oneByOne: slow, openDirs: map[bool]int{true: 1}[slow]})
			same(t, src, dst)
			if res.Entries != int64(tree.Manifest().Totals.Entries) || res.Written != res.Entries || res.Errors != 0 || res.SkippedMetadata != 0 {
				t.Errorf("%+v of %+v", res, tree.Manifest().Totals)
			}
			before := describe(t, dst)
			res = mustRun(t, blobs, tree, Options{To: dst, OnItem: func(i Item) {
				if i.Action != ActionEqual {
					t.Error(i)
				}
			}})
			if res.Written != 0 || res.BytesWritten != 0 || res.Equal != res.Entries {
				t.Errorf("again: %+v", res)
			}
			if strings.Join(before, "\n") != strings.Join(describe(t, dst), "\n") {
				t.Error("second restore changed something")
			}
		})
	}
}

func mtimeOf(t testing.TB, path string) time.Time {
	t.Helper()
	st, err := os.Stat(path)
	ok(t, err)
	return st.ModTime()
}
