package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"snapfs/store/seal"
	"snapfs/store/volume"
)

// engine is the store in the process that holds it. Lock order: commitMu, flushMu, mu.
type engine struct {
	dir     string
	files   Files
	log     *slog.Logger
	now     func() time.Time
	program string
	config  config
	storeID [16]byte
	bundle  *seal.Bundle
	lock    *storeLock
	idKeys  idKeys
	reserve reserve
	frozen  bool // on a read-only file system

	commitMu sync.Mutex // serialises facts
	journal  *openVolume
	fold     *fold

	flushMu sync.Mutex // serialises moves into the index
	flushes sync.WaitGroup

	indexMu sync.RWMutex // held exclusively to exchange idx
	idx     *index

	mu       sync.Mutex
	volumes  *catalogue
	current  map[volume.Kind]*openVolume
	retired  []*openVolume // closed by a failure, kept for reading
	pending  map[ID]pendingBlob
	sealed   []sealedVolume // by this process, not yet named by a fact
	orphans  []sealedVolume // found at open, named by no fact
	filter   *filter
	asked    int // look-ups in the index without a filter
	rescued  bool
	flushing bool
	state    *State
	changed  chan struct{} // closed when state is replaced, and at the end
	locks    map[string]namedLock
	unlocked chan struct{} // closed when a lock is given back
	sessions map[*localSession]struct{}
	closed   bool
}

// pendingBlob is a blob that is written but not yet in the index.
type pendingBlob struct {
	place shortPlace
	from  *openVolume
}

// pendingLimit is how many blobs wait for the index before they are moved there, 64 bytes each or so.
const pendingLimit = 32 << 10

// kindOf says to which kind of volume a class of frames goes.
func kindOf(c Class) (volume.Kind, error) {
	switch c {
	case ClassData:
		return volume.Data, nil
	case ClassMetadata:
		return volume.Metadata, nil
	}
	return 0, fmt.Errorf("class %d: no such class of frames", c)
}

// put appends a frame for a session.
func (e *engine) put(s *localSession, f Frame) (int64, error) {
	kind, err := kindOf(f.Class)
	if err != nil {
		return 0, err
	}
	for {
		v, err := e.writable(kind)
		if err != nil {
			return 0, err
		}
		stored, ok, err := v.append(s, volume.FrameBlobs, f.Pack, func(offset int64, stored uint32) {
			e.noteWritten(v, offset, stored, f.Blobs)
		}, f.Blobs)
		if !ok {
			continue
		}
		if err != nil {
			e.volumeFailed(v, err)
			return 0, fmt.Errorf("%w: volume %s: %w", ErrWriteFailed, v.id, diskFull(err))
		}
		if v.w.Size() >= volumeLimit {
			if err := e.rotate(v); err != nil {
				return 0, err
			}
		}
		return int64(stored), nil
	}
}

// noteWritten makes blobs known to Have and Locate, and moves them to the index when many wait.
func (e *engine) noteWritten(v *openVolume, offset int64, stored uint32, blobs []volume.Blob) {
	v.enqueue(offset, stored, blobs)
	e.mu.Lock()
	defer e.mu.Unlock()
	start := uint32(0)
	for _, b := range blobs {
		e.pending[b.ID] = pendingBlob{shortPlace{v.number, offset, stored, start, b.Length}, v}
		if e.filter != nil {
			e.filter.add(b.ID)
		}
		start += b.Length
	}
	v.size = max(v.size, offset+int64(stored))
	if len(e.pending) > pendingLimit && !e.flushing && !e.closed {
		e.flushing = true
		e.flushes.Go(func() {
			if err := e.flush(false); err != nil {
				e.log.Warn("index not brought up to date", "err", err)
			}
			e.mu.Lock()
			e.flushing = false
			e.mu.Unlock()
		})
	}
}

// writable returns the volume that frames of a kind go to now.
func (e *engine) writable(kind volume.Kind) (*openVolume, error) {
	e.mu.Lock()
	v := e.current[kind]
	closed := e.closed
	e.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	if v != nil {
		return v, e.enoughSpace()
	}
	e.commitMu.Lock() // so that only one is begun
	defer e.commitMu.Unlock()
	return e.writableLocked(kind)
}

// writableLocked is writable for holders of commitMu.
func (e *engine) writableLocked(kind volume.Kind) (*openVolume, error) {
	e.mu.Lock()
	v := e.current[kind]
	e.mu.Unlock()
	if v != nil {
		return v, nil
	}
	if err := e.mayWrite(); err != nil {
		return nil, err
	}
	if err := e.enoughSpace(); err != nil {
		return nil, err
	}
	v, err := e.createVolume(kind)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrWriteFailed, diskFull(err))
	}
	e.mu.Lock()
	e.current[kind] = v
	e.mu.Unlock()
	return v, nil
}

// rotate seals a full volume; the next frame begins a new one.
func (e *engine) rotate(v *openVolume) error {
	e.mu.Lock()
	mine := e.current[v.kind] == v
	if mine {
		delete(e.current, v.kind)
	}
	e.mu.Unlock()
	if !mine {
		return nil
	}
	return e.flushVolume(v, true)
}

// volumeFailed takes a volume out of use after a failed write or sync and fails the sessions that rely on it.
func (e *engine) volumeFailed(v *openVolume, err error) {
	_, users, _ := v.cut(true)
	e.failed(v, users, err)
}

func (e *engine) failed(v *openVolume, users map[*localSession]struct{}, err error) {
	e.log.Error("volume closed after a failed write", "volume", v.id, "err", err)
	for s := range users {
		s.fail(fmt.Errorf("%w: volume %s: %w", ErrWriteFailed, v.id, diskFull(err)))
	}
	synced := v.w.Synced()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.current[v.kind] == v {
		delete(e.current, v.kind)
	}
	if v.kind == volume.Journal {
		e.journal = nil
	}
	e.retired = append(e.retired, v)
	v.size = synced
	for id, p := range e.pending {
		if p.from == v && p.place.offset+int64(p.place.stored) > synced {
			delete(e.pending, id)
		}
	}
}

// syncVolumes brings every frame written so far to stable storage, whoever wrote it.
func (e *engine) syncVolumes() error {
	e.mu.Lock()
	open := make([]*openVolume, 0, len(e.current))
	for _, v := range e.current {
		open = append(open, v)
	}
	e.mu.Unlock()
	var wg sync.WaitGroup
	errs := make([]error, len(open))
	for i, v := range open {
		wg.Go(func() { errs[i] = e.syncVolume(v) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (e *engine) syncVolume(v *openVolume) error {
	if v.w.Synced() == v.w.Size() {
		return nil
	}
	v.mu.Lock()
	users := v.users
	v.users = map[*localSession]struct{}{}
	v.mu.Unlock()
	if err := v.w.Sync(); err != nil {
		_, later, _ := v.cut(true)
		for s := range later {
			users[s] = struct{}{}
		}
		e.failed(v, users, err)
		return fmt.Errorf("%w: volume %s: %w", ErrWriteFailed, v.id, diskFull(err))
	}
	return nil
}

// flush moves what waits into the index; with closing the volumes are sealed as well.
func (e *engine) flush(closing bool) error {
	e.mu.Lock()
	open := make([]*openVolume, 0, len(e.current))
	for kind, v := range e.current {
		open = append(open, v)
		if closing {
			delete(e.current, kind)
		}
	}
	e.mu.Unlock()
	var errs []error
	for _, v := range open {
		errs = append(errs, e.flushVolume(v, closing))
	}
	return errors.Join(errs...)
}

// flushVolume syncs a volume and moves its queue into the index; the watermark follows in a transaction of its own.
// Trouble with the index is only logged: the volume holds everything, and the next holder reads it.
func (e *engine) flushVolume(v *openVolume, closing bool) error {
	e.flushMu.Lock()
	defer e.flushMu.Unlock()
	queue, users, mark := v.cut(closing)
	if err := v.w.Sync(); err != nil {
		e.failed(v, users, err)
		return fmt.Errorf("%w: volume %s: %w", ErrWriteFailed, v.id, diskFull(err))
	}
	sealed := closing && e.sealVolume(v)
	if err := e.indexQueue(v, queue, mark, sealed); err != nil {
		e.log.Warn("index not brought up to date", "volume", v.id, "err", err)
	}
	if !closing {
		return nil
	}
	return v.w.Close()
}

// sealVolume ends a volume whose frames are synced. If that fails (a full disk) it stays as a crash would leave it:
// nothing is lost, reading it only takes longer.
func (e *engine) sealVolume(v *openVolume) bool {
	if err := v.w.Seal(); err != nil {
		e.log.Warn("volume not sealed", "volume", v.id, "err", err)
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	v.size = v.w.Size()
	if v.kind != volume.Journal {
		e.sealed = append(e.sealed, sealedVolume{v.id, v.kind, v.size})
	}
	return true
}

// indexQueue writes the places of a volume's new blobs.
func (e *engine) indexQueue(v *openVolume, queue []queuedBlob, mark int64, sealed bool) error {
	if err := e.enoughIndexSpace(); err != nil {
		return err
	}
	e.indexMu.RLock()
	defer e.indexMu.RUnlock()
	var raw int64
	if len(queue) > 0 {
		b := e.idx.newBatch()
		defer b.cancel()
		for _, q := range queue {
			if err := b.set(blobKey(q.id), q.place.encode()); err != nil {
				return fmt.Errorf("index: %w", err)
			}
			raw += int64(q.place.length)
		}
		if err := b.finish(); err != nil {
			return fmt.Errorf("index: %w", err)
		}
	}
	e.mu.Lock()
	v.indexed, v.size = mark, max(v.size, v.w.Size())
	if sealed {
		v.size = v.w.Size()
		v.indexed, v.sealed = v.size, true
	}
	v.seen = v.indexed
	v.blobs += int64(len(queue))
	v.raw += raw
	for _, q := range queue {
		if p, ok := e.pending[q.id]; ok && p.place == q.place {
			delete(e.pending, q.id)
		}
	}
	record := v.encode()
	e.mu.Unlock()
	return e.idx.write(func(set func(key, value []byte) error, _ func([]byte) error) error {
		return set(volumeKey(v.id), record)
	})
}

// close seals the volumes, brings the index up to date and lets the store go. Sessions must have ended.
func (e *engine) close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	close(e.changed)
	e.changed = make(chan struct{})
	e.mu.Unlock()
	e.flushes.Wait()
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	errs := []error{e.flush(true), e.closeJournal()}
	for _, v := range e.retired {
		errs = append(errs, v.w.Close())
	}
	errs = append(errs, e.idx.close())
	errs = append(errs, e.ownIndex())
	return errors.Join(append(errs, e.lock.release())...)
}

// publish gives others the new state of the fold and wakes those who wait for it. Needs commitMu.
func (e *engine) publish() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state = e.fold.state(e.damagedBy)
	close(e.changed)
	e.changed = make(chan struct{})
}

// waitState returns when the fold's sequence number is no longer since.
func (e *engine) waitState(ctx context.Context, since uint64) error {
	for {
		e.mu.Lock()
		st, changed, closed := e.state, e.changed, e.closed
		e.mu.Unlock()
		if st.Seq != since {
			return nil
		}
		if closed {
			return ErrClosed
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}
