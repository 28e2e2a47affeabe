package archive

import (
	"context"
	"runtime"

	"golang.org/x/sync/errgroup"

	"snapfs/snapshot"
	"snapfs/store"
	"snapfs/store/volume"
)

// group is a frame of the store and what is wanted of it.
type group struct {
	place store.Place
	rows  []row
}

// taken is what came of a group: frames as they are to be sealed, and small blobs that share frames with those of other groups.
type taken struct {
	frames []packed
	small  []blob
	lost   []Lost
	err    error
}

// packed is the plaintext of a frame.
type packed struct {
	plain []byte
	blobs []volume.Blob
}

// blob is a blob by itself.
type blob struct {
	kind store.Kind
	id   store.ID
	data []byte
}

// Sizes of frames, as the store itself has them.
const (
	packTarget = 256 << 10 // of small blobs, plain
	aloneLimit = 128 << 10 // from here on a blob has a frame of its own
	enough     = 64 << 10  // what is left of a frame that is packed anew by itself
)

// framesAhead is how many groups are read before they are needed.
const framesAhead = 8

// reading reads groups in parallel and hands them on in order.
type reading struct {
	st    *store.Store
	ranks *ranks
	level volume.Level
}

// each calls fn with what came of each group of rows, in order.
func (r *reading) each(ctx context.Context, rows *snapshot.SortedRecords, fn func(context.Context, *taken) error) error {
	g, ctx := errgroup.WithContext(ctx)
	type task struct {
		group
		to chan *taken
	}
	order, work := make(chan chan *taken, framesAhead), make(chan task)
	g.Go(func() error {
		defer close(order)
		defer close(work)
		return r.groups(rows, func(gr group) error {
			t := task{gr, make(chan *taken, 1)}
			select {
			case order <- t.to:
			case <-ctx.Done():
				return ctx.Err()
			}
			select {
			case work <- t:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	for range max(2, min(runtime.GOMAXPROCS(0), 8)) {
		g.Go(func() error {
			packer := volume.NewPacker(r.level)
			for t := range work {
				t.to <- r.take(ctx, t.group, packer)
			}
			return nil
		})
	}
	g.Go(func() error {
		for to := range order {
			select {
			case t := <-to:
				if t.err != nil {
					return t.err
				}
				if err := fn(ctx, t); err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return ctx.Err()
	})
	return g.Wait()
}

// groups puts the rows of each frame together.
func (r *reading) groups(rows *snapshot.SortedRecords, fn func(group) error) error {
	var now group
	var rank uint32
	for {
		record, err := rows.Next()
		if err != nil {
			return err
		}
		if record == nil {
			break
		}
		at := decodeRow(record)
		if len(now.rows) > 0 && (at.rank != rank || at.offset != now.place.Offset) {
			if err := fn(now); err != nil {
				return err
			}
			now = group{}
		}
		if len(now.rows) == 0 {
			rank = at.rank
			now.place = store.Place{Volume: r.ranks.ids[at.rank], Offset: at.offset, Stored: at.stored}
		}
		now.rows = append(now.rows, at)
	}
	if len(now.rows) == 0 {
		return nil
	}
	return fn(now)
}

// take reads a frame. All of it wanted: it goes on as it is. Else what is wanted is packed anew, so that a set never holds what
// its snapshots do not reach.
func (r *reading) take(ctx context.Context, g group, packer *volume.Packer) *taken {
	var buf []byte
	plain, err := r.st.Pack(ctx, g.place, g.rows[0].id, &buf)
	if err != nil {
		return r.singly(ctx, g, packer, err)
	}
	pack, err := volume.ParsePack(plain)
	if err != nil {
		return r.singly(ctx, g, packer, err)
	}
	if g.all(pack.Blobs) {
		return &taken{frames: []packed{{plain, pack.Blobs}}}
	}
	body, err := pack.Body(nil)
	if err != nil {
		return r.singly(ctx, g, packer, err)
	}
	blobs := make([]blob, len(g.rows))
	for i, w := range g.rows {
		start, length, ok := pack.Find(uint8(w.kind), w.id)
		if !ok {
			return r.singly(ctx, g, packer, nil)
		}
		blobs[i] = blob{w.kind, w.id, body[start : start+length]}
	}
	return repack(blobs, packer)
}

// all reports whether exactly these blobs are wanted.
func (g *group) all(blobs []volume.Blob) bool {
	if len(blobs) != len(g.rows) {
		return false
	}
	for i, b := range blobs {
		if b.ID != g.rows[i].id || b.Kind != uint8(g.rows[i].kind) {
			return false
		}
	}
	return true
}

// singly asks for each blob by itself: the frame is damaged, or it is not there any more.
func (r *reading) singly(ctx context.Context, g group, packer *volume.Packer, _ error) *taken {
	var blobs []blob
	var lost []Lost
	for _, w := range g.rows {
		data, err := r.st.Get(ctx, w.kind, w.id)
		if isLoss(err) {
			lost = append(lost, Lost{w.kind, w.id, err})
			continue
		}
		if err != nil {
			return &taken{err: err}
		}
		blobs = append(blobs, blob{w.kind, w.id, data})
	}
	t := repack(blobs, packer)
	t.lost = lost
	return t
}

// repack packs blobs anew: large ones alone, small ones together if they are enough for a frame.
func repack(blobs []blob, packer *volume.Packer) *taken {
	t := &taken{}
	size := 0
	for _, b := range blobs {
		if len(b.data) >= aloneLimit {
			t.frames = append(t.frames, pack([]blob{b}, packer))
			continue
		}
		t.small = append(t.small, b)
		size += len(b.data)
	}
	if size >= enough {
		t.frames = append(t.frames, pack(t.small, packer))
		t.small = nil
	}
	return t
}

func pack(blobs []blob, packer *volume.Packer) packed {
	var raw []byte
	rows := make([]volume.Blob, len(blobs))
	for i, b := range blobs {
		rows[i] = volume.Blob{Kind: uint8(b.kind), ID: b.id, Length: uint32(len(b.data))}
		raw = append(raw, b.data...)
	}
	return packed{packer.Pack(nil, rows, raw), rows}
}
