package backup

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

// worker reads files and puts their content, with a Writer of its own.
type worker struct {
	r   *run
	ctx context.Context
	w   blobWriter

	buffers
	buf   []byte
	list  *snapshot.ContentWriter
	cut   cutter
	small int64 // a file up to this size is one blob
	sent  int64 // of w's stored bytes, counted already
}

func newWorker(ctx context.Context, r *run) *worker {
	cut := r.repo.newCutter()
	p := cut.Params()
	return &worker{
		r: r, ctx: ctx, w: r.repo.newWriter(), cut: cut, small: int64(p.Min),
		list: snapshot.NewContentWriter(r.nodes, r.pageKey),
	}
}

// loop does work until there is no more, then hands on what was put.
func (w *worker) loop() error {
	for job := range w.r.work {
		err := job.do(w)
		w.r.count.stored.Add(w.grown())
		w.r.gate.leave()
		if err != nil {
			return err
		}
	}
	if err := w.ctx.Err(); err != nil {
		return err
	}
	return w.w.Flush(w.ctx)
}

// grown returns by how much the volumes have grown since it was last asked.
func (w *worker) grown() int64 {
	now := w.w.Stats().StoredBytes
	n := now - w.sent
	w.sent = now
	return n
}

// files reads a batch; files of the same directory share its descriptor.
func (w *worker) files(jobs []fileJob) error {
	for len(jobs) > 0 {
		n := 1
		for n < len(jobs) && jobs[n].t == jobs[0].t {
			n++
		}
		fd, err := w.r.fds.acquire(jobs[0].t.dir)
		for i := range jobs[:n] {
			if err != nil {
				w.r.failed(&jobs[i], err)
				continue
			}
			if err := w.file(&jobs[i], fd); err != nil {
				w.r.fds.release(jobs[0].t.dir)
				return err
			}
		}
		if err == nil {
			w.r.fds.release(jobs[0].t.dir)
		}
		jobs = jobs[n:]
	}
	return nil
}

// file reads one file. The errors it returns end the run; those of the file itself are reported.
func (w *worker) file(j *fileJob, dir int) error {
	return w.r.finishFile(j, w.r.readFile(w.ctx, j, dir, &w.buffers, w.content))
}

// errOther: the name is no longer a regular file.
var errOther = errors.New("no longer a regular file")

// sourceError is an error of the source: the file is not saved, the run goes on.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// contentReader puts the content of an open file: size bytes, unless it has become shorter.
type contentReader func(fd int, j *fileJob, size int64) (stored, error)

// stored is content that was put.
type stored struct {
	content snapshot.Content
	length  int64 // of the file, holes included
	read    int64 // from the file, holes not included
}

// buffers are what reading a file needs beside its content.
type buffers struct {
	st    unix.Statx_t
	name  []byte
	xattr xattrReader
}

// readFile completes j.entry from the file. If it changes meanwhile it is read again, and in the end taken as it is.
func (r *run) readFile(ctx context.Context, j *fileJob, dir int, b *buffers, read contentReader) error {
	b.name = appendName(b.name, j.entry.Name)
	total := int64(0)
	for try := 0; ; try++ {
		got, stable, err := r.readOnce(ctx, j, dir, b, read)
		total += got.read
		if err != nil {
			return err
		}
		if stable || try == maxTries || total > maxRetried {
			j.entry.Content, j.entry.Size = got.content, got.length
			if !stable {
				r.count.unstable.Add(1)
				j.entry.Fresh = true // read again next time
			}
			return nil
		}
	}
}

func (r *run) readOnce(ctx context.Context, j *fileJob, dir int, b *buffers, read contentReader) (got stored, stable bool, err error) {
	flags := openRead
	if j.sel != nil && j.sel.named {
		flags &^= unix.O_NOFOLLOW
	}
	if err := r.hooks.opening(j.entry.Name); err != nil {
		return got, false, &sourceError{err}
	}
	fd, err := openat(dir, b.name, flags)
	if err != nil {
		return got, false, &sourceError{err}
	}
	defer unix.Close(fd)
	now := r.now()
	e := j.entry
	got, err = read(fd, j, e.Size)
	r.count.bytesRead.Add(got.read)
	if err != nil {
		if statxFD(fd, &b.st) == nil && typeOf(b.st.Mode) != snapshot.TypeFile {
			err = &sourceError{errOther}
		}
		return got, false, err
	}
	r.hooks.wasRead(j.entry.Name)
	set, err := b.xattr.of(fd)
	if err != nil {
		return got, false, &sourceError{err}
	}
	e.Flags = inodeFlags(fd, j.fs)
	if err := statxFD(fd, &b.st); err != nil {
		return got, false, &sourceError{err}
	}
	if typeOf(b.st.Mode) != snapshot.TypeFile {
		return got, false, &sourceError{errOther}
	}
	stable = e.Inode == b.st.Ino && e.Size == int64(b.st.Size) && e.Mtime == timeOf(b.st.Mtime) && e.Ctime == timeOf(b.st.Ctime) &&
		(got.length == e.Size || j.fs.pseudo)
	if !stable {
		r.describe(e, &b.st, j.fs, now)
		j.holes = hasHoles(&b.st)
	}
	return got, stable, r.giveXattrs(ctx, e, set)
}

// finishFile fills the slot of a file that was read, or not.
func (r *run) finishFile(j *fileJob, err error) error {
	var source *sourceError
	switch {
	case errors.As(err, &source):
		r.failed(j, source.err)
		return nil
	case err != nil:
		return err
	case j.link != nil:
		return r.finishLinked(j)
	}
	r.complete(j.t, j.slot, r.counted(j.had, j.entry))
	return nil
}

// failed leaves a file out: because of an error, or because it is something else now.
func (r *run) failed(j *fileJob, err error) {
	again := errors.Is(err, errOther) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) ||
		errors.Is(err, unix.EISDIR) || vanished(err)
	if !again {
		r.report("read", j.path(), err)
	}
	switch {
	case j.link != nil:
		r.unlinked(j.link, again)
	case again:
		c := candidate{slot: j.slot, base: j.base, more: j.more, sel: j.sel, tried: j.tried}
		r.sched.push(j.t.owner, &retry{parent: j.t, name: j.entry.Name, c: c})
	default:
		r.complete(j.t, j.slot, slot{})
	}
}
