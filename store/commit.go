package store

import (
	"errors"
	"fmt"
	"slices"

	"snapfs/store/volume"
)

// commit makes a snapshot real: everything written is synced, then the fact, and only then the index follows.
func (e *engine) commit(s *localSession, c Commit) (snap Snapshot, err error) {
	e.mu.Lock()
	writes := s.pins.writes
	e.mu.Unlock()
	if err := e.syncVolumes(); err != nil {
		return Snapshot{}, err
	}
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	defer func() { snap.Head = e.fold.last }()
	slot, known := e.fold.slots[c.Snapshot]
	known = known && (c.Partial || !e.fold.snapshots[slot].partial)
	if known && (c.Partial || !e.fold.snapshots[slot].forgotten) {
		return e.snapshotAt(slot)
	}
	if err := e.syncVolumes(); err != nil { // what came while waiting for the lock, usually nothing
		return Snapshot{}, err
	}
	if err := s.failure(); err != nil {
		return Snapshot{}, err
	}
	volumes := e.openLengths()
	var bodies []FactBody
	if known {
		bodies = e.wantedAgain(slot, volumes)
	} else if slot, bodies, err = e.newSnapshot(c, volumes); err != nil {
		return Snapshot{}, err
	}
	if err := e.appendFacts(bodies); err != nil {
		return Snapshot{}, err
	}
	e.named(volumes)
	e.settled(s, writes)
	return e.snapshotAt(slot)
}

// wantedAgain is the facts that bring a forgotten snapshot back that somebody has stored once more. Needs commitMu.
func (e *engine) wantedAgain(slot uint32, volumes []sealedVolume) []FactBody {
	row := e.fold.snapshots[slot].forgottenRow()
	return []FactBody{&forgetFact{kind: FactUnforget, snaps: []forgotten{row}}, &volumesFact{kind: FactVolumeSealed, list: volumes}}
}

// newSnapshot is the facts that make a snapshot, and the slot it gets. Needs commitMu.
func (e *engine) newSnapshot(c Commit, volumes []sealedVolume) (slot uint32, bodies []FactBody, err error) {
	number, ok := e.fold.datasetNumber(c.Dataset)
	if !ok {
		number = e.fold.nextDataset
		bodies = append(bodies, &datasetFact{number: number, name: c.Dataset})
	}
	if slot = e.fold.nextSlot; slot >= 1<<28 {
		return 0, nil, errors.New("the store has no snapshot numbers left")
	}
	tags := slices.Compact(slices.Sorted(slices.Values(c.Tags)))
	return slot, append(bodies, &commitFact{
		partial: c.Partial, snapshot: c.Snapshot, slot: slot, dataset: number, name: c.Name, start: c.Start,
		tags: tags, summary: c.Summary, volumes: volumes,
	}), nil
}

// syncBefore brings everything that was written to stable storage, for facts that name it.
func (e *engine) syncBefore() error {
	e.commitMu.Lock() // no volume is being exchanged
	defer e.commitMu.Unlock()
	return e.syncVolumes()
}

// openLengths lists the volumes written to since the last commit with their synced lengths.
func (e *engine) openLengths() []sealedVolume {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := slices.Concat(e.sealed, e.orphans)
	for _, v := range e.current {
		list = append(list, sealedVolume{v.id, v.kind, v.w.Synced()})
	}
	slices.SortFunc(list, func(a, b sealedVolume) int { return compareBytes(a.id[:], b.id[:]) })
	return list
}

// named notes that a fact names these volumes. Others may have been sealed while it was written, or removed by a prune.
func (e *engine) named(list []sealedVolume) {
	length := map[volume.ID]int64{}
	for _, v := range list {
		length[v.id] = v.length
	}
	isNamed := func(v sealedVolume) bool {
		n, ok := length[v.id]
		return ok && n >= v.length
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sealed = slices.DeleteFunc(e.sealed, isNamed)
	e.orphans = slices.DeleteFunc(e.orphans, isNamed)
}

// findOrphans notes the volumes with frames that no fact names yet, left by a process that was killed: the next commit
// may refer to what lies there. Frames are written side by side: what was not written yet while a later frame was there is
// nothing that the volume must have, so the commit names it up to there only.
func (e *engine) findOrphans() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.orphans = nil
	for id, v := range e.volumes.byID {
		length := v.indexed
		if v.harmed > 0 && !v.sealed {
			length = min(length, v.harmed-1)
		}
		if v.kind != volume.Journal && !v.missing && !v.dropped && length > e.fold.volumes[id].length {
			e.orphans = append(e.orphans, sealedVolume{id, v.kind, length})
		}
	}
}

// snapshotAt returns the snapshot of a slot. Needs commitMu.
func (e *engine) snapshotAt(slot uint32) (Snapshot, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range slices.Backward(e.state.Snapshots) {
		if s.Slot == slot {
			return s, nil
		}
	}
	return Snapshot{}, ErrNotFound
}

// writeJournal appends a frame of facts and brings it to stable storage.
func (e *engine) writeJournal(pack []byte) error {
	if e.unsure != nil {
		return e.unsure
	}
	if e.journal == nil {
		if err := e.mayWrite(); err != nil {
			return err
		}
		if err := e.enoughFactSpace(); err != nil {
			return err
		}
		v, err := e.createVolume(volume.Journal)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrWriteFailed, diskFull(err))
		}
		e.journal = v
	}
	v := e.journal
	_, _, err := v.append(nil, volume.FrameFacts, pack, func(int64, uint32) {}, nil)
	if err == nil {
		err = v.w.Sync()
	}
	if err != nil {
		return fmt.Errorf("journal: %w", e.failed(v, err))
	}
	return nil
}

// saveFold writes the changed records of the fold and how far the journal is folded, in one transaction.
func (e *engine) saveFold() error {
	if err := e.enoughIndexSpace(); err != nil {
		return err
	}
	e.indexMu.RLock()
	defer e.indexMu.RUnlock()
	e.mu.Lock()
	var record []byte
	if v := e.journal; v != nil {
		v.size, v.parity = v.w.Synced(), v.w.ParityBytes()
		v.indexed, v.seen = v.size, v.size
		record = v.encode()
	}
	e.mu.Unlock()
	err := writeFold(e.idx, e.fold.dirty, func(set func(key, value []byte) error) error {
		if record == nil {
			return nil
		}
		return set(volumeKey(e.journal.id), record)
	})
	if err == nil {
		clear(e.fold.dirty)
	}
	return err
}

// foldTxnLimit is how many records go into one transaction.
const foldTxnLimit = 500

// writeFold writes changed records, and what more adds, in one transaction; very many (a rebuild), or very large ones, go before it.
func writeFold(x *index, dirty map[string][]byte, more func(set func(key, value []byte) error) error) error {
	bytes := 0
	for _, value := range dirty {
		bytes += len(value)
	}
	if len(dirty) > foldTxnLimit || bytes > int(x.db.MaxBatchSize()/2) {
		b := x.newBatch()
		defer b.cancel()
		rest := map[string][]byte{string(chainKey): dirty[string(chainKey)]}
		for key, value := range dirty {
			if value == nil || key == string(chainKey) {
				rest[key] = value
			} else if err := b.set([]byte(key), value); err != nil {
				return err
			}
		}
		if err := b.finish(); err != nil {
			return err
		}
		dirty = rest
	}
	return x.write(func(set func(key, value []byte) error, del func([]byte) error) error {
		for key, value := range dirty {
			var err error
			if value == nil {
				err = del([]byte(key))
			} else {
				err = set([]byte(key), value)
			}
			if err != nil {
				return err
			}
		}
		return more(set)
	})
}

// nameFirst names a volume that is about to be sealed if there is no fact at all: a crash must not leave a store that looks as if its
// facts were gone. Needs commitMu.
func (e *engine) nameFirst(v *openVolume) {
	if e.fold.seq > 0 {
		return
	}
	list := []sealedVolume{{v.id, v.kind, v.w.Synced()}}
	if err := e.appendFacts([]FactBody{&volumesFact{kind: FactVolumeSealed, list: list}}); err != nil {
		e.log.Warn("first volume not noted", "err", err)
	}
}

// nameSealed names the volumes sealed by this process in a fact. Needs commitMu.
func (e *engine) nameSealed() {
	e.mu.Lock()
	sealed := slices.Clone(e.sealed)
	e.mu.Unlock()
	if len(sealed) == 0 {
		return
	}
	if err := e.appendFacts([]FactBody{&volumesFact{kind: FactVolumeSealed, list: sealed}}); err != nil {
		e.log.Warn("sealed volumes not noted", "err", err) // every commit named those it needs
		return
	}
	e.named(sealed)
}

// closeJournal names the volumes sealed by this process in a fact and seals the journal, which is guarded if anything is held. Needs
// commitMu.
func (e *engine) closeJournal() error {
	e.nameSealed()
	v := e.journal
	if v == nil {
		return nil
	}
	v.cut(true)
	e.sealVolume(v)
	e.released(v)
	if err := e.saveFold(); err != nil {
		e.log.Warn("index not brought up to date", "err", err)
	}
	e.journal = nil
	if err := v.w.Close(); err != nil || len(e.held()) == 0 {
		return err
	}
	return e.guard(v.id)
}
