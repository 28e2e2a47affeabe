package store

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"snapfs/store/volume"
)

// mark says which blobs are wanted: one bit each, by their ordinals in their volumes. Safe for concurrent use.
type mark struct {
	mu      sync.Mutex
	volumes map[uint32]*volumeMark
}

// volumeMark is what is wanted of one volume.
type volumeMark struct {
	bits bitset
	raw  int64 // plaintext of what is marked
}

func newMark() *mark { return &mark{volumes: map[uint32]*volumeMark{}} }

// add reports whether the blob was not marked.
func (m *mark) add(p shortPlace) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.volumes[p.volume]
	if v == nil {
		v = &volumeMark{}
		m.volumes[p.volume] = v
	}
	if !v.bits.add(p.ordinal) {
		return false
	}
	v.raw += int64(p.length)
	return true
}

// union adds blobs of a volume.
func (m *mark) union(number uint32, blobs *bitset) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.volumes[number] == nil {
		m.volumes[number] = &volumeMark{}
	}
	m.volumes[number].bits.union(blobs)
}

func (m *mark) has(p shortPlace) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.volumes[p.volume]
	return v != nil && v.bits.has(p.ordinal)
}

// of is what is marked of a volume. It must not change any more.
func (m *mark) of(number uint32) *volumeMark {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v := m.volumes[number]; v != nil {
		return v
	}
	return &volumeMark{}
}

// root is where a walk begins.
type root struct {
	id   ID
	name string // for people
	gone bool   // it may be missing: pinned by somebody, named by no fact
}

// marking walks snapshots and marks what they need.
type marking struct {
	e       *engine
	mark    *mark
	unless  *mark // what is marked here is not even looked at; may be nil
	session Session
	reader  *reader
	done    map[ID]bool // roots that have been walked
	seen    *seenBlobs

	blobs   atomic.Int64 // marked
	missing atomic.Int64 // chunks that are in no volume
	damaged atomic.Int64 // blobs in frames that are known to be damaged
}

// markCache is for decoded frames with nodes, in bytes.
const markCache = 16 << 20

func (e *engine) newMarking(m, unless *mark) *marking {
	s := e.newSession("prune") // only to look things up
	k := &marking{e: e, mark: m, unless: unless, session: s, done: map[ID]bool{}, seen: newSeenBlobs()}
	k.reader = newReader(e.dir, e.bundle, s, markCache)
	return k
}

func (k *marking) close() error { return errors.Join(k.reader.close(), k.session.Close()) }

// walk marks what roots need, several at a time.
func (k *marking) walk(ctx context.Context, roots []root, walked func()) error {
	g, ctx := errgroup.WithContext(ctx)
	next := make(chan root)
	g.Go(func() error {
		defer close(next)
		for _, r := range roots {
			if k.done[r.id] {
				continue
			}
			k.done[r.id] = true
			select {
			case next <- r:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range max(1, runtime.GOMAXPROCS(0)) {
		g.Go(func() error {
			w := newWalker(k)
			for r := range next {
				if err := w.root(ctx, r); err != nil {
					return err
				}
				walked()
			}
			return nil
		})
	}
	return g.Wait()
}

// walker walks one snapshot after the other.
type walker struct {
	*marking
	stack []step
	found []wanted
	ids   []ID
}

// wanted is a blob that something names.
type wanted struct {
	kind Kind
	id   ID
}

// step is a blob whose references are still to be followed.
type step struct {
	wanted
	place shortPlace
}

// batchSize is how many nodes are read in the order in which they lie. The stack holds at most so many times the references
// of a node for each level of the tree.
const batchSize = 64

func newWalker(k *marking) *walker { return &walker{marking: k} }

// seenBlobs remembers blobs met lately by half of their IDs: pages that differ in one name hold the same others, and looking
// those up in the index is most of the work. Safe for concurrent use.
type seenBlobs [seenShards]struct {
	mu  sync.Mutex
	ids [][16]byte
}

const (
	seenShards = 64
	seenEach   = 1 << 14 // 16 MiB together
)

func newSeenBlobs() *seenBlobs {
	s := &seenBlobs{}
	for i := range s {
		s[i].ids = make([][16]byte, seenEach)
	}
	return s
}

// fresh reports whether a blob was not met lately.
func (s *seenBlobs) fresh(id ID) bool {
	shard := &s[id[16]%seenShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	at := &shard.ids[(uint32(id[17])|uint32(id[18])<<8)%seenEach]
	if *at == [16]byte(id[:16]) {
		return false
	}
	*at = [16]byte(id[:16])
	return true
}

// root marks everything a snapshot needs.
func (w *walker) root(ctx context.Context, r root) error {
	w.stack = w.stack[:0]
	w.found = append(w.found[:0], wanted{KindManifest, r.id})
	err := w.follow()
	var missing *MissingError
	if r.gone && errors.As(err, &missing) {
		return nil
	}
	for err == nil && len(w.stack) > 0 {
		if err = ctx.Err(); err == nil {
			err = w.step(ctx)
		}
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %s: %w", ErrUnreadable, r.name, err)
	}
	return err
}

// step reads some nodes and follows what they name.
func (w *walker) step(ctx context.Context) error {
	n := max(0, len(w.stack)-batchSize)
	batch := slices.Clone(w.stack[n:])
	w.stack = w.stack[:n]
	slices.SortFunc(batch, func(a, b step) int {
		switch {
		case a.place.volume != b.place.volume:
			return sign(a.place.volume < b.place.volume)
		case a.place.offset != b.place.offset:
			return sign(a.place.offset < b.place.offset)
		}
		return 0
	})
	for _, s := range batch {
		data, err := w.reader.get(ctx, s.kind, s.id)
		if err != nil {
			return err
		}
		w.found = w.found[:0]
		err = w.e.references(s.kind, data, func(kind Kind, id ID) {
			if w.seen.fresh(id) {
				w.found = append(w.found, wanted{kind, id})
			}
		})
		if err != nil {
			return w.e.misread(s, err)
		}
		if err := w.follow(); err != nil {
			return err
		}
	}
	return nil
}

// misread makes what a node should not be an error about its frame.
func (e *engine) misread(s step, err error) error {
	e.mu.Lock()
	p := e.long(s.place)
	e.mu.Unlock()
	return corrupt(p, s.id, err)
}

// follow marks what was found and puts what has references of its own on the stack.
func (w *walker) follow() error {
	w.ids = w.ids[:0]
	for _, f := range w.found {
		w.ids = append(w.ids, f.id)
	}
	places, err := w.places(w.ids)
	if err != nil {
		return err
	}
	for i, f := range w.found {
		p := places[i]
		inner := f.kind == KindNode || f.kind == KindManifest
		if p.stored == 0 {
			if inner {
				return &MissingError{Kind: f.kind, ID: f.id}
			}
			w.missing.Add(1)
			continue
		}
		if w.unless != nil && w.unless.has(p) || !w.mark.add(p) {
			continue
		}
		w.blobs.Add(1)
		if inner {
			w.stack = append(w.stack, step{f, p})
		}
	}
	return nil
}

// page marks a blob for itself alone; false if no volume holds it.
func (k *marking) page(id ID) (found bool, err error) {
	places, err := k.places([]ID{id})
	if err != nil || places[0].stored == 0 {
		return false, err
	}
	k.mark.add(places[0])
	return true, nil
}

// places finds blobs; those that no volume holds have a zero place. Where a newer copy has not been synced yet, the one that the
// index knows is marked, too: that copy may still be lost.
func (k *marking) places(ids []ID) ([]shortPlace, error) {
	places, waiting, err := k.e.lookUpWaiting(ids)
	if err != nil {
		return nil, err
	}
	synced, err := k.e.indexed(ids, waiting)
	if err != nil {
		return nil, err
	}
	k.e.mu.Lock()
	defer k.e.mu.Unlock()
	live := func(p shortPlace) bool { return p.stored != 0 && k.e.volumes.byNumber[p.volume].live(p) }
	for i, p := range places {
		if !live(p) {
			places[i] = shortPlace{}
		} else if k.e.damage.has(k.e.volumes.byNumber[p.volume].id, p.offset) {
			k.damaged.Add(1)
		}
	}
	for n, i := range waiting {
		switch {
		case !live(synced[n]):
		case places[i].stored == 0:
			places[i] = synced[n]
		case k.unless == nil:
			k.mark.add(synced[n])
		}
	}
	return places, nil
}

// roots lists what must be kept: snapshots that are not forgotten or are held, partials, and what sessions pin; and of the
// forgotten ones those that nothing keeps. Needs commitMu.
func (e *engine) roots(without map[ID]bool) (keep []root, forgotten []*snapshotRecord) {
	pinned := map[ID]struct{}{}
	e.mu.Lock()
	e.everyPins(func(p *pins) {
		for id := range p.snapshots {
			pinned[id] = struct{}{}
		}
	})
	e.mu.Unlock()
	for _, s := range e.fold.snapshots {
		_, isPinned := pinned[s.snapshot]
		delete(pinned, s.snapshot)
		if (s.forgotten || without[s.snapshot]) && !isPinned && !e.isHeld(s) {
			forgotten = append(forgotten, s)
			continue
		}
		keep = append(keep, root{id: s.snapshot, name: e.fold.refOf(s)})
	}
	for id := range pinned {
		keep = append(keep, root{id: id, name: "snapshot " + id.String(), gone: true})
	}
	slices.SortFunc(keep, func(a, b root) int { return compareBytes(a.id[:], b.id[:]) })
	slices.SortFunc(forgotten, func(a, b *snapshotRecord) int { return sign(a.slot < b.slot) })
	return keep, forgotten
}

// isHeld reports whether a hold keeps a snapshot. Needs commitMu.
func (e *engine) isHeld(s *snapshotRecord) bool { return s.held(e.holdTime(e.now())) }

// refOf names a snapshot for people.
func (f *fold) refOf(s *snapshotRecord) string {
	if s.partial {
		return "unfinished backup of " + f.datasetName(s.dataset)
	}
	return "snapshot " + f.datasetName(s.dataset) + "@" + s.name
}

// kindsMoved are the kinds of volumes that prune and upkeep rewrite and remove. Journals are compacted behind checkpoints.
func kindMoved(k volume.Kind) bool { return k == volume.Data || k == volume.Metadata }
