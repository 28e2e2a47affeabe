package restore

import (
	"bytes"
	"context"
	"errors"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/store"
)

// writing is a Reader that does something when a chunk is asked for the first time.
type writing struct {
	Reader
	id   store.ID
	once sync.Once
	do   func()
}

func (w *writing) GetInto(ctx context.Context, kind store.Kind, id store.ID, dst []byte) ([]byte, error) {
	if id == w.id {
		w.once.Do(w.do)
	}
	return w.Reader.GetInto(ctx, kind, id, dst)
}

// TestOldWrittenMeanwhile: what stands in the way is written to by another program after it was compared: what is taken over from it must be
// what the snapshot holds all the same.
func TestOldWrittenMeanwhile(t *testing.T) {
	for _, chunks := range []int{3, 80} { // one after the other; several at once
		src, dst := t.TempDir(), t.TempDir()
		data := noise(5, chunks*testChunk)
		write(t, src+"/file", data, 0o644)
		blobs := newBlobs()
		tree := open(t, blobs, take(t, blobs, src, nil))
		changed := bytes.Clone(data)
		changed[2*testChunk] = 'x'
		write(t, dst+"/file", changed, 0o644)
		busy, err := os.OpenFile(dst+"/file", os.O_RDWR, 0)
		ok(t, err)
		defer busy.Close()
		f, err := tree.Walk(context.Background(), "file")
		ok(t, err)
		r := &writing{Reader: blobs, do: func() { // all before it has been compared then

			_, err := busy.WriteAt([]byte("written by somebody else"), 100)
			ok(t, err)
		}}
		n := 0
		ok(t, tree.Items(context.Background(), f.Entry, 0, func(_ int64, it snapshot.Item) bool {
			r.id, n = it.ID, n+1
			return n < 3
		}))
		res, err := Run(context.Background(), r, tree, withErrors(t, Options{To: dst}))
		ok(t, err)
		got, err := os.ReadFile(dst + "/file")
		ok(t, err)
		if !bytes.Equal(got, data) {
			t.Errorf("%d chunks: the restored file is not what the snapshot holds (%+v)", chunks, res)
		}
	}
}

// TestLinksRunTogether: two linked files of the snapshot are one file at the destination, as programs leave behind that link equal files.
func TestLinksRunTogether(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	write(t, src+"/a", []byte("equal"), 0o644)
	write(t, src+"/c", []byte("equal"), 0o644)
	ok(t, os.Chtimes(src+"/a", mtimeOf(t, src+"/c"), mtimeOf(t, src+"/c")))
	ok(t, os.Link(src+"/a", src+"/b"))
	ok(t, os.Link(src+"/c", src+"/d"))
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	for _, names := range [][]string{{"/a", "/b", "/c", "/d"}, {"/a", "/c"}, {"/a", "/c", "/d"}, {"/b", "/c"}, {"/b", "/d"}} {
		for _, e := range []string{"/a", "/b", "/c", "/d"} {
			_ = os.Remove(dst + e)
		}
		write(t, dst+names[0], []byte("equal"), 0o644)
		ok(t, os.Chtimes(dst+names[0], mtimeOf(t, src+"/a"), mtimeOf(t, src+"/a")))
		for _, n := range names[1:] {
			ok(t, os.Link(dst+names[0], dst+n))
		}
		mustRun(t, blobs, tree, Options{To: dst})
		if inodeOf(t, dst+"/a") != inodeOf(t, dst+"/b") || inodeOf(t, dst+"/c") != inodeOf(t, dst+"/d") || inodeOf(t, dst+"/a") == inodeOf(t, dst+"/c") {
			t.Errorf("%v linked before: a %d, b %d, c %d, d %d", names, inodeOf(t, dst+"/a"), inodeOf(t, dst+"/b"), inodeOf(t, dst+"/c"), inodeOf(t, dst+"/d"))
		}
	}
}

// TestUnwritten: that the disk refused something is told once by the kernel, perhaps to a flush in the middle of the run.
func TestUnwritten(t *testing.T) {
	src := t.TempDir()
	write(t, src+"/file", noise(1, 1<<20), 0o644)
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	for at := range 2 {
		calls := 0
		_, err := runThrough(t, context.Background(), blobs, tree, withErrors(t, Options{To: t.TempDir(), flushEvery: 1, syncfs: func(int) error {
			if calls++; calls == at+1 {
				return unix.EIO
			}
			return nil
		}}))
		if !errors.Is(err, unix.EIO) {
			t.Errorf("flush %d of %d failed: %v", at+1, calls, err)
		}
	}
}

// TestLockedElsewhere: a locked file that is replaced under one of its names stays locked under the others.
func TestLockedElsewhere(t *testing.T) {
	needRoot(t)
	base := t.TempDir()
	src, dst, other := base+"/src", base+"/dst", base+"/other"
	write(t, src+"/a", []byte("new"), 0o644)
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	write(t, other, []byte("old"), 0o644)
	ok(t, os.MkdirAll(dst+"/extra", 0o755))
	for _, n := range []string{"/a", "/b", "/extra/c"} {
		ok(t, os.Link(other, dst+n))
	}
	unlockLater(t, base)
	setFlags(other, flagImmutable)
	if flagsOf(other)&flagImmutable == 0 {
		t.Skip("no inode flags here")
	}
	mustRun(t, blobs, tree, Options{To: dst, Delete: true})
	if got := paths(t, dst); got != "a" {
		t.Error(got)
	}
	if flagsOf(other)&flagImmutable == 0 {
		t.Error("the file is not locked any more under its other name")
	}
}

// TestLockedInTheWay: a locked directory that stays in the way of a file stays locked.
func TestLockedInTheWay(t *testing.T) {
	needRoot(t)
	src, dst := t.TempDir(), t.TempDir()
	write(t, src+"/a", []byte("new"), 0o644)
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	write(t, dst+"/a/inside", []byte("old"), 0o644)
	unlockLater(t, dst)
	setFlags(dst+"/a", flagImmutable)
	if flagsOf(dst+"/a")&flagImmutable == 0 {
		t.Skip("no inode flags here")
	}
	res, err := Run(context.Background(), blobs, tree, Options{To: dst})
	if err != nil || res.Errors != 1 {
		t.Errorf("%v %+v", err, res)
	}
	if flagsOf(dst+"/a")&flagImmutable == 0 {
		t.Error("the directory is not locked any more")
	}
}
