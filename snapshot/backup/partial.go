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
	// and if that does not take longer than this.
	partialPatience = 10 * time.Second
)

// partials commits one now and then until done is closed, and a last one when interrupted ends. It works with ctx,
// which goes on then.
func (r *run) partials(interrupted, ctx context.Context, done <-chan struct{}) {
	if r.o.DryRun || r.mending != nil {
		select {
		case <-interrupted.Done():
		case <-done:
		}
		return
	}
	every := r.o.PartialInterval
	if every <= 0 {
		every = partialInterval
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			r.partial(ctx)
		case <-interrupted.Done():
			if r.count.bytesRead.Load()-r.saved >= partialBytes || time.Since(r.job.begun) >= partialTime {
				r.lastPartial(ctx)
			}
			return
		case <-done:
			return
		}
	}
}

// lastPartial gives up if things do not come to a standstill soon: whoever interrupts a run does not want to wait.
func (r *run) lastPartial(ctx context.Context) {
	patience := partialPatience
	if r.hooks.patience > 0 {
		patience = r.hooks.patience
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stop := context.AfterFunc(ctx, r.gate.abandon)
	if still := r.gate.shut(); !stop() || !still {
		return
	}
	defer r.gate.open()
	r.tryPartial(ctx)
}

// partial waits until everything stands still and commits what there is.
func (r *run) partial(ctx context.Context) {
	if r.gate.shut() {
		defer r.gate.open()
		r.tryPartial(ctx)
	}
}

func (r *run) tryPartial(ctx context.Context) {
	if err := r.commitPartial(ctx); err != nil && ctx.Err() == nil {
		r.warn("the work so far could not be committed as a partial snapshot: " + err.Error())
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
