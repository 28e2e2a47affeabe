package fs

import (
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

const (
	blockSize  = 4096 // bytes, as told to programs that ask
	statBlock  = 512  // bytes in the unit of st_blocks
	statxBtime = unix.STATX_BTIME

	ownDirMode = syscall.S_IFDIR | 0o555
	linkMode   = syscall.S_IFLNK | 0o777
)

// attr fills the attributes of an entry of a snapshot.
func (s *server) attr(out *fuse.Attr, id uint64, n *node) {
	e := n.Entry
	*out = fuse.Attr{
		Ino:     id,
		Mode:    typeBits(e.Type) | s.permissions(n),
		Nlink:   max(e.Nlink, 1),
		Owner:   s.ownerOf(e),
		Blksize: blockSize,
	}
	out.Mtime, out.Mtimensec = uint64(e.Mtime.Sec), e.Mtime.Nsec
	out.Atime, out.Atimensec = out.Mtime, out.Mtimensec
	out.Ctime, out.Ctimensec = uint64(e.Ctime.Sec), e.Ctime.Nsec
	switch e.Type {
	case snapshot.TypeFile:
		out.Size, out.Blocks = uint64(e.Size), blocks(e)
	case snapshot.TypeSymlink:
		out.Size = uint64(len(e.Target))
	case snapshot.TypeDir:
		out.Size = blockSize
	case snapshot.TypeChar, snapshot.TypeBlock:
		out.Rdev = uint32(e.Rdev)
	}
}

// blocks counts data, not holes: cp and tar look for holes only in files with fewer blocks than bytes.
func blocks(e *snapshot.Entry) uint64 {
	data := e.Size - e.Content.Holes
	for i := range e.Content.Items {
		if it := &e.Content.Items[i]; it.ID.IsZero() {
			data -= it.Length
		}
	}
	return uint64((data + statBlock - 1) / statBlock)
}

func (s *server) ownerOf(e *snapshot.Entry) fuse.Owner {
	o := fuse.Owner{Uid: e.UID, Gid: e.GID}
	if s.how.uid != nil {
		o.Uid = *s.how.uid
	}
	if s.how.gid != nil {
		o.Gid = *s.how.gid
	}
	return o
}

// permissions gives the mode bits that an entry is shown with.
func (s *server) permissions(n *node) uint32 {
	mode := n.Mode & 0o7777
	if n.Position == 0 {
		mode = n.rootMode
	}
	if s.how.stricter && (len(n.Entry.Xattrs) > 0 || !n.XattrsID.IsZero()) {
		mode &= s.withoutACL(n, mode)
	}
	return mode &^ s.how.umask
}

func (s *server) withoutACL(n *node, mode uint32) uint32 {
	set, err := n.Tree.Xattrs(s.ctx, n.Entry)
	if err != nil {
		return mode &^ 0o077
	}
	if acl := findXattr(set, aclAccess); acl != nil {
		return stricter(mode, acl)
	}
	return mode
}

// ownAttr fills the attributes of the root, a dataset directory or a latest link.
func (s *server) ownAttr(id uint64, out *fuse.Attr) fuse.Status {
	v := s.view.Load()
	kind, number := splitOwn(id)
	switch kind {
	case ownRoot:
		s.fillOwn(out, id, ownDirMode, v.changed)
		return fuse.OK
	case ownDataset:
		if d := v.byNumber[number]; d != nil {
			s.fillOwn(out, id, ownDirMode, d.changed())
			return fuse.OK
		}
	case ownLatest:
		if sh := v.bySlot[number]; sh != nil {
			s.fillOwn(out, id, linkMode, sh.Committed)
			out.Size = uint64(len(sh.Name))
			return fuse.OK
		}
	}
	return fuse.Status(syscall.ESTALE)
}

func (s *server) fillOwn(out *fuse.Attr, id uint64, mode uint32, t time.Time) {
	*out = fuse.Attr{
		Ino:     id,
		Mode:    mode,
		Nlink:   1,
		Owner:   fuse.Owner{Uid: s.how.owner, Gid: s.how.group},
		Blksize: blockSize,
	}
	if mode == ownDirMode {
		out.Mode &^= s.how.umask
		out.Size = blockSize
	}
	out.Mtime, out.Mtimensec = seconds(t)
	out.Atime, out.Atimensec = out.Mtime, out.Mtimensec
	out.Ctime, out.Ctimensec = out.Mtime, out.Mtimensec
}

// changed is when the newest of a dataset's snapshots was committed.
func (d *dataset) changed() time.Time {
	var t time.Time
	for _, sh := range d.snapshots {
		if sh.Committed.After(t) {
			t = sh.Committed
		}
	}
	return t
}

func fillStatx(out *fuse.Statx, a *fuse.Attr) {
	*out = fuse.Statx{
		Mask:      unix.STATX_BASIC_STATS,
		Blksize:   a.Blksize,
		Nlink:     a.Nlink,
		Uid:       a.Uid,
		Gid:       a.Gid,
		Mode:      uint16(a.Mode),
		Ino:       a.Ino,
		Size:      a.Size,
		Blocks:    a.Blocks,
		Atime:     fuse.SxTime{Sec: a.Atime, Nsec: a.Atimensec},
		Mtime:     fuse.SxTime{Sec: a.Mtime, Nsec: a.Mtimensec},
		Ctime:     fuse.SxTime{Sec: a.Ctime, Nsec: a.Ctimensec},
		RdevMajor: unix.Major(uint64(a.Rdev)),
		RdevMinor: unix.Minor(uint64(a.Rdev)),
	}
}
