package restore

import (
	"bytes"
	"context"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

// TestLongXattr: an attribute that the destination's file system has no room for (4 KiB on ext4) costs neither the file nor the rest of the restore.
func TestLongXattr(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	write(t, src+"/a", []byte("has it"), 0o644)
	write(t, src+"/b", []byte("after it"), 0o644)
	long := bytes.Repeat([]byte("v"), 60_000)
	if err := unix.Setxattr(src+"/a", "user.long", long, 0); err != unix.ENOSPC && err != unix.E2BIG {
		t.Skip("the file system takes long attributes: ", err)
	}
	blobs := newBlobs()
	m := &maker{t: t, sink: blobs, tweak: func(path string, e *snapshot.Entry) {
		if e.Name == "a" {
			ok(t, snapshot.WriteXattrs(context.Background(), blobs, e, []snapshot.Xattr{{Name: "user.long", Value: long}, {Name: "user.short", Value: []byte("s")}}))
		}
	}}
	tree := open(t, blobs, m.take(src, nil))
	res := mustRun(t, blobs, tree, Options{To: dst})
	for name, want := range map[string]string{"/a": "has it", "/b": "after it"} {
		if got, err := os.ReadFile(dst + name); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if res.SkippedMetadata != 1 || res.Written != 2 {
		t.Errorf("%+v", res)
	}
	if set := xattrsOf(dst + "/a"); len(set) != 1 || set[0].Name != "user.short" {
		t.Errorf("attributes %v", set)
	}
}

// TestCapabilityGoes: a program stands in the way that has a capability and another owner, whose change takes the capability away.
func TestCapabilityGoes(t *testing.T) {
	needRoot(t)
	src, dst := t.TempDir(), t.TempDir()
	write(t, src+"/f", []byte("f"), 0o755)
	write(t, dst+"/f", []byte("f"), 0o755)
	ok(t, os.Lchown(src+"/f", 1234, 1234))
	capability := append([]byte{1, 0, 0, 2, 0, 4}, make([]byte, 14)...)
	if err := unix.Setxattr(dst+"/f", "security.capability", capability, 0); err != nil {
		t.Skip("no capabilities here: ", err)
	}
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	mustRun(t, blobs, tree, Options{To: dst})
	ok(t, os.Chtimes(dst, mtimeOf(t, src), mtimeOf(t, src)))
	same(t, src, dst)
}
