package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Request is one call as its handler sees it.
type Request struct {
	Method Method
	Body   []byte // valid until the handler returns

	call     *call
	reserved int64 // of what the peer lets this side send, for the response
}

// Reserve waits until there is room on the connection for a response of n bytes. A handler that is about to make a large one asks for it first, so that
// a peer that asks for much and takes nothing fills no memory. At most once a request.
func (r *Request) Reserve(ctx context.Context, n int) error {
	h := header{length: uint32(n)}
	if r.call == nil || n > MaxPayload {
		return nil // nothing of it will be sent
	}
	l := r.call.server.link
	if err := l.send.take(ctx, h.cost(), l.down); err != nil {
		return err
	}
	r.reserved = h.cost()
	return nil
}

// Emit sends an event of the call, given in parts that may be used again when it returns. It waits while the
// caller is behind; errors mean that nobody listens any more. Not safe for concurrent use.
func (r *Request) Emit(ctx context.Context, parts ...[]byte) error { return r.call.emit(ctx, parts) }

// Handler answers a call with a response in parts. ctx ends when the caller cancels or the connection ends.
// An error that is an *Error travels as it is, any other as its text. It is called for many calls at once.
type Handler func(ctx context.Context, r *Request) (response [][]byte, err error)

// grace is how long handlers and answers may take when the server ends, before the connection is cut.
const grace = 2 * time.Second

// Serve answers calls on stream, which it closes, until the peer closes it (nil), it breaks (ErrConnLost), the peer
// breaks the protocol (ErrProtocol, ErrVersion), or ctx ends (nil): then running handlers see their context end, what they answer is still sent, and
// the peer takes failures for ErrConnLost. Nothing runs any more when it returns.
func Serve(ctx context.Context, stream io.ReadWriteCloser, handler Handler) error {
	s := &server{link: newLink(stream), handler: handler, calls: map[uint32]*call{}}
	if err := s.link.greet(ctx); err != nil {
		return err
	}
	s.ctx, s.cancel = context.WithCancel(ctx)
	defer s.cancel()
	var control sync.WaitGroup
	control.Go(s.link.sendControl)
	drained := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(drained)
		s.drain()
	})
	err := s.read()
	s.cancel()
	if !stop() {
		<-drained
		err = nil
	}
	s.link.fail(lost(err))
	s.handlers.Wait()
	control.Wait()
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return nil
	case errors.Is(err, ErrProtocol):
		return err
	}
	return lost(err)
}

// server is the answering end of a connection.
type server struct {
	link     *link
	handler  Handler
	ctx      context.Context
	cancel   context.CancelFunc
	handlers sync.WaitGroup
	buffers  buffers

	mu    sync.Mutex
	calls map[uint32]*call
	ended bool // no new calls
}

// call is one call under way.
type call struct {
	server *server
	id     uint32
	method Method
	cancel context.CancelFunc
	events chan struct{} // a token for each event that is not acknowledged
}

// drain lets running handlers answer, then cuts the connection.
func (s *server) drain() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	idle := make(chan struct{})
	go func() {
		s.handlers.Wait()
		close(idle)
	}()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
	case <-s.link.down:
	}
	s.link.fail(ErrConnLost)
	<-idle
}

// read starts a handler for each request until the connection is over.
func (s *server) read() error {
	for {
		h, err := s.link.next()
		if err != nil {
			return err
		}
		switch h.kind {
		case frameRequest:
			err = s.request(h)
		case frameCancel:
			if c := s.find(h.call); c != nil {
				c.cancel()
			}
		case frameAck:
			err = s.acknowledge(h.call)
		default:
			err = fmt.Errorf("%w: a client sent a frame of type %d", ErrProtocol, h.kind)
		}
		if err != nil {
			return err
		}
	}
}

func (s *server) find(id uint32) *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[id]
}

// acknowledge frees the place of an event. The call may be over already.
func (s *server) acknowledge(id uint32) error {
	c := s.find(id)
	if c == nil {
		return nil
	}
	select {
	case <-c.events:
		return nil
	default:
		return fmt.Errorf("%w: more acknowledged than was sent", ErrProtocol)
	}
}

func (s *server) request(h header) error {
	buf := s.buffers.get(int(h.length))
	if err := s.link.payload(buf); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(s.ctx)
	c := &call{server: s, id: h.call, method: h.method, cancel: cancel, events: make(chan struct{}, eventsPerCall)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		cancel()
		return nil // the connection is about to be cut
	}
	if _, used := s.calls[h.call]; used {
		cancel()
		return fmt.Errorf("%w: call %d twice", ErrProtocol, h.call)
	}
	s.calls[h.call] = c
	s.handlers.Go(func() {
		defer cancel()
		c.run(ctx, buf, h.cost())
	})
	return nil
}

// run handles the call and sends its answer.
func (c *call) run(ctx context.Context, buf []byte, cost int64) {
	s := c.server
	r := &Request{Method: c.method, Body: buf, call: c}
	response, err := s.handler(ctx, r)
	defer s.link.received.done(cost)
	defer s.buffers.put(buf) // after the answer: it may be made of the request
	s.mu.Lock()
	delete(s.calls, c.id)
	s.mu.Unlock()
	// Not ctx: every request gets its answer, whoever cancelled what. A broken connection ends the wait.
	if err == nil {
		err = s.link.sendReserved(context.Background(), r.reserved, header{kind: frameResponse, call: c.id}, response...)
		if !errors.Is(err, ErrTooLarge) {
			return
		}
	}
	e := asError(err)
	switch {
	case s.ctx.Err() != nil && (errors.Is(err, context.Canceled) || e.Code == CodeText):
		e = &Error{Code: CodeEnding, Text: "the other side is ending"}
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		e = &Error{Code: CodeCanceled, Text: err.Error()}
	}
	s.link.sendReserved(context.Background(), r.reserved, header{kind: frameFailure, call: c.id}, Encode(e)...)
}

func (c *call) emit(ctx context.Context, parts [][]byte) error {
	l := c.server.link
	select {
	case c.events <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-l.down:
		return ErrConnLost
	}
	err := l.sendMessage(ctx, header{kind: frameEvent, call: c.id}, parts...)
	if err != nil {
		<-c.events // nobody will acknowledge it
	}
	return err
}

// UnknownMethod is what a handler answers to methods it does not have.
func UnknownMethod(m Method) error {
	return &Error{Code: CodeUnknownMethod, Text: fmt.Sprintf("method %d is not known to the other side", m)}
}
