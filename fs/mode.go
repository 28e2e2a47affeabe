package fs

import (
	"encoding/binary"
	"syscall"

	"snapfs/snapshot"
)

// Names of the attributes that hold POSIX ACLs.
const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

// Tags of ACL entries, as in linux/posix_acl_xattr.h.
const (
	aclVersion  = 2
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
)

// typeBits gives the file type's part of a mode.
func typeBits(t snapshot.Type) uint32 {
	switch t {
	case snapshot.TypeFile:
		return syscall.S_IFREG
	case snapshot.TypeDir:
		return syscall.S_IFDIR
	case snapshot.TypeSymlink:
		return syscall.S_IFLNK
	case snapshot.TypeFIFO:
		return syscall.S_IFIFO
	case snapshot.TypeSocket:
		return syscall.S_IFSOCK
	case snapshot.TypeChar:
		return syscall.S_IFCHR
	case snapshot.TypeBlock:
		return syscall.S_IFBLK
	}
	return 0
}

// stricter gives the mode that, without the ACL, allows nobody but the owner more than the ACL does. With an ACL the
// group bits of a mode are its mask, which may be more than the owning group has; and a user or group that the ACL
// names may have less than all others.
func stricter(mode uint32, acl []byte) uint32 {
	if len(acl) < 4 || binary.LittleEndian.Uint32(acl) != aclVersion {
		return mode &^ 0o077 // unknown: nobody but the owner
	}
	named, group, mask := uint32(7), uint32(7), uint32(7)
	some := false
	for e := acl[4:]; len(e) >= 8; e = e[8:] {
		perm := uint32(binary.LittleEndian.Uint16(e[2:])) & 7
		switch binary.LittleEndian.Uint16(e) {
		case aclUser, aclGroup:
			named, some = named&perm, true
		case aclGroupObj:
			group = perm
		case aclMask:
			mask = perm
		}
	}
	if some {
		named &= mask
	}
	return mode&^0o077 | (mode >> 3 & group & mask & named << 3) | mode&7&named
}

// enclosed gives the mode of a snapshot's directory with the rights taken away that nobody had at the source because
// a directory above it did not let him pass. Who somebody is at a directory above (owner, group, other) is known only
// in part, so what is not sure is refused.
func enclosed(root *snapshot.Entry, mode uint32, above []snapshot.Entry) uint32 {
	for i := range above {
		mode &= passes(root, &above[i])
	}
	return mode
}

// passes gives a mask of the permission bits that remain for each class of root's users below the directory above.
func passes(root, above *snapshot.Entry) uint32 {
	mode := above.Mode
	if acl := findXattr(above.Xattrs, aclAccess); acl != nil {
		mode = stricter(mode, acl)
	} else if !above.XattrsID.IsZero() {
		mode &^= 0o077
	}
	owner, group, other := mode&0o100 != 0, mode&0o010 != 0, mode&0o001 != 0
	mask := uint32(0o7777)
	if root.UID != 0 && !ownerPasses(root, above, owner, group, other) {
		mask &^= 0o700
	}
	if !owner || !group || above.GID != root.GID && !other {
		mask &^= 0o070
	}
	if !owner || !group || !other {
		mask &^= 0o007
	}
	return mask
}

func ownerPasses(root, above *snapshot.Entry, owner, group, other bool) bool {
	if root.UID == above.UID {
		return owner
	}
	return group && other
}

func findXattr(set []snapshot.Xattr, name string) []byte {
	for i := range set {
		if set[i].Name == name {
			return set[i].Value
		}
	}
	return nil
}
