package backup

import (
	"time"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

// typeOf maps the type bits of a mode; 0 for what has no type here.
func typeOf(mode uint16) snapshot.Type {
	switch uint32(mode) & unix.S_IFMT {
	case unix.S_IFREG:
		return snapshot.TypeFile
	case unix.S_IFDIR:
		return snapshot.TypeDir
	case unix.S_IFLNK:
		return snapshot.TypeSymlink
	case unix.S_IFIFO:
		return snapshot.TypeFIFO
	case unix.S_IFSOCK:
		return snapshot.TypeSocket
	case unix.S_IFCHR:
		return snapshot.TypeChar
	case unix.S_IFBLK:
		return snapshot.TypeBlock
	}
	return 0
}

func timeOf(t unix.StatxTimestamp) snapshot.Time { return snapshot.Time{Sec: t.Sec, Nsec: t.Nsec} }

func devOf(st *unix.Statx_t) uint64 { return unix.Mkdev(st.Dev_major, st.Dev_minor) }

// hasHoles reports whether fewer blocks are allotted than the size asks for.
func hasHoles(st *unix.Statx_t) bool { return st.Blocks < (st.Size+511)/512 }

// describe fills the attributes of e from st; the name, the content and what needs further calls stay as they are.
func (r *run) describe(e *snapshot.Entry, st *unix.Statx_t, fs *fileSystem, now time.Time) {
	e.Type = typeOf(st.Mode)
	e.FS, e.Inode = fs.index, st.Ino
	e.Mode = uint32(st.Mode) & 0o7777
	e.UID, e.GID = st.Uid, st.Gid
	e.User, e.Group = r.owners.user(st.Uid), r.owners.group(st.Gid)
	e.Mtime, e.Ctime = timeOf(st.Mtime), timeOf(st.Ctime)
	e.Btime = snapshot.Time{}
	if st.Mask&unix.STATX_BTIME != 0 {
		e.Btime = timeOf(st.Btime)
	}
	e.Rdev, e.Size = 0, 0
	switch e.Type {
	case snapshot.TypeChar, snapshot.TypeBlock:
		e.Rdev = unix.Mkdev(st.Rdev_major, st.Rdev_minor)
	case snapshot.TypeFile, snapshot.TypeSymlink:
		e.Size = int64(st.Size)
	}
	// What a pseudo file system shows changes without its times.
	e.Fresh = fresh(st, fs.tick, now) || fs.pseudo && e.Type == snapshot.TypeFile
	if r.mending != nil && e.Fresh && !fresh(st, fs.tick, r.mending.end) {
		r.mending.doubt.Store(true)
	}
}

// fresh reports whether a change made from now on could leave the times as they are: they move in ticks of the
// clock, or of the file system. A time far ahead was set by someone; a change would move it.
func fresh(st *unix.Statx_t, tick time.Duration, now time.Time) bool {
	if st.Mtime.Nsec == 0 && st.Ctime.Nsec == 0 {
		tick = max(tick, coarseTick)
	}
	limit := now.Add(-tick)
	if !before(st.Ctime, limit) {
		return true
	}
	return !before(st.Mtime, limit) && before(st.Mtime, now.Add(coarseTick))
}

func before(t unix.StatxTimestamp, limit time.Time) bool {
	if sec := limit.Unix(); t.Sec != sec {
		return t.Sec < sec
	}
	return int(t.Nsec) < limit.Nanosecond()
}

// unchanged is the rule of the contract: e, which is followed and may be nil, still describes the file.
func (r *run) unchanged(e *snapshot.Entry, st *unix.Statx_t) bool {
	switch {
	case e == nil || e.Fresh || r.o.Reread,
		e.Type != typeOf(st.Mode),
		e.Mtime != timeOf(st.Mtime),
		!r.o.IgnoreCtime && e.Ctime != timeOf(st.Ctime),
		!r.o.IgnoreInode && e.Inode != st.Ino,
		// These move ctime, which may be ignored.
		e.Mode != uint32(st.Mode)&0o7777, e.UID != st.Uid, e.GID != st.Gid:
		return false
	}
	switch e.Type {
	case snapshot.TypeFile, snapshot.TypeSymlink:
		return e.Size == int64(st.Size)
	case snapshot.TypeChar, snapshot.TypeBlock:
		return e.Rdev == unix.Mkdev(st.Rdev_major, st.Rdev_minor)
	}
	return true
}

// Inode flags as in linux/fs.h.
const (
	flagSecureDelete  = 0x00000001
	flagUndelete      = 0x00000002
	flagCompress      = 0x00000004
	flagSync          = 0x00000008
	flagImmutable     = 0x00000010
	flagAppend        = 0x00000020
	flagNoDump        = 0x00000040
	flagNoAtime       = 0x00000080
	flagNoCompress    = 0x00000400
	flagJournalData   = 0x00004000
	flagNoTail        = 0x00008000
	flagDirSync       = 0x00010000
	flagTopDir        = 0x00020000
	flagNoCow         = 0x00800000
	flagDAX           = 0x02000000
	flagProjectParent = 0x20000000
	flagCaseFold      = 0x40000000

	// settableFlags are those that chattr sets; the others tell of the file system's own doing.
	settableFlags = flagSecureDelete | flagUndelete | flagCompress | flagSync | flagImmutable | flagAppend | flagNoDump |
		flagNoAtime | flagNoCompress | flagJournalData | flagNoTail | flagDirSync | flagTopDir | flagNoCow | flagDAX |
		flagProjectParent | flagCaseFold
)

// inodeFlags reads the flags of an open file or directory. Not from statx, which knows only some of them. A file system
// without flags is asked once.
func inodeFlags(fd int, fs *fileSystem) uint32 {
	if fs.noFlags.Load() {
		return 0
	}
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err == unix.ENOTTY || err == unix.ENOTSUP {
		fs.noFlags.Store(true)
	}
	if err != nil {
		return 0
	}
	return flags & settableFlags
}

// sameEntry compares all that a snapshot keeps of two entries, but for the flag fresh.
func sameEntry(a, b *snapshot.Entry) bool {
	return a.Type == b.Type && a.Linked == b.Linked && a.FS == b.FS && a.Inode == b.Inode && a.Mode == b.Mode &&
		a.Flags == b.Flags && a.UID == b.UID && a.GID == b.GID && a.User == b.User && a.Group == b.Group &&
		a.Rdev == b.Rdev && a.Size == b.Size && a.Mtime == b.Mtime && a.Ctime == b.Ctime && a.Btime == b.Btime &&
		a.Target == b.Target && a.Dir == b.Dir && a.Totals == b.Totals &&
		sameXattrs(a, b) && sameContent(&a.Content, &b.Content)
}

func sameXattrs(a, b *snapshot.Entry) bool {
	if a.XattrsID != b.XattrsID || len(a.Xattrs) != len(b.Xattrs) {
		return false
	}
	for i := range a.Xattrs {
		if a.Xattrs[i].Name != b.Xattrs[i].Name || string(a.Xattrs[i].Value) != string(b.Xattrs[i].Value) {
			return false
		}
	}
	return true
}

func sameContent(a, b *snapshot.Content) bool {
	if a.List != b.List || len(a.Items) != len(b.Items) {
		return false
	}
	for i := range a.Items {
		if a.Items[i] != b.Items[i] {
			return false
		}
	}
	return true
}
