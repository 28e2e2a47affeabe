package store

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"snapfs/store/seal"
)

// Signer returns the admin key's signature under a message: seal.Bundle.Sign of a bundle that an admin slot opened.
type Signer func(message []byte) ([]byte, error)

// adminChallenge begins what a session signs to show that it has the admin key; no fact begins like this.
const adminChallenge = "snapfs 1 admin session\x00"

// Admin implements Session.
func (s *localSession) Admin(ctx context.Context, sign Signer) error {
	return s.grant(ctx, func(_ context.Context, message []byte) ([]byte, error) { return sign(message) })
}

// grant gives the session admin rights if sign signs with the store's admin key (ErrNotAdmin).
func (s *localSession) grant(ctx context.Context, sign signFunc) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if s.e.bundle.AppendOnly() == nil {
		return nil // there is nothing to be allowed
	}
	challenge := append([]byte(adminChallenge), make([]byte, 32)...)
	_, _ = rand.Read(challenge[len(adminChallenge):]) // never fails: see crypto/rand
	if _, err := s.e.checkedSignature(ctx, sign, challenge); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sign = sign
	return nil
}

// withdraw takes the admin rights away.
func (s *localSession) withdraw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sign = nil
}

// signer signs for the session; nil: it has no admin rights.
func (s *localSession) signer() signFunc {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sign
}

// checkedSignature asks for a signature and makes sure that it is the admin key's.
func (e *engine) checkedSignature(ctx context.Context, sign signFunc, message []byte) ([]byte, error) {
	signature, err := sign(ctx, message)
	if err != nil {
		return nil, err
	}
	if !ed25519.Verify(e.bundle.AppendOnly(), message, signature) {
		return nil, fmt.Errorf("the signature is not the admin key's: %w", ErrNotAdmin)
	}
	return signature, nil
}

// canDrop reports whether the session may take anything away from the store: always in an ordinary one, with admin
// rights in an append-only one.
func (e *engine) canDrop(s *localSession) bool {
	return e.bundle.AppendOnly() == nil || s.signer() != nil
}

// mayDrop is canDrop for what somebody asked for: an attempt without admin rights is recorded and ErrNotAdmin.
func (e *engine) mayDrop(s *localSession, what string) error {
	if e.canDrop(s) {
		return nil
	}
	e.recordRefusal(s, what)
	return fmt.Errorf("%s: %w", what, errAppendOnly)
}

// refusalPause is how often refused attempts are recorded at most: nobody shall fill the journal with them.
const refusalPause = time.Minute

// recordRefusal notes in the journal that a session tried what only an admin may.
func (e *engine) recordRefusal(s *localSession, what string) {
	job := ""
	if s != nil {
		job = s.job
	}
	e.log.Info("refused without admin rights", "what", what, "job", job)
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	e.refusals++
	now := e.now()
	if since := now.Sub(e.refusedAt); since >= 0 && since < refusalPause || e.isClosed() {
		return
	}
	err := e.appendFacts([]FactBody{&refusedFact{what: what, job: job, at: now, attempts: e.refusals}})
	if err != nil {
		e.log.Warn("refused attempt not recorded", "err", err)
		return
	}
	e.refusedAt, e.refusals = now, 0
}

// AppendOnly reports whether the store is append-only.
func (s *Store) AppendOnly() bool { return s.bundle.AppendOnly() != nil }

// MayRemove reports whether this Store may take something away: always from an ordinary store, with admin rights from an append-only one.
func (s *Store) MayRemove() bool { return !s.AppendOnly() || s.adminBundle() != nil }

// UnlockAdmin gives this Store admin rights, with a secret of an admin slot; of use in append-only stores, and for making
// further admin slots. Errors: ErrWrongSecret, ErrNoSlot and others of unlocking.
func (s *Store) UnlockAdmin(ctx context.Context, unlock seal.Unlocker) error {
	if s.adminBundle() != nil {
		return nil
	}
	bundle, err := seal.OpenAdmin(ctx, filepath.Join(s.path, keysName), unlock)
	if err != nil {
		return err
	}
	if bundle.Set() != s.bundle.Set() {
		return fmt.Errorf("%s: %w", s.path, ErrForeignKeys)
	}
	if !bundle.Admin() {
		return fmt.Errorf("%s: %w", s.path, errors.Join(ErrDamagedBundle, ErrNotAdmin))
	}
	return s.becomeAdmin(ctx, bundle)
}

func (s *Store) becomeAdmin(ctx context.Context, bundle *seal.Bundle) error {
	if err := s.session.Admin(ctx, bundle.Sign); err != nil {
		return err
	}
	s.admin.Store(bundle)
	return nil
}

// adminBundle is the bundle with admin keys, nil if no admin slot was opened.
func (s *Store) adminBundle() *seal.Bundle { return s.admin.Load() }
