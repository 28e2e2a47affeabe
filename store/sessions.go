package store

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"

	"snapfs/store/volume"
)

// Sessions stand in the index with what they pin, so that a holder that takes over knows it. Keys: keySession, the session's
// id (16 B), then nothing for the session itself, 'v' and a volume's id for a volume that it uses, 's' and a snapshot's ID.
// They are written before the session is told of what it relies on, and removed when it ends.

// absentSession was recorded by a holder before this one and has not come back. Guarded by engine.mu.
type absentSession struct {
	process processID
	heard   time.Time
	pins    pins
}

// sessionKey is the key of a session's record, or with more of what belongs to it.
func sessionKey(id [16]byte, more ...byte) []byte {
	return append(append([]byte{keySession}, id[:]...), more...)
}

func sessionVolumeKey(id [16]byte, v volume.ID) []byte {
	return append(sessionKey(id, 'v'), v[:]...)
}

func sessionSnapshotKey(id [16]byte, snapshot ID) []byte {
	return append(sessionKey(id, 's'), snapshot[:]...)
}

// Tags of a session's record; in the index only.
const (
	tagSessionPID     = 1
	tagSessionStarted = 2
	tagSessionBoot    = 3
	tagSessionHeard   = 4
)

func (a *absentSession) encode() []byte {
	w := AppendFields(nil)
	w.Uint(tagSessionPID, uint64(a.process.pid))
	w.Uint(tagSessionStarted, a.process.started)
	w.String(tagSessionBoot, a.process.boot)
	w.Int(tagSessionHeard, nanos(a.heard))
	return w.Encoded()
}

func (a *absentSession) decode(data []byte) error {
	r := ReadFields(data)
	for r.Next() {
		switch r.Tag() {
		case tagSessionPID:
			a.process.pid = int(r.Uint32())
		case tagSessionStarted:
			a.process.started = r.Uint()
		case tagSessionBoot:
			a.process.boot = r.String()
		case tagSessionHeard:
			a.heard = fromNanos(r.Int())
		default:
			r.Unknown()
		}
	}
	return r.Err()
}

// loadSessions reads the sessions that holders before this one recorded.
func loadSessions(x *index) (map[[16]byte]*absentSession, error) {
	found := map[[16]byte]*absentSession{}
	err := x.each([]byte{keySession}, func(key, value []byte) error {
		if len(key) < 17 {
			return nil
		}
		id := [16]byte(key[1:])
		a := found[id]
		if a == nil {
			a = &absentSession{pins: newPins()}
			found[id] = a
		}
		rest := key[17:]
		switch {
		case len(rest) == 0:
			return a.decode(value)
		case rest[0] == 'v' && len(rest) == 1+len(volume.ID{}) && len(value) == 1:
			a.pins.load(volume.ID(rest[1:]), value[0])
		case rest[0] == 's' && len(rest) == 1+len(ID{}):
			a.pins.snapshots[ID(rest[1:])] = true
		}
		return nil
	})
	return found, err
}

func (p *pins) load(id volume.ID, bits uint8) {
	p.noted[id] = bits
	p.whole[id] = struct{}{}
	if bits&pinWrote != 0 {
		p.wrote[id] = 0
	}
}

// adopt gives a session what was recorded of it. Needs mu.
func (e *engine) adopt(s *localSession) {
	if a := e.absent[s.id]; a != nil {
		s.pins, s.recorded, s.known = a.pins, true, true
		delete(e.absent, s.id)
		for id, bits := range a.pins.noted {
			if bits&pinLost != 0 {
				s.fail(fmt.Errorf("%w: volume %s, with the holder before this one", ErrWriteFailed, id))
			}
		}
	}
}

// buryDead ends the sessions of processes that are known to be dead.
func (e *engine) buryDead() {
	now := e.now()
	e.mu.Lock()
	var dead []*absentSession
	var keys [][]byte
	for id, a := range e.absent {
		if !a.process.dead(a.heard, now) {
			continue
		}
		dead = append(dead, a)
		keys = append(keys, a.pins.keys(id)...)
		delete(e.absent, id)
	}
	e.mu.Unlock()
	for _, a := range dead {
		e.leaveUnfinished(&a.pins)
	}
	e.forgetKeys(keys)
}

// keys are all keys of a session's records.
func (p *pins) keys(id [16]byte) [][]byte {
	keys := [][]byte{sessionKey(id)}
	for v := range p.noted {
		keys = append(keys, sessionVolumeKey(id, v))
	}
	for s := range p.snapshots {
		keys = append(keys, sessionSnapshotKey(id, s))
	}
	return keys
}

// forgetKeys removes records from the index. If that fails they are removed by a later holder.
func (e *engine) forgetKeys(keys [][]byte) {
	if len(keys) == 0 || e.enoughIndexSpace() != nil {
		return
	}
	if err := e.deleteKeys(keys); err != nil {
		e.log.Warn("sessions not brought up to date in the index", "err", err)
	}
}

// deleteKeys removes keys from the index.
func (e *engine) deleteKeys(keys [][]byte) error {
	e.indexMu.RLock()
	defer e.indexMu.RUnlock()
	return e.idx.deleteAll(keys)
}

// notePins records what a session pins since it was last asked. Without the record it is safe as long as this holder lives.
func (e *engine) notePins(s *localSession) {
	if err := e.writePins(s); err != nil {
		e.log.Warn("session not recorded in the index", "err", err)
	}
}

// writePins records what a session pins since it was last asked, and returns when all of it is there, also what others of its calls are about
// to write. On a nearly full disk it is written later.
func (e *engine) writePins(s *localSession) error {
	e.mu.Lock()
	fresh := s.pins.fresh
	e.mu.Unlock()
	if !fresh {
		return nil
	}
	s.recording.Lock()
	defer s.recording.Unlock()
	e.mu.Lock()
	want, snapshots := s.pins.unnoted(e.volumes), s.pins.unnotedSnapshots()
	for id := range want {
		want[id] |= s.pins.noted[id]
	}
	e.mu.Unlock()
	if written, err := e.record(s, want, snapshots); !written {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	maps.Copy(s.pins.noted, want)
	for _, id := range snapshots {
		s.pins.snapshots[id] = true
	}
	s.pins.fresh = len(s.pins.unnoted(e.volumes))+len(s.pins.unnotedSnapshots()) > 0
	return nil
}

// record writes what a session pins; false on a nearly full disk. Needs recording.
func (e *engine) record(s *localSession, volumes map[volume.ID]uint8, snapshots []ID) (written bool, err error) {
	if len(volumes)+len(snapshots) == 0 {
		return true, nil
	}
	var head []byte
	if !s.recorded {
		head = (&absentSession{process: processOf(s.process()), heard: e.now()}).encode()
	}
	written, err = e.writeSession(s.id, head, volumes, snapshots)
	s.recorded = s.recorded || written
	return written, err
}

// writeSession writes records of a session; false on a nearly full disk.
func (e *engine) writeSession(session [16]byte, head []byte, volumes map[volume.ID]uint8, snapshots []ID) (written bool, err error) {
	if e.enoughIndexSpace() != nil {
		return false, nil
	}
	e.indexMu.RLock()
	defer e.indexMu.RUnlock()
	err = e.idx.write(func(set func(key, value []byte) error, _ func([]byte) error) error {
		if head != nil {
			if err := set(sessionKey(session), head); err != nil {
				return err
			}
		}
		for id, bits := range volumes {
			if err := set(sessionVolumeKey(session, id), []byte{bits}); err != nil {
				return err
			}
		}
		for _, id := range snapshots {
			if err := set(sessionSnapshotKey(session, id), nil); err != nil {
				return err
			}
		}
		return nil
	})
	return err == nil, err
}

// settled notes that what a session had written, so many blobs, is part of what it committed.
func (e *engine) settled(s *localSession, writes uint64) {
	s.recording.Lock()
	defer s.recording.Unlock()
	e.mu.Lock()
	now := map[volume.ID]uint8{}
	for id, last := range s.pins.wrote {
		if last > writes {
			continue
		}
		delete(s.pins.wrote, id)
		if bits := s.pins.noted[id]; bits != 0 {
			now[id] = pinUsed | bits&pinLost // of what was written since
		}
	}
	maps.Copy(s.pins.noted, now)
	e.mu.Unlock()
	if _, err := e.record(s, now, nil); err != nil {
		e.log.Warn("sessions not brought up to date in the index", "err", err)
	}
}

// leaveUnfinished notes that somebody wrote to volumes and ended without a commit: what no snapshot names there is kept for a
// while, for whoever goes on with that work.
func (e *engine) leaveUnfinished(p *pins) {
	now := e.now()
	enough := e.enoughIndexSpace() == nil
	e.indexMu.RLock() // the records are of the index that they go to: in another one volumes have other numbers
	defer e.indexMu.RUnlock()
	e.mu.Lock()
	var records [][2][]byte
	for id := range p.wrote {
		v := e.volumes.byID[id]
		if v == nil || v.dropped {
			continue
		}
		v.unfinished = now.UnixNano()
		if !e.writing(v) {
			records = append(records, [2][]byte{volumeKey(id), v.encode()})
		} // else it is written when the volume's watermark is
	}
	e.mu.Unlock()
	if !enough {
		return
	}
	if err := e.idx.setAll(records); err != nil {
		e.log.Warn("unfinished work not noted in the index", "err", err)
	}
}

// coarsenPins prepares for other numbers of volumes, or of the blobs in them. Needs mu.
func (e *engine) coarsenPins() {
	e.everyPins(func(p *pins) { p.coarsen(e.volumes) })
	e.marks++
	e.moves++
}

// rerecord writes all sessions into a new index.
func (e *engine) rerecord() {
	e.mu.Lock()
	sessions := slices.SortedFunc(maps.Keys(e.sessions), func(a, b *localSession) int { return bytes.Compare(a.id[:], b.id[:]) })
	e.mu.Unlock()
	for _, s := range sessions {
		s.recording.Lock()
		e.mu.Lock()
		noted, snapshots := maps.Clone(s.pins.noted), slices.Collect(maps.Keys(s.pins.snapshots))
		e.mu.Unlock()
		s.recorded = false
		if _, err := e.record(s, noted, snapshots); err != nil {
			e.log.Warn("sessions not recorded in the index", "err", err)
		}
		s.recording.Unlock()
	}
	e.mu.Lock()
	absent := maps.Clone(e.absent)
	e.mu.Unlock()
	for id, a := range absent { // their pins change only with a session's adoption
		if _, err := e.writeSession(id, a.encode(), maps.Clone(a.pins.noted), slices.Collect(maps.Keys(a.pins.snapshots))); err != nil {
			e.log.Warn("sessions not recorded in the index", "err", err)
		}
	}
}
