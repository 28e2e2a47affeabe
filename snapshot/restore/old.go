package restore

import (
	"bytes"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/store"
)

// old is what has a job's name at the destination before the restore.
type old struct {
	handle
	st    unix.Stat_t
	equal int64 // bytes at its start that are as in the snapshot
}

func (o *old) close() {
	if o != nil && o.fd >= 0 {
		o.handle.close()
	}
}

// readable reports a regular file that is open for reading.
func (o *old) readable() bool { return o != nil && o.fd >= 0 && !o.ref }

// changed reports whether the file was written to since it was opened.
func (o *old) changed() bool {
	st, err := fstat(o.fd)
	return err != nil || st.Ctim != o.st.Ctim || st.Size != o.st.Size
}

// openOld opens what has the name; nil if it is gone.
func (r *run) openOld(dir int, j *job) (*old, error) {
	name := j.entry.Name
	st, err := statat(dir, name)
	if notThere(err) {
		j.exists = false
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	o := &old{handle: handle{fd: -1, ref: true}, st: st}
	if j.entry.Type == snapshot.TypeFile && st.Mode&unix.S_IFMT == unix.S_IFREG {
		if fd, err := r.openReading(dir, name, &st); err == nil {
			o.handle = handle{fd: fd}
		}
	}
	if o.fd < 0 {
		if o.handle, err = openRef(dir, name); err != nil {
			return nil, err
		}
	}
	if o.st, err = fstat(o.fd); err != nil {
		o.close()
		return nil, err
	}
	if !o.ref && o.st.Mode&unix.S_IFMT != unix.S_IFREG {
		o.close()
		return nil, ErrMoved
	}
	return o, nil
}

// openReading opens a regular file without disturbing its access time; our own ones even if they are closed to us.
func (r *run) openReading(dir int, name string, st *unix.Stat_t) (int, error) {
	const flags = unix.O_RDONLY | unix.O_NONBLOCK
	fd, err := openat(dir, name, flags|unix.O_NOATIME, 0)
	if err == unix.EPERM {
		fd, err = openat(dir, name, flags, 0)
	}
	if err == unix.EACCES && st.Uid == r.euid && !r.DryRun {
		ref, e := openRef(dir, name)
		if e != nil {
			return -1, err
		}
		defer ref.close()
		if ref.chmod(st.Mode&0o7777|0o400) == nil {
			fd, err = openat(dir, name, flags, 0)
			_ = ref.chmod(st.Mode & 0o7777)
		}
	}
	return fd, err
}

// keepOld decides whether what is there can stay, and corrects its attributes. No action means that it must be replaced.
func (r *run) keepOld(j *job, o *old) (Action, error) {
	if o == nil {
		return "", nil
	}
	same, err := r.sameContent(j.entry.Entry, o, r.Quick)
	if err != nil || !same {
		return "", err
	}
	shared := o.st.Nlink > 1
	if shared && !j.linked() {
		return "", nil // another name of it, perhaps outside, would follow every change
	}
	xattrs, err := r.xattrs(j.entry.Entry)
	if err != nil {
		return "", err
	}
	s := setter{h: o.handle, cur: currentOf(&o.st), want: wanted{entry: j.entry.Entry, xattrs: xattrs, late: r.lateFlags(j)},
		dry: r.DryRun || shared}
	out, err := s.run()
	switch {
	case err != nil:
		return "", err
	case out.changed && shared && !r.DryRun:
		return "", nil // nobody knows that all its names are to change
	case shared && !r.claimInode(&o.st, j.rank()):
		return "", nil // it is kept as another linked file of the snapshot already
	case out.changed:
		r.count.skipped.Add(out.skipped)
		return ActionAttributes, nil
	}
	r.count.skipped.Add(out.skipped)
	return ActionEqual, nil
}

// claimInode notes which linked file of the snapshot an inode with several names is kept as, and is false if that is another one.
func (r *run) claimInode(st *unix.Stat_t, rank uint32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := inode{uint64(st.Dev), st.Ino}
	if first, ok := r.kept[at]; ok {
		return first == rank
	}
	r.kept[at] = rank
	return true
}

// sameContent compares all that makes an entry but its attributes; quick trusts size and mtime.
func (r *run) sameContent(e *snapshot.Entry, o *old, quick bool) (bool, error) {
	if o.st.Mode&unix.S_IFMT != modeOf(e.Type) {
		return false, nil
	}
	switch e.Type {
	case snapshot.TypeFile:
		if quick && o.st.Size == e.Size && currentOf(&o.st).mtime == e.Mtime {
			return true, nil
		}
		if o.ref {
			return false, nil // not readable
		}
		var err error
		o.equal, err = r.compare(e, o.fd, o.st.Size)
		return o.equal == e.Size && o.st.Size == e.Size, err
	case snapshot.TypeSymlink:
		target, err := readlinkat(o.fd, "")
		return target == e.Target, err
	case snapshot.TypeChar, snapshot.TypeBlock:
		return uint64(o.st.Rdev) == e.Rdev, nil
	}
	return true, nil
}

func modeOf(t snapshot.Type) uint32 {
	switch t {
	case snapshot.TypeDir:
		return unix.S_IFDIR
	case snapshot.TypeSymlink:
		return unix.S_IFLNK
	case snapshot.TypeFIFO:
		return unix.S_IFIFO
	case snapshot.TypeSocket:
		return unix.S_IFSOCK
	case snapshot.TypeChar:
		return unix.S_IFCHR
	case snapshot.TypeBlock:
		return unix.S_IFBLK
	}
	return unix.S_IFREG
}

// compare returns how many bytes from the start of an open file of a size are as in the snapshot, item by item.
func (r *run) compare(e *snapshot.Entry, fd int, size int64) (equal int64, err error) {
	buf := r.buffer()
	defer r.recycle(buf)
	var failed error
	err = r.tree.Items(r.ctx, e, 0, func(off int64, it snapshot.Item) bool {
		if off+it.Length > size || r.ctx.Err() != nil {
			return false
		}
		var same bool
		if it.ID.IsZero() {
			same, failed = zeros(fd, off, it.Length, buf)
		} else {
			same, failed = r.sameChunk(fd, off, it, buf)
		}
		if same {
			equal = off + it.Length
		}
		return same && failed == nil
	})
	if err == nil {
		err = failed
	}
	return equal, err
}

// sameChunk reports whether a stretch of an open file is what a chunk holds. It is left in buf.
func (r *run) sameChunk(fd int, off int64, it snapshot.Item, buf *[]byte) (bool, error) {
	data := sizedTo(buf, it.Length)
	if n, err := preadFull(fd, data, off); err != nil || n < len(data) {
		return false, err
	}
	if r.namer != nil {
		return r.namer.BlobID(store.KindChunk, data) == it.ID, nil
	}
	other := r.buffer()
	defer r.recycle(other)
	chunk, err := r.chunk(it, other)
	return bytes.Equal(chunk, data), err
}

// zeros reports whether a stretch of an open file reads as zeros; its holes are not read.
func zeros(fd int, off, n int64, buf *[]byte) (bool, error) {
	for end := off + n; off < end; {
		data, err := unix.Seek(fd, off, unix.SEEK_DATA)
		if err == unix.ENXIO || err == nil && data >= end {
			return true, nil
		}
		if err == nil {
			off = data
		}
		part := sizedTo(buf, min(end-off, 1<<20))
		got, err := preadFull(fd, part, off)
		if err != nil || got < len(part) {
			return false, err
		}
		if len(bytes.TrimLeft(part, "\x00")) > 0 {
			return false, nil
		}
		off += int64(got)
	}
	return true, nil
}

// preadFull reads until p is full or the file ends.
func preadFull(fd int, p []byte, off int64) (n int, err error) {
	for n < len(p) {
		var got int
		err = again(func() error {
			got, err = unix.Pread(fd, p[n:], off+int64(n))
			return err
		})
		if err != nil || got == 0 {
			return n, err
		}
		n += got
	}
	return n, nil
}

// buffer and recycle keep chunk-sized buffers.
func (r *run) buffer() *[]byte { return r.buffers.Get().(*[]byte) }

func (r *run) recycle(b *[]byte) { r.buffers.Put(b) }

// sizedTo returns buf's memory at a length.
func sizedTo(buf *[]byte, n int64) []byte {
	if int64(cap(*buf)) < n {
		*buf = make([]byte, n)
	}
	return (*buf)[:n]
}
