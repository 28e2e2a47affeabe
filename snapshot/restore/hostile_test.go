package restore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/store"
)

// TestPlanted puts symlinks and hard links that lead outside in every place of a destination.
func TestPlanted(t *testing.T) {
	src := t.TempDir()
	write(t, src+"/top", []byte("from the snapshot"), 0o644)
	write(t, src+"/d/e/file", []byte("deep, from the snapshot"), 0o644)
	write(t, src+"/d/e/twin", nil, 0o644)
	ok(t, os.Remove(src+"/d/e/twin"))
	ok(t, os.Link(src+"/d/e/file", src+"/d/e/twin"))
	ok(t, unix.Mkfifo(src+"/d/fifo", 0o600))
	ok(t, os.Symlink("target", src+"/d/link"))
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	plants := map[string]func(t *testing.T, dst, outside string){
		"symlinked directory": func(t *testing.T, dst, out string) { ok(t, os.Symlink(out, dst+"/d")) },
		"symlinked deeper directory": func(t *testing.T, dst, out string) {
			ok(t, os.Mkdir(dst+"/d", 0o755))
			ok(t, os.Symlink(out, dst+"/d/e"))
		},
		"relative symlink": func(t *testing.T, dst, out string) { ok(t, os.Symlink("../outside", dst+"/d")) },
		"symlinked files": func(t *testing.T, dst, out string) {
			ok(t, os.MkdirAll(dst+"/d/e", 0o755))
			for _, p := range []string{"/top", "/d/e/file", "/d/e/twin", "/d/fifo", "/d/link"} {
				ok(t, os.Symlink(out+"/precious", dst+p))
			}
		},
		"hard-linked files": func(t *testing.T, dst, out string) {
			ok(t, os.MkdirAll(dst+"/d/e", 0o755))
			for _, p := range []string{"/top", "/d/e/file", "/d/e/twin", "/d/fifo", "/d/link"} {
				ok(t, os.Link(out+"/precious", dst+p))
			}
		},
		"hard link with equal content": func(t *testing.T, dst, out string) {
			write(t, out+"/precious", []byte("from the snapshot"), 0o600)
			ok(t, os.Link(out+"/precious", dst+"/top"))
		},
		"hard link with equal content of a linked file": func(t *testing.T, dst, out string) {
			ok(t, os.MkdirAll(dst+"/d/e", 0o755))
			write(t, out+"/precious", []byte("deep, from the snapshot"), 0o600)
			ok(t, os.Link(out+"/precious", dst+"/d/e/file"))
		},
		"fifo in place of a file":            func(t *testing.T, dst, out string) { ok(t, unix.Mkfifo(dst+"/top", 0o600)) },
		"file in place of directory":         func(t *testing.T, dst, out string) { write(t, dst+"/d", []byte("x"), 0o600) },
		"empty directory in place of a file": func(t *testing.T, dst, out string) { ok(t, os.Mkdir(dst+"/top", 0o700)) },
		"dangling symlinks": func(t *testing.T, dst, out string) {
			ok(t, os.Symlink(out+"/new", dst+"/top"))
			ok(t, os.Symlink(out+"/newdir", dst+"/d"))
		},
	}
	for name, plant := range plants {
		for _, patch := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				base := t.TempDir()
				dst, out := base+"/dst", base+"/outside"
				ok(t, os.Mkdir(dst, 0o755))
				write(t, out+"/precious", []byte("precious"), 0o600)
				plant(t, dst, out)
				before := strings.Join(describe(t, out), "\n")
				inode := inodeOf(t, out+"/precious")
				mustRun(t, blobs, tree, Options{To: dst, Patch: patch, Verify: true})
				after := strings.Join(describe(t, out), "\n")
				before = strings.Replace(before, " links=", " was=", 1)
				if i := strings.Index(before, " was="); i >= 0 {
					before = before[:i]
				}
				if !strings.HasPrefix(after, before) || inode != inodeOf(t, out+"/precious") || strings.Count(after, "\n") != 1 {
					t.Errorf("outside changed:\n%s\nto\n%s", before, after)
				}
				ok(t, os.Chtimes(dst, mtimeOf(t, src), mtimeOf(t, src)))
				ok(t, os.Chmod(dst, 0o755))
				same(t, src, dst)
			})
		}
	}
}

func inodeOf(t *testing.T, path string) uint64 {
	var st unix.Stat_t
	ok(t, unix.Lstat(path, &st))
	return st.Ino
}

// swapping is a Reader that does something to the destination while content is read.
type swapping struct {
	Reader
	once atomic.Bool
	do   func()
}

func (s *swapping) GetInto(ctx context.Context, kind store.Kind, id store.ID, dst []byte) ([]byte, error) {
	if s.once.CompareAndSwap(false, true) {
		s.do()
	}
	return s.Reader.GetInto(ctx, kind, id, dst)
}

// TestSwapped replaces a directory by a symlink in the middle of the run.
func TestSwapped(t *testing.T) {
	src := t.TempDir()
	for _, d := range []string{"a", "b", "c"} {
		for _, f := range []string{"1", "2", "3"} {
			write(t, filepath.Join(src, d, "in", f), []byte(d+f), 0o644)
		}
	}
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	for _, limit := range []int{0, 1} { // directories stay open; are opened again
		base := t.TempDir()
		dst, out := base+"/dst", base+"/outside"
		ok(t, os.MkdirAll(out+"/in", 0o755))
		r := &swapping{Reader: blobs, do: func() {
			ok(t, os.Rename(dst+"/b", base+"/taken"))
			ok(t, os.Symlink(out, dst+"/b"))
		}}
		var failed []error
		res, err := runThrough(t, context.Background(), r, tree, Options{To: dst, openDirs: limit, Workers: 1,
			OnError: func(e *snapshot.PathError) { failed = append(failed, e) }})
		ok(t, err)
		names, err := os.ReadDir(out + "/in")
		ok(t, err)
		if len(names) > 0 {
			t.Errorf("limit %d: written outside: %v", limit, names)
		}
		if limit == 1 && (res.Errors == 0 || len(failed) == 0) {
			t.Error("a replaced directory went unnoticed")
		}
	}
}

// TestNames restores a snapshot whose names try to climb out.
func TestNames(t *testing.T) {
	for _, name := range []string{"..", ".", "a/b", "../x", "", "nul\x00"} {
		if goodName(name) {
			t.Errorf("%q is taken for a name", name)
		}
	}
}

// TestDamage loses chunks: their files are not made, or stay as they were; the others come.
func TestDamage(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()+"/dst"
	write(t, src+"/good", []byte("good"), 0o644)
	write(t, src+"/bad", []byte("bad"), 0o644)
	write(t, src+"/big", noise(7, 6<<20), 0o644)
	write(t, src+"/kept", []byte("new"), 0o644)
	write(t, src+"/linked", []byte("linked"), 0o644)
	ok(t, os.Link(src+"/linked", src+"/linked2"))
	write(t, dst+"/kept", []byte("old"), 0o644)
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	ctx := context.Background()
	for _, name := range []string{"bad", "kept", "linked", "big"} {
		f, err := tree.Walk(ctx, name)
		ok(t, err)
		f, err = tree.Follow(ctx, f)
		ok(t, err)
		n := 0
		ok(t, tree.Items(ctx, f.Entry, 0, func(_ int64, it snapshot.Item) bool {
			if n++; n == 1 || n == 50 {
				blobs.Drop(it.ID)
			}
			return true
		}))
	}
	for range 2 {
		failed := map[string]bool{}
		res, err := runThrough(t, ctx, blobs, tree, Options{To: dst, OnError: func(e *snapshot.PathError) {
			failed[e.Path] = true
			var missing *store.MissingError
			if !errors.As(e, &missing) && !errors.Is(e, ErrNotCome) {
				t.Error(e)
			}
		}})
		ok(t, err)
		if res.Damaged != 5 || res.Errors != 5 || len(failed) != 5 || !failed[dst+"/linked2"] {
			t.Errorf("%+v %v", res, failed)
		}
		names, _ := filepath.Glob(dst + "/*")
		hidden, _ := filepath.Glob(dst + "/.*")
		if len(names) != 2 || len(hidden) != 0 {
			t.Errorf("there is %v %v", names, hidden)
		}
		if data, _ := os.ReadFile(dst + "/kept"); string(data) != "old" {
			t.Errorf("kept is %q", data)
		}
	}
}
