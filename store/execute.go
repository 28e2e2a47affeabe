package store

import (
	"context"
	"errors"
	"slices"

	"snapfs/store/volume"
)

// execute does what a plan says, or says it.
func (e *engine) execute(ctx context.Context, s *localSession, p *plan, dry bool, r *PruneResult, progress func(PruneProgress)) error {
	var err error
	if p.rewrite, err = e.byAge(ctx, p.rewrite); err != nil {
		return e.spare(p, err)
	}
	if dry {
		return e.foresee(ctx, p, r)
	}
	err = e.dropDead(ctx, s, p, r, progress)
	if err == nil {
		err = e.rewriteAll(ctx, s, p, r, progress)
	}
	return e.spare(p, err)
}

// spare takes back that volumes leave that are still there.
func (e *engine) spare(p *plan, err error) error {
	for _, c := range slices.Concat(p.drop, p.rewrite) {
		e.stay(c.volumeState)
	}
	return err
}

// dropBatch is how many volumes one fact drops.
const dropBatch = 256

// dropDead removes the volumes in which nothing is wanted. This comes first: it needs next to no space and gives some.
func (e *engine) dropDead(ctx context.Context, s *localSession, p *plan, r *PruneResult, progress func(PruneProgress)) error {
	done := PruneProgress{Phase: PhaseDrop, Total: int64(len(p.drop))}
	for part := range slices.Chunk(p.drop, dropBatch) {
		var list []*volumeState
		for _, c := range part {
			if err := e.unindexDead(ctx, c.volumeState); err != nil {
				return err
			}
			list = append(list, c.volumeState)
		}
		if err := e.drop(ctx, s, list, nil); err != nil {
			return err
		}
		for _, v := range list {
			r.removed(v)
			done.Done++
			done.Bytes += v.size
			progress(done)
		}
	}
	return nil
}

func (r *PruneResult) removed(v *volumeState) {
	r.Removed = append(r.Removed, PrunedVolume{v.id, v.kind, v.size})
	r.BytesFreed += v.size
}

// unindexDead removes the entries of a volume in which nothing is wanted. What cannot be read there stays in the index, where it
// leads to nothing.
func (e *engine) unindexDead(ctx context.Context, v *volumeState) error {
	aead, err := e.bundle.VolumeAEAD(v.id)
	if err != nil || e.enoughIndexSpace() != nil {
		return err
	}
	file, err := e.files.Open(volumePath(e.dir, v.id))
	if err != nil {
		return nil
	}
	defer file.Close()
	var dead []ID
	err = e.eachFrame(file, v, aead, func(f volume.FrameInfo) error {
		for _, b := range f.Blobs {
			dead = append(dead, b.ID)
		}
		if len(dead) < moveBatch {
			return ctx.Err()
		}
		err := e.unindexVolume(dead, v)
		dead = dead[:0]
		return err
	})
	var damage *CorruptError
	if err != nil && !errors.As(err, &damage) {
		return err
	}
	return e.unindexVolume(dead, v)
}

// rewriteAll copies what is wanted of wasteful, small and unfinished volumes and removes them.
func (e *engine) rewriteAll(ctx context.Context, s *localSession, p *plan, r *PruneResult, progress func(PruneProgress)) error {
	done := PruneProgress{Phase: PhaseRewrite, Total: int64(len(p.rewrite))}
	moved := func(v *volumeState) {
		r.Rewritten = append(r.Rewritten, PrunedVolume{v.id, v.kind, v.size})
		r.BytesFreed += v.size
		done.Done++
		done.Bytes += v.size
		progress(done)
	}
	for _, kind := range []volume.Kind{volume.Data, volume.Metadata} {
		m, err := e.newMover(s, kind)
		if err != nil {
			return err
		}
		m.done, m.part, m.unknown = moved, p.part, p.unknown
		for _, c := range p.rewrite {
			if c.kind != kind || err != nil {
				continue
			}
			if space := e.enoughToMove(c.live); space != nil {
				e.log.Warn("volume not rewritten", "volume", c.id, "err", space)
				e.stay(c.volumeState)
				p.waste += c.waste()
				continue
			}
			err = m.move(ctx, c.volumeState)
		}
		err = m.close(ctx, err)
		r.BytesFreed -= m.grown
		r.Damaged = append(r.Damaged, m.damaged...)
		if err != nil {
			return err
		}
	}
	return nil
}

// enoughToMove refuses to copy so many bytes when they and what goes with them may not fit.
func (e *engine) enoughToMove(bytes int64) error {
	want := bytes + bytes/8 + spareSize/4
	if !e.idx.inMemory() {
		want += e.reserve.index()
	}
	return e.atLeast(want)
}

// foresee says what execute would do.
func (e *engine) foresee(ctx context.Context, p *plan, r *PruneResult) error {
	for _, c := range p.drop {
		r.removed(c.volumeState)
	}
	for _, c := range p.rewrite {
		stays, err := e.staysWhole(ctx, c)
		if err != nil {
			return err
		}
		r.Rewritten = append(r.Rewritten, PrunedVolume{c.id, c.kind, c.size})
		r.BytesFreed += c.size - stays
	}
	return nil
}

// staysWhole sums the frames of a volume that would be moved as they are: more than the rest cannot be freed.
func (e *engine) staysWhole(ctx context.Context, c *candidate) (n int64, err error) {
	aead, err := e.bundle.VolumeAEAD(c.id)
	if err != nil {
		return 0, err
	}
	file, err := e.files.Open(volumePath(e.dir, c.id))
	if err != nil {
		return 0, err
	}
	defer file.Close()
	foreseen := *c.volumeState
	foreseen.leaving = c.wanted
	err = e.eachFrame(file, &foreseen, aead, func(f volume.FrameInfo) error {
		rows, _, err := e.wantedRows(&foreseen, f, false)
		if err == nil {
			err = ctx.Err()
		}
		if whole(f, rows) {
			n += int64(f.Stored)
		}
		return err
	})
	var damage *CorruptError
	if errors.As(err, &damage) {
		err = nil
	}
	return n, err
}
