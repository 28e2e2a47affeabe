package store

import (
	"fmt"

	"snapfs/store/volume"
)

// pins are what a session keeps from being removed. Guarded by engine.mu.
type pins struct {
	blobs     map[uint32]*bitset     // by the volume's short number: what it was told of, and what it wrote
	whole     map[volume.ID]struct{} // volumes of which is not known what of them
	snapshots map[ID]bool            // true: the index says so
	wrote     map[volume.ID]uint64   // since its last commit; what writes was then
	writes    uint64                 // blobs written
	noted     map[volume.ID]uint8    // what the index says of volumes: pinBits
	everWrote bool
	fresh     bool // there may be something to note
}

// What the index says of a volume that a session pins.
const (
	pinUsed  = 1 // it was told of blobs there
	pinWrote = 2 // it wrote there, and has not committed since
	pinLost  = 4 // frames it relied on there are lost: it has failed
)

func newPins() pins {
	return pins{
		blobs: map[uint32]*bitset{}, whole: map[volume.ID]struct{}{}, snapshots: map[ID]bool{},
		wrote: map[volume.ID]uint64{}, noted: map[volume.ID]uint8{},
	}
}

// add pins a blob.
func (p *pins) add(volume, ordinal uint32) {
	b := p.blobs[volume]
	if b == nil {
		b = &bitset{}
		p.blobs[volume] = b
		p.fresh = true
	}
	b.add(ordinal)
}

// addWritten pins a blob that the session wrote.
func (p *pins) addWritten(v *volumeState, ordinal uint32) {
	p.add(v.number, ordinal)
	p.everWrote = true
	if _, ok := p.wrote[v.id]; !ok {
		p.fresh = true
	}
	p.writes++
	p.wrote[v.id] = p.writes
}

// coarsen forgets which blobs of volumes are meant: their numbers are about to change.
func (p *pins) coarsen(c *catalogue) {
	for number := range p.blobs {
		if v := c.byNumber[number]; v != nil {
			p.whole[v.id] = struct{}{}
		}
	}
	clear(p.blobs)
}

// moved pins what a blob became: from one volume to another.
func (p *pins) moved(from, to *volumeState, old, ordinal uint32) {
	if b := p.blobs[from.number]; b.has(old) || b != nil && old == unknownOrdinal {
		p.add(to.number, ordinal)
	}
	if _, whole := p.whole[from.id]; whole {
		if _, known := p.whole[to.id]; !known {
			p.whole[to.id] = struct{}{}
			p.fresh = true
		}
	}
}

// pinAlso makes whoever pins a blob in one place pin it in another as well, to which it is looked up from now on. Needs mu.
func (e *engine) pinAlso(from, to shortPlace) {
	if from == to {
		return
	}
	v := e.volumes.byNumber[from.volume]
	e.everyPins(func(p *pins) {
		pinned := p.blobs[from.volume].has(from.ordinal)
		if !pinned && v != nil {
			_, pinned = p.whole[v.id]
		}
		if pinned {
			p.add(to.volume, to.ordinal)
		}
	})
	if e.pinned != nil && e.pinned.has(from) {
		e.pinned.add(to)
	}
}

// left forgets a volume that is gone.
func (p *pins) left(v *volumeState) {
	delete(p.blobs, v.number)
	delete(p.whole, v.id)
	delete(p.wrote, v.id)
	delete(p.noted, v.id)
}

// unnoted lists volumes of which the index does not say yet what it has to.
func (p *pins) unnoted(c *catalogue) map[volume.ID]uint8 {
	want := map[volume.ID]uint8{}
	for number := range p.blobs {
		if v := c.byNumber[number]; v != nil {
			want[v.id] |= pinUsed
		}
	}
	for id := range p.whole {
		want[id] |= pinUsed
	}
	for id := range p.wrote {
		want[id] |= pinWrote
	}
	for id, bits := range want {
		if p.noted[id]|bits == p.noted[id] {
			delete(want, id)
		}
	}
	return want
}

// unnotedSnapshots lists snapshots of which the index does not say yet that they are pinned.
func (p *pins) unnotedSnapshots() (list []ID) {
	for id, noted := range p.snapshots {
		if !noted {
			list = append(list, id)
		}
	}
	return list
}

// pin keeps snapshots reachable until the session ends or lets them go. One that a prune has removed is not found. Needs no
// lock.
func (e *engine) pin(s *localSession, snapshots []ID) error {
	if err := e.enterPins(s, snapshots); err != nil {
		return err
	}
	return e.writePins(s)
}

// enterPins refuses what is gone, unless the session had it pinned before: a partial that another one replaced.
func (e *engine) enterPins(s *localSession, snapshots []ID) error {
	e.commitMu.Lock() // a prune looks for pins and decides while it has this
	defer e.commitMu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, id := range snapshots {
		_, there := e.fold.slots[id]
		if _, pinned := s.pins.snapshots[id]; !there && !pinned {
			return fmt.Errorf("snapshot %s: %w", id, ErrNotFound)
		}
	}
	for _, id := range snapshots {
		if !s.pins.snapshots[id] {
			s.pins.snapshots[id], s.pins.fresh = false, true
		}
	}
	return nil
}

// unpin lets snapshots go.
func (e *engine) unpin(s *localSession, snapshots []ID) {
	s.recording.Lock()
	defer s.recording.Unlock()
	var keys [][]byte
	e.mu.Lock()
	for _, id := range snapshots {
		if _, ok := s.pins.snapshots[id]; ok {
			delete(s.pins.snapshots, id)
			keys = append(keys, sessionSnapshotKey(s.id, id))
		}
	}
	e.mu.Unlock()
	e.forgetKeys(keys)
}

// endPins lets everything go that a session pins.
func (e *engine) endPins(s *localSession) {
	s.recording.Lock()
	defer s.recording.Unlock()
	e.leaveUnfinished(&s.pins)
	e.mu.Lock()
	keys, wrote := s.pins.keys(s.id), s.pins.everWrote
	s.pins = newPins()
	s.pins.everWrote = wrote
	e.mu.Unlock()
	if wrote {
		select {
		case e.written <- struct{}{}:
		default:
		}
	}
	if s.recorded {
		e.forgetKeys(keys)
	}
}

// everyPins calls fn for the pins of every session, also of those whose process has not come back yet. Needs mu.
func (e *engine) everyPins(fn func(*pins)) {
	for s := range e.sessions {
		fn(&s.pins)
	}
	for _, a := range e.absent {
		fn(&a.pins)
	}
}
