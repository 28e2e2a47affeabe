package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Conn is the calling end of a connection. Any number of calls may be under way at once.
type Conn struct {
	link    *link
	workers sync.WaitGroup

	mu    sync.Mutex
	calls map[uint32]chan answer // nil when the connection is over
	last  uint32
}

// answer is a frame for a call.
type answer struct {
	kind frameType
	body []byte
	cost int64
}

// NewConn greets the peer and returns a connection that owns stream. Errors: ErrVersion, ErrProtocol,
// ErrConnLost, and ctx's; the stream is closed then. The caller must Close it.
func NewConn(ctx context.Context, stream io.ReadWriteCloser) (*Conn, error) {
	c := &Conn{link: newLink(stream), calls: map[uint32]chan answer{}}
	if err := c.link.greet(ctx); err != nil {
		return nil, err
	}
	c.workers.Go(c.link.sendControl)
	c.workers.Go(c.read)
	return c, nil
}

// Close ends the connection; calls under way return ErrConnLost.
func (c *Conn) Close() error {
	c.link.fail(ErrConnLost)
	c.workers.Wait()
	return nil
}

// Lost is closed when the connection is over, whoever ended it.
func (c *Conn) Lost() <-chan struct{} { return c.link.down }

// Call sends a request, given in parts, and returns the response, which the caller owns. onEvent gets each
// event of the call before Call returns, in order; it may keep what it gets; nil ignores events. If it fails, the call is cancelled with
// its error. If ctx ends, Call returns its error at once, and the handler's context ends soon. Other errors:
// *Error, ErrConnLost, ErrTooLarge. parts may be used again when Call returns.
func (c *Conn) Call(ctx context.Context, method Method, onEvent func([]byte) error, parts ...[]byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err // an answer might be quicker than noticing
	}
	id, answers, err := c.register()
	if err != nil {
		return nil, err
	}
	defer c.unregister(id, answers)
	if err := c.link.sendMessage(ctx, header{kind: frameRequest, method: method, call: id}, parts...); err != nil {
		return nil, c.why(err)
	}
	for {
		select {
		case a := <-answers:
			body, over, err := c.take(id, a, onEvent)
			if over {
				return body, err
			}
			if err != nil {
				c.link.queue(header{kind: frameCancel, call: id})
				return nil, err
			}
		case <-ctx.Done():
			c.link.queue(header{kind: frameCancel, call: id})
			return nil, ctx.Err()
		case <-c.link.down:
			return c.afterDown(id, answers, onEvent)
		}
	}
}

// afterDown looks whether the response came before the end did.
func (c *Conn) afterDown(id uint32, answers chan answer, onEvent func([]byte) error) ([]byte, error) {
	for {
		select {
		case a := <-answers:
			if body, over, err := c.take(id, a, onEvent); over {
				return body, err
			}
		default:
			return nil, c.why(ErrConnLost)
		}
	}
}

// why gives the reason for the end of the connection, where that is what err is.
func (c *Conn) why(err error) error {
	if !errors.Is(err, ErrConnLost) {
		return err
	}
	select {
	case <-c.link.down:
		return lost(c.link.err)
	default:
		return err
	}
}

// take deals with one answer: an event, or the end of the call.
func (c *Conn) take(id uint32, a answer, onEvent func([]byte) error) (body []byte, over bool, err error) {
	defer c.link.received.done(a.cost)
	switch a.kind {
	case frameResponse:
		return a.body, true, nil
	case frameFailure:
		e := new(Error)
		if err := Decode(a.body, e); err != nil {
			return nil, true, err
		}
		return nil, true, e
	}
	if onEvent != nil {
		err = onEvent(a.body)
	}
	c.link.queue(header{kind: frameAck, call: id})
	return nil, false, err
}

func (c *Conn) register() (uint32, chan answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == nil {
		return 0, nil, lost(c.link.err)
	}
	for {
		c.last++
		if _, used := c.calls[c.last]; !used && c.last != 0 {
			break
		}
	}
	// Room for all a peer may send, so that the reader never waits for a caller.
	answers := make(chan answer, eventsPerCall+1)
	c.calls[c.last] = answers
	return c.last, answers, nil
}

// unregister gives back what came after the caller had left.
func (c *Conn) unregister(id uint32, answers chan answer) {
	c.mu.Lock()
	delete(c.calls, id)
	c.mu.Unlock()
	for {
		select {
		case a := <-answers:
			c.link.received.done(a.cost)
		default:
			return
		}
	}
}

// read hands answers to their calls until the connection is over.
func (c *Conn) read() {
	err := c.readAnswers()
	if errors.Is(err, io.EOF) {
		err = ErrConnLost
	}
	c.link.fail(lost(err))
	c.mu.Lock()
	c.calls = nil
	c.mu.Unlock()
}

func (c *Conn) readAnswers() error {
	for {
		h, err := c.link.next()
		if err != nil {
			return err
		}
		switch h.kind {
		case frameEvent, frameResponse, frameFailure:
		default:
			return fmt.Errorf("%w: a server sent a frame of type %d", ErrProtocol, h.kind)
		}
		body := make([]byte, h.length)
		if err := c.link.payload(body); err != nil {
			return err
		}
		if err := c.deliver(h, body); err != nil {
			return err
		}
	}
}

// deliver hands over an answer under the lock, so that unregister finds all that came.
func (c *Conn) deliver(h header, body []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	answers, ok := c.calls[h.call]
	if !ok {
		c.link.received.done(h.cost()) // cancelled
		return nil
	}
	select {
	case answers <- answer{h.kind, body, h.cost()}:
		return nil
	default:
		return fmt.Errorf("%w: too many answers to a call", ErrProtocol)
	}
}
