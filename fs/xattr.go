package fs

import (
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"snapfs/snapshot"
)

// Attributes that everything in a snapshot answers to and that no list shows.
const (
	xattrID       = "user.snapfs.id"       // the snapshot's ID, 64 hexadecimal digits
	xattrSnapshot = "user.snapfs.snapshot" // DATASET@NAME
)

// trustedPrefix begins names that only root may see.
const trustedPrefix = "trusted."

// GetXAttr reads an extended attribute. The answer ENOSYS, from the first on, makes the kernel ask no more.
func (s *server) GetXAttr(_ <-chan struct{}, in *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	if !s.how.xattrs {
		return 0, fuse.ENOSYS
	}
	if slot, _ := splitID(in.NodeId); slot == 0 {
		return 0, fuse.ENODATA
	}
	n, err := s.node(in.NodeId)
	if err != nil {
		return 0, s.fail("getxattr", in.NodeId, err)
	}
	switch name {
	case xattrID:
		return give(dest, n.shown.ID.String())
	case xattrSnapshot:
		return give(dest, s.datasetNow(&n)+"@"+n.shown.Name)
	}
	if s.unsupported(name) {
		return 0, fuse.Status(syscall.EOPNOTSUPP)
	}
	set, err := s.xattrs(&n)
	if err != nil {
		return 0, s.fail("getxattr", in.NodeId, err)
	}
	for i := range set {
		if set[i].Name == name && s.visible(&n, name) {
			return give(dest, set[i].Value)
		}
	}
	return 0, fuse.ENODATA
}

// unsupported reports whether nothing in the mount has an ACL or a label and the kernel does not need to know: ls asks no more
// after this answer, and would ask twice for each file otherwise (50 us). Another kind that comes later is found all the same, as each
// ls begins anew.
func (s *server) unsupported(name string) bool {
	kind := snapshot.KindOfXattr(name)
	return kind != snapshot.XattrOther && s.view.Load().xattrs&kind == 0 && !s.how.acls
}

// ListXAttr lists the names of extended attributes, each ended by NUL.
func (s *server) ListXAttr(_ <-chan struct{}, in *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	if !s.how.xattrs {
		return 0, fuse.ENOSYS
	}
	if slot, _ := splitID(in.NodeId); slot == 0 {
		return 0, fuse.OK
	}
	n, err := s.node(in.NodeId)
	if err != nil {
		return 0, s.fail("listxattr", in.NodeId, err)
	}
	set, err := s.xattrs(&n)
	if err != nil {
		return 0, s.fail("listxattr", in.NodeId, err)
	}
	var names []byte
	for i := range set {
		if name := set[i].Name; s.visible(&n, name) && (in.Uid == 0 || !strings.HasPrefix(name, trustedPrefix)) {
			names = append(append(names, name...), 0)
		}
	}
	return give(dest, names)
}

// datasetNow is the present name of a node's dataset, which may have been renamed since the snapshot was opened.
func (s *server) datasetNow(n *node) string {
	if d := s.view.Load().byNumber[n.shown.DatasetNumber]; d != nil {
		return d.Name
	}
	return n.shown.Dataset
}

func (s *server) xattrs(n *node) ([]snapshot.Xattr, error) {
	if len(n.Entry.Xattrs) == 0 && n.XattrsID.IsZero() {
		return nil, nil
	}
	return n.Tree.Xattrs(s.ctx, n.Entry)
}

// visible reports whether an attribute is shown: ACLs are not where they would say what is not so.
func (s *server) visible(n *node, name string) bool {
	switch name {
	case aclAccess:
		return !s.how.hideACLs && (n.Position != 0 || !n.hideRootACL)
	case aclDefault:
		return !s.how.hideACLs
	}
	return true
}

// give copies a value if there is room for it; an empty dest asks for its length.
func give[T string | []byte](dest []byte, value T) (uint32, fuse.Status) {
	if len(value) > len(dest) {
		return uint32(len(value)), fuse.ERANGE
	}
	return uint32(copy(dest, value)), fuse.OK
}
