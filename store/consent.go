package store

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"time"
)

// An admin's client signs what the holder of the store makes of its wishes, in another process. So it looks at each fact before: only
// what it has just asked for is signed. What volumes a prune or repair drops, and what a checkpoint adds up to, the holder alone can
// know; that is believed while one of them was asked for, and at no other time.

// consent is what one call of a session allows to be signed.
type consent struct {
	kinds     []FactKind
	snapshots map[ID]bool // that forgets, releases and purges may name
}

// consents are those of the calls under way. Safe for concurrent use.
type consents struct {
	mu       sync.Mutex
	list     []*consent
	greeted  bool      // the challenge of the present grant has been signed
	hold     time.Time // hold time when the rights were asked for
	refusals []error   // since a call began
}

// UnaskedError says that the holder of the store wanted something signed that was not asked for.
type UnaskedError struct{ What string }

func (e *UnaskedError) Error() string {
	return "the process that holds the store wants a signature for what was not asked for: " + e.What
}

// consentTo is what appending facts allows.
func consentTo(facts []FactBody) *consent {
	c := &consent{snapshots: map[ID]bool{}}
	for _, b := range facts {
		c.kinds = append(c.kinds, b.Kind())
		switch f := b.(type) {
		case *forgetFact:
			for _, s := range f.snaps {
				c.snapshots[s.snapshot] = true
			}
		case *holdFact:
			c.snapshots[f.snapshot] = true
		}
	}
	return c
}

// maintenanceKinds are the facts by which volumes leave.
var maintenanceKinds = [...]FactKind{FactVolumeDropped, FactReplaced, FactCheckpoint}

// consentToPrune allows what a prune does: forgotten snapshots are purged, others are not.
func consentToPrune(st *State) *consent {
	c := &consent{kinds: append(slices.Clone(maintenanceKinds[:]), FactPurge), snapshots: map[ID]bool{}}
	for _, s := range st.Snapshots {
		if s.Forgotten {
			c.snapshots[s.ID] = true
		}
	}
	return c
}

// consentToVerify allows what a repair does.
func consentToVerify(o VerifyOptions) *consent {
	if !o.Repair {
		return &consent{}
	}
	return &consent{kinds: append(slices.Clone(maintenanceKinds[:]), FactAcknowledged)}
}

// during makes a call with consent; if the holder wanted more, the error says so.
func (s *consents) during(c *consent, call func() error) error {
	s.mu.Lock()
	s.list = append(s.list, c)
	s.refusals = nil
	s.mu.Unlock()
	err := call()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = slices.DeleteFunc(s.list, func(other *consent) bool { return other == c })
	if err != nil && len(s.refusals) > 0 {
		return s.refusals[0]
	}
	return err
}

// grant begins a new question for admin rights, which is signed once.
func (s *consents) grant(hold time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.greeted, s.hold = false, hold
}

// check decides whether a message is signed.
func (s *consents) check(message []byte, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.checkLocked(message, now)
	if err != nil {
		s.refusals = append(s.refusals, err)
	}
	return err
}

func (s *consents) checkLocked(message []byte, now time.Time) error {
	if bytes.HasPrefix(message, []byte(adminChallenge)) && len(message) == len(adminChallenge)+32 {
		if s.greeted {
			return &UnaskedError{"admin rights once more"}
		}
		s.greeted = true
		return nil
	}
	fact, err := parseFact(message)
	if err != nil {
		return &UnaskedError{"something that is no fact"}
	}
	if fact.Hold.After(now.Add(clockSlack)) && fact.Hold.After(s.hold) {
		return &UnaskedError{fmt.Sprintf("%s at %s, which is in the future", fact.Kind, fact.Hold.Format(time.RFC3339))}
	}
	body, err := parseBody(fact.Kind, fact.Body)
	if err != nil {
		return &UnaskedError{err.Error()}
	}
	for _, c := range s.list {
		if c.allows(body) {
			return nil
		}
	}
	return &UnaskedError{unasked(fact.Kind, body)}
}

// clockSlack is how far the clock of the holder may be ahead of the client's.
const clockSlack = 5 * time.Minute

// allows reports whether a fact says no more than was asked for.
func (c *consent) allows(body FactBody) bool {
	if body == nil || !slices.Contains(c.kinds, body.Kind()) {
		return false
	}
	switch f := body.(type) {
	case *forgetFact:
		return !slices.ContainsFunc(f.snaps, func(s forgotten) bool { return !c.snapshots[s.snapshot] })
	case *holdFact:
		return c.snapshots[f.snapshot]
	}
	return true
}

// unasked says what a fact would do.
func unasked(kind FactKind, body FactBody) string {
	switch f := body.(type) {
	case *forgetFact:
		names := make([]string, 0, len(f.snaps))
		for _, s := range f.snaps {
			names = append(names, s.name)
		}
		return fmt.Sprintf("%s of %q", kind, names)
	case *holdFact:
		return fmt.Sprintf("%s, snapshot %s", kind, f.snapshot)
	}
	return kind.String()
}
