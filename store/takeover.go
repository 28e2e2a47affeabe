package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"snapfs/store/seal"
	"snapfs/store/volume"
	"snapfs/store/wire"
)

// lastingSession is a Session that outlasts the holder of the store. When that ends, it becomes the holder itself or
// finds the next one, takes its pins and locks again, and repeats the call: every call of a Session may be
// repeated without harm, and a frame that Put returned for is in the kernel, whoever dies.
type lastingSession struct {
	dir      string
	options  Options
	id       [16]byte // the same with every holder
	patience time.Duration
	comeBack time.Duration
	slow     time.Duration
	now      func() time.Time
	life     context.Context // of the process's job: what it does besides ends with it

	watches sync.WaitGroup // of the ends of holders
	over    context.Context
	leave   context.CancelFunc // ends over

	turn   chan struct{} // holds a token while somebody looks for a way; guards bundle
	bundle *seal.Bundle

	mu     sync.Mutex
	way    *way // nil: not found yet, or lost
	pins   map[ID]struct{}
	locks  map[string]string // job by name
	relies bool              // on blobs that a holder has told it of, or taken
	sign   Signer            // admin rights; nil: none
	closed bool
}

func newLastingSession(dir string, o Options) *lastingSession {
	s := &lastingSession{
		dir: dir, options: o, patience: patience, comeBack: comeBack, slow: slowHolder, now: time.Now, life: context.Background(),
		turn: make(chan struct{}, 1), pins: map[ID]struct{}{}, locks: map[string]string{},
	}
	s.over, s.leave = context.WithCancel(context.Background())
	_, _ = rand.Read(s.id[:]) // never fails: see crypto/rand
	return s
}

// do calls f with a session, and again with the next holder's when the holder ends under it.
func (s *lastingSession) do(ctx context.Context, f func(w *way) error) error {
	for {
		w, err := s.find(ctx)
		if err != nil {
			return err
		}
		err = f(w)
		if !errors.Is(err, wire.ErrConnLost) {
			return err
		}
		s.lose(w)
	}
}

// ask is do for calls that return something.
func ask[T any](ctx context.Context, s *lastingSession, f func(Session) (T, error)) (out T, err error) {
	err = s.do(ctx, func(w *way) (err error) {
		out, err = f(w.session)
		return err
	})
	return out, err
}

// find returns the present way, or looks for one; only one goroutine does so at a time.
func (s *lastingSession) find(ctx context.Context) (*way, error) {
	if w, err := s.present(); w != nil || err != nil {
		return w, err
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if w, err := s.present(); w != nil || err != nil {
		return w, err
	}
	for {
		w, err := s.connect(ctx)
		if err != nil {
			return nil, err
		}
		err = s.adopt(ctx, w)
		if err == nil {
			return w, nil
		}
		if !errors.Is(err, wire.ErrConnLost) {
			return nil, errors.Join(err, w.end())
		}
		_ = w.drop()
	}
}

func (s *lastingSession) present() (*way, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	return s.way, nil
}

// adopt takes pins and locks again with a new holder and makes it the present one.
func (s *lastingSession) adopt(ctx context.Context, w *way) error {
	if s.bundle != nil && s.bundle.Set() != w.bundle.Set() {
		return fmt.Errorf("%s: another store is there now: %w", s.dir, ErrConfig)
	}
	if s.bundle == nil || !s.bundle.Admin() { // one that an admin slot opened here has more than what a holder hands out
		s.bundle = w.bundle
	}
	s.mu.Lock()
	pins, locks, sign, relies := slices.Collect(maps.Keys(s.pins)), maps.Clone(s.locks), s.sign, s.relies
	s.mu.Unlock()
	if relies {
		if err := w.goOn(ctx); err != nil {
			return fmt.Errorf("with the new holder: %w", err)
		}
	}
	if sign != nil {
		if err := w.session.Admin(ctx, sign); err != nil {
			return fmt.Errorf("admin rights with the new holder: %w", err)
		}
	}
	if len(pins) > 0 {
		if err := w.session.Pin(ctx, pins); err != nil {
			return fmt.Errorf("pins with the new holder: %w", err)
		}
	}
	for name, job := range locks {
		if err := w.resume(ctx, name, job); err != nil {
			return fmt.Errorf("lock with the new holder: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.way = w
	if w.lost != nil {
		s.watches.Go(func() { s.watch(w) })
	}
	return nil
}

// watch comes back for locks as soon as the holder has ended: a session that computes for long, or waits for the command it saves the output
// of, would else come too late, as the next holder keeps them only for a moment.
func (s *lastingSession) watch(w *way) {
	<-w.lost
	s.lose(w)
	s.mu.Lock()
	locked := len(s.locks) > 0
	s.mu.Unlock()
	if locked && s.life.Err() == nil {
		_, _ = s.find(s.over) // the next call meets what went wrong
	}
}

// lose gives up a way whose holder has ended.
func (s *lastingSession) lose(w *way) {
	s.mu.Lock()
	mine := s.way == w
	if mine {
		s.way = nil
	}
	s.mu.Unlock()
	if mine {
		_ = w.drop() // what is to be said about it was said by the call that lost it
	}
}

// Have implements Session.
func (s *lastingSession) Have(ctx context.Context, ids []ID) ([]bool, error) {
	var have []bool
	err := s.do(ctx, func(w *way) (err error) {
		if have, err = w.session.Have(ctx, ids); err != nil || !slices.Contains(have, true) {
			return err
		}
		return s.note(w, func() { s.relies = true })
	})
	return have, err
}

// Put implements Session.
func (s *lastingSession) Put(ctx context.Context, f Frame) (int64, error) {
	var grown int64
	err := s.do(ctx, func(w *way) (err error) {
		if grown, err = w.session.Put(ctx, f); err != nil {
			return err
		}
		return s.note(w, func() { s.relies = true })
	})
	return grown, err
}

// Locate implements Session.
func (s *lastingSession) Locate(ctx context.Context, ids []ID) ([]Place, error) {
	return ask(ctx, s, func(t Session) ([]Place, error) { return t.Locate(ctx, ids) })
}

// Read implements Session.
func (s *lastingSession) Read(ctx context.Context, v volume.ID, offset int64, n int) ([]byte, error) {
	return ask(ctx, s, func(t Session) ([]byte, error) { return t.Read(ctx, v, offset, n) })
}

// Commit implements Session.
func (s *lastingSession) Commit(ctx context.Context, c Commit) (Snapshot, error) {
	return ask(ctx, s, func(t Session) (Snapshot, error) { return t.Commit(ctx, c) })
}

// Append implements Session.
func (s *lastingSession) Append(ctx context.Context, facts []FactBody) error {
	return s.do(ctx, func(w *way) error { return w.session.Append(ctx, facts) })
}

// Admin implements Session.
func (s *lastingSession) Admin(ctx context.Context, sign Signer) error {
	return s.do(ctx, func(w *way) error {
		if err := w.session.Admin(ctx, sign); err != nil {
			return err
		}
		return s.note(w, func() { s.sign = sign })
	})
}

// State implements Session.
func (s *lastingSession) State(ctx context.Context, since uint64) (*State, error) {
	return ask(ctx, s, func(t Session) (*State, error) { return t.State(ctx, since) })
}

// Wait implements Session.
func (s *lastingSession) Wait(ctx context.Context, since uint64) error {
	return s.do(ctx, func(w *way) error { return w.session.Wait(ctx, since) })
}

// Lock implements Session.
func (s *lastingSession) Lock(ctx context.Context, name, job string, wait bool) error {
	return s.do(ctx, func(w *way) error {
		if w.settled != nil {
			select {
			case <-w.settled:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err := w.session.Lock(ctx, name, job, wait); err != nil {
			return err
		}
		return s.note(w, func() { s.locks[name] = job })
	})
}

// Unlock implements Session.
func (s *lastingSession) Unlock(ctx context.Context, name string) error {
	s.mu.Lock()
	delete(s.locks, name)
	s.mu.Unlock()
	return s.do(ctx, func(w *way) error { return w.session.Unlock(ctx, name) })
}

// Pin implements Session.
func (s *lastingSession) Pin(ctx context.Context, snapshots []ID) error {
	return s.do(ctx, func(w *way) error {
		if err := w.session.Pin(ctx, snapshots); err != nil {
			return err
		}
		return s.note(w, func() {
			for _, id := range snapshots {
				s.pins[id] = struct{}{}
			}
		})
	})
}

// Unpin implements Session.
func (s *lastingSession) Unpin(ctx context.Context, snapshots []ID) error {
	s.mu.Lock()
	for _, id := range snapshots {
		delete(s.pins, id)
	}
	s.mu.Unlock()
	return s.do(ctx, func(w *way) error { return w.session.Unpin(ctx, snapshots) })
}

// Prune implements Session. With the next holder it begins anew, and finds less to do.
func (s *lastingSession) Prune(ctx context.Context, o PruneOptions, progress func(PruneProgress)) (PruneResult, error) {
	return ask(ctx, s, func(t Session) (PruneResult, error) { return t.Prune(ctx, o, progress) })
}

// Upkeep implements Session.
func (s *lastingSession) Upkeep(ctx context.Context) (PruneResult, error) {
	return ask(ctx, s, func(t Session) (PruneResult, error) { return t.Upkeep(ctx) })
}

// note records what a session now has, for the next holder. If there is a next holder already, who was not told, the
// call has to be repeated there.
func (s *lastingSession) note(w *way, record func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.way != w {
		return wire.ErrConnLost
	}
	record()
	return nil
}

// Rebuild implements Session.
func (s *lastingSession) Rebuild(ctx context.Context, progress func(RebuildProgress)) error {
	return s.do(ctx, func(w *way) error { return w.session.Rebuild(ctx, progress) })
}

// Stats implements Session.
func (s *lastingSession) Stats(ctx context.Context) (Stats, error) {
	return ask(ctx, s, func(t Session) (Stats, error) { return t.Stats(ctx) })
}

// Damaged implements Session.
func (s *lastingSession) Damaged(ctx context.Context, found []DamagedFrame) error {
	return s.do(ctx, func(w *way) error { return w.session.Damaged(ctx, found) })
}

// Verify implements Session. With the next holder it begins anew.
func (s *lastingSession) Verify(ctx context.Context, o VerifyOptions, event func(VerifyEvent) error) (VerifySummary, error) {
	return ask(ctx, s, func(t Session) (VerifySummary, error) { return t.Verify(ctx, o, event) })
}

// Volumes implements Session.
func (s *lastingSession) Volumes(ctx context.Context) ([]VolumeInfo, error) {
	return ask(ctx, s, func(t Session) ([]VolumeInfo, error) { return t.Volumes(ctx) })
}

// DamagedBlobs implements Session.
func (s *lastingSession) DamagedBlobs(ctx context.Context) ([]ID, error) {
	return ask(ctx, s, func(t Session) ([]ID, error) { return t.DamagedBlobs(ctx) })
}

// Close implements Session. A holder seals its volumes and lets the store go.
func (s *lastingSession) Close() error {
	s.mu.Lock()
	w := s.way
	s.way, s.closed = nil, true
	s.mu.Unlock()
	var err error
	if w != nil {
		err = w.end()
	}
	s.leave()
	s.watches.Wait()
	return err
}
