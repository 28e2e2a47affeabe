package backup

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The walk names files to the kernel only by a directory descriptor and one name, which ends with NUL in a buffer of
// ours: no path can be too long, no symlink is followed by accident, nothing is allocated.

const (
	openRead = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC | unix.O_LARGEFILE
	openDir  = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

	statxMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME
)

// cname is a file name as the kernel takes it: with a NUL at the end.
type cname []byte

// appendName returns name with its NUL, in dst's memory if it fits.
func appendName(dst []byte, name string) cname {
	return append(append(dst[:0], name...), 0)
}

func (n cname) String() string { return string(n[:len(n)-1]) }

// openat opens without touching the access time where that is permitted.
func openat(dir int, name cname, flags int) (int, error) {
	fd, err := openatRaw(dir, name, flags|unix.O_NOATIME)
	if err == unix.EPERM {
		fd, err = openatRaw(dir, name, flags)
	}
	return fd, err
}

func openatRaw(dir int, name cname, flags int) (int, error) {
	for {
		fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(&name[0])), uintptr(flags), 0, 0, 0)
		switch errno {
		case 0:
			return int(fd), nil
		case unix.EINTR:
		default:
			return -1, errno
		}
	}
}

// statxAt fills st with the attributes of a name without following it, unless flags says so.
func statxAt(dir int, name cname, flags int, st *unix.Statx_t) error {
	_, _, errno := unix.Syscall6(unix.SYS_STATX, uintptr(dir), uintptr(unsafe.Pointer(&name[0])), uintptr(flags|unix.AT_NO_AUTOMOUNT),
		statxMask, uintptr(unsafe.Pointer(st)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

var noName = cname{0}

// statxFD fills st with the attributes of an open file.
func statxFD(fd int, st *unix.Statx_t) error {
	return statxAt(fd, noName, unix.AT_EMPTY_PATH, st)
}

// getdents reads the next entries of a directory into buf: 0 at the end.
func getdents(fd int, buf []byte) (int, error) {
	for {
		n, err := unix.Getdents(fd, buf)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// eachDirent calls fn for the names in a buffer filled by getdents, but not "." and "..". The name is fn's only during the call.
// An inode number of 0 says nothing: some FUSE file systems give it for every name.
func eachDirent(buf []byte, fn func(name []byte)) {
	for len(buf) >= 19 {
		n := int(binary.NativeEndian.Uint16(buf[16:]))
		if n < 20 || n > len(buf) {
			return
		}
		name := buf[19:n]
		if end := bytes.IndexByte(name, 0); end >= 0 {
			name = name[:end]
		}
		if len(name) > 0 && string(name) != "." && string(name) != ".." {
			fn(name)
		}
		buf = buf[n:]
	}
}

// readlinkat returns the target of a symlink.
func readlinkat(dir int, name cname, buf []byte) (string, error) {
	for {
		n, _, errno := unix.Syscall6(unix.SYS_READLINKAT, uintptr(dir), uintptr(unsafe.Pointer(&name[0])),
			uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0, 0)
		switch {
		case errno == unix.EINTR:
		case errno != 0:
			return "", errno
		case int(n) == len(buf):
			buf = make([]byte, 2*len(buf))
		default:
			return string(buf[:n]), nil
		}
	}
}

// readFull reads at offset until p is full or the file ends.
func readFull(fd int, p []byte, offset int64) (n int, err error) {
	for n < len(p) {
		m, err := unix.Pread(fd, p[n:], offset+int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, err
		}
		if m == 0 {
			break
		}
		n += m
	}
	return n, nil
}

// procPath names an entry of an open directory by a short path, for the calls that have no variant with descriptors.
func procPath(dir int, name cname) cname {
	b := append(make([]byte, 0, 32+len(name)), "/proc/self/fd/"...)
	b = append(strconv.AppendInt(b, int64(dir), 10), '/')
	return append(b, name...)
}

// cacheRange and cacheStat are the arguments of cachestat(2).
type cacheRange struct{ offset, length uint64 }

type cacheStat struct{ cached, dirty, writeback, evicted, recentlyEvicted uint64 }

const sysCachestat = 451

// startWriteback has the kernel write what is dirty of an open file, and reports whether nothing is dirty then. Who changes a page
// through a mapping moves the file's times only when the page was clean: with a dirty one, all further changes would leave them as they
// are.
func startWriteback(fd int) bool {
	_ = unix.SyncFileRange(fd, 0, 0, unix.SYNC_FILE_RANGE_WRITE) // where it is not possible, there are no dirty pages either
	st, ok := cacheStatOf(fd, 0, 0)
	return !ok || st.dirty == 0
}

// cachedPages is how many pages of an open file are in the page cache; -1 if the kernel cannot tell.
func cachedPages(fd int) int64 { return cachedIn(fd, 0, 0) }

// cachedIn is cachedPages of a part of the file, n bytes from offset; n = 0: to its end.
func cachedIn(fd int, offset int64, n int) int64 {
	st, ok := cacheStatOf(fd, offset, n)
	if !ok {
		return -1
	}
	return int64(st.cached)
}

// cacheStatOf asks for the pages of an open file, n bytes from offset; n = 0: to its end.
func cacheStatOf(fd int, offset int64, n int) (st cacheStat, ok bool) {
	r := cacheRange{uint64(offset), uint64(n)}
	_, _, errno := unix.Syscall6(sysCachestat, uintptr(fd), uintptr(unsafe.Pointer(&r)), uintptr(unsafe.Pointer(&st)), 0, 0, 0)
	return st, errno == 0
}
