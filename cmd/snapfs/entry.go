package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

// entryObject is an entry in JSON.
type entryObject struct {
	Snapshot string `json:"snapshot"`
	jsonPath
	Type   string `json:"type"`
	Mode   string `json:"mode"`
	UID    uint32 `json:"uid"`
	GID    uint32 `json:"gid"`
	User   string `json:"user"`
	Group  string `json:"group"`
	Size   int64  `json:"size"`
	Mtime  string `json:"mtime"`
	Links  uint32 `json:"nlink"`
	Target string `json:"target,omitempty"`
	Raw    string `json:"target_base64,omitempty"` // of a target that is not UTF-8
}

// longEntryObject is an entry in the JSON of ls -l.
type longEntryObject struct {
	*entryObject
	Btime  *string           `json:"btime"`
	Flags  []string          `json:"flags"`
	Xattrs map[string]string `json:"xattrs"` // values in base64
}

func newEntryObject(snapshotID, path string, e *snapshot.Entry) *entryObject {
	return &entryObject{
		Snapshot: snapshotID, jsonPath: newJSONPath(path), Type: typeName(e.Type), Mode: fmt.Sprintf("%04o", e.Mode),
		UID: e.UID, GID: e.GID, User: e.User, Group: e.Group, Size: e.Size, Mtime: jsonTime(goTime(e.Mtime)),
		Links: max(e.Nlink, 1), Target: e.Target, Raw: newJSONPath(e.Target).PathBase64,
	}
}

func newLongEntryObject(ctx context.Context, tree *snapshot.Tree, o *entryObject, e *snapshot.Entry) (*longEntryObject, error) {
	long := &longEntryObject{entryObject: o, Flags: flagNames(e.Flags), Xattrs: map[string]string{}}
	if e.Btime != (snapshot.Time{}) {
		btime := jsonTime(goTime(e.Btime))
		long.Btime = &btime
	}
	xattrs, err := tree.Xattrs(ctx, e)
	if err != nil {
		return nil, err
	}
	for _, x := range xattrs {
		long.Xattrs[x.Name] = base64.StdEncoding.EncodeToString(x.Value)
	}
	return long, nil
}

func goTime(t snapshot.Time) time.Time { return time.Unix(t.Sec, int64(t.Nsec)) }

// typeNames are the words of the JSON output, and the letters of ls -l.
var typeNames = map[snapshot.Type]struct{ name, letter string }{
	snapshot.TypeFile:    {"file", "-"},
	snapshot.TypeDir:     {"dir", "d"},
	snapshot.TypeSymlink: {"symlink", "l"},
	snapshot.TypeFIFO:    {"fifo", "p"},
	snapshot.TypeSocket:  {"socket", "s"},
	snapshot.TypeChar:    {"char", "c"},
	snapshot.TypeBlock:   {"block", "b"},
}

func typeName(t snapshot.Type) string { return typeNames[t].name }

// inodeFlags are names, after chattr(1), of the bits of FS_IOC_GETFLAGS (linux/fs.h).
var inodeFlags = []struct {
	bit  uint32
	name string
}{
	{0x00000001, "secure-deletion"},
	{0x00000002, "undelete"},
	{0x00000004, "compressed"},
	{0x00000008, "sync"},
	{0x00000010, "immutable"},
	{0x00000020, "append"},
	{0x00000040, "nodump"},
	{0x00000080, "noatime"},
	{0x00000400, "nocompress"},
	{0x00000800, "encrypted"},
	{0x00001000, "indexed"},
	{0x00004000, "journal-data"},
	{0x00008000, "notail"},
	{0x00010000, "dirsync"},
	{0x00020000, "topdir"},
	{0x00080000, "extents"},
	{0x00100000, "verity"},
	{0x00800000, "nocow"},
	{0x02000000, "dax"},
	{0x10000000, "inline-data"},
	{0x20000000, "project"},
	{0x40000000, "casefold"},
}

// flagNames names the bits that are set; one without a name is written in hexadecimal.
func flagNames(flags uint32) []string {
	names := []string{}
	for _, f := range inodeFlags {
		if flags&f.bit != 0 {
			names = append(names, f.name)
			flags &^= f.bit
		}
	}
	if flags != 0 {
		names = append(names, fmt.Sprintf("%#x", flags))
	}
	return names
}

// longLine is what ls -l writes before the name.
func (p *program) longLine(e *snapshot.Entry) string {
	size := strconv.FormatInt(e.Size, 10)
	if e.Type == snapshot.TypeChar || e.Type == snapshot.TypeBlock {
		size = fmt.Sprintf("%d, %d", unix.Major(e.Rdev), unix.Minor(e.Rdev))
	}
	return fmt.Sprintf("%s%s %3d %-8s %-8s %12s %s ", typeNames[e.Type].letter, modeString(e.Mode), max(e.Nlink, 1),
		owner(e.User, e.UID), owner(e.Group, e.GID), size, p.localTime(goTime(e.Mtime)))
}

func owner(name string, id uint32) string {
	if name == "" {
		return strconv.FormatUint(uint64(id), 10)
	}
	return escape(name)
}

// modeString writes permission bits as ls does: rwsr-xr-t.
func modeString(mode uint32) string {
	s := []byte("rwxrwxrwx")
	for i := range s {
		if mode&(1<<(8-i)) == 0 {
			s[i] = '-'
		}
	}
	for _, special := range []struct {
		bit  uint32
		at   int
		with byte
	}{{unix.S_ISUID, 2, 's'}, {unix.S_ISGID, 5, 's'}, {unix.S_ISVTX, 8, 't'}} {
		if mode&special.bit == 0 {
			continue
		}
		if s[special.at] == 'x' {
			s[special.at] = special.with
		} else {
			s[special.at] = special.with &^ 0x20
		}
	}
	return string(s)
}
