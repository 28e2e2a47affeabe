package backup

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// coldFile makes a file on a real disk of which nothing is in the page cache.
func coldFile(t *testing.T, content []byte) int {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	_, err = f.Write(content)
	must(t, err)
	must(t, f.Sync())
	must(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// readAll reads a segment to its end in pieces.
func readAll(t *testing.T, src *fileSource, buf []byte) []byte {
	t.Helper()
	src.open()
	defer src.close()
	var got []byte
	for {
		n, err := src.fill(buf)
		must(t, err)
		got = append(got, buf[:n]...)
		if n < len(buf) {
			return got
		}
	}
}

// TestFileSource reads segments of all alignments, past the page cache and through it.
func TestFileSource(t *testing.T) {
	const size = 3<<20 + 1234
	content := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(content)
	fd := coldFile(t, content)
	aligned := alignedMemory(1 << 20)
	for _, s := range []struct {
		name    string
		at, end int64
		drop    bool
		buf     []byte
	}{
		{"whole", 0, size, true, aligned},
		{"through the cache", 0, size, false, aligned},
		{"file has become shorter", 0, size + 1<<20, true, aligned},
		{"file has grown", 0, 2<<20 + 77, true, aligned},
		{"ends with a block", 4096, 3 << 20, true, aligned},
		{"from the middle of a block", 513, size, true, aligned},
		{"memory not aligned", 0, size, true, aligned[1:]},
		{"odd buffer", 0, size, true, aligned[:4096+511]},
		{"small", 8192, 8192 + 10, true, aligned},
	} {
		t.Run(s.name, func(t *testing.T) {
			for _, parts := range []bool{false, true} {
				got := readAll(t, &fileSource{fd: fd, at: s.at, end: s.end, drop: s.drop, parts: parts}, s.buf)
				if want := content[s.at:min(s.end, size)]; !bytes.Equal(got, want) {
					t.Errorf("in parts %v: %d bytes read, want %d", parts, len(got), len(want))
				}
			}
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_DIRECT != 0 {
				t.Errorf("descriptor is left with flags %x, %v", flags, err)
			}
		})
	}
}

// TestFileSourceCold: reading past the page cache leaves nothing there.
func TestFileSourceCold(t *testing.T) {
	content := make([]byte, 8<<20)
	rand.NewChaCha8([32]byte{1}).Read(content)
	fd := coldFile(t, content)
	switch n := cachedPages(fd); {
	case n < 0:
		t.Skip("this kernel does not tell what is in the page cache (cachestat, 6.5)")
	case n > 0:
		t.Skip("this file system keeps pages: it has no disk")
	}
	if got := readAll(t, &fileSource{fd: fd, end: 8 << 20, drop: true}, alignedMemory(1<<20)); !bytes.Equal(got, content) {
		t.Error("read something else")
	}
	if n := cachedPages(fd); n != 0 {
		t.Errorf("%d pages are in the cache", n)
	}
}

// TestFileSourceInParts: of a file with some pages in the cache, changed ones among them, the others are not brought there.
func TestFileSourceInParts(t *testing.T) {
	const size = 32 << 20
	content := make([]byte, size)
	rand.NewChaCha8([32]byte{2}).Read(content)
	fd := coldFile(t, content)
	if cachedPages(fd) != 0 {
		t.Skip("this kernel does not tell what is in the page cache, or this file system has no disk")
	}
	file, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), os.O_RDWR, 0)
	must(t, err)
	defer file.Close()
	must(t, unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_RANDOM))
	for n, at := range []int64{0, 3<<20 + 4096, 9<<20 - 8192, 20 << 20, size - 5000} {
		if n%2 == 0 {
			_, err = file.ReadAt(make([]byte, 5000), at)
		} else {
			_, err = file.WriteAt(content[100:5100], at)
			copy(content[at:], content[100:5100])
		}
		must(t, err)
	}
	if got := readAll(t, &fileSource{fd: fd, end: size, parts: true}, alignedMemory(4<<20)); !bytes.Equal(got, content) {
		t.Error("read something else")
	}
	if n := cachedPages(fd); n == 0 || n > 8*stretchSize/4096 {
		t.Errorf("%d pages are in the cache", n)
	}
}
