package backup

import (
	"errors"
	"math"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/store"
)

// segment is a stretch of a file: data, or a hole.
type segment struct {
	from, to int64
	hole     bool
}

// eachSegment calls fn for the stretches of the first size bytes of an open file. Holes are found without reading
// them; a file system that knows none gives one stretch of data.
func eachSegment(fd int, size int64, holes bool, fn func(segment) error) error {
	for at := int64(0); at < size; {
		s := segment{from: at, to: size}
		if holes {
			s = nextSegment(fd, at, size)
		}
		if err := fn(s); err != nil {
			return err
		}
		at = s.to
	}
	return nil
}

func nextSegment(fd int, at, size int64) segment {
	data, err := unix.Seek(fd, at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO): // nothing but a hole is left
		return segment{from: at, to: size, hole: true}
	case err != nil:
		return segment{from: at, to: size}
	case data > at:
		return segment{from: at, to: min(data, size), hole: true}
	}
	hole, err := unix.Seek(fd, at, unix.SEEK_HOLE)
	if err != nil || hole <= at {
		hole = size
	}
	return segment{from: at, to: min(hole, size)}
}

// content reads a file that is not large, in one go if it is small.
func (w *worker) content(fd int, j *fileJob, size int64) (stored, error) {
	if size == 0 && j.fs.pseudo {
		return w.cutContent(fd, j, math.MaxInt64) // it says nothing about its size
	}
	if size > w.small || j.holes {
		return w.cutContent(fd, j, size)
	}
	// One byte more than expected: a full buffer says that there is more, a short read that there is not.
	buf := w.buffer(int(w.small) + 1)[:size+1]
	n, err := readSome(fd, buf)
	if err != nil {
		return stored{}, &sourceError{err}
	}
	if size == 0 && n > 0 && statxFD(fd, &w.st) == nil && w.st.Size == 0 { // nor does this one, of a FUSE file system perhaps
		return w.cutContent(fd, j, math.MaxInt64)
	}
	n = min(n, int(size)) // it grows: that is noticed by its times
	s := stored{length: int64(n), read: int64(n)}
	if n == 0 {
		return s, nil
	}
	if err := w.r.judge(w.ctx, j, buf[:n]); err != nil {
		return s, err
	}
	id, err := w.w.Put(w.ctx, store.KindChunk, buf[:n])
	s.content.Items = []snapshot.Item{{ID: id, Length: int64(n)}}
	return s, err
}

// buffer is the worker's, of at least n bytes: it becomes as large as the files it meets need.
func (w *worker) buffer(n int) []byte {
	if len(w.buf) < n {
		w.buf = make([]byte, n)
	}
	return w.buf
}

// readSome reads from the beginning. Less than one byte short of p is taken for the end without asking again.
func readSome(fd int, p []byte) (int, error) {
	n := 0
	for {
		m, err := unix.Pread(fd, p[n:], int64(n))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return n, err
		}
		n += m
		if m == 0 || n >= len(p)-1 {
			return n, nil
		}
	}
}

// cutContent reads a file through the worker's buffer and cuts it.
func (w *worker) cutContent(fd int, j *fileJob, size int64) (s stored, err error) {
	if buf := w.buffer(2 * w.cut.Params().Max); size > int64(len(buf)) {
		// Twice the readahead; an advice, so whether it is taken does not matter.
		_ = unix.Fadvise(fd, 0, 0, unix.FADV_SEQUENTIAL)
	}
	err = eachSegment(fd, size, j.holes, func(g segment) error {
		if g.hole {
			s.length += g.to - g.from
			return w.list.Add(w.ctx, snapshot.Item{Length: g.to - g.from})
		}
		n, err := w.cutSegment(fd, g, j)
		s.length += n
		s.read += n
		if err == nil && n < g.to-g.from {
			err = errShorter
		}
		return err
	})
	content, finishErr := w.list.Finish(w.ctx)
	if errors.Is(err, errShorter) {
		err = nil
	}
	s.content = content
	return s, errors.Join(err, finishErr)
}

// errShorter: the file ended before its size.
var errShorter = errors.New("file has become shorter")

func (w *worker) cutSegment(fd int, g segment, j *fileJob) (total int64, err error) {
	longest := w.cut.Params().Max
	fill := 0
	for at := g.from; ; {
		room := int64(len(w.buf) - fill)
		n, err := readFull(fd, w.buf[fill:fill+int(min(room, g.to-at))], at)
		if err != nil {
			return total, &sourceError{err}
		}
		at += int64(n)
		total += int64(n)
		fill += n
		last := int64(n) < room
		pos := 0
		for fill-pos >= longest || last && pos < fill {
			c := w.cut.Cut(w.buf[pos:min(fill, pos+longest)])
			if err := w.r.judge(w.ctx, j, w.buf[pos:pos+c]); err != nil {
				return total, err
			}
			id, err := w.w.Put(w.ctx, store.KindChunk, w.buf[pos:pos+c])
			if err != nil {
				return total, err
			}
			if err := w.list.Add(w.ctx, snapshot.Item{ID: id, Length: int64(c)}); err != nil {
				return total, err
			}
			pos += c
		}
		fill = copy(w.buf, w.buf[pos:fill])
		if last {
			return total, nil
		}
	}
}
