package backup

import (
	"bytes"
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
			got := readAll(t, &fileSource{fd: fd, at: s.at, end: s.end, drop: s.drop}, s.buf)
			if want := content[s.at:min(s.end, size)]; !bytes.Equal(got, want) {
				t.Errorf("%d bytes read, want %d", len(got), len(want))
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
