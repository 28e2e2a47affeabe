package store

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"snapfs/store/seal"
	"snapfs/store/wire"
)

// server lets other processes of root and the store's owner share the store that this process holds.
type server struct {
	dir      string
	program  string
	log      *slog.Logger
	listener *net.UnixListener
	stale    bool // somebody listened before and did not leave in order: clients may come back
	settled  chan struct{}

	open   func(id [16]byte, job string, pid int) Session
	bundle *seal.Bundle
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	deserted bool // nobody else was here when it stopped

	mu       sync.Mutex
	sessions int
}

// comeBack is how long a new holder keeps locks for the clients of the one before, if it had any: they notice its end at
// once and only have to connect.
const comeBack = 500 * time.Millisecond

// listen is the first half of serving, as soon as the store is locked: who connects from now on waits until it is
// open, however long that takes.
func (s *server) listen() (err error) {
	s.listener, s.stale, err = listenStore(s.dir)
	return err
}

// start answers those who connect. If there was a holder with clients before, they have so long to come back.
func (s *server) start(bundle *seal.Bundle, comeBack time.Duration, open func(id [16]byte, job string, pid int) Session) {
	s.bundle, s.open, s.settled = bundle, open, make(chan struct{})
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if s.stale {
		time.AfterFunc(comeBack, func() { close(s.settled) })
	} else {
		close(s.settled)
	}
	if s.listener != nil {
		s.work.Go(s.accept)
	}
}

func (s *server) accept() {
	for s.ctx.Err() == nil {
		conn, err := s.listener.AcceptUnix()
		if err != nil {
			if s.ctx.Err() == nil {
				s.log.Warn("no connection can be taken on the socket of the store", "err", err)
				pause(s.ctx, 100*time.Millisecond) // out of descriptors: others may come free
			}
			continue
		}
		if err := checkPeer(conn, s.dir); err != nil {
			s.log.Warn("connection refused", "err", err)
			conn.Close()
			continue
		}
		s.work.Go(func() {
			if err := s.serve(conn); err != nil && !errors.Is(err, wire.ErrConnLost) {
				s.log.Warn("connection ended", "err", err)
			}
		})
	}
}

// pause waits for a while, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// stop ends the sessions of others; what is under way is still answered. They find out, and who comes now waits, until
// release.
func (s *server) stop() error {
	if s.listener == nil {
		s.cancel()
		return nil
	}
	s.mu.Lock()
	s.deserted = s.sessions == 0
	s.mu.Unlock()
	s.cancel()
	err := stopAccepting(s.listener)
	s.work.Wait()
	return err
}

// unlink removes the socket just before the store is unlocked. One that had clients stays in place: it tells the next
// holder that they may come back.
func (s *server) unlink() error {
	if s.listener == nil || !s.deserted {
		return nil
	}
	return os.Remove(filepath.Join(s.dir, socketName))
}

// release lets those go who wait at the socket; the store must have been unlocked.
func (s *server) release() error {
	if s.listener == nil {
		return nil
	}
	return s.listener.Close()
}

// serve answers one connection until it ends.
func (s *server) serve(conn *net.UnixConn) error {
	p := &peer{server: s}
	if cred, err := peerOf(conn); err == nil {
		p.pid = int(cred.Pid)
	}
	defer p.part()
	return wire.Serve(s.ctx, conn, p.handle)
}

// peer is the other end of a connection; it has at most one session.
type peer struct {
	server *server
	pid    int // 0 if not known

	mu      sync.Mutex
	session Session
	asker   *asker // nil: no admin rights were asked for
	over    bool
}

// errNoHello and errTwice: calls out of order, which a correct client never makes.
var (
	errNoHello = &wire.Error{Code: wire.CodeMessage, Text: "there is no session yet"}
	errTwice   = &wire.Error{Code: wire.CodeMessage, Text: "there is a session already"}
)

// hello begins the session.
func (p *peer) hello(m *wire.Hello) (*wire.Welcome, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session != nil || p.over {
		return nil, errTwice
	}
	s := p.server
	p.session = s.open(m.Session, m.Job, cmp.Or(p.pid, unknownPID))
	s.mu.Lock()
	s.sessions++
	s.mu.Unlock()
	s.log.Debug("session begins", "session", hex.EncodeToString(m.Session[:]), "job", m.Job, "program", m.Program)
	return &wire.Welcome{Program: s.program, Bundle: s.bundle.Marshal()}, nil
}

// close ends the session if there is one.
func (p *peer) close() error {
	if session := p.take(); session != nil {
		return session.Close()
	}
	return nil
}

// part is close for a connection that is over. One that this process has ended, as it lets the store go, ends no session: the client
// goes on with the next holder, and relies on what it was told here.
func (p *peer) part() error {
	stopped := p.server.ctx.Err() != nil
	session := p.take()
	if left, ok := session.(*localSession); ok && stopped {
		left.leave()
		return nil
	}
	if session == nil {
		return nil
	}
	return session.Close()
}

// take is the session, if there is one, for whoever ends it.
func (p *peer) take() Session {
	p.mu.Lock()
	session := p.session
	p.session, p.over = nil, true
	p.mu.Unlock()
	if session != nil {
		p.server.mu.Lock()
		p.server.sessions--
		p.server.mu.Unlock()
	}
	return session
}

func (p *peer) current() (Session, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session == nil {
		return nil, errNoHello
	}
	return p.session, nil
}

// handle answers one call.
func (p *peer) handle(ctx context.Context, r *wire.Request) ([][]byte, error) {
	switch r.Method {
	case wire.MethodHello:
		return answer(r, p.hello)
	case wire.MethodBye:
		return wire.Encode(&wire.Empty{}), p.close()
	}
	session, err := p.current()
	if err != nil {
		return nil, err
	}
	switch r.Method {
	case wire.MethodLock:
		return p.lock(ctx, session, r)
	case wire.MethodAdmin:
		return p.admin(ctx, session, r)
	case wire.MethodSign:
		return p.signed(r)
	}
	response, err := handleSession(ctx, session, r)
	if err != nil {
		return nil, toWire(err)
	}
	return response, nil
}

// lock keeps new locks back while clients of the holder before may come for theirs.
func (p *peer) lock(ctx context.Context, s Session, r *wire.Request) ([][]byte, error) {
	return answer(r, func(m *wire.Lock) (*wire.Empty, error) {
		if !m.Resume {
			select {
			case <-p.server.settled:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return &wire.Empty{}, s.Lock(ctx, m.Name, m.Job, m.Wait)
	})
}

// answer decodes a request, and encodes what f makes of it.
func answer[Request, Response any, R message[Request], A message[Response]](
	r *wire.Request, f func(R) (A, error),
) ([][]byte, error) {
	var request R = new(Request)
	if err := wire.Decode(r.Body, request); err != nil {
		return nil, err
	}
	response, err := f(request)
	if err != nil {
		return nil, toWire(err)
	}
	return wire.Encode(response), nil
}

// message is a pointer that is a wire.Message.
type message[T any] interface {
	*T
	wire.Message
}
