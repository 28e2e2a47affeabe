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

// fileSource is a segment of an open file. What is cold of it is read past the page cache where the file system lets us: half of the
// kernel's work for a large file is taking pages, copying them and giving them back.
type fileSource struct {
	fd      int
	at, end int64
	drop    bool // nothing of the file was in the page cache: it shall be so afterwards
	parts   bool // a part of it is there, as always of a large file that changes in places: each stretch is looked at by itself
	direct  bool
}

// stretchSize is the unit in which a file is looked at that is in the page cache in parts, bytes.
const stretchSize = 256 << 10

// open prepares the descriptor.
func (f *fileSource) open() {
	f.direct = (f.drop || f.parts) && f.at%directAlign == 0 && setDirect(f.fd, true) == nil
	f.parts = f.parts && f.direct
	advice := unix.FADV_SEQUENTIAL
	if f.parts { // nothing is to be read ahead of a warm stretch into a cold one
		advice = unix.FADV_RANDOM
	}
	_ = unix.Fadvise(f.fd, 0, 0, advice)
}

// close leaves the descriptor as it was.
func (f *fileSource) close() { f.setDirect(false) }

// setDirect switches O_DIRECT, and reports whether it is as it shall be.
func (f *fileSource) setDirect(on bool) bool {
	if f.direct != on && setDirect(f.fd, on) == nil {
		f.direct = on
	}
	return f.direct == on
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

func (f *fileSource) fill(p []byte) (n int, err error) {
	want := int(min(int64(len(p)), f.end-f.at))
	if !f.parts {
		return f.read(p, want, f.drop)
	}
	for n < want && err == nil {
		length, cold := f.stretch(want - n)
		f.setDirect(cold)
		var m int
		m, err = f.read(p[n:], length, cold)
		if n += m; m < length {
			break
		}
	}
	return n, err
}

// stretch is how far of the next so many bytes all is alike: cold, with nothing in the page cache, or not.
func (f *fileSource) stretch(want int) (length int, cold bool) {
	switch pages := cachedIn(f.fd, f.at, want); {
	case pages == 0:
		return want, true
	case pages < 0 || pages >= int64(want)/directAlign:
		return want, false
	}
	cold = cachedIn(f.fd, f.at, min(stretchSize, want)) == 0
	for length = stretchSize; length < want; length += stretchSize {
		if cold != (cachedIn(f.fd, f.at+int64(length), min(stretchSize, want-length)) == 0) {
			return length, cold
		}
	}
	return want, cold
}

// read reads the next so many bytes into p; fewer are the end.
func (f *fileSource) read(p []byte, want int, drop bool) (n int, err error) {
	if f.direct {
		n = min(f.readDirect(p[:min(alignUp(want), len(p))]), want)
	}
	if n < want { // the end, an error, or a file system that cannot: asked again in the usual way, which tells
		f.close()
		m, err := readFull(f.fd, p[n:want], f.at+int64(n))
		if n += m; err != nil {
			return n, &sourceError{err}
		}
		if drop && m > 0 {
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
