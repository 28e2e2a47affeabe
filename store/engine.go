package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"snapfs/store/seal"
	"snapfs/store/volume"
)

// engine is the store in the process that holds it. Lock order: commitMu, flushMu, mu.
type engine struct {
	dir             string
	files           Files
	log             *slog.Logger
	now             func() time.Time
	program         string
	config          config
	storeID         [16]byte
	bundle          *seal.Bundle
	lock            *storeLock
	idKeys          idKeys
	reserve         reserve
	limit           int64 // size at which a volume is sealed and the next begun
	checkpointLimit int   // bytes of records in one
	frozen          bool  // on a read-only file system

	lowSpace     atomic.Int32  // how many are giving space back: they may use what is kept free for that
	protectAfter time.Duration // see protectLater

	references References // what blobs name; nil if this process does not know

	commitMu sync.Mutex // serialises facts
	journal  *openVolume
	unsure   error // a fact that failed may be in a journal all the same: none can be added until the journals are read again
	fold     *fold
	appended *[]ID // if not nil: facts appended since a compaction began

	guardMu sync.Mutex // serialises guardHeld and keepGuards

	refusedAt time.Time // when a refused attempt was recorded last
	refusals  uint64    // refused since then; with refusedAt guarded by commitMu

	flushMu sync.Mutex // serialises moves into the index
	flushes sync.WaitGroup

	maintenance sync.Mutex // one at a time rewrites or removes volumes; before commitMu

	indexMu sync.RWMutex // held exclusively to exchange idx
	idx     *index

	mu       sync.Mutex
	volumes  *catalogue
	current  map[volume.Kind]*openVolume
	pending  map[ID]pendingBlob
	damage   damage
	verified map[volume.ID]time.Time // when volumes were last verified
	sealed   []sealedVolume          // by this process, not yet named by a fact
	orphans  []sealedVolume          // found at open, named by no fact
	filter   *filter
	asked    int // look-ups in the index without a filter
	rescued  bool
	flushing bool
	covering bool // parity of what is new is about to be written
	state    *State
	changed  chan struct{} // closed when state is replaced, and at the end
	locks    map[string]namedLock
	unlocked chan struct{} // closed when a lock is given back
	sessions map[*localSession]struct{}
	absent   map[[16]byte]*absentSession // recorded by a holder before this one, not seen since
	pinned   *mark                       // by sessions, for a prune that is not done with deciding; nil: none
	marks    uint64                      // grows when numbers of volumes or blobs change: a mark is void then
	moves    uint64                      // grows when the index leads elsewhere than before: a place found until then may be void
	written  chan struct{}               // holds a token when a job has ended that wrote
	closed   bool
	closing  chan struct{}      // closed together with the store
	guarded  map[volume.ID]bool // volumes with held snapshots, as guardHeld found them last
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
			e.noteWritten(s, v, offset, stored, f.Blobs)
		}, f.Blobs)
		if !ok {
			continue
		}
		if err != nil && v.w.Err() == nil {
			return 0, fmt.Errorf("volume %s: %w", v.id, err) // the frame was refused, the volume is as it was
		}
		if err != nil {
			return 0, e.failed(v, err)
		}
		if v.w.Size() >= e.limit {
			if err := e.rotate(v); err != nil {
				return 0, err
			}
		}
		return v.w.Share(stored, f.Blobs), nil
	}
}

// noteWritten makes blobs known to Have and Locate, and moves them to the index when many wait.
func (e *engine) noteWritten(s *localSession, v *openVolume, offset int64, stored uint32, blobs []volume.Blob) {
	ordinal := v.enqueue(offset, stored, blobs)
	e.mu.Lock()
	defer e.mu.Unlock()
	start := uint32(0)
	for i, b := range blobs {
		place := shortPlace{v.number, offset, stored, start, b.Length, ordinal + uint32(i)}
		if before, ok := e.pending[b.ID]; ok {
			e.pinAlso(before.place, place)
		}
		e.pending[b.ID] = pendingBlob{place, v}
		if e.filter != nil {
			e.filter.add(b.ID)
		}
		if s != nil {
			s.pins.addWritten(v.volumeState, place.ordinal)
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

// rotate begins the next volume of a kind and seals the full one; others write on meanwhile. Commits wait, because a volume
// that is neither current nor noted as sealed would be neither synced nor named by them, and so does a rebuild. A fact names it at
// once: so where volumes are sealed and there is no fact at all, facts are missing.
func (e *engine) rotate(v *openVolume) error {
	e.mu.Lock()
	first := !v.full
	v.full = true
	e.mu.Unlock()
	if !first {
		return nil
	}
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	e.mu.Lock()
	mine, closed := e.current[v.kind] == v, e.closed
	e.mu.Unlock()
	if !mine || closed {
		return nil
	}
	next, err := e.createVolume(v.kind)
	e.mu.Lock()
	delete(e.current, v.kind)
	if err == nil {
		e.current[v.kind] = next
	} // else whoever puts the next frame meets the error
	e.mu.Unlock()
	e.flushMu.Lock()
	err = e.flushVolume(v, true)
	e.flushMu.Unlock()
	if err == nil {
		e.nameSealed()
	}
	return err
}

// failed takes a volume out of use after a failed write or sync. It is cut back to what is on stable storage at once: the
// kernel would show the rest to the next holder as if it were there. Sessions that rely on more fail.
// Several may report the same failure. It returns the error for whoever met it.
func (e *engine) failed(v *openVolume, cause error) error {
	err := fmt.Errorf("%w: volume %s: %w", ErrWriteFailed, v.id, diskFull(cause))
	e.failAll(v, err)
	v.cut(true) // no append is under way any more
	e.failAll(v, err)
	closeErr := v.w.Close()
	if closeErr != nil {
		e.log.Warn("volume not cut back", "volume", v.id, "err", closeErr)
	}
	if v.kind == volume.Journal && e.unsure == nil { // its appends and syncs hold commitMu
		e.unsure = e.cutForGood(v, closeErr)
	}
	if e.takeOut(v, v.w.Synced(), err) {
		e.log.Error("volume closed after a failed write", "volume", v.id, "err", cause)
	}
	e.failAll(v, err)
	return err
}

// cutForGood makes sure that a fact which failed does not come back, when the power goes, behind others that were given its number
// since. err says whether the journal has been cut.
func (e *engine) cutForGood(v *openVolume, err error) error {
	var file volume.File
	if err == nil {
		file, err = e.files.Open(volumePath(e.dir, v.id))
	}
	if err == nil {
		err = errors.Join(file.Sync(), file.Close())
	}
	if err != nil {
		return fmt.Errorf("%w: journal %s may hold a fact that failed, the store must be closed and opened again: %w", ErrWriteFailed, v.id, err)
	}
	return nil
}

// failAll makes the sessions fail that rely on frames of a volume which are lost. The index tells the next holder: should this one
// end before a session's client hears of it, the client would go on there as if nothing had happened.
func (e *engine) failAll(v *openVolume, err error) {
	users := v.relying()
	for _, s := range users { // at once, before anything that takes time: they may be about to commit
		s.fail(err)
	}
	for _, s := range users {
		e.mu.Lock()
		noted := s.pins.noted[v.id]&pinLost != 0
		e.mu.Unlock()
		if !noted {
			e.noteLostFrames(s, v.id)
		}
	}
}

func (e *engine) noteLostFrames(s *localSession, v volume.ID) {
	s.recording.Lock() // what else is written of the volume is so before or after, and says the same
	defer s.recording.Unlock()
	e.mu.Lock()
	bits := s.pins.noted[v] | pinLost
	s.pins.noted[v] = bits
	e.mu.Unlock()
	if _, err := e.record(s, map[volume.ID]uint8{v: bits}, nil); err != nil {
		e.log.Warn("session not recorded in the index", "err", err)
	}
}

// takeOut forgets what a failed volume held beyond its synced length; first is false if that was done before. Who was told of
// any of it until now fails before anybody can find the volume gone and commit.
func (e *engine) takeOut(v *openVolume, synced int64, err error) (first bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range v.relying() {
		s.fail(err)
	}
	if e.current[v.kind] == v {
		delete(e.current, v.kind)
	}
	if v.kind == volume.Journal {
		e.journal = nil // its appends and syncs hold commitMu
	}
	v.size, v.writer = synced, nil
	for id, p := range e.pending {
		if p.from == v && p.place.offset+int64(p.place.stored) > synced {
			delete(e.pending, id)
		}
	}
	return e.noteClosed(v)
}

// noteClosed makes the next commit name a volume that takes no more frames; false if it was noted before. Needs mu.
func (e *engine) noteClosed(v *openVolume) bool {
	if v.noted {
		return false
	}
	v.noted = true
	if v.kind != volume.Journal && v.size > 0 {
		e.sealed = append(e.sealed, sealedVolume{v.id, v.kind, v.size})
	}
	return true
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
	if v.w.Synced() == v.w.Size() && v.w.Err() == nil { // one that failed has been cut back, and whoever relied on more is about to fail
		return nil
	}
	if err := v.sync(); err != nil {
		return e.failed(v, err)
	}
	return nil
}

// flush moves what waits into the index; with closing the volumes are sealed as well.
func (e *engine) flush(closing bool) error {
	e.flushMu.Lock() // before looking at what is open: a volume that was closed meanwhile has nothing to move
	defer e.flushMu.Unlock()
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
// Trouble with the index is only logged: the queue waits for the next time, and the volume holds everything for the next
// holder to read. Needs flushMu.
func (e *engine) flushVolume(v *openVolume, closing bool) error {
	queue, mark := v.cut(closing)
	if err := v.sync(); err != nil {
		return e.failed(v, err)
	}
	if closing {
		e.nameFirst(v)
	}
	sealed := closing && e.sealVolume(v)
	if err := e.indexQueue(v, queue, mark, closing); err != nil {
		e.log.Warn("index not brought up to date", "volume", v.id, "err", err)
		v.giveBack(queue)
	}
	if !closing {
		return nil
	}
	e.released(v)
	err := v.w.Close()
	e.mu.Lock()
	guarded := sealed && e.guarded[v.id]
	e.mu.Unlock()
	if err == nil && guarded {
		err = e.guard(v.id)
	}
	return err
}

// sealVolume ends a volume whose frames are synced. If that fails (a full disk) it stays as a crash would leave it:
// nothing is lost, reading it only takes longer.
func (e *engine) sealVolume(v *openVolume) bool {
	err := v.w.Seal()
	if err != nil {
		e.log.Warn("volume not sealed", "volume", v.id, "err", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	v.size, v.sealed = v.w.Synced(), err == nil
	v.parity = v.w.ParityBytes()
	e.noteClosed(v)
	return v.sealed
}

// released notes that a volume takes no more frames and the index will not hear of others.
func (e *engine) released(v *openVolume) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v.writer = nil
}

// indexQueue writes the places of a volume's new blobs; with closing, they are the last. Needs flushMu.
func (e *engine) indexQueue(v *openVolume, queue []queuedBlob, mark int64, closing bool) error {
	if err := e.enoughIndexSpace(); err != nil {
		return err
	}
	before, err := e.indexedBefore(queue)
	if err != nil {
		return err
	}
	e.indexMu.RLock()
	defer e.indexMu.RUnlock()
	var raw int64
	if len(queue) > 0 {
		if err := e.giveNumbers(); err != nil {
			return err
		}
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
	v.indexed = mark
	if v.sealed {
		v.indexed = v.size
	}
	if closing {
		v.writer = nil
	}
	v.seen = v.indexed
	v.parity = v.w.ParityBytes()
	v.blobs += int64(len(queue))
	v.raw += raw
	for i, q := range queue {
		if p, ok := e.pending[q.id]; ok && p.place == q.place {
			delete(e.pending, q.id)
		}
		if before[i].stored != 0 {
			e.pinAlso(before[i], q.place)
			e.moves++
		}
	}
	record := v.encode()
	e.mu.Unlock()
	return e.idx.write(func(set func(key, value []byte) error, _ func([]byte) error) error {
		return set(volumeKey(v.id), record)
	})
}

// giveNumbers notes durably which short numbers have been given: see index.give. Needs indexMu.
func (e *engine) giveNumbers() error {
	e.mu.Lock()
	next := e.volumes.next
	e.mu.Unlock()
	if err := e.idx.give(next); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	return nil
}

// indexedBefore is where the index leads for blobs that are about to get a place there: two sessions may have stored the same, or
// the blob is being moved.
func (e *engine) indexedBefore(queue []queuedBlob) ([]shortPlace, error) {
	ids := make([]ID, len(queue))
	for i, q := range queue {
		ids[i] = q.id
	}
	return e.indexedAll(ids)
}

// close seals the volumes, brings the index up to date and lets the store go. Sessions must have ended.
func (e *engine) close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	close(e.closing)
	close(e.changed)
	e.changed = make(chan struct{})
	e.mu.Unlock()
	e.flushes.Wait()
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	errs := []error{e.flush(true), e.closeJournal()}
	e.gatherIndex()
	errs = append(errs, e.idx.close())
	errs = append(errs, e.ownIndex())
	return errors.Join(append(errs, e.lock.release())...)
}

// gatherIndex has small tables of the index merged when it is closed; on a nearly full disk another time.
func (e *engine) gatherIndex() {
	if e.enoughIndexSpace() != nil {
		return
	}
	if err := e.idx.gather(); err != nil {
		e.log.Warn("small tables of the index not merged", "err", err)
	}
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
