package wire

import (
	"context"
	"fmt"
	"sync"
)

// budget is how much the peer still lets this side send. Waiters are served in order, so that a large
// message is not starved by small ones. Safe for concurrent use.
type budget struct {
	mu      sync.Mutex
	left    int64
	waiters []*waiter
}

type waiter struct {
	need  int64
	ready chan struct{}
}

// take waits until need is there, or ctx or the connection ends.
func (b *budget) take(ctx context.Context, need int64, down <-chan struct{}) error {
	b.mu.Lock()
	if len(b.waiters) == 0 && b.left >= need {
		b.left -= need
		b.mu.Unlock()
		return nil
	}
	w := &waiter{need: need, ready: make(chan struct{})}
	b.waiters = append(b.waiters, w)
	b.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		b.leave(w)
		return ctx.Err()
	case <-down:
		b.leave(w)
		return ErrConnLost
	}
}

// leave gives up waiting, or gives back what came at the same moment.
func (b *budget) leave(w *waiter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, other := range b.waiters {
		if other == w {
			b.waiters = append(b.waiters[:i], b.waiters[i+1:]...)
			b.serve()
			return
		}
	}
	b.left += w.need
	b.serve()
}

// put gives back what was taken and not used.
func (b *budget) put(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += n
	b.serve()
}

// add gives back n; more than was taken breaks the protocol.
func (b *budget) add(n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left += n; b.left > window {
		return fmt.Errorf("%w: credit for more than was sent", ErrProtocol)
	}
	b.serve()
	return nil
}

func (b *budget) serve() {
	for len(b.waiters) > 0 && b.waiters[0].need <= b.left {
		b.left -= b.waiters[0].need
		close(b.waiters[0].ready)
		b.waiters = b.waiters[1:]
	}
}

// account is what the peer has under way here, and what it is owed. Safe for concurrent use.
type account struct {
	mu    sync.Mutex
	used  int64 // received, and its credit not yet sent
	owed  int64 // dealt with, and its credit not yet sent
	ready chan struct{}
}

// creditStep is how much is gathered before a credit is sent: the rest of the window still takes a message.
const creditStep = window / 8

// receive notes a message that came; more than the window breaks the protocol.
func (a *account) receive(cost int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.used += cost; a.used > window {
		return fmt.Errorf("%w: more than %d bytes under way", ErrProtocol, window)
	}
	return nil
}

// done notes that a message was dealt with and its memory is free.
func (a *account) done(cost int64) {
	a.mu.Lock()
	a.owed += cost
	full := a.owed >= creditStep
	a.mu.Unlock()
	if full {
		wake(a.ready)
	}
}

// due returns the credit to send now.
func (a *account) due() uint32 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.owed < creditStep {
		return 0
	}
	n := a.owed
	a.owed, a.used = 0, a.used-n
	return uint32(n)
}

func wake(ready chan struct{}) {
	select {
	case ready <- struct{}{}:
	default:
	}
}
