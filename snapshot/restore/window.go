package restore

import (
	"slices"

	"golang.org/x/sync/errgroup"

	"snapfs/snapshot"
	"snapfs/store"
)

// A window is a stretch of the scan whose jobs are put into the order in which their content lies in the volumes, so that
// each frame is read once. Its size bounds the memory, so that nothing must be spilled however large the snapshot is:
// while one window is worked on, the scan fills the next.

const (
	firstWindow = 2_000  // jobs: the first is small, so that writing begins at once
	fullWindow  = 16_000 // jobs: as good as 50,000 for reading each frame once, and a third of the live heap
	windowBytes = 32 << 20
	unitSize    = 64 // jobs a worker takes at once
)

type window struct {
	jobs   []*job
	links  []*job          // further names of linked files
	firsts map[uint32]*job // by rank: first names in this window
}

// collector fills windows.
type collector struct {
	run   *run
	out   chan<- *window
	limit int
	w     *window
	size  int
}

// add takes a job; the folder's pending count is raised until it is done.
func (c *collector) add(j *job) {
	if c.w == nil {
		c.w = &window{firsts: map[uint32]*job{}}
		c.size = 0
	}
	j.folder.pending.Add(1)
	if j.linked() && !c.run.firsts.claim(j.rank(), j.name) {
		c.w.links = append(c.w.links, j)
	} else {
		c.w.jobs = append(c.w.jobs, j)
		if j.linked() {
			c.w.firsts[j.rank()] = j
		}
	}
	c.size += jobSize(j)
	if len(c.w.jobs)+len(c.w.links) >= c.limit || c.size > windowBytes {
		c.flush()
	}
}

func jobSize(j *job) int {
	e := j.entry.Entry
	n := 512 + len(e.Name) + len(e.Target) + 40*len(e.Content.Items)
	for _, x := range e.Xattrs {
		n += len(x.Name) + len(x.Value) + 40
	}
	return n
}

// flush hands the window on; it waits until the one before has been worked on.
func (c *collector) flush() {
	if c.w == nil {
		return
	}
	select {
	case c.out <- c.w:
	case <-c.run.ctx.Done():
	}
	c.w = nil
	c.limit = min(4*c.limit, fullWindow)
}

// execute restores a window: files in the order of their places, then further names of linked files.
func (r *run) execute(w *window) {
	if r.ctx.Err() != nil {
		return
	}
	r.locate(w.jobs)
	r.parallel(w.jobs, r.work)
	r.parallel(w.links, func(j *job) {
		if r.passage != nil && j.entry.Type == snapshot.TypeFile && !r.DryRun {
			r.passage.postponeLink(j)
			r.done(j.folder)
			return
		}
		r.link(w, j)
	})
}

// locate finds the places of the jobs' content and sorts the jobs by them. Without places (a store that cannot tell)
// the order of the scan stays, which is about that in which they were stored.
func (r *run) locate(jobs []*job) {
	ids := make([]store.ID, 0, len(jobs))
	owners := make([]*job, 0, len(jobs))
	for _, j := range jobs {
		if j.first = r.firstChunk(j.entry.Entry); !j.first.IsZero() {
			ids, owners = append(ids, j.first), append(owners, j)
		}
	}
	for batch := 4096; len(ids) > 0; {
		n := min(batch, len(ids))
		places, err := r.reader.Locate(r.ctx, ids[:n])
		if err != nil {
			return // reading will say what is wrong
		}
		for i, p := range places {
			owners[i].place = p
		}
		ids, owners = ids[n:], owners[n:]
	}
	slices.SortStableFunc(jobs, func(a, b *job) int { return a.place.Compare(b.place) })
}

// firstChunk is zero for what has no content, and for lists that cannot be read.
func (r *run) firstChunk(e *snapshot.Entry) (id store.ID) {
	if e.Type != snapshot.TypeFile {
		return id
	}
	_ = r.tree.Items(r.ctx, e, 0, func(_ int64, it snapshot.Item) bool {
		id = it.ID
		return id.IsZero()
	})
	return id
}

// parallel calls do for all jobs. Neighbours whose content lies in one frame go to the same worker, so that no frame is
// decoded twice. Nothing is read ahead: two workers per core overlap reading and writing well enough, and the kernel
// reads ahead in volumes that are read in order (measured with the store's Prefetch: a fifth more system time).
func (r *run) parallel(jobs []*job, do func(*job)) {
	units := make(chan []*job, r.Workers)
	var g errgroup.Group
	for range r.Workers {
		g.Go(func() error {
			for unit := range units {
				for _, j := range unit {
					if r.ctx.Err() == nil {
						do(j)
					}
				}
			}
			return nil
		})
	}
	for len(jobs) > 0 {
		n := unitLength(jobs)
		units <- jobs[:n]
		jobs = jobs[n:]
	}
	close(units)
	_ = g.Wait()
}

// unitLength is the number of jobs at the start that share a frame; jobs without a place go by the dozen.
func unitLength(jobs []*job) int {
	first := jobs[0].place
	for n, j := range jobs {
		if n == unitSize && first.IsZero() || j.place.Volume != first.Volume || j.place.Offset != first.Offset {
			return n
		}
	}
	return len(jobs)
}
