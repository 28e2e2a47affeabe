package restore

import (
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/store"
)

const (
	parallelSize = 4 << 20  // bytes: larger files are written by several goroutines
	behindSize   = 16 << 20 // bytes of a file that may wait for the disk
	flagNoCow    = 0x800000 // must be set while a file is empty
)

// chunk reads a chunk and checks its length.
func (r *run) chunk(it snapshot.Item, buf *[]byte) ([]byte, error) {
	data, err := r.reader.GetInto(r.ctx, store.KindChunk, it.ID, *buf)
	if err != nil {
		return nil, err
	}
	if cap(data) > cap(*buf) {
		*buf = data
	}
	if int64(len(data)) != it.Length {
		return nil, fmt.Errorf("%w: %d bytes, not %d", errLength, len(data), it.Length)
	}
	return data, nil
}

// buildFile writes a regular file beside its name and renames it. The first chunk is read before anything is made.
func (r *run) buildFile(dir int, j *job, o *old) (err error) {
	e := j.entry.Entry
	buf := r.buffer()
	defer r.recycle(buf)
	var ready []byte
	if len(e.Content.Items) == 1 && !e.Content.Items[0].ID.IsZero() && o == nil {
		if ready, err = r.chunk(e.Content.Items[0], buf); err != nil {
			return err
		}
		if int64(len(ready)) != e.Size {
			return fmt.Errorf("%w: %d bytes, not %d", errLength, len(ready), e.Size)
		}
	}
	return r.writeFile(dir, j, o, ready, 0)
}

// writeFile writes a regular file beside its name and renames it. ready is all its content but holes, and where that begins; nil: it is read, or
// taken from the old file.
func (r *run) writeFile(dir int, j *job, o *old, ready []byte, at int64) (err error) {
	e := j.entry.Entry
	bare := j.folder.made && !j.folder.hands
	temp, fd, mode, err := r.create(dir, e, bare)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	defer func() {
		if err != nil {
			_ = r.unlink(dir, temp, 0)
		}
	}()
	switch {
	case ready == nil:
		err = r.fill(fd, e, o, fillOptions{})
	case int64(len(ready)) < e.Size:
		if err = again(func() error { return unix.Ftruncate(fd, e.Size) }); err != nil {
			return err
		}
		fallthrough
	default:
		err = r.write(fd, ready, at)
	}
	if err != nil {
		return err
	}
	cur := current{uid: r.euid, gid: r.egid, mode: mode, bare: true}
	if !bare {
		st, err := fstat(fd)
		if err != nil {
			return err
		}
		cur = currentOf(&st)
	}
	return r.moveFile(dir, j, temp, fd, cur)
}

// moveFile ends a file whose content is complete.
func (r *run) moveFile(dir int, j *job, temp string, fd int, cur current) error {
	if err := r.settleFile(dir, j, temp, handle{fd: fd}, cur); err != nil {
		return err
	}
	r.behind.add(dir, j.entry.Name, j.entry.Size)
	return nil
}

// create makes an empty file with a temporary name. It gets its final mode at once if its owner is already right and the
// process's mask lets the mode through.
func (r *run) create(dir int, e *snapshot.Entry, bare bool) (temp string, fd int, mode uint32, err error) {
	mode = 0o600
	if m := e.Mode & 0o777; bare && e.UID == r.euid && e.GID == r.egid && m&^r.umask == m && m&0o200 != 0 {
		mode = m
	}
	for range 100 {
		temp = r.owner.temp()
		fd, err = openat(dir, temp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, mode)
		if err != unix.EEXIST {
			break
		}
	}
	if err == nil && e.Flags&flagNoCow != 0 {
		h := handle{fd: fd}
		_ = h.setFlags(h.flags() | flagNoCow)
	}
	return temp, fd, mode, err
}

// settleFile sets attributes, renames, and sets the flags that would have forbidden the renaming.
func (r *run) settleFile(dir int, j *job, temp string, h handle, cur current) error {
	e := j.entry.Entry
	xattrs, err := r.xattrs(e)
	if err != nil {
		return err
	}
	cur.mtime = impossible
	s := setter{h: h, cur: cur, want: wanted{entry: e, xattrs: xattrs, late: flagsLocking}}
	out, err := s.run()
	r.count.skipped.Add(out.skipped)
	if err != nil {
		return err
	}
	if err := r.moveIn(dir, temp, e.Name); err != nil {
		return err
	}
	if lock := e.Flags & flagsLocking &^ r.lateFlags(j); lock != 0 {
		if h.setFlags(h.flags()|lock) != nil {
			r.count.skipped.Add(1)
		}
	}
	return nil
}

// lateFlags are the locking flags of a file with several names: they would forbid to link it, and are set at the very end.
func (r *run) lateFlags(j *job) uint32 {
	e := j.entry.Entry
	if !j.linked() || e.Nlink < 2 || e.Flags&flagsLocking == 0 || e.Type != snapshot.TypeFile {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.late); n == 0 || r.late[n-1] != j.name {
		r.late = append(r.late, j.name)
	}
	return e.Flags & flagsLocking
}

// patch writes what differs into the file itself. It is given up, for the usual way, if the file cannot be opened so.
func (r *run) patch(dir int, j *job, o *old) (done bool, err error) {
	fd, ok := r.openPatched(dir, j.entry.Name, o.st.Dev, o.st.Ino)
	if !ok {
		return false, nil
	}
	h := handle{fd: fd}
	defer h.close()
	if err := r.fill(fd, j.entry.Entry, o, fillOptions{patch: true}); err != nil {
		return false, err
	}
	return true, r.settlePatched(j, h)
}

// openPatched opens a file to write what differs into it: the one that was looked at, and no other name may lead to it.
func (r *run) openPatched(dir int, name string, dev, ino uint64) (fd int, ok bool) {
	fd, err := openat(dir, name, unix.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, false
	}
	if !soleFile(fd, dev, ino) {
		unix.Close(fd)
		return -1, false
	}
	return fd, true
}

// soleFile reports whether a descriptor is of that regular file, which has one name.
func soleFile(fd int, dev, ino uint64) bool {
	st, err := fstat(fd)
	return err == nil && st.Ino == ino && uint64(st.Dev) == dev && st.Nlink == 1 && st.Mode&unix.S_IFMT == unix.S_IFREG
}

// settlePatched sets the attributes of a file that was patched.
func (r *run) settlePatched(j *job, h handle) error {
	st, err := fstat(h.fd)
	if err != nil {
		return err
	}
	xattrs, err := r.xattrs(j.entry.Entry)
	if err != nil {
		return err
	}
	s := setter{h: h, cur: currentOf(&st), want: wanted{entry: j.entry.Entry, xattrs: xattrs, late: r.lateFlags(j)}}
	out, err := s.run()
	r.count.skipped.Add(out.skipped)
	return err
}

// filler writes a file's content, item by item.
type filler struct {
	run *run
	fd  int
	old *old // nil: nothing to take over
	fillOptions

	mu      sync.Mutex
	behind  []stretch
	wait    int64 // bytes in behind
	written int64 // bytes on the disk whose pages may still be there
}

type stretch struct{ off, n int64 }

// fillOptions say how a file is filled.
type fillOptions struct {
	patch bool // what is filled is the old file itself
	// lacks is asked for a chunk before it is read; if it returns true the place stays empty. nil: all can be read.
	lacks func(off int64, it snapshot.Item) (bool, error)
}

// fill writes all content of e into fd; holes stay holes.
func (r *run) fill(fd int, e *snapshot.Entry, o *old, how fillOptions) error {
	if !o.readable() {
		o = nil
	}
	w := &filler{run: r, fd: fd, old: o, fillOptions: how}
	var g errgroup.Group
	g.SetLimit(r.Workers)
	var end int64
	hole := how.patch || how.lacks != nil
	var failed error
	err := r.tree.Items(r.ctx, e, 0, func(off int64, it snapshot.Item) bool {
		end = off + it.Length
		hole = hole || it.ID.IsZero()
		if e.Size > parallelSize {
			g.Go(func() error { return w.put(off, it) })
		} else {
			failed = w.put(off, it)
		}
		return failed == nil && r.ctx.Err() == nil
	})
	if e := g.Wait(); failed == nil {
		failed = e
	}
	switch {
	case err != nil:
		return err
	case failed != nil:
		return failed
	case r.ctx.Err() != nil:
		return r.cause()
	case end != e.Size:
		return fmt.Errorf("%w: content of %d bytes, not %d", errLength, end, e.Size)
	case hole:
		return again(func() error { return unix.Ftruncate(fd, e.Size) })
	}
	return nil
}

// put writes one item, taking it from the old file where that has it.
func (w *filler) put(off int64, it snapshot.Item) error {
	if it.ID.IsZero() {
		return w.hole(off, it.Length)
	}
	buf := w.run.buffer()
	defer w.run.recycle(buf)
	if o := w.old; o != nil && off+it.Length <= o.st.Size {
		if taken, err := w.take(off, it, buf); taken || err != nil {
			return err
		}
	}
	if w.lacks != nil {
		if lacking, err := w.lacks(off, it); lacking || err != nil {
			return err
		}
	}
	data, err := w.run.chunk(it, buf)
	if err != nil {
		return err
	}
	if err := w.run.write(w.fd, data, off); err != nil {
		return err
	}
	w.drop(off, it.Length)
	return nil
}

// take takes an item over from the old file, if that has it. When it has been copied it is read back if the old file was changed since it was
// opened: another program may have written to it after it was compared.
func (w *filler) take(off int64, it snapshot.Item, buf *[]byte) (bool, error) {
	if off+it.Length > w.old.equal {
		if same, err := w.run.sameChunk(w.old.fd, off, it, buf); err != nil || !same {
			return false, nil
		}
	}
	if w.patch {
		return true, nil
	}
	if copied, err := w.copyOld(off, it.Length, buf); err != nil || !copied {
		return false, err
	}
	if !w.old.changed() {
		return true, nil
	}
	return w.run.sameChunk(w.fd, off, it, buf)
}

// copyOld copies a stretch of the old file, by reference where the file system can; false if the old file has become shorter.
func (w *filler) copyOld(off, n int64, buf *[]byte) (bool, error) {
	from, to, left := off, off, n
	for left > 0 {
		got, err := unix.CopyFileRange(w.old.fd, &from, w.fd, &to, int(left), 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil || got == 0 {
			break
		}
		left -= int64(got)
	}
	w.run.count.bytesWritten.Add(n - left)
	if left == 0 {
		return true, nil
	}
	data := sizedTo(buf, left)
	if got, err := preadFull(w.old.fd, data, from); err != nil || got < len(data) {
		return false, nil
	}
	return true, w.run.write(w.fd, data, to)
}

// hole leaves or makes a hole.
func (w *filler) hole(off, n int64) error {
	if !w.patch || off >= w.old.st.Size {
		return nil
	}
	n = min(n, w.old.st.Size-off)
	if data, err := unix.Seek(w.fd, off, unix.SEEK_DATA); err == unix.ENXIO || err == nil && data >= off+n {
		return nil
	}
	err := again(func() error {
		return unix.Fallocate(w.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
	if err != unix.EOPNOTSUPP {
		return err
	}
	for zero := make([]byte, 64<<10); n > 0; {
		part := min(n, int64(len(zero)))
		if err := w.run.write(w.fd, zero[:part], off); err != nil {
			return err
		}
		off, n = off+part, n-part
	}
	return nil
}

// drop does for a large file while it is written what behind does for finished ones.
func (w *filler) drop(off, n int64) {
	if n < 64<<10 {
		return
	}
	_ = unix.SyncFileRange(w.fd, off, n, unix.SYNC_FILE_RANGE_WRITE)
	old, give := w.after(stretch{off, n})
	if old.n > 0 {
		const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
		_ = unix.SyncFileRange(w.fd, old.off, old.n, all)
	}
	if give { // of the whole file: a page larger than a stretch goes only when all of it may
		_ = unix.Fadvise(w.fd, 0, 0, unix.FADV_DONTNEED)
	}
}

// after queues a stretch and returns the one whose writing is to be waited for, and whether pages are to be given back.
func (w *filler) after(s stretch) (old stretch, give bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.behind = append(w.behind, s)
	w.wait += s.n
	if w.wait <= behindSize {
		return old, false
	}
	old, w.behind = w.behind[0], w.behind[1:]
	w.wait -= old.n
	if w.written += old.n; w.written >= behindSize/2 {
		w.written, give = 0, true
	}
	return old, give
}

// write writes all of data at an offset.
func (r *run) write(fd int, data []byte, off int64) error {
	for len(data) > 0 {
		var n int
		err := again(func() (err error) {
			n, err = unix.Pwrite(fd, data, off)
			return err
		})
		if err != nil {
			return err
		}
		r.count.bytesWritten.Add(int64(n))
		data, off = data[n:], off+int64(n)
	}
	return nil
}
