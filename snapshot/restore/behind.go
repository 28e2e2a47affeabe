package restore

import (
	"sync"

	"golang.org/x/sys/unix"
)

// behind follows the writing of files to the disk and gives their pages back, some files later: a restore would otherwise
// fill the page cache with what nobody has asked to read, and on virtual machines fresh pages cost more than writing
// (up to 3 CPU seconds a GB). Files are held open for reading only, so that a restored program can be run at once.
// Safe for concurrent use.
type behind struct {
	mu    sync.Mutex
	files []writtenFile
	bytes int64
}

type writtenFile struct {
	fd   int
	size int64
}

const (
	behindLeast = 4 << 20 // bytes: waiting for smaller files costs more than their pages (measured: 3.1 and 5.0 against 2.8 and 3.1 s)
	behindFiles = 64
)

// add starts writing a finished file to the disk, and ends it for those before that are too many.
func (b *behind) add(dir int, name string, size int64) {
	if size < behindLeast {
		return
	}
	fd, err := openat(dir, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return // it is written all the same, later
	}
	_ = unix.SyncFileRange(fd, 0, 0, unix.SYNC_FILE_RANGE_WRITE)
	for _, old := range b.push(writtenFile{fd, size}) {
		const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
		_ = unix.SyncFileRange(old.fd, 0, 0, all)
		old.forget()
	}
}

// push queues a file and returns those that must go.
func (b *behind) push(f writtenFile) []writtenFile {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.files = append(b.files, f)
	b.bytes += f.size
	n := 0
	for ; len(b.files)-n > behindFiles || b.bytes > behindSize && n < len(b.files)-1; n++ {
		b.bytes -= b.files[n].size
	}
	out := b.files[:n:n]
	b.files = b.files[n:]
	return out
}

func (f writtenFile) forget() {
	_ = unix.Fadvise(f.fd, 0, 0, unix.FADV_DONTNEED)
	unix.Close(f.fd)
}

// close lets go of all files.
func (b *behind) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.files {
		f.forget()
	}
	b.files = nil
}
