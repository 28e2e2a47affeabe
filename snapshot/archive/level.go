package archive

import (
	"fmt"
	"slices"
	"time"

	"snapfs/store"
	"snapfs/store/volume"
)

// States of a set, as people set them.
const (
	StateOnsite  = "onsite"
	StateOffsite = "offsite"
	StateVault   = "vault"
	StateDamaged = "damaged"
	StateRetired = "retired"
)

// States are all of them.
var states = []string{StateOnsite, StateOffsite, StateVault, StateDamaged, StateRetired}

// KnownState reports whether a set can be in that state.
func KnownState(state string) bool { return slices.Contains(states, state) }

// Level is what is asked for when a set is made.
type Level string

// Levels; auto is incremental if there is a set to build on, else full.
const (
	LevelAuto         Level = "auto"
	LevelFull         Level = "full"
	LevelIncremental  Level = "incremental"
	LevelDifferential Level = "differential"
)

// Sets is what a store knows of archive sets, in the order in which they were begun.
type Sets []store.ArchiveSet

// StateOf says for people how a set is: unfinished, expired, or where it is.
func StateOf(s *store.ArchiveSet) string {
	switch {
	case !s.Expired.IsZero():
		return "expired"
	case s.Finished.IsZero():
		return "unfinished"
	case s.State == "":
		return StateOnsite
	}
	return s.State
}

// usable reports whether other sets may build on a set, and snapshots be restored from it.
func usable(s *store.ArchiveSet) bool {
	return s.Expired.IsZero() && !s.Finished.IsZero() && s.State != StateDamaged && s.State != StateRetired
}

// Find returns the set with that name or the beginning of that ID (ErrUnknownSet).
func (list Sets) Find(ref string) (*store.ArchiveSet, error) {
	var found *store.ArchiveSet
	for i := range list {
		s := &list[i]
		if s.Name == ref && s.Expired.IsZero() {
			return s, nil
		}
		id := fmt.Sprintf("%x", s.ID)
		if s.Name == ref || len(ref) >= 8 && len(ref) <= len(id) && id[:len(ref)] == ref {
			found = s
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%s: %w", ref, ErrUnknownSet)
	}
	return found, nil
}

func (list Sets) byID(id [16]byte) *store.ArchiveSet {
	for i := range list {
		if list[i].ID == id {
			return &list[i]
		}
	}
	return nil
}

// Chain returns a set and all it builds on, itself first. ok is false if one of them is not known, or not usable.
func (list Sets) Chain(s *store.ArchiveSet) (chain []*store.ArchiveSet, ok bool) {
	for ok = true; s != nil; s = list.byID(s.Parent) {
		ok = ok && usable(s) && len(chain) <= len(list)
		chain = append(chain, s)
		if s.Parent == [16]byte{} {
			return chain, ok
		}
		if len(chain) > len(list) {
			break
		}
	}
	return chain, false
}

// Parent chooses what a new set of a pool builds on: for an incremental one the newest finished set that can be used with all it needs,
// for a differential one the newest full set. nil: a full set. Errors: ErrNoParent.
func (list Sets) Parent(pool string, want Level) (*store.ArchiveSet, volume.SetLevel, error) {
	if want == LevelFull {
		return nil, volume.Full, nil
	}
	for i := len(list) - 1; i >= 0; i-- {
		s := &list[i]
		if s.Pool != pool || want == LevelDifferential && s.Level != volume.Full {
			continue
		}
		if _, ok := list.Chain(s); !ok {
			continue
		}
		if want == LevelDifferential {
			return s, volume.Differential, nil
		}
		return s, volume.Incremental, nil
	}
	if want == LevelAuto {
		return nil, volume.Full, nil
	}
	return nil, 0, fmt.Errorf("pool %s: %w", pool, ErrNoParent)
}

// Expiring lists the sets that may go: kept long enough, and needed by no set that is not; and unfinished ones that were retired.
func (list Sets) Expiring(now time.Time) (gone []*store.ArchiveSet) {
	needed := map[[16]byte]bool{}
	over := func(s *store.ArchiveSet) bool {
		if s.Finished.IsZero() {
			return s.State == StateRetired
		}
		return !s.KeepUntil.IsZero() && s.KeepUntil.Before(now)
	}
	for i := range list {
		s := &list[i]
		if !s.Expired.IsZero() || over(s) {
			continue
		}
		chain, _ := list.Chain(s)
		for _, c := range chain {
			needed[c.ID] = true
		}
	}
	for i := range list {
		if s := &list[i]; s.Expired.IsZero() && over(s) && !needed[s.ID] {
			gone = append(gone, s)
		}
	}
	return gone
}

// Holding lists the usable sets that hold a snapshot with all they need, the newest first.
func (list Sets) Holding(snapshot store.ID) (holding []*store.ArchiveSet) {
	for i := len(list) - 1; i >= 0; i-- {
		s := &list[i]
		if !slices.ContainsFunc(s.Snapshots, func(a store.ArchivedSnapshot) bool { return a.ID == snapshot }) {
			continue
		}
		if _, ok := list.Chain(s); ok {
			holding = append(holding, s)
		}
	}
	return holding
}

// Verified reports whether a snapshot can be restored from sets all of which were verified and found whole.
func (list Sets) Verified(snapshot store.ID) bool {
	for _, s := range list.Holding(snapshot) {
		chain, _ := list.Chain(s)
		if !slices.ContainsFunc(chain, func(c *store.ArchiveSet) bool { return c.Verified.IsZero() || c.Lost > 0 }) {
			return true
		}
	}
	return false
}
