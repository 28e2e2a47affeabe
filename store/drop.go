package store

import (
	"context"
	"fmt"
	"slices"

	"snapfs/store/volume"
)

// drop removes volumes that nothing needs, or whose good blobs are elsewhere: the fact first, then the files. by are the
// volumes that replace them.
func (e *engine) drop(ctx context.Context, s *localSession, list []*volumeState, by []sealedVolume) error {
	fact := &volumesFact{kind: FactVolumeDropped, by: by}
	if len(by) > 0 {
		fact.kind = FactReplaced
	}
	e.mu.Lock()
	for _, v := range list {
		fact.list = append(fact.list, sealedVolume{v.id, v.kind, v.size})
	}
	e.mu.Unlock()
	err := e.appendAs(ctx, s, func() ([]FactBody, error) { return []FactBody{fact}, nil })
	if err != nil {
		return err
	}
	return e.removeAll(list)
}

// removeAll deletes the files of volumes that a fact has dropped and forgets the volumes.
func (e *engine) removeAll(list []*volumeState) error {
	e.mu.Lock()
	for _, v := range list {
		v.dropped = true
	}
	e.mu.Unlock()
	for _, v := range list {
		if err := e.removeVolume(v.id); err != nil {
			return err
		}
	}
	e.forgetVolumes(list)
	return nil
}

// forgetVolumes takes volumes that are gone out of the catalogue; their short numbers are not given again. If the index cannot
// be written their records stay, which does no harm.
func (e *engine) forgetVolumes(list []*volumeState) {
	gone := map[volume.ID]bool{}
	e.mu.Lock()
	for _, v := range list {
		gone[v.id] = true
		e.everyPins(func(p *pins) { p.left(v) })
		delete(e.volumes.byID, v.id)
		delete(e.volumes.byNumber, v.number)
	}
	e.orphans = slices.DeleteFunc(e.orphans, func(v sealedVolume) bool { return gone[v.id] })
	e.sealed = slices.DeleteFunc(e.sealed, func(v sealedVolume) bool { return gone[v.id] })
	e.mu.Unlock()
	e.forgetDamage(func(k frameKey) bool { return gone[k.volume] })
	if e.enoughIndexSpace() != nil {
		return
	}
	e.indexMu.RLock()
	defer e.indexMu.RUnlock()
	var keys [][]byte
	for _, v := range list {
		keys = append(keys, volumeKey(v.id), movedKey(v.id))
	}
	err := e.giveNumbers()
	if err == nil {
		err = e.idx.deleteAll(keys)
	}
	if err != nil {
		e.log.Warn("index not brought up to date", "err", err)
	}
}

// unindexVolume removes the entries of blobs in a volume that nobody wants. Those that point elsewhere by now stay.
func (e *engine) unindexVolume(ids []ID, v *volumeState) error {
	if e.enoughIndexSpace() != nil {
		return nil // they lead to a volume that is not there, which counts as absent
	}
	return e.unindexWhere(ids, func(p shortPlace) bool { return p.volume == v.number })
}

// unindexWhere removes the entries of blobs whose places are of that kind.
func (e *engine) unindexWhere(ids []ID, where func(shortPlace) bool) error {
	for part := range slices.Chunk(ids, foldTxnLimit) {
		if err := e.unindexSome(part, where); err != nil {
			return fmt.Errorf("index: %w", err)
		}
	}
	return nil
}

func (e *engine) unindexSome(ids []ID, where func(shortPlace) bool) error {
	e.flushMu.Lock() // who stores such a blob again enters it before or after, not between
	defer e.flushMu.Unlock()
	places, err := e.indexedAll(ids)
	if err != nil {
		return err
	}
	e.indexMu.RLock()
	defer e.indexMu.RUnlock()
	return e.idx.write(func(_ func(key, value []byte) error, del func([]byte) error) error {
		for i, p := range places {
			if p.stored == 0 || !where(p) {
				continue
			}
			if err := del(blobKey(ids[i])); err != nil {
				return err
			}
		}
		return nil
	})
}

// leftovers removes the files of volumes that a fact has dropped and that a crash left.
func (e *engine) leftovers() error {
	var list []*volumeState
	e.mu.Lock()
	for _, v := range e.volumes.byID {
		if v.dropped && !e.writing(v) {
			list = append(list, v)
		}
	}
	e.mu.Unlock()
	if len(list) == 0 {
		return nil
	}
	return e.removeAll(list)
}
