package restore

import (
	"context"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestManyLinks spreads thousands of names of one file, and of pairs, over several windows.
func TestManyLinks(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	write(t, src+"/a/first", []byte("thousands"), 0o644)
	ok(t, os.Mkdir(src+"/b", 0o755))
	const n = 2600
	for i := range n {
		ok(t, os.Link(src+"/a/first", fmt.Sprintf("%s/%c/%05d", src, "ab"[i%2], i)))
	}
	for i := range 50 {
		write(t, fmt.Sprintf("%s/a/pair%d", src, i), []byte(fmt.Sprint(i)), 0o644)
		ok(t, os.Link(fmt.Sprintf("%s/a/pair%d", src, i), fmt.Sprintf("%s/b/pair%d", src, i)))
	}
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	mustRun(t, blobs, tree, Options{To: dst})
	ok(t, os.Remove(dst+"/b/00003"))
	write(t, dst+"/b/00003", []byte("thousands"), 0o644)
	ok(t, os.Remove(dst+"/a/00004"))
	res := mustRun(t, blobs, tree, Options{To: dst, Verify: true})
	if res.Written != 2 {
		t.Errorf("%+v", res)
	}
	ok(t, os.Chtimes(dst, mtimeOf(t, src), mtimeOf(t, src)))
	ok(t, os.Chmod(dst, 0o755))
	ok(t, os.Chmod(src, 0o755))
	same(t, src, dst)
}

// TestLinkAcross restores names of one file to two file systems: each gets one of its own.
func TestLinkAcross(t *testing.T) {
	needRoot(t)
	src, dst := t.TempDir(), t.TempDir()
	write(t, src+"/a/one", []byte("content"), 0o644)
	for _, name := range []string{"/a/two", "/m/three", "/m/four", "/m/sub/five", "/z/six"} {
		ok(t, os.MkdirAll(src+name+"/..", 0o755))
		ok(t, os.RemoveAll(src+name))
		ok(t, os.Link(src+"/a/one", src+name))
	}
	ok(t, os.Mkdir(dst+"/m", 0o755))
	if err := unix.Mount("none", dst+"/m", "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("cannot mount tmpfs: ", err)
	}
	defer unix.Unmount(dst+"/m", unix.MNT_DETACH)
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	for range 2 {
		mustRun(t, blobs, tree, Options{To: dst, Verify: true, Workers: 1})
		for _, name := range []string{"/a/one", "/a/two", "/m/three", "/m/four", "/m/sub/five", "/z/six"} {
			if data, _ := os.ReadFile(dst + name); string(data) != "content" {
				t.Errorf("%s: %q", name, data)
			}
		}
		if inodeOf(t, dst+"/m/three") != inodeOf(t, dst+"/m/four") || inodeOf(t, dst+"/a/one") != inodeOf(t, dst+"/a/two") {
			t.Error("names on one file system are not one file")
		}
	}
}

// TestFirsts holds few records in memory and many in a file.
func TestFirsts(t *testing.T) {
	for _, records := range []uint64{10, firstsInMemory + 1} {
		f := newFirsts(records, t.TempDir())
		last := uint32(records - 1)
		for _, rank := range []uint32{0, 3, last} {
			if !f.claim(rank, 100+rank) || f.claim(rank, 7) || f.of(rank) != 100+rank {
				t.Errorf("%d records: rank %d has %d", records, rank, f.of(rank))
			}
		}
		f.replace(3, lostFirst)
		if f.of(3) != lostFirst || f.of(2) != noFirst || (f.file != nil) != (records > firstsInMemory) {
			t.Errorf("%d records: %d %d", records, f.of(3), f.of(2))
		}
		if f.file != nil {
			f.backToMemory()
			if f.of(last) != 100+last || f.of(3) != lostFirst {
				t.Error("lost on the way back to memory")
			}
		}
		f.close()
	}
}

func TestPositions(t *testing.T) {
	var p positions
	want := []uint32{1, 63, 64, 1000, 1 << 20}
	for _, n := range want {
		p.add(n)
	}
	var got []uint32
	p.each(func(n uint32) bool { got = append(got, n); return true })
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Error(got)
	}
}

// TestNeverLinksToStranger: the first name of a linked file appears while it is being written: it stays, and further names are not linked to it.
func TestNeverLinksToStranger(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	write(t, src+"/a", []byte("linked"), 0o644)
	ok(t, os.Link(src+"/a", src+"/b"))
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	r := &swapping{Reader: blobs, do: func() { write(t, dst+"/a", []byte("stranger"), 0o644) }}
	_, err := Run(context.Background(), r, tree, withErrors(t, Options{To: dst, Overwrite: OverwriteNever}))
	ok(t, err)
	for name, want := range map[string]string{"/a": "stranger", "/b": "linked"} {
		if got, err := os.ReadFile(dst + name); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestFailedNameKeepsLinks: that one name of a linked file could not be made does not part the others.
func TestFailedNameKeepsLinks(t *testing.T) {
	needRoot(t)
	src, dst := t.TempDir(), t.TempDir()
	write(t, src+"/a", []byte("x"), 0o644)
	for _, n := range []string{"/b", "/c", "/d"} {
		ok(t, os.Link(src+"/a", src+n))
	}
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	write(t, dst+"/b", []byte("busy"), 0o644)
	if err := unix.Mount(dst+"/b", dst+"/b", "", unix.MS_BIND, ""); err != nil {
		t.Skip("cannot mount: ", err)
	}
	defer unix.Unmount(dst+"/b", unix.MNT_DETACH)
	res, err := Run(context.Background(), blobs, tree, Options{To: dst, Workers: 1})
	ok(t, err)
	if res.Errors != 1 {
		t.Errorf("%+v", res)
	}
	if a := inodeOf(t, dst+"/a"); inodeOf(t, dst+"/c") != a || inodeOf(t, dst+"/d") != a {
		t.Error("c and d are no links to a")
	}
}
