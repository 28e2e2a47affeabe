package backup

import (
	"bytes"
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

// xattrReader reads sets of extended attributes into reused buffers.
type xattrReader struct {
	names []byte
	value []byte
}

// xattrFile is what attributes are read from: an open file, or a path that is not followed.
type xattrFile struct {
	fd   int
	path cname // nil: fd
}

func (f xattrFile) list(b []byte) (uintptr, unix.Errno) {
	var n uintptr
	var errno unix.Errno
	if f.path == nil {
		n, _, errno = unix.Syscall(unix.SYS_FLISTXATTR, uintptr(f.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	} else {
		n, _, errno = unix.Syscall(unix.SYS_LLISTXATTR, uintptr(unsafe.Pointer(&f.path[0])), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	}
	return n, errno
}

func (f xattrFile) get(name cname, b []byte) (uintptr, unix.Errno) {
	var n uintptr
	var errno unix.Errno
	if f.path == nil {
		n, _, errno = unix.Syscall6(unix.SYS_FGETXATTR, uintptr(f.fd), uintptr(unsafe.Pointer(&name[0])),
			uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0)
	} else {
		n, _, errno = unix.Syscall6(unix.SYS_LGETXATTR, uintptr(unsafe.Pointer(&f.path[0])), uintptr(unsafe.Pointer(&name[0])),
			uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0)
	}
	return n, errno
}

// of returns the attributes of an open file, not opened with O_PATH.
func (r *xattrReader) of(fd int) ([]snapshot.Xattr, error) { return r.read(xattrFile{fd: fd}) }

// at returns the attributes of a name in an open directory, without following or opening it.
func (r *xattrReader) at(dir int, name cname) ([]snapshot.Xattr, error) {
	return r.read(xattrFile{path: procPath(dir, name)})
}

// xattrsAt is x.at, or nothing where no /proc is mounted, as in a chroot: the kernel reads attributes by a descriptor and a name only
// through it.
func (r *run) xattrsAt(x *xattrReader, dir int, name cname) ([]snapshot.Xattr, error) {
	set, err := x.at(dir, name)
	if vanished(err) && unix.Access("/proc/self/fd", unix.F_OK) != nil {
		r.warnOnce("proc", "/proc is not mounted: extended attributes of symlinks, fifos, sockets and devices are not saved")
		return nil, nil
	}
	return set, err
}

// read makes one call for the common case of no attributes at all.
func (r *xattrReader) read(f xattrFile) ([]snapshot.Xattr, error) {
	if r.names == nil {
		r.names, r.value = make([]byte, 1024), make([]byte, 4096)
	}
	n, err := grow(&r.names, f.list)
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if n == 0 || err != nil {
		return nil, err
	}
	var set []snapshot.Xattr
	for names := r.names[:n]; len(names) > 0; {
		end := bytes.IndexByte(names, 0)
		if end < 0 {
			break
		}
		name := cname(names[:end+1])
		names = names[end+1:]
		m, err := grow(&r.value, func(b []byte) (uintptr, unix.Errno) { return f.get(name, b) })
		switch {
		case err == nil:
			set = append(set, snapshot.Xattr{Name: string(name[:end]), Value: bytes.Clone(r.value[:m])})
		case errors.Is(err, unix.ENODATA), errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
			// Gone since the list was made, or listed but not readable by this user.
		default:
			return nil, err
		}
	}
	return set, nil
}

// grow calls fn with a larger buffer as long as it says ERANGE.
func grow(buf *[]byte, fn func([]byte) (uintptr, unix.Errno)) (int, error) {
	for {
		n, errno := fn(*buf)
		switch {
		case errno == 0:
			return int(n), nil
		case errno == unix.EINTR:
		case errno == unix.ERANGE && len(*buf) < 1<<20:
			*buf = make([]byte, 4*len(*buf))
		default:
			return 0, errno
		}
	}
}
