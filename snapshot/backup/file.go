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
		r: r, ctx: ctx, w: r.newWriter(), cut: cut, small: int64(p.Min),
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

// fetch has the content of a batch fetched, so that the disk is read while the batches before this one are compressed.
func (r *run) fetch(b *batch, use *buffers) {
	for i := range b.files {
		r.openAhead(&b.files[i], use)
	}
}

// files reads a batch.
func (w *worker) files(jobs []fileJob) error {
	for i := range jobs {
		j := &jobs[i]
		if err := w.r.finishFile(j, w.r.readFile(w.ctx, j, &w.buffers, w.content)); err != nil {
			closeAll(jobs[i+1:])
			return err
		}
	}
	return nil
}

// openAhead opens a file and has its content fetched. An error is met again when it is its turn.
func (r *run) openAhead(j *fileJob, b *buffers) {
	fd, err := r.open(j, b)
	if err != nil {
		return
	}
	if j.entry.Size > 0 && !j.holes {
		pages := cachedPages(fd)
		j.drop = pages == 0
		if pages <= 0 { // the kernel reads ahead by itself what is missing of a file that is partly there
			_ = unix.Fadvise(fd, 0, min(j.entry.Size, largeFile), unix.FADV_WILLNEED)
		}
	}
	if r.ahead.Add(1) > r.maxAhead {
		r.ahead.Add(-1)
		unix.Close(fd)
		return
	}
	j.fd, j.open, j.ahead = fd, true, &r.ahead
}

// open opens a job's file by its name.
func (r *run) open(j *fileJob, b *buffers) (int, error) {
	if err := r.hooks.opening(j.entry.Name); err != nil {
		return -1, err
	}
	dir, err := r.fds.acquire(j.t.dir)
	if err != nil {
		return -1, err
	}
	defer r.fds.release(j.t.dir)
	flags := openRead
	if j.sel.follows() {
		flags &^= unix.O_NOFOLLOW
	}
	b.name = appendName(b.name, j.entry.Name)
	return openat(dir, b.name, flags)
}

// close closes the file. What the run alone brought into the page cache goes: nobody asked for it, and on virtual
// machines fresh pages cost more than reading (measured: up to 3 CPU seconds a GB).
func (j *fileJob) close() {
	if !j.open {
		return
	}
	if j.drop {
		_ = unix.Fadvise(j.fd, 0, 0, unix.FADV_DONTNEED)
	}
	unix.Close(j.fd)
	if j.ahead != nil {
		j.ahead.Add(-1)
	}
	j.open, j.drop, j.ahead = false, false, nil
}

// closeAll closes files whose turn does not come any more.
func closeAll(jobs []fileJob) {
	for i := range jobs {
		jobs[i].close()
	}
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
func (r *run) readFile(ctx context.Context, j *fileJob, b *buffers, read contentReader) error {
	total := int64(0)
	for try := 0; ; try++ {
		got, stable, err := r.readOnce(ctx, j, b, read)
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

func (r *run) readOnce(ctx context.Context, j *fileJob, b *buffers, read contentReader) (got stored, stable bool, err error) {
	if !j.open {
		if j.fd, err = r.open(j, b); err != nil {
			return got, false, &sourceError{err}
		}
		j.open = true
	}
	fd := j.fd
	defer j.close()
	now := r.now()
	e := j.entry
	if e.Size > 0 && !e.Fresh && !startWriteback(fd) {
		e.Fresh = true
	}
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
	if err != nil { // the content is worth saving without them
		r.report("read attributes of", j.path(), err)
	}
	e.Flags = inodeFlags(fd, j.fs)
	if err := statxFD(fd, &b.st); err != nil {
		return got, false, &sourceError{err}
	}
	if typeOf(b.st.Mode) != snapshot.TypeFile {
		return got, false, &sourceError{errOther}
	}
	stable = e.Inode == b.st.Ino && e.Size == int64(b.st.Size) && e.Mtime == timeOf(b.st.Mtime) && e.Ctime == timeOf(b.st.Ctime) &&
		(got.length == e.Size || e.Size == 0 || j.fs.pseudo)
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
	r.hooks.isDone(j.entry.Name)
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
		r.unlinked(j.link, again, err)
	case again:
		c := candidate{slot: j.slot, base: j.base, more: j.more, sel: j.sel, tried: j.tried, why: err}
		r.sched.push(j.t.owner, &retry{parent: j.t, name: j.entry.Name, c: c})
	default:
		r.complete(j.t, j.slot, slot{})
	}
}
