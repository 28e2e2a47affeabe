package restore

import (
	"bytes"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

const (
	xattrACL        = "system.posix_acl_access"
	xattrDefaultACL = "system.posix_acl_default"

	flagImmutable = 0x10
	flagAppend    = 0x20
	flagsLocking  = flagImmutable | flagAppend
	// flagsKept are the inode flags that a user can set and that mean the same on another file system: secrm, unrm,
	// sync, immutable, append, nodump, noatime, journal data, notail, dirsync, topdir, nocow. The others describe how
	// the source's file system stored the file.
	flagsKept = 0x1 | 0x2 | 0x8 | flagsLocking | 0x40 | 0x80 | 0x4000 | 0x8000 | 0x10000 | 0x20000 | 0x800000
)

// wanted is what a destination inode shall be like.
type wanted struct {
	entry  *snapshot.Entry
	xattrs []snapshot.Xattr
	late   uint32 // flags of entry that are not to be set now
}

// current is what it is like.
type current struct {
	uid, gid, mode uint32 // mode: 07777
	mtime          snapshot.Time
	bare           bool // new, in a directory that hands on nothing: no xattrs, no flags
}

func currentOf(st *unix.Stat_t) current {
	return current{uid: st.Uid, gid: st.Gid, mode: st.Mode & 0o7777,
		mtime: snapshot.Time{Sec: st.Mtim.Sec, Nsec: uint32(st.Mtim.Nsec)}}
}

// outcome counts what setting attributes came to.
type outcome struct {
	changed bool
	skipped int64 // owners, xattrs and flags that could not be set
}

// skip takes errors that mean "not allowed to you, or not on this file system" as a counted omission.
func (o *outcome) skip(err error) error {
	switch err {
	case nil:
		o.changed = true
		return nil
	case unix.EPERM, unix.EACCES, unix.EOPNOTSUPP, unix.EINVAL, unix.ENOTTY, unix.ENOSYS:
		o.skipped++
		return nil
	}
	return err
}

// setter brings one inode's attributes to what is wanted. Order matters: chown clears set-id bits and capabilities, so mode
// and xattrs follow it, those of users before a mode that forbids writing; times follow everything that changes them;
// locking flags are last.
type setter struct {
	h    handle
	cur  current
	want wanted
	dry  bool // only find out whether anything differs
	outcome
}

func (s *setter) run() (outcome, error) {
	have, err := s.haveXattrs()
	if err != nil {
		return s.outcome, err
	}
	flags := uint32(0)
	if !s.cur.bare {
		flags = s.h.flags()
	}
	if !s.differs(have, flags) {
		return s.outcome, nil
	}
	if s.dry {
		s.changed = true
		return s.outcome, nil
	}
	if flags&flagsLocking != 0 { // nothing else can be changed before
		if err := s.h.setFlags(flags &^ flagsLocking); err != nil {
			err = s.skip(err)
			return s.outcome, err
		}
		flags &^= flagsLocking
		s.changed = true
	}
	for _, step := range []func() error{s.owner, func() error { return s.dropXattrs(have) },
		func() error { return s.addXattrs(have, ofUser) }, s.mode,
		func() error { return s.addXattrs(have, ofSystem) }, s.mtime, func() error { return s.flags(flags) }} {
		if err := step(); err != nil {
			return s.outcome, err
		}
	}
	return s.outcome, nil
}

// haveXattrs reads the attributes that are there, as far as a restore may replace them.
func (s *setter) haveXattrs() ([]snapshot.Xattr, error) {
	if s.cur.bare {
		return nil, nil
	}
	names, err := s.h.xattrNames()
	if err != nil {
		return nil, err
	}
	var have []snapshot.Xattr
	for _, name := range names {
		// The mode may keep its owner from reading an attribute: it is there all the same.
		if value, err := s.h.xattr(name); err == nil || err == unix.EACCES {
			have = append(have, snapshot.Xattr{Name: name, Value: value})
		}
	}
	return have, nil
}

func (s *setter) differs(have []snapshot.Xattr, flags uint32) bool {
	e := s.want.entry
	if s.cur.uid != e.UID || s.cur.gid != e.GID || s.modeDiffers() || s.cur.mtime != e.Mtime {
		return true
	}
	if s.takesFlags() && (flags^e.Flags)&flagsKept&^s.want.late != 0 {
		return true
	}
	return slices.ContainsFunc(s.want.xattrs, func(x snapshot.Xattr) bool { return !holds(have, x) }) ||
		slices.ContainsFunc(have, func(x snapshot.Xattr) bool { return s.unwanted(x) })
}

func (s *setter) modeDiffers() bool {
	return s.want.entry.Type != snapshot.TypeSymlink && s.cur.mode != s.want.entry.Mode
}

func (s *setter) takesFlags() bool {
	return s.want.entry.Type == snapshot.TypeFile || s.want.entry.Type == snapshot.TypeDir
}

// owner sets user and group, as far as allowed. The group alone is tried when the user cannot be changed.
func (s *setter) owner() error {
	e := s.want.entry
	if s.cur.uid == e.UID && s.cur.gid == e.GID {
		return nil
	}
	err := s.h.chown(int(e.UID), int(e.GID))
	if err != nil && s.cur.uid != e.UID && s.cur.gid != e.GID && s.h.chown(-1, int(e.GID)) == nil {
		s.cur.gid = e.GID
		s.changed = true
	}
	if err == nil {
		s.cur.uid, s.cur.gid = e.UID, e.GID
	}
	if s.cur.gid == e.GID && (s.cur.mode|e.Mode)&0o6000 != 0 {
		s.cur.mode = ^uint32(0) // chown may or may not have cleared set-id bits: set the mode in any case
	}
	return s.skip(err)
}

// mode never gives set-id bits to something whose owner or group is another than at the source.
func (s *setter) mode() error {
	e := s.want.entry
	if e.Type == snapshot.TypeSymlink {
		return nil
	}
	mode := e.Mode
	if s.cur.uid != e.UID {
		mode &^= unix.S_ISUID
	}
	if s.cur.gid != e.GID {
		mode &^= unix.S_ISGID
	}
	if mode != e.Mode {
		s.skipped++
	}
	if s.cur.mode == mode {
		return nil
	}
	return s.skip(s.h.chmod(mode))
}

func (s *setter) dropXattrs(have []snapshot.Xattr) error {
	for _, x := range have {
		if s.unwanted(x) {
			err := s.change(x.Name, func() error { return s.h.removeXattr(x.Name) })
			if err != nil && err != unix.ENODATA { // chown has taken the capabilities away
				return err
			}
		}
	}
	return nil
}

// addXattrs sets those of a kind that are not there yet.
func (s *setter) addXattrs(have []snapshot.Xattr, kind func(name string) bool) error {
	for _, x := range s.want.xattrs {
		if !kind(x.Name) || holds(have, x) && x.Name != "security.capability" { // which chown may have cleared
			continue
		}
		if err := s.change(x.Name, func() error { return s.h.setXattr(x.Name, x.Value) }); err != nil {
			return err
		}
	}
	return nil
}

// Attributes of users need the right to write, which the final mode may take away; those of the system (ACLs) depend on
// the mode.
func ofUser(name string) bool   { return strings.HasPrefix(name, "user.") }
func ofSystem(name string) bool { return !ofUser(name) }

// change sets or removes an attribute. The mode, which stands in the way of an owner who is not root, is set after it.
func (s *setter) change(name string, call func() error) error {
	err := call()
	if err == unix.EACCES && ofUser(name) && s.h.chmod(0o700) == nil {
		s.cur.mode = ^uint32(0)
		err = call()
	}
	if err != nil && s.h.tooLong(err) {
		s.skipped++
		return nil
	}
	return s.skip(err)
}

func (s *setter) mtime() error {
	if !s.changed && s.cur.mtime == s.want.entry.Mtime {
		return nil
	}
	return s.skip(s.h.setMtime(s.want.entry.Mtime.Sec, s.want.entry.Mtime.Nsec))
}

func (s *setter) flags(have uint32) error {
	if !s.takesFlags() {
		return nil
	}
	want := s.want.entry.Flags & flagsKept &^ s.want.late
	if want == 0 && s.cur.bare {
		return nil
	}
	if s.cur.bare {
		have = s.h.flags()
	}
	if have&flagsKept == want {
		return nil
	}
	return s.skip(s.h.setFlags(have&^flagsKept | want))
}

// unwanted reports an attribute that the source did not have. Labels that the destination's own security modules put on every
// file, and attributes that file systems make up, are left alone.
func (s *setter) unwanted(x snapshot.Xattr) bool {
	if x.Name != xattrACL && x.Name != xattrDefaultACL &&
		(strings.HasPrefix(x.Name, "system.") || strings.HasPrefix(x.Name, "security.") && x.Name != "security.capability") {
		return false
	}
	return !slices.ContainsFunc(s.want.xattrs, func(w snapshot.Xattr) bool { return w.Name == x.Name })
}

func holds(set []snapshot.Xattr, x snapshot.Xattr) bool {
	return slices.ContainsFunc(set, func(h snapshot.Xattr) bool { return h.Name == x.Name && bytes.Equal(h.Value, x.Value) })
}
