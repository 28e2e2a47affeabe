package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/store"
)

// failing cancels the run at the n-th chunk.
type failing struct {
	Reader
	left   atomic.Int64
	cancel func()
}

func (f *failing) GetInto(ctx context.Context, kind store.Kind, id store.ID, dst []byte) ([]byte, error) {
	if f.left.Add(-1) == 0 {
		f.cancel()
	}
	return f.Reader.GetInto(ctx, kind, id, dst)
}

func TestInterrupted(t *testing.T) {
	src := t.TempDir()
	everything(t, src)
	for i := range 40 {
		write(t, fmt.Sprintf("%s/many/%d/f%d", src, i%7, i), noise(int64(i), 1000*i), 0o644)
	}
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	for try := range 12 {
		dst := t.TempDir() + "/dst"
		unlockLater(t, dst)
		for range 3 {
			ctx, cancel := context.WithCancel(context.Background())
			r := &failing{Reader: blobs, cancel: cancel}
			r.left.Store(int64(1 + rand.Intn(60+try)))
			_, err := runThrough(t, ctx, r, tree, withErrors(t, Options{To: dst}))
			cancel()
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			noLeftovers(t, dst)
		}
		mustRun(t, blobs, tree, Options{To: dst})
		same(t, src, dst)
	}
}

// noLeftovers fails if an unfinished file is there; the sign that the destination was made may be.
func noLeftovers(t *testing.T, dir string) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(d.Name(), tempPrefix) && !strings.HasSuffix(path, madeMark) {
			t.Errorf("left over: %s", path)
		}
		return nil
	})
}

// TestKilled finds what a killed run leaves: unfinished files of a process that is no more.
func TestKilled(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	write(t, src+"/d/f", []byte("x"), 0o644)
	ok(t, os.Chtimes(src, mtimeOf(t, src).Add(-1e12), mtimeOf(t, src).Add(-1e12)))
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	gone, alive := owner("999999999-1"), thisProcess()
	reused := owner(fmt.Sprintf("%d-%x", os.Getpid(), 1))
	for _, name := range []string{gone.temp(), reused.temp(), "d/" + gone.temp(), gone.mark()} {
		write(t, dst+"/"+name, []byte("half"), 0o600)
	}
	keep := []string{alive.temp(), tempPrefix + "mine", tempPrefix + "1-2-3", ".snapfs"}
	for _, name := range keep {
		write(t, dst+"/"+name, []byte("other"), 0o600)
	}
	alone := t.TempDir()
	write(t, alone+"/"+gone.temp(), []byte("half"), 0o600)
	mustRun(t, blobs, tree, Options{To: alone, Path: "d/f"})
	if got := paths(t, alone); got != "f" {
		t.Errorf("a single file leaves %s", got)
	}
	mustRun(t, blobs, tree, Options{To: dst})
	if got, want := mtimeOf(t, dst), mtimeOf(t, src); !got.Equal(want) {
		t.Errorf("the directory that the killed run had made has mtime %v, not %v", got, want)
	}
	for _, name := range keep {
		ok(t, os.Remove(dst+"/"+name))
	}
	ok(t, os.Chtimes(dst, mtimeOf(t, src), mtimeOf(t, src)))
	ok(t, os.Chmod(dst, 0o755))
	ok(t, os.Chmod(src, 0o755))
	same(t, src, dst)
}

// TestChanged restores over an older state, with every way of comparing and writing.
func TestChanged(t *testing.T) {
	src := t.TempDir()
	everything(t, src)
	data := noise(9, 9<<20)
	write(t, src+"/changed", data, 0o644)
	write(t, src+"/grown", data[:7<<20], 0o644)
	write(t, src+"/shrunk", data[:6<<20], 0o644)
	write(t, src+"/tiny", []byte("new"), 0o644)
	f, err := os.OpenFile(src+"/punched", os.O_CREATE|os.O_RDWR, 0o644)
	ok(t, err)
	_, err = f.WriteAt(data[:1<<20], 8<<20)
	ok(t, err)
	f.Close()
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	named := &namedBlobs{blobs}
	for _, patch := range []bool{false, true} {
		for _, r := range []Reader{blobs, named} {
			t.Run(fmt.Sprintf("patch %v %T", patch, r), func(t *testing.T) {
				dst := t.TempDir()
				unlockLater(t, dst)
				mustRun(t, blobs, tree, Options{To: dst})
				other := append([]byte(nil), data...)
				copy(other[5<<20+5:], "changed bytes")
				write(t, dst+"/changed", other, 0o600)
				write(t, dst+"/grown", data, 0o600)
				write(t, dst+"/shrunk", data[:5<<20+1], 0o600)
				write(t, dst+"/punched", noise(10, 10<<20), 0o600)
				write(t, dst+"/tiny", []byte("older"), 0o600)
				ok(t, os.Remove(dst+"/sub/deeper/../../link"))
				inode := inodeOf(t, dst+"/changed")
				res := mustRun(t, r, tree, Options{To: dst, Patch: patch, Verify: true})
				if res.Written != 6 {
					t.Errorf("%+v", res)
				}
				if (inodeOf(t, dst+"/changed") == inode) != patch {
					t.Errorf("patch %v, but same inode %v", patch, !patch)
				}
				if patch && res.BytesWritten > 4<<20 {
					t.Errorf("%d bytes written to patch", res.BytesWritten)
				}
				ok(t, os.Chtimes(dst, mtimeOf(t, src), mtimeOf(t, src)))
				ok(t, os.Chmod(dst, 0o755))
				ok(t, os.Chmod(src, 0o755))
				same(t, src, dst)
			})
		}
	}
}

// namedBlobs can tell the ID of content, as the real store can.
type namedBlobs struct {
	Reader
}

func (n *namedBlobs) BlobID(kind store.Kind, data []byte) store.ID {
	id, _ := newBlobs().Put(context.Background(), kind, data)
	return id
}

// TestAttributes corrects what differs in nothing but attributes.
func TestAttributes(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	everything(t, src)
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	unlockLater(t, dst)
	mustRun(t, blobs, tree, Options{To: dst})
	ok(t, os.Chmod(dst+"/big", 0o600))
	ok(t, os.Chmod(dst+"/z/y", 0o700))
	ok(t, unix.Lutimes(dst+"/longlink", []unix.Timeval{{Sec: 5}, {Sec: 5}}))
	wantItems := map[string]string{dst + "/big": ActionAttributes, dst + "/z/y": ActionAttributes, dst + "/longlink": ActionAttributes}
	if err := unix.Setxattr(dst+"/empty", "user.extra", []byte("x"), 0); err == nil {
		ok(t, unix.Removexattr(dst+"/small", "user.note"))
		ok(t, unix.Setxattr(dst+"/z", xattrDefaultACL, aclBytes(), 0))
		wantItems[dst+"/empty"], wantItems[dst+"/small"], wantItems[dst+"/z"] = ActionAttributes, ActionAttributes, ActionAttributes
	}
	for _, quick := range []bool{false, true} {
		for _, dry := range []bool{true, false} {
			got := map[string]string{}
			res := mustRun(t, blobs, tree, Options{To: dst, Quick: quick, DryRun: dry, OnItem: func(i Item) {
				if i.Action != ActionEqual {
					got[i.Path] = i.Action
				}
			}})
			if fmt.Sprint(got) != fmt.Sprint(wantItems) && !(dry && len(got) < len(wantItems)) || res.Written != 0 {
				t.Errorf("quick %v dry %v: %v, want %v", quick, dry, got, wantItems)
			}
		}
		wantItems = map[string]string{}
	}
	ok(t, os.Chtimes(dst, mtimeOf(t, src), mtimeOf(t, src)))
	ok(t, os.Chmod(dst, 0o755))
	ok(t, os.Chmod(src, 0o755))
	same(t, src, dst)
}

// TestOverwrite is the table of policies.
func TestOverwrite(t *testing.T) {
	src := t.TempDir()
	write(t, src+"/older", []byte("snap"), 0o644)
	write(t, src+"/newer", []byte("snap"), 0o644)
	write(t, src+"/missing", []byte("snap"), 0o644)
	write(t, src+"/dir/inside", []byte("snap"), 0o644)
	ok(t, os.Chmod(src+"/dir", 0o711))
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	for _, c := range []struct {
		policy       Overwrite
		older, newer string
		dirMode      os.FileMode
	}{{"", "snap", "snap", 0o711}, {OverwriteAlways, "snap", "snap", 0o711}, {OverwriteNewer, "snap", "here", 0o755}, {OverwriteNever, "here", "here", 0o755}} {
		dst := t.TempDir()
		at := mtimeOf(t, src+"/older")
		for _, f := range []string{"older", "newer", "dir/x"} {
			write(t, dst+"/"+f, []byte("here"), 0o644)
			when := at.Add(1e9)
			if f == "older" {
				when = at.Add(-1e9)
			}
			ok(t, os.Chtimes(dst+"/"+f, when, when))
		}
		ok(t, os.Chtimes(dst+"/dir", at.Add(1e9), at.Add(1e9)))
		mustRun(t, blobs, tree, Options{To: dst, Overwrite: c.policy})
		for name, want := range map[string]string{"older": c.older, "newer": c.newer, "missing": "snap", "dir/inside": "snap", "dir/x": "here"} {
			if got, _ := os.ReadFile(dst + "/" + name); string(got) != want {
				t.Errorf("%s: %s holds %q, want %q", c.policy, name, got, want)
			}
		}
		if st, _ := os.Stat(dst + "/dir"); st.Mode().Perm() != c.dirMode {
			t.Errorf("%s: directory has mode %v", c.policy, st.Mode())
		}
	}
	if _, err := runThrough(t, context.Background(), blobs, tree, Options{To: "x", Overwrite: "sometimes"}); !errors.Is(err, ErrOptions) {
		t.Error(err)
	}
	if _, err := runThrough(t, context.Background(), blobs, tree, Options{To: "x", InPlace: true}); !errors.Is(err, ErrOptions) {
		t.Error(err)
	}
}

// TestInTheWay: a directory that is not empty stays, unless Delete allows to remove it.
func TestInTheWay(t *testing.T) {
	src := t.TempDir()
	write(t, src+"/name", []byte("file"), 0o644)
	write(t, src+"/.gitignore", []byte("*.o\n"), 0o644)
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	dst := t.TempDir()
	write(t, dst+"/name/inside", []byte("mine"), 0o644)
	var failed error
	res, err := runThrough(t, context.Background(), blobs, tree, Options{To: dst, OnError: func(e *snapshot.PathError) { failed = e }})
	ok(t, err)
	if !errors.Is(failed, ErrNotEmpty) || res.Errors != 1 {
		t.Errorf("%v %+v", failed, res)
	}
	if _, err := os.Stat(dst + "/name/inside"); err != nil {
		t.Error(err)
	}
	write(t, dst+"/name/ignored.o", nil, 0o644)
	ignoring := open(t, blobs, take(t, blobs, src, func(m *snapshot.Manifest) { m.IgnoreFiles = true }))
	failed = nil
	if _, err := runThrough(t, context.Background(), blobs, ignoring,
		Options{To: dst, Delete: true, OnError: func(e *snapshot.PathError) { failed = e }}); err != nil || !errors.Is(failed, ErrNotEmpty) {
		t.Error(err, failed)
	}
	if got := paths(t, dst); got != ".gitignore name name/ignored.o" {
		t.Error(got)
	}
	res = mustRun(t, blobs, tree, Options{To: dst, Delete: true})
	if data, _ := os.ReadFile(dst + "/name"); string(data) != "file" || res.Deleted != 2 {
		t.Errorf("%q %+v", data, res)
	}
}

// TestInterruptedLocks: a run that ends early locks the directories again that it unlocked.
func TestInterruptedLocks(t *testing.T) {
	needRoot(t)
	src, dst := t.TempDir(), t.TempDir()
	for _, n := range []string{"/d/1", "/d/2", "/d/3"} {
		write(t, src+n, []byte(n), 0o644)
	}
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	ok(t, os.MkdirAll(dst+"/d", 0o755))
	unlockLater(t, dst)
	h := handle{fd: openForFlags(t, dst+"/d")}
	defer h.close()
	before := h.flags()
	if err := h.setFlags(before | flagImmutable); err != nil {
		t.Skip("no inode flags here: ", err)
	}
	defer func() { _ = h.setFlags(before) }()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r := &failing{Reader: blobs, cancel: cancel}
	r.left.Store(2)
	_, err := Run(ctx, r, tree, Options{To: dst, Workers: 1, OnError: func(*snapshot.PathError) {}})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if h.flags()&flagImmutable == 0 {
		t.Error("the directory is not locked any more")
	}
}

// TestKilledOnTheWay: what a killed run left in a directory that Include does not choose itself is removed as well.
func TestKilledOnTheWay(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	write(t, src+"/a/b/file", []byte("x"), 0o644)
	write(t, src+"/other", []byte("x"), 0o644)
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	gone := owner("999999999-1")
	write(t, dst+"/a/"+gone.temp(), []byte("half"), 0o600)
	write(t, dst+"/a/b/"+gone.temp(), []byte("half"), 0o600)
	mustRun(t, blobs, tree, Options{To: dst, Include: []string{"/a/b/file"}})
	if got := paths(t, dst); got != "a a/b a/b/file" {
		t.Error(got)
	}
}

// TestInterruptedNever: directories that an interrupted run made get their attributes by the next one, whatever the policy.
func TestInterruptedNever(t *testing.T) {
	for _, policy := range []Overwrite{OverwriteNever, OverwriteNewer} {
		src, dst := t.TempDir(), t.TempDir()
		for _, n := range []string{"/d/1", "/d/2", "/d/3"} {
			write(t, src+n, []byte(n), 0o644)
		}
		ok(t, os.Chmod(src+"/d", 0o755))
		blobs := newBlobs()
		tree := open(t, blobs, take(t, blobs, src, nil))
		ctx, cancel := context.WithCancel(context.Background())
		r := &failing{Reader: blobs, cancel: cancel}
		r.left.Store(2)
		_, _ = runThrough(t, ctx, r, tree, Options{To: dst, Workers: 1, Overwrite: policy})
		cancel()
		if _, err := os.Stat(dst + "/d"); err != nil {
			t.Error(err)
		}
		mustRun(t, blobs, tree, Options{To: dst, Overwrite: policy})
		want, got := describe(t, src+"/d"), describe(t, dst+"/d")
		for i := range want {
			if i >= len(got) || got[i] != want[i] {
				t.Errorf("%s: %s\nwant %s", policy, got[i], want[i])
			}
		}
	}
}
