package backup

import (
	"context"
	"sync"
	"sync/atomic"

	"snapfs/snapshot"
)

// Sizes that decide how a file is read.
const (
	// largeFile is where one file is worth all workers; smaller ones are read whole by one each.
	largeFile = 16 << 20
	// A batch is what one worker takes at a time: neighbours in the tree, that end up in the same frames.
	batchBytes = 1 << 20
	batchFiles = 256
	// maxTries is how often a file that changes meanwhile is read again, as long as maxRetried bytes are not exceeded.
	maxTries   = 3
	maxRetried = 4 << 30
)

// fileJob is a regular file to be read.
type fileJob struct {
	t     *dirTask
	slot  int
	entry *snapshot.Entry // attributes as of the scan; completed by the job
	had   *snapshot.Entry // the base's, followed; nil if it is new
	fs    *fileSystem
	holes bool
	link  *linkName // set if the entry is a record for the link tree
	fd    int       // of the file, if it is open already
	open  bool
	drop  bool          // nothing of it was in the page cache when it was opened
	ahead *atomic.Int32 // counts it as long as it is open before its turn

	base, more snapshot.Found // for looking at the name again
	sel        *selection
	tried      int
	judged     bool // its content counts among the run's activity
}

func (w *walker) newJob(c *candidate, e, had *snapshot.Entry) fileJob {
	return fileJob{
		t: c.t, slot: c.slot, entry: e, had: had, fs: c.fs, holes: hasHoles(c.st),
		base: c.base, more: c.more, sel: c.sel, tried: c.tried,
	}
}

func (j *fileJob) path() string { return joinPath(j.t.path(), j.entry.Name) }

// work is what workers do: a batch of files or a chunk of a large one.
type work interface {
	do(w *worker) error
	// discard is called instead when the run has failed.
	discard()
}

// batch is a run of files in scan order.
type batch struct {
	files []fileJob
	bytes int64
}

func (b *batch) do(w *worker) error { return w.files(b.files) }

func (b *batch) discard() { closeAll(b.files) }

// queue hands a file to the workers, a small one together with its neighbours.
func (w *walker) queue(j fileJob) error {
	if j.entry.Size >= largeFile {
		w.r.large.add(&j)
		return nil
	}
	w.batch.files = append(w.batch.files, j)
	w.batch.bytes += j.entry.Size
	if w.batch.bytes >= batchBytes || len(w.batch.files) >= w.r.batchFiles {
		return w.flushBatch()
	}
	return nil
}

func (w *walker) flushBatch() error {
	if len(w.batch.files) == 0 {
		return nil
	}
	b := w.batch
	w.batch = batch{files: make([]fileJob, 0, 32)}
	w.r.fetch(&b, &w.buffers)
	return w.r.send(w.ctx, &b)
}

// send hands work to the workers; it blocks while they have enough.
func (r *run) send(ctx context.Context, job work) error {
	r.gate.hold()
	select {
	case r.work <- job:
		return nil
	case <-ctx.Done():
		r.gate.leave()
		job.discard()
		return ctx.Err()
	}
}

// largeQueue holds the large files that wait for a reader. Walkers do not block when they add one, but before they
// go on: nothing that a reader waits for is ever behind them.
type largeQueue struct {
	mu    sync.Mutex
	cond  sync.Cond
	files []*fileJob
	ended bool
}

const largeWaiting = 64

func newLargeQueue() *largeQueue {
	q := &largeQueue{}
	q.cond.L = &q.mu
	return q
}

func (q *largeQueue) add(j *fileJob) {
	q.mu.Lock()
	q.files = append(q.files, j)
	q.cond.Broadcast()
	q.mu.Unlock()
}

// wait returns when the queue is not full.
func (q *largeQueue) wait() {
	q.mu.Lock()
	for len(q.files) >= largeWaiting && !q.ended {
		q.cond.Wait()
	}
	q.mu.Unlock()
}

// take returns the next file, nil at the end.
func (q *largeQueue) take() *fileJob {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.files) == 0 && !q.ended {
		q.cond.Wait()
	}
	if q.ended {
		return nil
	}
	j := q.files[0]
	q.files[0] = nil
	q.files = q.files[1:]
	q.cond.Broadcast()
	return j
}

// end makes every take return nil; it is called when no file is left, or the run has failed.
func (q *largeQueue) end() {
	q.mu.Lock()
	q.ended = true
	q.cond.Broadcast()
	q.mu.Unlock()
}
