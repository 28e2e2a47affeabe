package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"snapfs/store/volume"
)

// lacksFacts reports whether the journals hold a chain without gaps that adds up to something else than the index says.
func (e *engine) lacksFacts(ctx context.Context) (bool, error) {
	more, _, err := e.knows(ctx)
	return err == nil && more.whole && more.differs, err
}

// renewJournals writes the facts of journals that are still not whole into another one and drops them, if all they ever said is
// known: the chain has no gap.
func (v *verifier) renewJournals(ctx context.Context) error {
	e := v.e
	e.commitMu.Lock()
	list := e.journalsAt()
	e.commitMu.Unlock()
	read, _, err := e.readJournals(ctx, list)
	if err != nil {
		return err
	}
	var todo []*journal
	for _, j := range read {
		_, known := v.acknowledged(acknowledged{problem: ChainDamaged, volume: j.id})
		if (j.harmed || slices.Contains(v.left, j.id)) && !known {
			todo = append(todo, j)
		}
	}
	if len(todo) == 0 || !e.canDrop(v.session) {
		return nil
	}
	found, err := e.checkChain(ctx, ID{})
	if err != nil || slices.ContainsFunc(found, func(f ChainFinding) bool { return f.Problem != ChainDamaged || f.Volume.IsZero() }) {
		return err
	}
	e.maintenance.Lock()
	defer e.maintenance.Unlock()
	for _, j := range todo {
		err := e.renewJournal(ctx, v.session, j)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		v.postponed = v.postponed || err != nil
		v.left = slices.DeleteFunc(v.left, func(id volume.ID) bool { return id == j.id && err == nil })
		v.replacedBy(j.id, err == nil, err)
	}
	return nil
}

// renewFrame is how much plaintext of facts goes into one frame, unless one alone is larger.
const renewFrame = 4 << 20

// errStrangeFact: a fact has fields this program does not know, so that it cannot be written as it is.
var errStrangeFact = errors.New("a fact in it was made by a newer snapfs")

// renewJournal writes the facts of a journal into the present one and drops it. The facts keep their IDs and their place in the chain; who
// finds them twice counts them once.
func (e *engine) renewJournal(ctx context.Context, s *localSession, j *journal) error {
	e.mu.Lock()
	state := e.volumes.byID[j.id]
	e.mu.Unlock()
	if state == nil {
		return nil
	}
	if err := e.writeAgain(j); err != nil {
		return err
	}
	if err := e.guardSuccessor([]*volumeState{state}); err != nil {
		return err
	}
	return e.drop(ctx, s, []*volumeState{state}, nil)
}

func (e *engine) writeAgain(j *journal) error {
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	if e.journal != nil && e.journal.id == j.id {
		if err := e.closeJournal(); err != nil {
			return err
		}
	}
	var raw []byte
	var blobs []volume.Blob
	flush := func() error {
		if len(blobs) == 0 {
			return nil
		}
		pack := volume.NewPacker(volume.LevelFastest).Pack(nil, blobs, raw)
		raw, blobs = raw[:0], blobs[:0]
		return e.writeJournal(pack)
	}
	for _, f := range j.facts {
		data := f.encode()
		if e.idKeys.id(KindFact, data) != f.id {
			return errStrangeFact
		}
		if len(raw)+len(data) > renewFrame {
			if err := flush(); err != nil {
				return err
			}
		}
		raw = append(raw, data...)
		blobs = append(blobs, volume.Blob{Kind: uint8(KindFact), ID: f.id, Length: uint32(len(data))})
	}
	if err := flush(); err != nil {
		return err
	}
	if err := e.saveFold(); err != nil { // else the next holder takes them for new ones and makes the index anew
		return fmt.Errorf("index: %w", err)
	}
	return nil
}
