package store

import (
	"context"
	"errors"
	"slices"
	"sync"

	"snapfs/store/wire"
)

// adminPartSize is how much of a message to be signed goes into one event.
const adminPartSize = 4 << 20

// asker asks the process at the other end of a connection for signatures, by events of its call of MethodAdmin.
type asker struct {
	call *wire.Request
	ctx  context.Context // of that call

	sending sync.Mutex // events are sent one after the other

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan *wire.Signature
}

// errNoSignature: the client does not sign that.
var errNoSignature = errors.New("the session with admin rights does not sign this")

// sign is the signFunc of the session.
func (a *asker) sign(ctx context.Context, message []byte) ([]byte, error) {
	answer := make(chan *wire.Signature, 1)
	a.mu.Lock()
	a.last++
	ticket := a.last
	a.waiting[ticket] = answer
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.waiting, ticket)
		a.mu.Unlock()
	}()
	if err := a.emit(ctx, ticket, message); err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-a.ctx.Done():
		return nil, a.ctx.Err()
	case s := <-answer:
		if s.Refused {
			return nil, errNoSignature
		}
		return s.Signature, nil
	}
}

func (a *asker) emit(ctx context.Context, ticket uint64, message []byte) error {
	a.sending.Lock()
	defer a.sending.Unlock()
	for {
		n := min(len(message), adminPartSize)
		part := &wire.SignPart{Ticket: ticket, More: n < len(message), Data: message[:n]}
		if err := a.call.Emit(ctx, wire.Encode(part)...); err != nil || !part.More {
			return err
		}
		message = message[n:]
	}
}

// answered hands a signature to whoever waits for it.
func (a *asker) answered(s *wire.Signature) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if answer := a.waiting[s.Ticket]; answer != nil {
		delete(a.waiting, s.Ticket) // a second answer finds nobody
		answer <- &wire.Signature{Refused: s.Refused, Signature: slices.Clone(s.Signature)}
	}
}

// admin answers MethodAdmin: the session has admin rights until the call is cancelled.
func (p *peer) admin(ctx context.Context, session Session, r *wire.Request) ([][]byte, error) {
	local, ok := session.(*localSession)
	if !ok {
		return nil, wire.UnknownMethod(r.Method)
	}
	a := &asker{call: r, ctx: ctx, waiting: map[uint64]chan *wire.Signature{}}
	p.mu.Lock()
	p.asker = a
	p.mu.Unlock()
	if err := local.grant(ctx, a.sign); err != nil {
		return nil, toWire(err)
	}
	defer local.withdraw()
	if err := a.emit(ctx, 0, nil); err != nil {
		return nil, err
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// signed answers MethodSign.
func (p *peer) signed(r *wire.Request) ([][]byte, error) {
	return answer(r, func(m *wire.Signature) (*wire.Empty, error) {
		p.mu.Lock()
		a := p.asker
		p.mu.Unlock()
		if a != nil {
			a.answered(m)
		}
		return &wire.Empty{}, nil
	})
}
