package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"snapfs/store/volume"
)

// signFunc returns the admin key's signature under a message. It may be a process elsewhere that is asked.
type signFunc func(ctx context.Context, message []byte) ([]byte, error)

// How a session is asked for signatures. A fact names the one before, so what is signed counts only if nothing else was
// appended meanwhile. Others do not wait for a signature, but when that went wrong a few times, they do, shortly.
const (
	signAside   = 4                // attempts without keeping others waiting
	signTimeout = 30 * time.Second // for one signature then: the client may be busy
	signHurry   = time.Second      // for one signature while others wait
)

// errMovedOn: facts were appended while one was being signed.
var errMovedOn = errors.New("the chain has moved on")

// appendFacts writes facts that need no signature to the journal, syncs it, and folds them. Needs commitMu.
func (e *engine) appendFacts(bodies []FactBody) error {
	end := e.chainEnd()
	if slices.Contains(e.needSignature(bodies, end), true) {
		return ErrNotAdmin
	}
	batch, err := e.makeFacts(context.Background(), bodies, end, nil)
	if err != nil {
		return err
	}
	return e.writeFacts(batch)
}

// appendAs writes facts for a session, signed by it where an append-only store wants that (ErrNotAdmin if it cannot).
// bodies is called with commitMu held, again if the chain moved on while a fact was being signed; what it checks holds
// when the facts are written. No bodies: nothing is written.
func (e *engine) appendAs(ctx context.Context, s *localSession, bodies func() ([]FactBody, error)) error {
	for try := 0; ; try++ {
		err := e.tryAppend(ctx, s, bodies, try < signAside)
		if !errors.Is(err, errMovedOn) {
			return err
		}
	}
}

// tryAppend is one attempt; with aside the lock is given up while the session signs.
func (e *engine) tryAppend(ctx context.Context, s *localSession, bodies func() ([]FactBody, error), aside bool) error {
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	list, err := bodies()
	if err != nil || len(list) == 0 {
		return err
	}
	end := e.chainEnd()
	need := e.needSignature(list, end)
	if !slices.Contains(need, true) {
		return e.appendFacts(list)
	}
	sign := s.signer()
	if sign == nil {
		return errAppendOnly
	}
	timeout := signHurry
	if aside {
		timeout = signTimeout
		e.commitMu.Unlock()
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	batch, err := e.makeFacts(limited, list, end, func(i int, message []byte) ([]byte, error) {
		if !need[i] {
			return nil, nil
		}
		return e.checkedSignature(limited, sign, message)
	})
	cancel()
	if aside {
		e.commitMu.Lock()
	}
	switch {
	case err != nil:
		return err
	case e.isClosed():
		return ErrClosed
	case e.fold.last != end.prev || e.fold.seq != end.seq:
		return errMovedOn
	}
	return e.writeFacts(batch)
}

func (e *engine) isClosed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed
}

// needSignature says which of the facts an append-only store wants signed.
func (e *engine) needSignature(bodies []FactBody, end chainEnd) []bool {
	need := make([]bool, len(bodies))
	for i, b := range bodies {
		need[i] = e.fold.admin != nil && e.fold.takesAway(b, end.hold)
	}
	return need
}

// chainEnd is where the next fact goes, and what its times are.
type chainEnd struct {
	chain [16]byte
	seq   uint64
	prev  ID
	clock time.Time
	hold  time.Time
}

func (e *engine) chainEnd() chainEnd {
	end := chainEnd{chain: e.fold.chain, seq: e.fold.seq, prev: e.fold.last, clock: e.now()}
	if end.chain == ([16]byte{}) {
		_, _ = rand.Read(end.chain[:]) // never fails: see crypto/rand
	}
	end.hold = e.holdTime(end.clock)
	return end
}

// factBatch is facts that belong into one frame.
type factBatch struct {
	facts []*Fact
	ids   []ID
	pack  []byte
}

// givesSpace reports whether all facts lead to more space, so that they may be written when there is hardly any.
func (b factBatch) givesSpace() bool {
	return !slices.ContainsFunc(b.facts, func(f *Fact) bool {
		switch f.Kind {
		case FactForget, FactPurge, FactVolumeDropped, FactReplaced:
			return false
		}
		return true
	})
}

// makeFacts chains new facts behind the end and packs them. sign, if any, gives the signature of the fact with that index;
// one signature after the other, since each fact names the one before with its signature.
func (e *engine) makeFacts(ctx context.Context, bodies []FactBody, end chainEnd, sign func(i int, message []byte) ([]byte, error)) (factBatch, error) {
	var batch factBatch
	var raw []byte
	var blobs []volume.Blob
	for i, b := range bodies {
		if err := ctx.Err(); err != nil {
			return batch, err
		}
		end.seq++
		if b.Kind() == FactClock && end.clock.After(end.hold) {
			end.hold = end.clock
		}
		f := &Fact{Kind: b.Kind(), Chain: end.chain, Seq: end.seq, Prev: end.prev, Clock: end.clock, Hold: end.hold, Body: encodeBody(b)}
		if sign != nil {
			var err error
			if f.Signature, err = sign(i, f.message()); err != nil {
				return batch, fmt.Errorf("signature: %w", err)
			}
		}
		data := f.encode()
		end.prev = e.idKeys.id(KindFact, data)
		batch.facts, batch.ids = append(batch.facts, f), append(batch.ids, end.prev)
		raw = append(raw, data...)
		blobs = append(blobs, volume.Blob{Kind: uint8(KindFact), ID: end.prev, Length: uint32(len(data))})
	}
	batch.pack = volume.NewPacker(volume.LevelFastest).Pack(nil, blobs, raw)
	return batch, nil
}

// writeFacts brings facts to stable storage and folds them. Needs commitMu.
func (e *engine) writeFacts(batch factBatch) error {
	if batch.givesSpace() {
		e.useSpare()
		e.lowSpace.Add(1)
		defer e.lowSpace.Add(-1)
	}
	if err := e.writeJournal(batch.pack); err != nil {
		return err
	}
	for i, f := range batch.facts {
		if err := e.fold.apply(f, batch.ids[i]); err != nil {
			return err
		}
		if e.appended != nil {
			*e.appended = append(*e.appended, batch.ids[i])
		}
	}
	e.publish()
	e.protectLater()
	if err := e.saveFold(); err != nil {
		e.log.Warn("index not brought up to date", "err", err)
	}
	return nil
}
