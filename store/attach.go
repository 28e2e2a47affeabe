package store

import (
	"context"
	"errors"

	"snapfs/store/seal"
)

// attachment is a way into the store: as its holder, or through it.
type attachment struct {
	session Session
	bundle  *seal.Bundle
	end     func() error // closes the session, and a holder's store
}

// attach holds the store or reaches its holder.
func attach(ctx context.Context, dir string, o Options) (*attachment, error) {
	e, err := openEngine(ctx, dir, o, nil, nil)
	if errors.Is(err, errLocked) {
		return nil, ErrHeld
	}
	if err != nil {
		return nil, err
	}
	s := e.newSession(o.Job)
	return &attachment{session: s, bundle: e.bundle, end: func() error { return errors.Join(s.Close(), e.close()) }}, nil
}
