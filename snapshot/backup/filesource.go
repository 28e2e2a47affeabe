package backup

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// directAlign is what O_DIRECT wants offsets, lengths and memory to be multiples of; more than devices with blocks of 512 bytes need.
const directAlign = 4096

func alignUp(n int) int { return (n + directAlign - 1) &^ (directAlign - 1) }

// alignedMemory is n bytes that begin at a multiple of directAlign.
func alignedMemory(n int) []byte {
	b := make([]byte, n+directAlign)
	lead := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (directAlign - 1)
	return b[lead:][:n:n]
}

// fileSource is a segment of an open file. A cold one is read past the page cache where the file system lets us: half of the
// kernel's work for a large file is taking pages, copying them and giving them back.
type fileSource struct {
	fd      int
	at, end int64
	drop    bool // nothing of the file was in the page cache: it shall be so afterwards
	direct  bool
}

// open prepares the descriptor.
func (f *fileSource) open() {
	f.direct = f.drop && f.at%directAlign == 0 && setDirect(f.fd, true) == nil
}

// close leaves the descriptor as it was.
func (f *fileSource) close() {
	if f.direct {
		_ = setDirect(f.fd, false)
		f.direct = false
	}
}

func setDirect(fd int, on bool) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	flags &^= unix.O_DIRECT
	if on {
		flags |= unix.O_DIRECT
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags)
	return err
}

func (f *fileSource) fill(p []byte) (int, error) {
	want := int(min(int64(len(p)), f.end-f.at))
	n := 0
	if f.direct {
		n = min(f.readDirect(p[:min(alignUp(want), len(p))]), want)
	}
	if n < want { // the end, an error, or a file system that cannot: asked again in the usual way, which tells
		f.close()
		m, err := readFull(f.fd, p[n:want], f.at+int64(n))
		if n += m; err != nil {
			return n, &sourceError{err}
		}
		if f.drop && m > 0 {
			_ = unix.Fadvise(f.fd, f.at, int64(n), unix.FADV_DONTNEED)
		}
	}
	f.at += int64(n)
	return n, nil
}

// readDirect reads as much as can be had without the page cache.
func (f *fileSource) readDirect(p []byte) (n int) {
	if len(p)%directAlign != 0 || uintptr(unsafe.Pointer(unsafe.SliceData(p)))%directAlign != 0 {
		return 0
	}
	for n < len(p) {
		m, err := unix.Pread(f.fd, p[n:], f.at+int64(n))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || m <= 0 {
			break
		}
		if n += m; m%directAlign != 0 { // the end of the file
			break
		}
	}
	return n
}
