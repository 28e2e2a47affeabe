package store

import (
	"context"
	"fmt"
	"sync"

	"snapfs/store/wire"
)

// Admin implements Session: a call that lasts as long as the session, through which the holder asks for signatures.
func (s *remoteSession) Admin(ctx context.Context, sign Signer) error {
	st, err := s.State(ctx, 0)
	if err != nil {
		return err
	}
	s.asked.grant(st.HoldTime)
	stream, cancel := context.WithCancel(context.WithoutCancel(ctx))
	granted, ended := make(chan struct{}), make(chan error, 1)
	c := &signingClient{session: s, sign: sign, granted: granted}
	s.admin.Go(func() {
		_, err := s.conn.Call(stream, wire.MethodAdmin, func(event []byte) error { return c.asked(stream, event) })
		ended <- fromWire(err)
	})
	select {
	case <-granted:
		s.mu.Lock()
		before := s.endAdmin
		s.endAdmin = cancel
		s.mu.Unlock()
		if before != nil {
			before()
		}
		return nil
	case err := <-ended:
		cancel()
		return err
	case <-ctx.Done():
		cancel()
		return ctx.Err()
	}
}

// signingClient answers what the holder asks for in one call of MethodAdmin.
type signingClient struct {
	session *remoteSession
	sign    Signer
	granted chan struct{} // closed when the holder grants admin rights
	once    sync.Once
	message []byte // the parts that have come
}

// signLimit bounds what the holder can make a client keep.
const signLimit = 256 << 20

func (c *signingClient) asked(ctx context.Context, event []byte) error {
	var part wire.SignPart
	if err := wire.Decode(event, &part); err != nil {
		return err
	}
	if part.Ticket == 0 {
		c.once.Do(func() { close(c.granted) })
		return nil
	}
	if len(c.message)+len(part.Data) > signLimit {
		return fmt.Errorf("%w: too much to be signed", wire.ErrMessage)
	}
	c.message = append(c.message, part.Data...)
	if part.More {
		return nil
	}
	reply := &wire.Signature{Ticket: part.Ticket}
	err := c.session.asked.check(c.message, c.session.now())
	if err == nil {
		reply.Signature, err = c.sign(c.message)
	}
	reply.Refused = err != nil
	c.message = nil
	return c.session.call(ctx, wire.MethodSign, reply, &wire.Empty{})
}
