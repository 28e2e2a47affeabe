package store

import (
	"errors"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"snapfs/store/volume"
)

// filterAfter is how many look-ups go to the index before a filter over all its keys pays.
const filterAfter = 4096

// have reports which blobs may be referred to by what a session commits. A hit counts only if its volume is in the
// catalogue and long enough and its frame is not known to be damaged; hits on frames not yet synced bind the session to their volume's fate.
func (e *engine) have(s *localSession, ids []ID) ([]bool, error) {
	if err := e.wantFilter(len(ids)); err != nil {
		return nil, err
	}
	hits := make([]bool, len(ids))
	var open []int
	for i := range ids {
		open = append(open, i)
	}
	for len(open) > 0 {
		var err error
		if open, err = e.tell(s, ids, open, hits); err != nil {
			return nil, err
		}
	}
	return hits, nil
}

// tell is have for some of the ids. It returns those to ask for again, as the index changed while it was asked.
func (e *engine) tell(s *localSession, ids []ID, open []int, hits []bool) (again []int, err error) {
	var ask []int
	e.mu.Lock()
	moves := e.moves
	for _, i := range open {
		p, ok := e.pending[ids[i]]
		switch {
		case ok:
			p.from.use(s)
			e.told(s, p.place)
			hits[i] = true
		case e.filter == nil || e.filter.maybe(ids[i]):
			ask = append(ask, i)
		}
	}
	e.mu.Unlock()
	if len(ask) == 0 {
		return nil, nil
	}
	places, err := e.indexed(ids, ask)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.moves != moves {
		return ask, nil
	}
	for n, i := range ask {
		v := e.volumes.byNumber[places[n].volume]
		if hits[i] = places[n].stored != 0 && v.offers(places[n]) && !e.damage.has(v.id, places[n].offset); hits[i] {
			e.told(s, places[n])
		}
	}
	return nil, nil
}

// told notes that a session may refer to a blob from now on. Needs mu.
func (e *engine) told(s *localSession, p shortPlace) {
	s.pins.add(p.volume, p.ordinal)
	if e.pinned != nil {
		e.pinned.add(p)
	}
}

// locate finds blobs for reading. A blob the index lacks starts one re-reading of all volumes; later misses use its result.
func (e *engine) locate(ids []ID) ([]Place, error) {
	e.mu.Lock()
	rescued := e.rescued
	e.mu.Unlock()
	places, missing, err := e.lookUp(ids)
	if err != nil || !missing || rescued {
		return places, err
	}
	if err := e.rescue(); err != nil {
		return nil, err
	}
	places, _, err = e.lookUp(ids)
	return places, err
}

func (e *engine) lookUp(ids []ID) (places []Place, missing bool, err error) {
	places = make([]Place, len(ids))
	var ask []int
	e.mu.Lock()
	for i, id := range ids {
		if p, ok := e.pending[id]; ok {
			places[i] = e.long(p.place)
		} else {
			ask = append(ask, i)
		}
	}
	e.mu.Unlock()
	if len(ask) == 0 {
		return places, false, nil
	}
	for range 2 { // what was in a volume that was removed between the two is somewhere else by the second time
		short, err := e.indexed(ids, ask)
		if err != nil {
			return nil, false, err
		}
		var again []int
		e.mu.Lock()
		for n, i := range ask {
			if places[i] = e.long(short[n]); places[i].IsZero() {
				again = append(again, i)
			}
		}
		e.mu.Unlock()
		if ask = again; len(ask) == 0 {
			return places, false, nil
		}
	}
	return places, true, nil
}

// long replaces the short volume number; zero if the volume is not there or too short. Needs mu.
func (e *engine) long(p shortPlace) Place {
	v := e.volumes.byNumber[p.volume]
	if p.stored == 0 || !v.live(p) {
		return Place{}
	}
	return Place{Volume: v.id, Offset: p.offset, Stored: p.stored, Start: p.start, Length: p.length}
}

// indexedAll is indexed for all of the ids.
func (e *engine) indexedAll(ids []ID) ([]shortPlace, error) {
	ask := make([]int, len(ids))
	for i := range ask {
		ask[i] = i
	}
	return e.indexed(ids, ask)
}

// indexed looks some of the ids up in the index; zero places for absent ones. An entry that does not open counts as absent:
// absence in the index proves nothing.
func (e *engine) indexed(ids []ID, ask []int) ([]shortPlace, error) {
	e.indexMu.RLock()
	defer e.indexMu.RUnlock()
	places := make([]shortPlace, len(ask))
	key := blobKey(ID{})
	err := e.idx.db.View(func(txn *badger.Txn) error {
		for n, i := range ask {
			copy(key[1:], ids[i][:])
			item, err := txn.Get(key)
			if errors.Is(err, badger.ErrKeyNotFound) {
				continue
			}
			if err == nil {
				err = item.Value(func(sealed []byte) error {
					value, err := e.idx.open(key, sealed)
					if err == nil {
						places[n], err = parseShortPlace(value)
					}
					return err
				})
			}
			if errors.Is(err, errIndexBroken) {
				e.log.Warn("entry of the index is damaged", "blob", ids[i], "err", err)
				continue
			}
			if err != nil {
				return fmt.Errorf("index: %w", err)
			}
		}
		return nil
	})
	return places, err
}

// wantFilter counts look-ups and builds the filter when there are many.
func (e *engine) wantFilter(n int) error {
	e.mu.Lock()
	e.asked += n
	build := e.filter == nil && e.asked > filterAfter || e.filter != nil && e.filter.full()
	if build {
		e.asked = 0
	}
	e.mu.Unlock()
	if !build {
		return nil
	}
	return e.buildFilter()
}

// buildFilter makes a filter over everything stored. Entries that move from pending into the index meanwhile are in it
// because pending goes first.
func (e *engine) buildFilter() error {
	e.flushMu.Lock() // nothing moves meanwhile
	defer e.flushMu.Unlock()
	e.mu.Lock()
	room := len(e.pending)
	for _, v := range e.volumes.byID {
		room += int(v.blobs)
	}
	e.mu.Unlock()
	f := newFilter(2 * room)
	e.indexMu.RLock()
	err := e.idx.eachBlobID(f.add)
	e.indexMu.RUnlock()
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for id := range e.pending {
		f.add(id)
	}
	e.filter = f
	return nil
}

// rescue re-reads all volumes into the index, once in a holder's life. Who comes while that goes on waits for it.
func (e *engine) rescue() error {
	e.flushMu.Lock()
	defer e.flushMu.Unlock()
	e.mu.Lock()
	done := e.rescued
	var todo []*volumeState
	for _, v := range e.volumes.byID {
		if !v.missing && !v.dropped && v.leaving == nil && v.indexed > 0 && !e.writing(v) {
			copied := *v
			todo = append(todo, &copied)
		}
	}
	e.mu.Unlock()
	if done {
		return nil
	}
	journals, others := e.sortByAge(todo, false)
	if err := e.enoughIndexSpace(); err != nil {
		return err
	}
	e.mu.Lock()
	e.coarsenPins()
	e.mu.Unlock()
	e.log.Warn("a blob is missing from the index: reading the tables of all volumes", "volumes", len(todo))
	e.indexMu.RLock()
	defer e.indexMu.RUnlock()
	if err := e.giveNumbers(); err != nil {
		return err
	}
	for _, v := range slices.Concat(journals, others) {
		v.indexed, v.blobs, v.raw = 0, 0, 0
		if err := e.indexVolume(e.idx, v, &found{}); err != nil {
			e.log.Warn("volume cannot be read", "volume", v.id, "err", err)
			continue
		}
		e.mu.Lock()
		if state := e.volumes.byID[v.id]; state != nil && state.blobs < v.blobs {
			state.blobs, state.raw = v.blobs, v.raw // else those that came back are beyond what anybody looks at
		}
		e.mu.Unlock()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.coarsenPins() // of what sessions were told meanwhile
	e.rescued = true
	return nil
}

// writing reports whether this process writes the volume, or the index still lacks some of what it wrote. Needs mu.
func (e *engine) writing(v *volumeState) bool {
	return v.writer != nil || v.kind == volume.Journal && !v.sealed
}
