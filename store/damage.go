package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"snapfs/store/volume"
)

// damage is what the holder knows to be damaged. It stands in the index as well, so that the next holder knows. Guarded
// by engine.mu.
type damage struct {
	frames map[frameKey][]ID // and the blobs in them, as far as that is known
	lost   map[ID]struct{}   // blobs that something names and no volume holds
}

func newDamage() damage {
	return damage{frames: map[frameKey][]ID{}, lost: map[ID]struct{}{}}
}

func (d damage) has(v volume.ID, offset int64) bool {
	if len(d.frames) == 0 {
		return false
	}
	_, ok := d.frames[frameKey{v, offset}]
	return ok
}

// in reports whether a volume has frames that are known to be damaged.
func (d damage) in(v volume.ID) bool {
	for k := range d.frames {
		if k.volume == v {
			return true
		}
	}
	return false
}

// damageKey is the key of a damaged frame's record, lostKey that of a blob in no volume.
func damageKey(k frameKey) []byte {
	return binary.BigEndian.AppendUint64(append([]byte{keyDamage}, k.volume[:]...), uint64(k.offset))
}

func lostKey(id ID) []byte {
	return append(append([]byte{keyDamage}, make([]byte, len(volume.ID{}))...), id[:]...)
}

func joinIDs(ids []ID) []byte {
	b := make([]byte, 0, len(ids)*len(ID{}))
	for _, id := range ids {
		b = append(b, id[:]...)
	}
	return b
}

func splitIDs(b []byte) (ids []ID) {
	for ; len(b) >= len(ID{}); b = b[len(ID{}):] {
		ids = append(ids, ID(b))
	}
	return ids
}

// loadDamage reads what was recorded; what concerns volumes that are not used any more is left out. A new index takes over
// what the one before it knew.
func (e *engine) loadDamage(x *index, cat *catalogue) damage {
	d := newDamage()
	err := x.each([]byte{keyDamage}, func(key, value []byte) error {
		rest := key[1:]
		switch len(rest) {
		case len(volume.ID{}) + 8:
			k := frameKey{volume.ID(rest), int64(binary.BigEndian.Uint64(rest[len(volume.ID{}):]))}
			d.frames[k] = splitIDs(value)
		case len(volume.ID{}) + len(ID{}):
			d.lost[ID(rest[len(volume.ID{}):])] = struct{}{}
		}
		return nil
	})
	if err != nil {
		e.log.Warn("record of damage in the index cannot be read", "err", err) // whoever reads there meets it again
	}
	e.mu.Lock()
	before := damage{maps.Clone(e.damage.frames), maps.Clone(e.damage.lost)}
	e.mu.Unlock()
	maps.Copy(d.frames, before.frames)
	maps.Copy(d.lost, before.lost)
	maps.DeleteFunc(d.frames, func(k frameKey, _ []ID) bool {
		v := cat.byID[k.volume]
		return v == nil || v.dropped
	})
	if err := x.saveDamage(before); err != nil {
		e.log.Warn("damage not recorded in the index", "err", err)
	}
	return d
}

// saveDamage writes records.
func (x *index) saveDamage(d damage) error {
	if len(d.frames)+len(d.lost) == 0 {
		return nil
	}
	b := x.newBatch()
	defer b.cancel()
	for k, ids := range d.frames {
		if err := b.set(damageKey(k), joinIDs(ids)); err != nil {
			return err
		}
	}
	for id := range d.lost {
		if err := b.set(lostKey(id), nil); err != nil {
			return err
		}
	}
	return b.finish()
}

// noteDamage looks at what a client found damaged and records what is.
func (e *engine) noteDamage(ctx context.Context, found []DamagedFrame) error {
	fresh := newDamage()
	for _, f := range found {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if f.Volume.IsZero() {
			err = e.noteLost(f.Blob, fresh)
		} else {
			err = e.noteFrame(f, fresh)
		}
		if err != nil {
			return err
		}
	}
	e.recordDamage(fresh)
	return nil
}

// noteLost adds a blob to fresh if it is in no volume indeed.
func (e *engine) noteLost(id ID, fresh damage) error {
	places, err := e.locate([]ID{id})
	if err == nil && places[0].IsZero() && !id.IsZero() {
		fresh.lost[id] = struct{}{}
	}
	return err
}

// noteFrame adds a frame to fresh if it is damaged. One that is whole is no longer counted as damaged; if it does not hold the
// blob, the index was wrong.
func (e *engine) noteFrame(f DamagedFrame, fresh damage) error {
	key := frameKey{f.Volume, f.Offset}
	e.mu.Lock()
	v := e.volumes.byID[f.Volume]
	usable := v != nil && !v.missing && !v.dropped && f.Offset >= 0 && f.Offset < v.size
	known := e.damage.has(f.Volume, f.Offset)
	e.mu.Unlock()
	if !usable || v.kind == volume.Journal {
		return nil // blobs of volumes that are missing or cut short count as absent anyway
	}
	blobs, err := e.readFrame(key)
	if err == nil {
		if known {
			e.forgetDamage(func(k frameKey) bool { return k == key })
		}
		if !f.Blob.IsZero() && !slices.ContainsFunc(blobs, func(b volume.Blob) bool { return b.ID == f.Blob }) {
			return e.unindex(f.Blob, v, f.Offset)
		}
		return nil
	}
	if !isFrameDamage(err) {
		return err
	}
	if known {
		return nil
	}
	ids, err := e.blobsAt(v, f.Offset)
	if !e.inUse(f.Volume) {
		return nil // somebody was just dropping it
	}
	if err != nil {
		return err
	}
	if !f.Blob.IsZero() && !slices.Contains(ids, f.Blob) {
		ids = append(ids, f.Blob)
	}
	fresh.frames[key] = ids
	return nil
}

// readFrame reads a frame of blobs as a reader would, and hashes what it holds.
func (e *engine) readFrame(k frameKey) ([]volume.Blob, error) {
	file, err := e.files.Open(volumePath(e.dir, k.volume))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	aead, err := e.bundle.VolumeAEAD(k.volume)
	if err != nil {
		return nil, err
	}
	head := make([]byte, volume.HeaderSize)
	if _, err := file.ReadAt(head, k.offset); err != nil {
		return nil, &frameError{err}
	}
	h, err := volume.ParseHeader(head, k.volume)
	if err != nil {
		return nil, &frameError{err}
	}
	stored := make([]byte, h.Stored())
	if _, err := file.ReadAt(stored, k.offset); err != nil {
		return nil, &frameError{err}
	}
	c := frameChecker{keys: e.idKeys}
	return c.open(stored, k.volume, aead)
}

// frameError says that a frame is damaged, in contrast to what went wrong before it was read.
type frameError struct{ err error }

func (e *frameError) Error() string { return e.err.Error() }
func (e *frameError) Unwrap() error { return e.err }

func isFrameDamage(err error) bool {
	var damaged *frameError
	return errors.As(err, &damaged) || errors.Is(err, fs.ErrNotExist)
}

// blobsAt says which blobs a frame should hold: by the volume's contents table, or else by the index.
func (e *engine) blobsAt(v *volumeState, offset int64) (ids []ID, err error) {
	file, err := e.files.Open(volumePath(e.dir, v.id))
	if errors.Is(err, fs.ErrNotExist) {
		return e.indexedAt(v, offset)
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	aead, err := e.bundle.VolumeAEAD(v.id)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	size := v.size
	e.mu.Unlock()
	trailer, err := volume.ReadTrailer(file, size)
	if err == nil && trailer.Volume == v.id {
		err = volume.ReadContents(file, trailer, aead, func(f volume.FrameInfo) error {
			if f.Offset == offset {
				for _, b := range f.Blobs {
					ids = append(ids, b.ID)
				}
			}
			return nil
		})
		if err == nil {
			return ids, nil
		}
	}
	more, err := e.indexedAt(v, offset)
	return append(ids, more...), err
}

// indexedAt are the blobs that the index has in a frame.
func (e *engine) indexedAt(v *volumeState, offset int64) (ids []ID, err error) {
	e.mu.Lock()
	number := v.number
	for id, p := range e.pending {
		if p.place.volume == number && p.place.offset == offset {
			ids = append(ids, id)
		}
	}
	e.mu.Unlock()
	err = e.eachPlace(func(id ID, p shortPlace) error {
		if p.volume == number && p.offset == offset {
			ids = append(ids, id)
		}
		return nil
	})
	return ids, err
}

// eachPlace calls fn for every entry of the index; what waits to be written there is left out.
func (e *engine) eachPlace(fn func(id ID, p shortPlace) error) error {
	e.indexMu.RLock()
	defer e.indexMu.RUnlock()
	err := e.idx.each([]byte{keyBlob}, func(key, value []byte) error {
		if len(key) != 1+len(ID{}) {
			return nil
		}
		p, err := parseShortPlace(value)
		if err != nil {
			return err
		}
		return fn(ID(key[1:]), p)
	})
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	return nil
}

// unindex removes the entry of a blob that does not lie where the index says: whoever wants it starts a look into the volumes.
func (e *engine) unindex(id ID, v *volumeState, offset int64) error {
	e.flushMu.Lock()
	defer e.flushMu.Unlock()
	places, err := e.indexed([]ID{id}, []int{0})
	if err != nil || places[0].volume != v.number || places[0].offset != offset {
		return err
	}
	e.log.Warn("the index was wrong about a blob", "blob", id, "volume", v.id, "offset", offset)
	e.mu.Lock()
	e.rescued = false
	e.mu.Unlock()
	e.indexMu.RLock()
	defer e.indexMu.RUnlock()
	return e.idx.write(func(_ func(key, value []byte) error, del func([]byte) error) error { return del(blobKey(id)) })
}

// recordDamage makes damage known to Have, and to the next holder if the index can be written.
func (e *engine) recordDamage(fresh damage) {
	if len(fresh.frames)+len(fresh.lost) == 0 {
		return
	}
	e.mu.Lock()
	maps.Copy(e.damage.frames, fresh.frames)
	maps.Copy(e.damage.lost, fresh.lost)
	e.mu.Unlock()
	for k, ids := range fresh.frames {
		e.log.Debug("frame is damaged", "volume", k.volume, "offset", k.offset, "blobs", len(ids))
	}
	err := e.enoughIndexSpace()
	if err == nil {
		e.indexMu.RLock()
		err = e.idx.saveDamage(fresh)
		e.indexMu.RUnlock()
	}
	if err != nil {
		e.log.Warn("damage not recorded in the index", "err", err)
	}
}

// forgetDamage removes the record of frames that are whole again, or gone with their volume.
func (e *engine) forgetDamage(gone func(frameKey) bool) {
	var keys [][]byte
	e.mu.Lock()
	for k := range e.damage.frames {
		if gone(k) {
			delete(e.damage.frames, k)
			keys = append(keys, damageKey(k))
		}
	}
	e.mu.Unlock()
	e.deleteRecords(keys)
}

// deleteRecords removes keys from the index. What stays because of an error is looked at again when it is read.
func (e *engine) deleteRecords(keys [][]byte) {
	if err := e.deleteKeys(keys); err != nil {
		e.log.Warn("record of damage not removed from the index", "err", err)
	}
}

// damagedBlobs are those in damaged frames, in volumes that are missing or cut short, or in none, that have not been
// stored anew.
func (e *engine) damagedBlobs() ([]ID, error) {
	e.mu.Lock()
	suspects := e.damage.inFrames()
	maps.Copy(suspects, e.damage.lost)
	void := e.voidVolumes()
	e.mu.Unlock()
	if len(void) > 0 {
		err := e.eachPlace(func(id ID, p shortPlace) error {
			if v := void[p.volume]; v != nil && !v.live(p) {
				suspects[id] = struct{}{}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return e.stillDamaged(slices.Collect(maps.Keys(suspects)))
}

// anyDamage reports whether any frame is known to be damaged.
func (e *engine) anyDamage() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.damage.frames) > 0
}

// unindexDamaged makes the index lead to no damaged frame of a volume any more.
func (e *engine) unindexDamaged(v *volumeState) error {
	if err := e.enoughIndexSpace(); err != nil {
		return err
	}
	at := map[int64]bool{}
	var ids []ID
	e.mu.Lock()
	for k, list := range e.damage.frames {
		if k.volume == v.id {
			at[k.offset] = true
			ids = append(ids, list...)
		}
	}
	e.mu.Unlock()
	return e.unindexWhere(ids, func(p shortPlace) bool { return p.volume == v.number && at[p.offset] })
}

func (d damage) inFrames() map[ID]struct{} {
	ids := map[ID]struct{}{}
	for _, list := range d.frames {
		for _, id := range list {
			ids[id] = struct{}{}
		}
	}
	return ids
}

// forgetLost forgets which blobs are in no volume, as nothing names any of them.
func (e *engine) forgetLost() {
	var keys [][]byte
	e.mu.Lock()
	for id := range e.damage.lost {
		keys = append(keys, lostKey(id))
	}
	clear(e.damage.lost)
	e.mu.Unlock()
	e.deleteRecords(keys)
}

// voidVolumes are those with entries in the index that are not there as they should be, as they were at the time, by
// number. Needs mu.
func (e *engine) voidVolumes() map[uint32]*volumeState {
	void := map[uint32]*volumeState{}
	for _, v := range e.volumes.byID {
		if !v.dropped && v.blobs > 0 && (v.missing || v.size < v.indexed) {
			copied := *v
			void[v.number] = &copied
		}
	}
	return void
}

// stillDamaged leaves of ids those that cannot be read, for all that is known.
func (e *engine) stillDamaged(ids []ID) ([]ID, error) {
	var out []ID
	var found [][]byte
	places, _, err := e.lookUp(ids)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	for i, p := range places {
		if p.IsZero() || e.damage.has(p.Volume, p.Offset) {
			out = append(out, ids[i])
			continue
		}
		if _, lost := e.damage.lost[ids[i]]; lost {
			delete(e.damage.lost, ids[i])
			found = append(found, lostKey(ids[i]))
		}
	}
	e.mu.Unlock()
	e.deleteRecords(found)
	return out, nil
}
