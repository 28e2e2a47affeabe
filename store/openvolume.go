package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	"snapfs/store/volume"
)

// volumeLimit is the size at which a volume is sealed and the next begun.
const volumeLimit = 512 << 20

// openVolume is a volume this process writes.
type openVolume struct {
	*volumeState
	w     *volume.Writer
	full  bool // the next one is about to be begun; guarded by engine.mu
	noted bool // for the next commit to name, as closed; guarded by engine.mu

	// gate is held shared while a frame is appended and its blobs are queued, exclusively to take the queue.
	gate   sync.RWMutex
	closed bool // guarded by gate

	mu    sync.Mutex
	queue []queuedBlob             // written, not yet in the index
	rows  uint32                   // blobs written: the next one's ordinal
	users map[*localSession]uint64 // sessions that rely on frames not yet synced; what uses was when they were told last
	uses  uint64
}

// queuedBlob is a blob on its way into the index.
type queuedBlob struct {
	id    ID
	place shortPlace
}

// createVolume begins a volume: its label is written, not yet synced.
func (e *engine) createVolume(kind volume.Kind) (*openVolume, error) {
	var id volume.ID
	if _, err := rand.Read(id[:]); err != nil {
		return nil, err
	}
	aead, err := e.bundle.VolumeAEAD(id)
	if err != nil {
		return nil, err
	}
	file, err := e.files.Create(volumePath(e.dir, id), kind != volume.Data)
	if err != nil {
		return nil, fmt.Errorf("new volume: %w", err)
	}
	label := volume.Label{Store: e.storeID, Volume: id, Kind: kind, Created: e.now(), Program: e.program}
	w, err := volume.Create(file, label, volume.Options{AEAD: aead, Parity: e.config.parity(), Strict: kind == volume.Journal})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("volume %s: %w", id, err), file.Close(), e.files.Remove(volumePath(e.dir, id)))
	}
	if err := e.files.SyncDir(filepath.Join(e.dir, volumesName)); err != nil {
		return nil, errors.Join(fmt.Errorf("volume %s: %w", id, err), w.Close())
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	v := &openVolume{volumeState: e.volumes.add(id, kind), w: w, users: map[*localSession]uint64{}}
	v.size, v.writer = w.Size(), v
	return v, nil
}

// use records that a session relies on frames of the volume that may not be synced yet.
func (v *openVolume) use(s *localSession) {
	if s == nil {
		return
	}
	v.mu.Lock()
	v.uses++
	v.users[s] = v.uses
	v.mu.Unlock()
}

// append writes a frame for a session and calls written before the volume's queue can be cut; ok is false when the
// volume was closed meanwhile.
func (v *openVolume) append(s *localSession, kind volume.FrameKind, plain []byte, written func(offset int64, stored uint32), blobs []volume.Blob) (stored uint32, ok bool, err error) {
	v.gate.RLock()
	defer v.gate.RUnlock()
	if v.closed {
		return 0, false, nil
	}
	v.use(s)
	offset, stored, err := v.w.Append(kind, plain, blobs)
	if err != nil {
		return 0, true, err
	}
	v.use(s)
	written(offset, stored)
	return stored, true, nil
}

// enqueue gives a frame's blobs the next ordinals and puts them into the queue; it returns the first.
func (v *openVolume) enqueue(offset int64, stored uint32, blobs []volume.Blob) (ordinal uint32) {
	v.mu.Lock()
	defer v.mu.Unlock()
	ordinal = v.rows
	start := uint32(0)
	for _, b := range blobs {
		v.queue = append(v.queue, queuedBlob{b.ID, shortPlace{v.number, offset, stored, start, b.Length, v.rows}})
		start += b.Length
		v.rows++
	}
	return ordinal
}

// relying are the sessions that rely on frames not yet synced.
func (v *openVolume) relying() []*localSession {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Collect(maps.Keys(v.users))
}

// sync brings every frame written so far to stable storage. Sessions are let go of only when that has been done: whoever meets the failure
// makes all of them fail, also those of another sync that has failed and not said so yet.
func (v *openVolume) sync() error {
	v.mu.Lock()
	uses := v.uses
	v.mu.Unlock()
	if err := v.w.Sync(); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	maps.DeleteFunc(v.users, func(_ *localSession, told uint64) bool { return told <= uses })
	return nil
}

// cut takes the queue; everything queued lies below the returned mark.
func (v *openVolume) cut(closing bool) (queue []queuedBlob, mark int64) {
	v.gate.Lock()
	defer v.gate.Unlock()
	v.closed = v.closed || closing
	v.mu.Lock()
	defer v.mu.Unlock()
	queue, mark = v.queue, v.w.Size()
	v.queue = nil
	return queue, mark
}

// giveBack puts a queue that could not be moved into the index back, before what came meanwhile: the watermark must not
// pass it.
func (v *openVolume) giveBack(queue []queuedBlob) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.queue = append(queue, v.queue...)
}
