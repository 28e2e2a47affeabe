package restore

import (
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Everything at the destination is done relative to a descriptor of its directory, one name at a time, never
// following a symlink.

const (
	openDir  = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	beneath  = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS
	stepSize = 3500 // bytes of path given to one openat2, below PATH_MAX
)

// again repeats a call that a signal interrupted.
func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// openat opens one name in a directory; O_NOFOLLOW and O_CLOEXEC are added.
func openat(dir int, name string, flags int, mode uint32) (fd int, err error) {
	err = again(func() error {
		fd, err = unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		return err
	})
	return fd, err
}

// openDown opens the directory that names lead to, below dir: by openat2 in as few steps as PATH_MAX
// allows, or name by name where the kernel has no openat2. No names: a duplicate of dir.
func openDown(dir int, names []string, oneByOne bool) (int, error) {
	fd, err := unix.FcntlInt(uintptr(dir), unix.F_DUPFD_CLOEXEC, 0)
	for err == nil && len(names) > 0 {
		n := 1
		if !oneByOne {
			for size := len(names[0]); n < len(names) && size+len(names[n]) < stepSize; n++ {
				size += len(names[n]) + 1
			}
		}
		var next int
		next, err = openStep(fd, names[:n], oneByOne)
		unix.Close(fd)
		fd, names = next, names[n:]
	}
	return fd, err
}

func openStep(dir int, names []string, oneByOne bool) (fd int, err error) {
	if oneByOne {
		return openat(dir, names[0], openDir, 0)
	}
	how := unix.OpenHow{Flags: openDir, Resolve: beneath}
	err = again(func() error {
		fd, err = unix.Openat2(dir, strings.Join(names, "/"), &how)
		if err == unix.EAGAIN { // something was renamed meanwhile
			err = unix.EINTR
		}
		return err
	})
	return fd, err
}

// hasOpenat2 reports whether the kernel (and a sandbox around this process) lets openat2 through.
func hasOpenat2() bool {
	fd, err := unix.Openat2(unix.AT_FDCWD, ".", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC})
	if err == nil {
		unix.Close(fd)
	}
	return err != unix.ENOSYS && err != unix.EPERM
}

// statat is lstat of a name in a directory.
func statat(dir int, name string) (st unix.Stat_t, err error) {
	err = again(func() error { return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return st, err
}

func fstat(fd int) (st unix.Stat_t, err error) {
	err = again(func() error { return unix.Fstat(fd, &st) })
	return st, err
}

// mountRoot reports whether something is mounted on an open directory, be it a directory of the same file system.
func mountRoot(fd int) bool {
	var st unix.Statx_t
	err := again(func() error { return unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_NO_AUTOMOUNT, 0, &st) })
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// handle is an open file, or a mere reference to one (O_PATH) whose attributes are reached through proc.
type handle struct {
	fd  int
	ref bool
}

// openRef pins whatever has a name, without opening it.
func openRef(dir int, name string) (handle, error) {
	fd, err := openat(dir, name, unix.O_PATH, 0)
	return handle{fd, true}, err
}

func (h handle) close() { unix.Close(h.fd) }

// proc is a path of the very inode: the kernel jumps to it and follows nothing further.
func (h handle) proc() string { return "/proc/self/fd/" + strconv.Itoa(h.fd) }

func (h handle) chown(uid, gid int) error {
	return again(func() error { return unix.Fchownat(h.fd, "", uid, gid, unix.AT_EMPTY_PATH) })
}

func (h handle) chmod(mode uint32) error {
	return again(func() error {
		if h.ref {
			return unix.Chmod(h.proc(), mode)
		}
		return unix.Fchmod(h.fd, mode)
	})
}

// setMtime leaves the access time alone.
func (h handle) setMtime(sec int64, nsec uint32) error {
	ts := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: sec, Nsec: int64(nsec)}}
	if h.ref {
		err := again(func() error { return unix.UtimesNanoAt(h.fd, "", ts[:], unix.AT_EMPTY_PATH) })
		if err != unix.EINVAL && err != unix.ENOENT { // Linux 5.8
			return err
		}
		return again(func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, h.proc(), ts[:], 0) })
	}
	return again(func() error {
		_, _, e := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(h.fd), 0, uintptr(unsafe.Pointer(&ts[0])), 0, 0, 0)
		if e != 0 {
			return e
		}
		return nil
	})
}

func (h handle) setXattr(name string, value []byte) error {
	return again(func() error {
		if h.ref {
			return unix.Setxattr(h.proc(), name, value, 0)
		}
		return unix.Fsetxattr(h.fd, name, value, 0)
	})
}

func (h handle) removeXattr(name string) error {
	return again(func() error {
		if h.ref {
			return unix.Removexattr(h.proc(), name)
		}
		return unix.Fremovexattr(h.fd, name)
	})
}

// tooLong reports whether setting an attribute failed because the file system does not hold so much of one file: ext4 takes 4 KiB, and then
// says that there is no space, although there is.
func (h handle) tooLong(err error) bool {
	if err == unix.E2BIG || err == unix.ERANGE {
		return true
	}
	var st unix.Statfs_t
	const little = 1 << 20 // bytes
	return err == unix.ENOSPC && unix.Fstatfs(h.fd, &st) == nil && st.Bavail*uint64(st.Bsize) >= little
}

// xattrNames lists the names of the attributes; none where the file system has no such thing.
func (h handle) xattrNames() ([]string, error) {
	data, err := sized(func(buf []byte) (int, error) {
		if h.ref {
			return unix.Listxattr(h.proc(), buf)
		}
		return unix.Flistxattr(h.fd, buf)
	})
	if err == unix.EOPNOTSUPP || err == unix.ENOSYS || len(data) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00"), nil
}

func (h handle) xattr(name string) ([]byte, error) {
	return sized(func(buf []byte) (int, error) {
		if h.ref {
			return unix.Getxattr(h.proc(), name, buf)
		}
		return unix.Fgetxattr(h.fd, name, buf)
	})
}

// sized calls a function of the getxattr kind with a buffer that is large enough.
func sized(get func([]byte) (int, error)) ([]byte, error) {
	for size := 256; ; {
		buf := make([]byte, size)
		n, err := get(buf)
		switch {
		case err == nil:
			return buf[:n], nil
		case err == unix.EINTR:
		case err == unix.ERANGE:
			if n, err = get(nil); err != nil {
				return nil, err
			}
			size = max(n, size) + 64
		default:
			return nil, err
		}
	}
}

// flags reads the inode flags (chattr); 0 where there are none.
func (h handle) flags() uint32 {
	if h.ref {
		return 0
	}
	v, err := unix.IoctlGetUint32(h.fd, unix.FS_IOC_GETFLAGS)
	if err != nil {
		return 0
	}
	return v
}

func (h handle) setFlags(flags uint32) error {
	if h.ref {
		return unix.EOPNOTSUPP
	}
	return again(func() error { return unix.IoctlSetPointerInt(h.fd, unix.FS_IOC_SETFLAGS, int(flags)) })
}
