package store

import (
	"crypto/ed25519"
	"fmt"
	"time"
)

// An append-only store believes a fact that takes something away only with the signature of the admin key, whoever wrote
// it and wherever it was found: when it is appended, when it is folded, in a rebuild.

// message is what the signature of a fact is made over: fields 1 to 7.
func (f *Fact) message() []byte {
	unsigned := *f
	unsigned.Signature, unsigned.Critical = nil, false
	return unsigned.encode()
}

// signedBy reports whether the fact carries the signature of a key.
func (f *Fact) signedBy(key ed25519.PublicKey) bool {
	return ed25519.Verify(key, f.message(), f.Signature)
}

// takesAway reports whether an append-only store wants a signature under a fact; at is the hold time. Lifting a hold that
// has run out takes nothing away.
func (f *fold) takesAway(body FactBody, at time.Time) bool {
	switch b := body.(type) {
	case *forgetFact:
		return b.kind != FactUnforget
	case *holdFact:
		slot, ok := f.slots[b.snapshot]
		return b.kind == FactRelease && ok && f.snapshots[slot].held(at)
	case *volumesFact:
		return b.kind != FactVolumeSealed
	case *checkpointFact, *clockFact, *acknowledgedFact:
		return true
	}
	return false
}

// unsigned reports whether a fact lacks the signature it needs: then it is part of the chain and says nothing.
func (f *fold) unsigned(fact *Fact, body FactBody) bool {
	return f.admin != nil && f.takesAway(body, f.hold) && !fact.signedBy(f.admin)
}

// ignoredFact is a fact that the fold passed over because its signature is missing or wrong.
type ignoredFact struct {
	kind FactKind
	seq  uint64
	id   ID
}

func (i ignoredFact) String() string {
	return fmt.Sprintf("fact %d (kind %d) is not signed by an admin of this append-only store and does not count", i.seq, i.kind)
}

// moveHold moves the hold time to a fact's. In an append-only store only a signed fact moves it by more than a day, so
// that nobody ends holds with a clock of his own.
func (f *fold) moveHold(fact *Fact) {
	if !fact.Hold.After(f.hold) {
		return
	}
	if f.admin == nil || (holdClock{f.hold, f.clock}).believed(fact.Hold) || fact.signedBy(f.admin) {
		f.hold = fact.Hold
	}
}
