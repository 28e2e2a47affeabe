package restore

import (
	"encoding/binary"
	"fmt"
	"strings"

	"snapfs/snapshot"
)

// xattrRecords are the records of extended attributes that GNU tar (--xattrs, --acls) and bsdtar understand: ACLs as text, everything else as it is.
func xattrRecords(xattrs []snapshot.Xattr) []paxRecord {
	var out []paxRecord
	for _, x := range xattrs {
		switch x.Name {
		case xattrACL, xattrDefaultACL:
			text, err := aclText(x.Value)
			if err != nil {
				continue // nothing a kernel would have accepted
			}
			key := "SCHILY.acl.access"
			if x.Name == xattrDefaultACL {
				key = "SCHILY.acl.default"
			}
			out = append(out, paxRecord{key, text})
		default:
			out = append(out, paxRecord{"SCHILY.xattr." + xattrKey.Replace(x.Name), string(x.Value)})
		}
	}
	return out
}

// xattrKey hides what would end the key of a record, as GNU tar does.
var xattrKey = strings.NewReplacer("%", "%25", "=", "%3D")

// aclText turns the kernel's form of a POSIX ACL (linux/posix_acl_xattr.h: version 2, then tag, permissions and ID of each
// entry) into "user::rw-,user:1000:r--,...".
func aclText(value []byte) (string, error) {
	if len(value) < 4 || (len(value)-4)%8 != 0 || binary.LittleEndian.Uint32(value) != 2 {
		return "", fmt.Errorf("not an ACL of version 2: %d bytes", len(value))
	}
	var entries []string
	for b := value[4:]; len(b) > 0; b = b[8:] {
		word, id, err := aclWho(binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint32(b[4:]))
		if err != nil {
			return "", err
		}
		perm := []byte("---")
		for i, c := range "rwx" {
			if binary.LittleEndian.Uint16(b[2:])&(4>>i) != 0 {
				perm[i] = byte(c)
			}
		}
		entries = append(entries, word+":"+id+":"+string(perm))
	}
	return strings.Join(entries, ","), nil
}

func aclWho(tag uint16, id uint32) (word, who string, err error) {
	switch tag {
	case 0x01:
		return "user", "", nil
	case 0x02:
		return "user", fmt.Sprint(id), nil
	case 0x04:
		return "group", "", nil
	case 0x08:
		return "group", fmt.Sprint(id), nil
	case 0x10:
		return "mask", "", nil
	case 0x20:
		return "other", "", nil
	}
	return "", "", fmt.Errorf("ACL entry with tag %#x", tag)
}
