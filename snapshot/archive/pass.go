package archive

import (
	"cmp"
	"context"
	"io"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"snapfs/store"
	"snapfs/store/volume"
)

// Passes reports whether chunks of the wanted snapshot are still to come through pipes.
func (b *Bare) Passes() bool { return b.pipes != nil && b.pipes.known && !b.pipes.passed }

// Certain reports whether nothing that still comes can change what the wanted snapshot is.
func (b *Bare) Certain() bool {
	return b.target == nil || b.target.Exact || !b.Passes() && b.Unread() == nil
}

// Pass reads the pipes to their end and gives the chunks for which wanted returns true to take, from several goroutines; data is valid during
// the call. Those that come several times, or in several volumes, are offered as often. When enough returns true nothing more is given. Once only.
// Errors: those of Open about volumes; take's; *ParentError if sets did not come that would have been needed; *NewerError if a name was wanted and
// means something else with what came behind.
func (b *Bare) Pass(ctx context.Context, wanted func(store.ID) bool, take func(store.ID, []byte) error, enough func() bool) error {
	p := b.pipes
	p.passed, p.enough = true, enough
	g, within := errgroup.WithContext(ctx)
	frames := make(chan sealedFrame, runtime.GOMAXPROCS(0))
	for range runtime.GOMAXPROCS(0) {
		w := chunkTaker{p: p, wanted: wanted, take: take}
		g.Go(func() error {
			for f := range frames {
				if err := w.frame(f); err != nil {
					return err
				}
			}
			return nil
		})
	}
	var failed error
	g.Go(func() error {
		defer close(frames)
		failed = p.pass(within, frames)
		return nil
	})
	if err := g.Wait(); err != nil {
		return err
	}
	if enough() && (failed == nil || b.target.Exact) { // whatever came behind the last chunk
		return cmp.Or(p.endInput(ctx), p.untold())
	}
	if err := cmp.Or(failed, p.refused); err != nil {
		return err
	}
	if absent := b.absent(p.from); len(absent) > 0 && !b.o.Incomplete {
		err := &ParentError{Set: p.from.name(), Missing: absent}
		if b.Unread() == nil {
			return err
		}
		b.o.Note(err.Error()) // what came is restored all the same
	}
	b.noteAllMissing(p.from)
	return p.untold()
}

// pass hands frames out until enough have come; if a name is wanted it looks also at what comes behind.
func (p *pipeReader) pass(ctx context.Context, frames chan<- sealedFrame) error {
	p.deliver = func(f sealedFrame) error {
		select {
		case frames <- f:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if p.first != nil && !p.enough() {
		if err := p.deliver(*p.first); err != nil {
			return err
		}
	}
	for p.readsOn() || !p.enough() {
		if err := p.next(ctx); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// frameBuffers hold sealed frames on their way.
var frameBuffers = sync.Pool{New: func() any { return new([]byte) }}

// sealed is a frame in memory of its own.
func sealed(v *Volume, stored []byte) sealedFrame {
	buf := frameBuffers.Get().(*[]byte)
	*buf = append((*buf)[:0], stored...)
	return sealedFrame{v, buf}
}

// chunkTaker opens frames and gives the chunks in them on.
type chunkTaker struct {
	p      *pipeReader
	wanted func(store.ID) bool
	take   func(store.ID, []byte) error

	raw []byte
}

func (w *chunkTaker) frame(f sealedFrame) error {
	defer frameBuffers.Put(f.stored)
	aead, err := f.volume.set.aead(f.volume.ID)
	if err != nil {
		return err
	}
	_, plain, err := volume.OpenFrame(*f.stored, f.volume.ID, aead)
	if err != nil {
		w.p.damage(f.volume, int64(len(*f.stored)), 1)
		return nil
	}
	pack, err := volume.ParsePack(plain)
	if err != nil || !slices.ContainsFunc(pack.Blobs, func(b volume.Blob) bool { return store.Kind(b.Kind) == store.KindChunk && w.wanted(b.ID) }) {
		return nil
	}
	body, err := pack.Body(w.raw)
	if err != nil {
		w.p.damage(f.volume, int64(len(*f.stored)), 1)
		return nil
	}
	at := uint32(0)
	for _, b := range pack.Blobs {
		data := body[at : at+b.Length]
		at += b.Length
		if store.Kind(b.Kind) == store.KindChunk && w.wanted(b.ID) {
			if err := w.take(b.ID, data); err != nil {
				return err
			}
		}
	}
	if pack.Codec != volume.CodecNone { // else it lies in the frame's memory
		w.raw = body
	}
	return nil
}
