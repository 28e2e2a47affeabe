package archive

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"snapfs/snapshot"
	"snapfs/store"
	"snapfs/store/volume"
)

// plan is what a set will hold, in the order in which it lies in the store.
type plan struct {
	metadata *snapshot.Sorter // rows
	chunks   *snapshot.Sorter // rows
	counts   Counts
	ranks    *ranks
	lost     []Lost
	largest  int // bytes of the largest frame of the store that something is wanted of
}

func (p *plan) close() error { return errors.Join(p.metadata.Close(), p.chunks.Close()) }

// planner makes a plan.
type planner struct {
	st       *store.Store
	dir      string     // for temporary files
	without  []store.ID // roots of lists of chunks that other sets carry
	progress func(Progress)
}

// make finds what snapshots need and where it lies.
func (p *planner) make(ctx context.Context, snapshots []store.ID) (_ *plan, err error) {
	out := &plan{metadata: snapshot.NewSorter(rowSize, p.dir), chunks: snapshot.NewSorter(rowSize, p.dir)}
	defer func() {
		if err != nil {
			err = errors.Join(err, out.close())
		}
	}()
	if out.ranks, err = readRanks(ctx, p.st); err != nil {
		return nil, err
	}
	wanted := snapshot.NewSorter(len(store.ID{}), p.dir)
	defer wanted.Close()
	meta := &locator{st: p.st, to: out.metadata, plan: out}
	w := &walker{
		src: p.st, met: map[store.ID]struct{}{},
		meta:     func(kind store.Kind, id store.ID) error { return meta.add(ctx, kind, id) },
		chunk:    func(id store.ID) error { return wanted.Add(id[:]) },
		lost:     out.lose,
		progress: func(n int64) { p.progress(Progress{Phase: PhasePlan, Done: n}) },
	}
	for _, id := range snapshots {
		if err := w.walk(ctx, id); err != nil {
			return nil, err
		}
	}
	if err := meta.flush(ctx); err != nil {
		return nil, err
	}
	out.counts.Metadata, out.counts.MetadataBytes = meta.blobs, meta.bytes
	chunks := &locator{st: p.st, to: out.chunks, plan: out}
	if err := p.unarchived(ctx, wanted, chunks); err != nil {
		return nil, err
	}
	out.counts.Chunks, out.counts.ChunkBytes = chunks.blobs, chunks.bytes
	return out, nil
}

// lose notes a blob once.
func (p *plan) lose(l Lost) {
	if !slices.ContainsFunc(p.lost, func(o Lost) bool { return o.ID == l.ID && o.Kind == l.Kind }) {
		p.lost = append(p.lost, l)
	}
}

// loseChunks notes all planned chunks as lost, for a set that has ended: they could not be read then.
func (p *plan) loseChunks() error {
	for all := p.chunks.Sorted(); ; {
		record, err := all.Next()
		if record == nil || err != nil {
			return err
		}
		r := decodeRow(record)
		p.lose(Lost{r.kind, r.id, &store.MissingError{Kind: r.kind, ID: r.id}})
	}
}

// unarchived gives the locator the wanted chunks that no list has.
func (p *planner) unarchived(ctx context.Context, wanted *snapshot.Sorter, to *locator) error {
	var lists []*excluded
	for _, root := range p.without {
		lists = append(lists, &excluded{list: p.st.IDList(root)})
	}
	all := wanted.Sorted()
	for {
		record, err := all.Next()
		if err != nil {
			return err
		}
		if record == nil {
			return to.flush(ctx)
		}
		id, known := store.ID(record), false
		for _, l := range lists {
			has, err := l.has(ctx, id)
			if err != nil {
				return fmt.Errorf("list of what a set carries: %w", err)
			}
			if known = known || has; known {
				break
			}
		}
		if known {
			continue
		}
		if err := to.add(ctx, store.KindChunk, id); err != nil {
			return err
		}
	}
}

// excluded is a list that is asked for ascending IDs.
type excluded struct {
	list  *store.IDList
	head  store.ID
	begun bool
	ended bool
}

func (e *excluded) has(ctx context.Context, id store.ID) (bool, error) {
	for !e.ended {
		if e.begun {
			if c := bytes.Compare(e.head[:], id[:]); c >= 0 {
				return c == 0, nil
			}
		}
		head, ok, err := e.list.Next(ctx)
		if err != nil {
			return false, err
		}
		e.head, e.begun, e.ended = head, true, !ok
	}
	return false, nil
}

// locator finds where blobs lie, many at a time.
type locator struct {
	st    *store.Store
	to    *snapshot.Sorter
	plan  *plan
	kinds []store.Kind
	ids   []store.ID
	blobs int64
	bytes int64
}

// locateBatch is how many blobs are looked up at once.
const locateBatch = 1024

func (l *locator) add(ctx context.Context, kind store.Kind, id store.ID) error {
	l.kinds, l.ids = append(l.kinds, kind), append(l.ids, id)
	if len(l.ids) < locateBatch {
		return nil
	}
	return l.flush(ctx)
}

func (l *locator) flush(ctx context.Context) error {
	if len(l.ids) == 0 {
		return nil
	}
	places, err := l.st.Locate(ctx, l.ids)
	if err != nil {
		return err
	}
	for i, p := range places {
		if p.IsZero() {
			l.plan.lose(Lost{l.kinds[i], l.ids[i], &store.MissingError{Kind: l.kinds[i], ID: l.ids[i]}})
			continue
		}
		l.blobs++
		l.bytes += int64(p.Length)
		l.plan.largest = max(l.plan.largest, int(p.Stored))
		r := row{l.plan.ranks.of(p.Volume), p.Offset, p.Start, l.kinds[i], p.Stored, p.Length, l.ids[i]}
		if err := l.to.Add(r.encode()); err != nil {
			return err
		}
	}
	l.kinds, l.ids = l.kinds[:0], l.ids[:0]
	return nil
}

// row is a blob and where it lies; encoded ones sort by place.
type row struct {
	rank   uint32
	offset int64
	start  uint32
	kind   store.Kind
	stored uint32
	length uint32
	id     store.ID
}

const rowSize = 4 + 8 + 4 + 1 + 4 + 4 + 32

func (r *row) encode() []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, rowSize), r.rank)
	b = binary.BigEndian.AppendUint64(b, uint64(r.offset))
	b = binary.BigEndian.AppendUint32(b, r.start)
	b = append(b, byte(r.kind))
	b = binary.BigEndian.AppendUint32(b, r.stored)
	b = binary.BigEndian.AppendUint32(b, r.length)
	return append(b, r.id[:]...)
}

func decodeRow(b []byte) row {
	return row{
		binary.BigEndian.Uint32(b), int64(binary.BigEndian.Uint64(b[4:])), binary.BigEndian.Uint32(b[12:]), store.Kind(b[16]),
		binary.BigEndian.Uint32(b[17:]), binary.BigEndian.Uint32(b[21:]), store.ID(b[25:]),
	}
}

// ranks number the volumes of the store by age.
type ranks struct {
	byID map[volume.ID]uint32
	ids  []volume.ID
}

// readRanks reads the labels of the volumes.
func readRanks(ctx context.Context, st *store.Store) (*ranks, error) {
	list, err := st.Volumes(ctx)
	if err != nil {
		return nil, err
	}
	type aged struct {
		id      volume.ID
		created time.Time
	}
	all := make([]aged, len(list))
	for i, v := range list {
		all[i] = aged{v.ID, created(filepath.Join(st.Dir(), "volumes", v.ID.String()))}
	}
	slices.SortFunc(all, func(a, b aged) int { return cmp.Or(a.created.Compare(b.created), bytes.Compare(a.id[:], b.id[:])) })
	r := &ranks{byID: map[volume.ID]uint32{}}
	for _, v := range all {
		r.of(v.id)
	}
	return r, nil
}

// created is when a volume was made; the order of reading is all that depends on it.
func created(path string) time.Time {
	f, err := os.Open(path)
	if err != nil {
		return time.Time{}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return time.Time{}
	}
	l, _, err := volume.ReadLabel(f, info.Size())
	if err != nil {
		return time.Time{}
	}
	return l.Created
}

// of is a volume's number.
func (r *ranks) of(id volume.ID) uint32 {
	n, ok := r.byID[id]
	if !ok {
		n = uint32(len(r.ids))
		r.byID[id], r.ids = n, append(r.ids, id)
	}
	return n
}
