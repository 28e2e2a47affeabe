package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"snapfs/store/volume"
)

// What a walk through all held snapshots found is recorded in the index, so that flags which are missing (cleared by hand, not set
// because of a kill, not copied with the store) are set again after each job without another walk.

// guardRecord says which volumes hold something held.
type guardRecord struct {
	state   [sha256.Size]byte // what it was found for: see guardState
	volumes []volume.ID
}

var guardKey = metaKey("guarded")

func (r guardRecord) encode() []byte {
	b := slices.Clone(r.state[:])
	for _, id := range r.volumes {
		b = append(b, id[:]...)
	}
	return b
}

// readGuards returns the record; ok is false if there is none.
func (e *engine) readGuards() (r guardRecord, ok bool, err error) {
	e.indexMu.RLock()
	defer e.indexMu.RUnlock()
	b, err := e.idx.get(guardKey)
	if err != nil || len(b) < len(r.state) {
		return r, false, err
	}
	b = b[copy(r.state[:], b):]
	for ; len(b) >= len(volume.ID{}); b = b[len(volume.ID{}):] {
		r.volumes = append(r.volumes, volume.ID(b))
	}
	return r, true, nil
}

// recordGuards writes the record, or removes it when nothing is held. On a nearly full disk it is not written: then there is another walk.
func (e *engine) recordGuards(r guardRecord) error {
	if e.enoughIndexSpace() != nil {
		return nil
	}
	e.indexMu.RLock()
	defer e.indexMu.RUnlock()
	return e.idx.write(func(set func(key, value []byte) error, del func([]byte) error) error {
		if r.state == ([sha256.Size]byte{}) {
			return del(guardKey)
		}
		return set(guardKey, r.encode())
	})
}

// guardState sums up what decides which volumes hold something held: the held snapshots, the list of facts, and as long as anything
// is damaged the newest volume, as what is stored anew lies there. That volumes have gone shows by itself. It is zero if nothing is held.
func (e *engine) guardState() (state [sha256.Size]byte) {
	e.commitMu.Lock()
	var names []ID
	for _, s := range e.held() {
		names = append(names, s.snapshot)
	}
	list := e.fold.base.list.root
	e.commitMu.Unlock()
	if len(names) == 0 {
		return state
	}
	slices.SortFunc(names, func(a, b ID) int { return compareBytes(a[:], b[:]) })
	b := append(joinIDs(names), list[:]...)
	e.mu.Lock()
	if len(e.damage.frames)+len(e.damage.lost)+len(e.voidVolumes()) > 0 {
		b = binary.LittleEndian.AppendUint32(b, e.volumes.next)
	}
	e.mu.Unlock()
	return sha256.Sum256(b)
}

// anyGuards reports whether anything is held, or was when the flags were set.
func (e *engine) anyGuards() bool {
	_, recorded, err := e.readGuards()
	return recorded || err != nil || e.guardState() != [sha256.Size]byte{}
}

// keepGuards sets the flags that are missing. It walks through the held snapshots only if what is recorded does not fit any more.
func (e *engine) keepGuards(ctx context.Context) error {
	if e.frozen || e.references == nil || !e.anyGuards() {
		return nil
	}
	done, err := e.guardRecorded()
	if done || err != nil {
		return err
	}
	return e.guardHeld(ctx)
}

// guardRecorded guards the volumes of the record; false if it does not fit.
func (e *engine) guardRecorded() (done bool, err error) {
	e.guardMu.Lock()
	defer e.guardMu.Unlock()
	r, ok, err := e.readGuards()
	if err != nil || !ok || r.state != e.guardState() {
		return false, nil
	}
	held := map[volume.ID]bool{}
	e.mu.Lock()
	for _, id := range r.volumes {
		v := e.volumes.byID[id]
		ok = ok && v != nil && !v.missing && !v.dropped
		held[id] = true
	}
	e.mu.Unlock()
	if !ok {
		return false, nil
	}
	on, _ := e.toGuard(held)
	if err := e.guardAll(on); err != nil {
		return true, err
	}
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	return true, e.flagJournals(true)
}

// tryGuards goes on without flags if they cannot be set: they are a further net below what the facts promise.
func (e *engine) tryGuards(ctx context.Context, set func(context.Context) error) {
	if err := set(ctx); err != nil && ctx.Err() == nil {
		e.log.Warn("held volumes not guarded", "err", fmt.Errorf("immutable flag: %w", err))
	}
}
