package backup

import (
	"context"
	"time"

	"snapfs/snapshot"
)

// A partial is a snapshot of what is complete so far. It is hidden, and serves the next run if this one does not
// reach its end: what the parent does not know is looked up there. Content that no partial names is not lost
// either: read again, it is found in the store.

const (
	partialInterval = 10 * time.Minute
	// An interrupted run leaves a partial if it has done this much since the last.
	partialBytes = 64 << 20
	partialTime  = 20 * time.Second
)

// partials commits one now and then until done is closed.
func (r *run) partials(ctx context.Context, done <-chan struct{}) error {
	every := r.o.PartialInterval
	if every <= 0 {
		every = partialInterval
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if !r.gate.shut() {
				return nil
			}
			err := r.commitPartial(ctx)
			r.gate.open()
			if err != nil && ctx.Err() == nil {
				r.warn("the work so far could not be committed as a partial snapshot: " + err.Error())
			}
		case <-done:
			return nil
		}
	}
}

// commitPartial needs everything to stand still.
func (r *run) commitPartial(ctx context.Context) error {
	if r.root != nil {
		return nil // nearly done
	}
	release := r.links.pause()
	defer release()
	root, err := r.soFar(ctx, r.top)
	if err != nil || root == nil {
		return err
	}
	m := r.job.manifest()
	if err := r.fill(ctx, m, root); err != nil {
		return err
	}
	r.saved = r.count.bytesRead.Load()
	_, err = r.commit(ctx, m, true)
	return err
}

// soFar writes a directory with what is complete of it. Of a directory in several windows only the present one is
// known here: the rest is found again by its content.
func (r *run) soFar(ctx context.Context, t *dirTask) (*snapshot.Entry, error) {
	if t.attributes == nil {
		return nil, nil
	}
	w := snapshot.NewDirWriter(r.nodes, r.pageKey, t.fs.index)
	for _, s := range t.window {
		e := s.entry
		if e == nil && s.task != nil && s.task.opened {
			var err error
			if e, err = r.soFar(ctx, s.task); err != nil {
				return nil, err
			}
		}
		if e == nil {
			continue
		}
		if err := w.Add(ctx, e); err != nil {
			return nil, err
		}
	}
	e := *t.attributes
	var err error
	e.Dir, e.Totals, err = w.Finish(ctx)
	return &e, err
}

// keepPartial commits a partial when a run was interrupted and had done something worth keeping.
func (r *run) keepPartial(ctx context.Context) error {
	worth := r.count.bytesRead.Load()-r.saved >= partialBytes || time.Since(r.job.begun) >= partialTime
	if !worth || r.top == nil || r.o.DryRun {
		return nil
	}
	// The interruption must not stop this as well, nor must this take long.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return r.commitPartial(ctx)
}
