package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"snapfs/store/volume"
)

// localSession is the Session of a job in the process that holds the store, or on behalf of a job that came over the
// socket.
type localSession struct {
	e   *engine
	id  [16]byte // the same with every holder
	job string   // for people
	pid int      // of the process it works for; 0: this one; unknownPID: not known

	recording sync.Mutex // serialises what is written of it into the index; before engine.mu
	recorded  bool       // its own record is there
	known     bool       // to the holder before

	pins pins // guarded by engine.mu

	mu     sync.Mutex
	failed error
	sign   signFunc // admin rights; nil: none
	ended  bool
}

// newSession begins a session for a job of this process.
func (e *engine) newSession(job string) *localSession {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails: see crypto/rand
	return e.newSessionOf(id, job, 0)
}

// newSessionOf begins a session for a job of another process, or goes on with one that a holder before this one had.
func (e *engine) newSessionOf(id [16]byte, job string, pid int) *localSession {
	s := &localSession{e: e, id: id, job: job, pid: pid, pins: newPins()}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.adopt(s)
	e.sessions[s] = struct{}{}
	return s
}

// wrote reports whether the session ever stored anything.
func (s *localSession) wrote() bool {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	return s.pins.everWrote
}

// unknownPID is the number of a process that cannot be seen from here.
const unknownPID = -1

// process is the number of the process the session works for, 0 if it is not known.
func (s *localSession) process() int {
	if s.pid == 0 {
		return os.Getpid()
	}
	return max(0, s.pid)
}

// fail makes everything the session does from now on fail: frames it relies on are not safe.
func (s *localSession) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = err
	}
}

func (s *localSession) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return ErrClosed
	}
	return s.failed
}

// ready is what every call asks first.
func (s *localSession) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.failure()
}

// goOn makes a session fail that relies on what it was told by the holder before, unless that has left a record of it.
func (s *localSession) goOn(ctx context.Context) error {
	if err := s.ready(ctx); err != nil || s.known {
		return err
	}
	s.fail(ErrForgotten)
	return ErrForgotten
}

// Have implements Session.
func (s *localSession) Have(ctx context.Context, ids []ID) ([]bool, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	defer s.e.notePins(s)
	return s.e.have(s, ids)
}

// Put implements Session.
func (s *localSession) Put(ctx context.Context, f Frame) (int64, error) {
	if err := s.ready(ctx); err != nil {
		return 0, err
	}
	defer s.e.notePins(s)
	return s.e.put(s, f)
}

// Locate implements Session.
func (s *localSession) Locate(ctx context.Context, ids []ID) ([]Place, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.e.locate(ids)
}

// Read implements Session.
func (s *localSession) Read(ctx context.Context, v volume.ID, offset int64, n int) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if n < 0 || n > volume.MaxPayload+volume.HeaderSize {
		return nil, fmt.Errorf("read of %d bytes: too many", n)
	}
	file, err := s.e.files.Open(volumePath(s.e.dir, v))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b := make([]byte, n)
	if _, err := file.ReadAt(b, offset); err != nil {
		return nil, fmt.Errorf("volume %s at %d: %w", v, offset, err)
	}
	return b, nil
}

// Commit implements Session.
func (s *localSession) Commit(ctx context.Context, c Commit) (Snapshot, error) {
	if err := s.ready(ctx); err != nil {
		return Snapshot{}, err
	}
	return s.e.commit(s, c)
}

// Append implements Session.
func (s *localSession) Append(ctx context.Context, facts []FactBody) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if slices.ContainsFunc(facts, needsSync) {
		if err := s.e.syncBefore(); err != nil {
			return err
		}
	}
	err := s.e.appendAs(ctx, s, func() ([]FactBody, error) {
		if err := s.failure(); err != nil { // what the facts name may have been lost since
			return nil, err
		}
		return s.e.prepare(facts)
	})
	if errors.Is(err, ErrNotAdmin) {
		s.e.recordRefusal(s, factNames(facts))
	}
	if err == nil && slices.ContainsFunc(facts, isHold) {
		s.e.tryGuards(ctx, s.e.guardHeld)
	}
	return err
}

func isHold(f FactBody) bool { return f.Kind() == FactHold || f.Kind() == FactRelease }

// factNames says for people what facts would do.
func factNames(facts []FactBody) string {
	var names []string
	for _, f := range facts {
		names = append(names, f.Kind().String())
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// State implements Session.
func (s *localSession) State(ctx context.Context, since uint64) (*State, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if s.e.state.Seq == since && since != 0 {
		return nil, nil
	}
	return s.e.state, nil
}

// Wait implements Session.
func (s *localSession) Wait(ctx context.Context, since uint64) error {
	return s.e.waitState(ctx, since)
}

// Lock implements Session.
func (s *localSession) Lock(ctx context.Context, name, job string, wait bool) error {
	e := s.e
	for {
		if err := s.ready(ctx); err != nil {
			return err
		}
		e.mu.Lock()
		holder := e.locks[name]
		_, there := e.sessions[s]
		free := holder.session == nil || holder.session == s
		if free && there {
			e.locks[name] = namedLock{s, job}
		}
		unlocked := e.unlocked
		e.mu.Unlock()
		switch {
		case !there:
			return ErrClosed // nobody would give the lock back
		case free:
			return nil
		case !wait && !holder.session.gone():
			return &LockedError{Name: name, Job: holder.job}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-unlocked:
		}
	}
}

// gone reports whether the process the session works for has ended: its locks are about to be given back, as soon as
// the end of its connection has been noticed and what it asked for is done.
func (s *localSession) gone() bool {
	return s.pid > 0 && errors.Is(unix.Kill(s.pid, 0), unix.ESRCH)
}

// namedLock says which session has a lock, and for what job.
type namedLock struct {
	session *localSession
	job     string
}

// Unlock implements Session.
func (s *localSession) Unlock(_ context.Context, name string) error {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if s.e.locks[name].session == s {
		delete(s.e.locks, name)
		s.e.lockFreed()
	}
	return nil
}

// lockFreed wakes those who wait for a lock. Needs mu.
func (e *engine) lockFreed() {
	close(e.unlocked)
	e.unlocked = make(chan struct{})
}

// Pin implements Session.
func (s *localSession) Pin(ctx context.Context, snapshots []ID) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	return s.e.pin(s, snapshots)
}

// Unpin implements Session.
func (s *localSession) Unpin(ctx context.Context, snapshots []ID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.e.unpin(s, snapshots)
	return nil
}

// Rebuild implements Session.
func (s *localSession) Rebuild(ctx context.Context, progress func(RebuildProgress)) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if _, err := s.e.keepFacts(ctx, s, false); err != nil && !errors.Is(err, errCutOff) {
		return err
	}
	if err := s.e.rebuild(progress); err != nil {
		return err
	}
	s.e.tryGuards(ctx, s.e.keepGuards)
	return nil
}

// Stats implements Session.
func (s *localSession) Stats(ctx context.Context) (Stats, error) {
	if err := ctx.Err(); err != nil {
		return Stats{}, err
	}
	return s.e.stats()
}

// Damaged implements Session.
func (s *localSession) Damaged(ctx context.Context, found []DamagedFrame) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.e.noteDamage(ctx, found)
}

// DamagedBlobs implements Session.
func (s *localSession) DamagedBlobs(ctx context.Context) ([]ID, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.e.damagedBlobs()
}

// Prune implements Session.
func (s *localSession) Prune(ctx context.Context, o PruneOptions, progress func(PruneProgress)) (PruneResult, error) {
	if err := s.ready(ctx); err != nil {
		return PruneResult{}, err
	}
	return s.e.prune(ctx, s, o, progress)
}

// Upkeep implements Session.
func (s *localSession) Upkeep(ctx context.Context) (PruneResult, error) {
	if err := s.ready(ctx); err != nil {
		return PruneResult{}, err
	}
	return s.e.upkeep(ctx, s, upkeepBudget{})
}

// Close implements Session.
func (s *localSession) Close() error {
	if s.end() {
		s.e.endPins(s)
	}
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	s.e.dismiss(s)
	return nil
}

// leave ends the session here. What it pins stays, in the index as well, for the holder with which its client goes on.
func (s *localSession) leave() {
	s.e.notePins(s)
	left := &absentSession{process: processOf(s.process()), heard: s.e.now()}
	first := s.end()
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if first {
		left.pins = s.pins
		s.e.absent[s.id] = left // who prunes until the store is closed sees it
	}
	s.e.dismiss(s)
}

// end makes everything the session does from now on fail; false if it has ended before.
func (s *localSession) end() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := !s.ended
	s.ended = true
	return first
}

// dismiss forgets a session and gives its locks back. Needs mu.
func (e *engine) dismiss(s *localSession) {
	delete(e.sessions, s)
	for name, l := range e.locks {
		if l.session == s {
			delete(e.locks, name)
		}
	}
	e.lockFreed()
}
