package restore

import (
	"context"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// squashVariable is the mountpoint at which the test, started once more, serves the directory in squashVariable_OF until its standard input ends.
const squashVariable = "SNAPFS_TEST_SQUASH"

// squashed is a node of a file system that has one owner and one mode for everything, as FAT has.
type squashed struct{ *fs.LoopbackNode }

func (n *squashed) WrapChild(_ context.Context, child fs.InodeEmbedder) fs.InodeEmbedder {
	return &squashed{child.(*fs.LoopbackNode)}
}

func squash(a *fuse.Attr) {
	a.Mode, a.Owner = a.Mode&syscall.S_IFMT|0o755, fuse.Owner{Uid: 1000, Gid: 1000}
}

func (n *squashed) Getattr(ctx context.Context, f fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	err := n.LoopbackNode.Getattr(ctx, nil, out)
	squash(&out.Attr)
	return err
}

func (n *squashed) Setattr(ctx context.Context, f fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if in.Valid&(fuse.FATTR_UID|fuse.FATTR_GID) != 0 {
		return syscall.EPERM
	}
	in.Valid &^= fuse.FATTR_MODE
	err := n.LoopbackNode.Setattr(ctx, f, in, out)
	squash(&out.Attr)
	return err
}

func (n *squashed) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	child, err := n.LoopbackNode.Mkdir(ctx, name, mode, out)
	squash(&out.Attr)
	return child, err
}

func (n *squashed) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	child, err := n.LoopbackNode.Lookup(ctx, name, out)
	squash(&out.Attr)
	return child, err
}

func (n *squashed) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	child, f, kernel, err := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	squash(&out.Attr)
	return child, f, kernel, err
}

func serveSquashed(t *testing.T, dir, at string) {
	loopback, err := fs.NewLoopbackRoot(dir)
	ok(t, err)
	root := &squashed{loopback.(*fs.LoopbackNode)}
	server, err := fs.Mount(at, root, &fs.Options{MountOptions: fuse.MountOptions{DirectMount: true, AllowOther: true}})
	ok(t, err)
	os.Stdout.WriteString("!")
	_, _ = io.Copy(io.Discard, os.Stdin)
	ok(t, server.Unmount())
}

// TestWithoutOwners restores to a file system that has one owner and one mode for everything.
func TestWithoutOwners(t *testing.T) {
	if at := os.Getenv(squashVariable); at != "" {
		serveSquashed(t, os.Getenv(squashVariable+"_OF"), at)
		return
	}
	needRoot(t)
	src, back, at := t.TempDir(), t.TempDir(), t.TempDir()
	write(t, src+"/d/e/f", []byte("f"), 0o644)
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	cmd := exec.Command(os.Args[0], "-test.run=^TestWithoutOwners$")
	cmd.Env = append(os.Environ(), squashVariable+"="+at, squashVariable+"_OF="+back)
	in, err := cmd.StdinPipe()
	ok(t, err)
	out, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	defer func() { in.Close(); _ = cmd.Wait() }()
	if n, _ := out.Read(make([]byte, 1)); n == 0 {
		t.Skip("cannot mount")
	}
	mustRun(t, blobs, tree, Options{To: at + "/new"})
	if got := paths(t, at); got != "new new/d new/d/e new/d/e/f" {
		t.Error(got)
	}
	if res := mustRun(t, blobs, tree, Options{To: at + "/new"}); res.Written != 0 {
		t.Errorf("%+v", res)
	}
}
