package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"time"

	"snapfs/store/seal"
	"snapfs/store/wire"
)

// attachment is a way into the store that outlasts the process that holds it.
type attachment struct {
	session Session
	bundle  *seal.Bundle
	end     func() error // closes the session, and a holder's store
}

// attach holds the store or reaches its holder.
func attach(ctx context.Context, dir string, o Options) (*attachment, error) {
	s := newLastingSession(dir, o)
	s.life = ctx
	if _, err := s.find(ctx); err != nil {
		return nil, err
	}
	return &attachment{session: s, bundle: s.bundle, end: s.Close}, nil
}

// way is how a lastingSession reaches the store at the moment.
type way struct {
	session Session
	bundle  *seal.Bundle
	settled <-chan struct{}                                   // new locks wait for it; nil: somebody else sees to that
	resume  func(ctx context.Context, name, job string) error // takes a lock that the session had before
	goOn    func(ctx context.Context) error                   // refuses a session that relies on what nobody knows any more
	server  *server                                           // of a holder
	keeper  *keeper                                           // of a holder
	drop    func() error                                      // instead of end, when the holder has ended; nil if this process holds the store
	lost    <-chan struct{}                                   // closed when the holder has ended; nil if this process holds the store
	end     func() error
}

// patience is how long the store may be locked by a process that does not let itself be reached.
const patience = 10 * time.Second

// slowHolder is after how long people are told for whom they wait.
const slowHolder = 3 * time.Second

// Pauses between attempts to hold the store or reach its holder.
const (
	firstPause = 2 * time.Millisecond
	lastPause  = 200 * time.Millisecond
)

// connect holds the store or reaches its holder, trying again while the holder is just coming or going (ErrHeld
// after patience). A holder that takes long to open or close the store is waited for: it lets others connect meanwhile.
func (s *lastingSession) connect(ctx context.Context) (*way, error) {
	deadline := s.now().Add(s.patience)
	for wait := firstPause; ; wait = min(2*wait, lastPause) {
		w, reached, err := s.tryOnce(ctx)
		if reached {
			deadline = s.now().Add(s.patience)
		}
		switch {
		case err == nil:
			return w, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case s.bundle != nil && errors.Is(err, fs.ErrNotExist): // no secret is missing; and it must never look like an absent name of a directory
			return nil, fmt.Errorf("%s: %w: %v", s.dir, ErrNoStore, err)
		case !errors.Is(err, errLocked):
			return nil, err
		case s.now().After(deadline):
			return nil, fmt.Errorf("%s: %w", s.dir, ErrHeld)
		}
		pause(ctx, wait)
	}
}

// tryOnce returns errLocked if there is a holder that could not be reached; reached tells that it could, for a while.
func (s *lastingSession) tryOnce(ctx context.Context) (w *way, reached bool, err error) {
	conn, err := dialStore(ctx, s.dir)
	if err == nil {
		w, err := s.reach(ctx, conn)
		return w, true, err
	}
	if errors.Is(err, ErrNotOwner) {
		return nil, false, errors.Join(ErrHeld, err)
	}
	if s.options.Direct {
		return nil, false, errLocked
	}
	if s.bundle == nil {
		if err := s.unlockKeys(ctx); err != nil {
			return nil, false, err
		}
	}
	w, err = s.hold(ctx)
	return w, false, err
}

// reach begins a session with the process at the other end.
func (s *lastingSession) reach(ctx context.Context, stream *net.UnixConn) (*way, error) {
	slow := time.AfterFunc(s.slow, func() {
		if peer, err := peerOf(stream); err == nil {
			s.options.Log.Warn("waiting for the process that holds the store", "store", s.dir, "pid", peer.Pid)
		}
	})
	defer slow.Stop()
	conn, err := wire.NewConn(ctx, stream)
	if err == nil {
		hello := wire.Hello{Session: s.id, Job: s.options.Job, Program: s.options.Program}
		var session *remoteSession
		var bundle *seal.Bundle
		if session, bundle, err = newRemoteSession(ctx, conn, hello, s.options.Now); err == nil {
			return &way{
				session: session, bundle: bundle, resume: session.resume, goOn: session.goOn, lost: conn.Lost(), drop: session.drop, end: session.Close,
			}, nil
		}
	}
	switch {
	case errors.Is(err, wire.ErrConnLost): // it has ended, or is about to
		return nil, errLocked
	case errors.Is(err, wire.ErrVersion), errors.Is(err, wire.ErrProtocol):
		return nil, errors.Join(ErrHeld, err)
	}
	return nil, err
}

// unlockKeys asks for the secret before the store is locked, so that nobody has to wait for whoever types it.
func (s *lastingSession) unlockKeys(ctx context.Context) error {
	files, err := filesFor(s.dir)
	if err != nil {
		return err
	}
	lock, _, err := takeLock(s.dir, files)
	if err != nil {
		return err
	}
	if err := lock.release(); err != nil {
		return err
	}
	s.bundle, err = seal.Open(ctx, filepath.Join(s.dir, keysName), s.options.Unlock)
	return err
}

// hold makes this process the holder; errLocked if another one is.
func (s *lastingSession) hold(ctx context.Context) (*way, error) {
	srv := &server{dir: s.dir, program: s.options.Program, log: s.options.Log}
	e, err := openEngine(ctx, s.dir, s.options, s.bundle, srv.listen)
	if err != nil {
		return nil, errors.Join(err, srv.release())
	}
	e.lock.last = srv.unlink
	e.keepSpare()
	srv.start(e.bundle, s.comeBack, func(id [16]byte, job string, pid int) Session {
		return e.newSessionOf(id, job, pid)
	})
	local := e.newSessionOf(s.id, s.options.Job, 0)
	k := e.startKeeper(s.life)
	return &way{
		session: local,
		bundle:  e.bundle,
		settled: srv.settled,
		server:  srv,
		keeper:  k,
		goOn:    local.goOn,
		resume:  func(ctx context.Context, name, job string) error { return local.Lock(ctx, name, job, false) },
		end: func() error {
			err := local.Close()
			k.part(local.wrote())
			return errors.Join(err, srv.stop(), e.close(), srv.release())
		},
	}, nil
}
