package fs

import (
	"encoding/binary"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// The kernel knows that the mount is read-only and sends none of these; who sends them all the same gets EROFS.

// SetAttr is refused.
func (s *server) SetAttr(<-chan struct{}, *fuse.SetAttrIn, *fuse.AttrOut) fuse.Status {
	return fuse.EROFS
}

// Mknod is refused.
func (s *server) Mknod(<-chan struct{}, *fuse.MknodIn, string, *fuse.EntryOut) fuse.Status {
	return fuse.EROFS
}

// Mkdir is refused.
func (s *server) Mkdir(<-chan struct{}, *fuse.MkdirIn, string, *fuse.EntryOut) fuse.Status {
	return fuse.EROFS
}

// Unlink is refused.
func (s *server) Unlink(<-chan struct{}, *fuse.InHeader, string) fuse.Status { return fuse.EROFS }

// Rmdir is refused.
func (s *server) Rmdir(<-chan struct{}, *fuse.InHeader, string) fuse.Status { return fuse.EROFS }

// Rename is refused.
func (s *server) Rename(<-chan struct{}, *fuse.RenameIn, string, string) fuse.Status {
	return fuse.EROFS
}

// Link is refused.
func (s *server) Link(<-chan struct{}, *fuse.LinkIn, string, *fuse.EntryOut) fuse.Status {
	return fuse.EROFS
}

// Symlink is refused.
func (s *server) Symlink(<-chan struct{}, *fuse.InHeader, string, string, *fuse.EntryOut) fuse.Status {
	return fuse.EROFS
}

// Create is refused.
func (s *server) Create(<-chan struct{}, *fuse.CreateIn, string, *fuse.CreateOut) fuse.Status {
	return fuse.EROFS
}

// Tmpfile is refused.
func (s *server) Tmpfile(<-chan struct{}, *fuse.CreateIn, *fuse.CreateOut) fuse.Status {
	return fuse.EROFS
}

// Write is refused.
func (s *server) Write(<-chan struct{}, *fuse.WriteIn, []byte) (uint32, fuse.Status) {
	return 0, fuse.EROFS
}

// Writev is refused.
func (s *server) Writev(<-chan struct{}, *fuse.WriteIn, [][]byte) (uint32, fuse.Status) {
	return 0, fuse.EROFS
}

// SetXAttr is refused; not implemented when the mount has no attributes at all.
func (s *server) SetXAttr(<-chan struct{}, *fuse.SetXAttrIn, string, []byte) fuse.Status {
	if !s.how.xattrs {
		return fuse.ENOSYS
	}
	return fuse.EROFS
}

// RemoveXAttr is refused like SetXAttr.
func (s *server) RemoveXAttr(<-chan struct{}, *fuse.InHeader, string) fuse.Status {
	if !s.how.xattrs {
		return fuse.ENOSYS
	}
	return fuse.EROFS
}

// Fallocate is refused.
func (s *server) Fallocate(<-chan struct{}, *fuse.FallocateIn) fuse.Status { return fuse.EROFS }

// Open is "not implemented", which the kernel takes as: always allowed, everything may stay cached, never ask again.
// It spares two of the three requests that reading a small file takes.
func (s *server) Open(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.ENOSYS }

// Flush is not implemented: there is nothing to write back, and the kernel stops asking.
func (s *server) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

// Ioctl answers FS_IOC_GETFLAGS (lsattr) with the inode flags at the source.
func (s *server) Ioctl(_ <-chan struct{}, in *fuse.IoctlIn, _ []byte, _ *fuse.IoctlOut, out []byte) fuse.Status {
	if in.Cmd != unix.FS_IOC_GETFLAGS || len(out) < 4 {
		return fuse.Status(unix.ENOTTY)
	}
	clear(out)
	if slot, _ := splitID(in.NodeId); slot == 0 {
		return fuse.OK
	}
	n, err := s.node(in.NodeId)
	if err != nil {
		return s.fail("getflags", in.NodeId, err)
	}
	binary.LittleEndian.PutUint32(out, n.Flags)
	return fuse.OK
}
