package store

import (
	"context"
	"fmt"
	"slices"

	"snapfs/store/volume"
)

// lookUpShort finds places by short volume numbers, also of volumes that are not there; zero places for unknown blobs.
func (e *engine) lookUpShort(ids []ID) ([]shortPlace, error) {
	places, _, err := e.lookUpWaiting(ids)
	return places, err
}

// lookUpWaiting is lookUpShort. It also says which of the ids wait for their places to be written to the index.
func (e *engine) lookUpWaiting(ids []ID) (places []shortPlace, waiting []int, err error) {
	places = make([]shortPlace, len(ids))
	var ask []int
	e.mu.Lock()
	for i, id := range ids {
		if p, ok := e.pending[id]; ok {
			places[i] = p.place
			waiting = append(waiting, i)
		} else {
			ask = append(ask, i)
		}
	}
	e.mu.Unlock()
	if len(ask) == 0 {
		return places, waiting, nil
	}
	found, err := e.indexed(ids, ask)
	if err != nil {
		return nil, nil, err
	}
	for n, i := range ask {
		places[i] = found[n]
	}
	return places, waiting, nil
}

// indexBatch is how many blobs are looked up at once.
const indexBatch = 1024

// index compares what the volume holds with the index: where that has another place of a blob, it must be a good one.
func (c *volumeCheck) index() error {
	if c.state.kind == volume.Journal {
		return nil
	}
	var ids []ID
	var places []shortPlace
	flush := func() error {
		err := c.compare(ids, places)
		ids, places = ids[:0], places[:0]
		return err
	}
	for offset, f := range c.expected {
		if f.kind != volume.FrameBlobs || offset+int64(f.stored) > c.state.size {
			continue
		}
		start := uint32(0)
		for _, b := range f.blobs {
			ids = append(ids, b.ID)
			places = append(places, shortPlace{volume: c.state.number, offset: offset, stored: f.stored, start: start, length: b.Length})
			start += b.Length
		}
		if len(ids) >= indexBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// elsewhere is a whole blob of a checked volume that the index has in another one. Whether it is good there is known when all are checked.
type elsewhere struct {
	blob   ID
	volume volume.ID
	place  shortPlace // by the index
}

// compare looks blobs up that lie at these places.
func (c *volumeCheck) compare(ids []ID, here []shortPlace) error {
	found, err := c.v.e.lookUpShort(ids)
	if err != nil {
		return err
	}
	var other []elsewhere
	for i, p := range found {
		mine := here[i]
		mine.ordinal = p.ordinal
		_, damaged := c.damage.frames[frameKey{c.state.id, mine.offset}]
		switch {
		case p == mine && c.table:
			c.matched++
		case damaged:
		case p.stored == 0: // prune takes out what nothing needs; what is needed and not found the walk will tell
		default:
			other = append(other, elsewhere{ids[i], c.state.id, p})
		}
	}
	c.v.mu.Lock()
	defer c.v.mu.Unlock()
	c.v.elsewhere = append(c.v.elsewhere, other...)
	return nil
}

// misled finds the volumes with blobs of which the index has only places that are damaged or gone.
func (v *verifier) misled() {
	lacking := map[volume.ID][]VerifiedBlob{}
	for _, o := range v.elsewhere {
		if !v.e.readable(o.place) {
			lacking[o.volume] = append(lacking[o.volume], VerifiedBlob{ID: o.blob})
		}
	}
	for id, blobs := range lacking {
		v.add(Finding{
			Problem: ProblemIndex, Volume: id, Offset: -1, Blobs: blobs,
			Text: fmt.Sprintf("the index has other places of blobs of the volume, which are damaged or gone: %d", len(blobs)),
		})
		v.mendIndex()
	}
}

// readable reports whether a place is of use for all that is known.
func (e *engine) readable(p shortPlace) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	v := e.volumes.byNumber[p.volume]
	return v.live(p) && !e.damage.has(v.id, p.offset)
}

// mendIndex has the volumes read into the index again. The index is a cache: mending it needs no leave.
func (v *verifier) mendIndex() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.reindex = true
}

// index looks for entries of the index that are wrong about a volume, and reads volumes into it again if any are wrong.
func (v *verifier) index(ctx context.Context) error {
	if err := v.progress(func(p *VerifyProgress) { p.Phase = "index" }); err != nil {
		return err
	}
	v.misled()
	e := v.e
	numbers := map[uint32]volume.ID{}
	e.mu.Lock()
	for id := range v.matched {
		if s := e.volumes.byID[id]; s != nil { // else it has been pruned since
			numbers[s.number] = id
		}
	}
	e.mu.Unlock()
	entries := map[volume.ID]int64{}
	err := e.eachPlace(func(_ ID, p shortPlace) error {
		if id, ok := numbers[p.volume]; ok {
			entries[id]++
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	for id, n := range entries {
		if n != v.matched[id] {
			if err := v.wrongPlaces(ctx, id); err != nil {
				return err
			}
		}
	}
	if !v.reindex {
		return nil
	}
	return e.reindex()
}

// wrongPlaces finds the entries that say of a volume what is not so. Most often there are none: blobs were stored anew
// elsewhere since the volume was checked.
func (v *verifier) wrongPlaces(ctx context.Context, id volume.ID) error {
	e := v.e
	table, err := v.tableOf(id)
	if err != nil || table == nil {
		return err
	}
	var wrong []Finding
	e.mu.Lock()
	s := e.volumes.byID[id]
	e.mu.Unlock()
	if s == nil {
		return nil
	}
	number := s.number
	err = e.eachPlace(func(blob ID, p shortPlace) error {
		if p.volume != number || slices.ContainsFunc(table[blob], func(q shortPlace) bool {
			return p.offset == q.offset && p.stored == q.stored && p.start == q.start && p.length == q.length
		}) {
			return ctx.Err()
		}
		wrong = append(wrong, Finding{
			Problem: ProblemIndex, Volume: id, Offset: p.offset, Length: int64(p.stored), Blobs: []VerifiedBlob{{0, blob}},
			Text: fmt.Sprintf("the index is wrong about blob %s", blob),
		})
		return nil
	})
	if err != nil || !e.inUse(id) {
		return err
	}
	for _, f := range wrong {
		v.add(f)
		v.mendIndex()
		if err := e.removeEntry(f.Blobs[0].ID); err != nil {
			return err
		}
	}
	return nil
}

// tableOf reads the places that a sealed volume's table says; nil if there is none.
func (v *verifier) tableOf(id volume.ID) (map[ID][]shortPlace, error) {
	c := &volumeCheck{v: v, expected: map[int64]*expectedFrame{}}
	if err := c.begin(id); err != nil {
		return nil, err
	}
	defer c.file.Close()
	trailer, err := volume.ReadTrailer(c.file, c.state.size)
	if err != nil || trailer.Volume != id {
		return nil, nil
	}
	table := map[ID][]shortPlace{}
	err = volume.ReadContents(c.file, trailer, c.aead, func(f volume.FrameInfo) error {
		start := uint32(0)
		for _, b := range f.Blobs {
			table[b.ID] = append(table[b.ID], shortPlace{offset: f.Offset, stored: f.Stored, start: start, length: b.Length})
			start += b.Length
		}
		return nil
	})
	if err != nil {
		return nil, nil // found before
	}
	return table, nil
}

// removeEntry takes a blob out of the index.
func (e *engine) removeEntry(id ID) error {
	e.indexMu.RLock()
	defer e.indexMu.RUnlock()
	return e.idx.write(func(_ func(key, value []byte) error, del func([]byte) error) error { return del(blobKey(id)) })
}

// reindex reads all volumes into the index again, so that whatever lies in a whole frame is found.
func (e *engine) reindex() error {
	e.mu.Lock()
	e.rescued = false
	e.mu.Unlock()
	return e.rescue()
}
