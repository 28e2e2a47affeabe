package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"snapfs/store/seal"
	"snapfs/store/volume"
	"snapfs/store/wire"
)

// remoteSession is a Session in the process that holds the store, reached over a byte stream. Its calls return
// wire.ErrConnLost when that process ends.
type remoteSession struct {
	conn *wire.Conn
	now  func() time.Time

	admin sync.WaitGroup // calls that give the session admin rights
	asked consents       // what is signed with them

	mu       sync.Mutex
	state    *State // the newest that came; a repeated question costs no transfer
	endAdmin context.CancelFunc
}

// newRemoteSession begins a session over conn, which it owns; the bundle is the store's, without admin keys.
func newRemoteSession(ctx context.Context, conn *wire.Conn, hello wire.Hello, now func() time.Time) (*remoteSession, *seal.Bundle, error) {
	s := &remoteSession{conn: conn, now: now}
	var welcome wire.Welcome
	err := s.call(ctx, wire.MethodHello, &hello, &welcome)
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	bundle, err := seal.Unmarshal(welcome.Bundle)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("keys from the holder of the store: %w", err), conn.Close())
	}
	return s, bundle, nil
}

// call makes a call whose response is one message.
func (s *remoteSession) call(ctx context.Context, m wire.Method, request, response wire.Message) error {
	data, err := s.conn.Call(ctx, m, nil, wire.Encode(request)...)
	if err != nil {
		return fromWire(err)
	}
	return wire.Decode(data, response)
}

// idsPerCall keeps lists of IDs, and the places that answer them, well within a message.
const idsPerCall = 64 << 10

// inBatches calls f with parts of ids.
func inBatches(ids []ID, f func([]ID) error) error {
	for len(ids) > idsPerCall {
		if err := f(ids[:idsPerCall]); err != nil {
			return err
		}
		ids = ids[idsPerCall:]
	}
	return f(ids)
}

// errCount: the answer is about another number of things than were asked for.
var errCount = fmt.Errorf("%w: not as many answers as questions", wire.ErrMessage)

// Have implements Session.
func (s *remoteSession) Have(ctx context.Context, ids []ID) ([]bool, error) {
	out := make([]bool, 0, len(ids))
	err := inBatches(ids, func(ids []ID) error {
		var flags wire.Flags
		if err := s.call(ctx, wire.MethodHave, &wire.IDs{IDs: wireIDs(ids)}, &flags); err != nil {
			return err
		}
		if len(flags.Flags) != len(ids) {
			return errCount
		}
		out = append(out, flags.Flags...)
		return nil
	})
	return out, err
}

// Put implements Session.
func (s *remoteSession) Put(ctx context.Context, f Frame) (int64, error) {
	var grown wire.Number
	err := s.call(ctx, wire.MethodPut, &wire.Put{Class: uint8(f.Class), Pack: f.Pack}, &grown)
	return int64(grown.Value), err
}

// Locate implements Session.
func (s *remoteSession) Locate(ctx context.Context, ids []ID) ([]Place, error) {
	out := make([]Place, 0, len(ids))
	err := inBatches(ids, func(ids []ID) error {
		var places wire.Places
		if err := s.call(ctx, wire.MethodLocate, &wire.IDs{IDs: wireIDs(ids)}, &places); err != nil {
			return err
		}
		if len(places.Places) != len(ids) {
			return errCount
		}
		out = append(out, storePlaces(places.Places)...)
		return nil
	})
	return out, err
}

// Read implements Session.
func (s *remoteSession) Read(ctx context.Context, v volume.ID, offset int64, n int) ([]byte, error) {
	if n < 0 || n > wire.MaxPayload {
		return nil, fmt.Errorf("read of %d bytes: too many", n)
	}
	request := wire.Read{Volume: v, Offset: offset, Length: uint32(n)}
	data, err := s.conn.Call(ctx, wire.MethodRead, nil, wire.Encode(&request)...)
	if err != nil {
		return nil, fromWire(err)
	}
	if len(data) != n {
		return nil, errCount
	}
	return data, nil
}

// Commit implements Session.
func (s *remoteSession) Commit(ctx context.Context, c Commit) (Snapshot, error) {
	var done wire.Committed
	if err := s.call(ctx, wire.MethodCommit, wireCommit(c), &done); err != nil {
		return Snapshot{}, err
	}
	snapshot := storeSnapshot(done.Snapshot)
	snapshot.Head = done.Head
	return snapshot, nil
}

// Append implements Session.
func (s *remoteSession) Append(ctx context.Context, facts []FactBody) error {
	return s.asked.during(consentTo(facts), func() error {
		return s.call(ctx, wire.MethodAppend, wireFacts(facts), &wire.Empty{})
	})
}

// State implements Session.
func (s *remoteSession) State(ctx context.Context, since uint64) (*State, error) {
	s.mu.Lock()
	last := s.state
	s.mu.Unlock()
	known := since
	if since == 0 && last != nil {
		known = last.Seq
	}
	st, err := s.newerState(ctx, known)
	if err != nil {
		return nil, err
	}
	if st == nil {
		if since != 0 {
			return nil, nil
		}
		return last, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = st
	return st, nil
}

// newerState fetches the state; nil if its Seq is known.
func (s *remoteSession) newerState(ctx context.Context, known uint64) (*State, error) {
	var whole wire.StatePart
	join := func(event []byte) error {
		var part wire.StatePart
		err := wire.Decode(event, &part)
		whole.Join(&part)
		return err
	}
	data, err := s.conn.Call(ctx, wire.MethodState, join, wire.Encode(&wire.Number{Value: known})...)
	if err != nil {
		return nil, fromWire(err)
	}
	var newer wire.Flags
	if err := wire.Decode(data, &newer); err != nil {
		return nil, err
	}
	switch {
	case len(newer.Flags) != 1:
		return nil, errCount
	case !newer.Flags[0]:
		return nil, nil
	}
	return storeState(&whole), nil
}

// Wait implements Session.
func (s *remoteSession) Wait(ctx context.Context, since uint64) error {
	return s.call(ctx, wire.MethodWait, &wire.Number{Value: since}, &wire.Empty{})
}

// Lock implements Session.
func (s *remoteSession) Lock(ctx context.Context, name, job string, wait bool) error {
	return s.lock(ctx, wire.Lock{Name: name, Job: job, Wait: wait})
}

// goOn is that of localSession. A holder of an older version does not know it.
func (s *remoteSession) goOn(ctx context.Context) error {
	err := s.call(ctx, wire.MethodGoOn, &wire.Empty{}, &wire.Empty{})
	var unknown *wire.Error
	if errors.As(err, &unknown) && unknown.Code == wire.CodeUnknownMethod {
		return nil
	}
	return err
}

// resume takes a lock again that the session had before its holder ended.
func (s *remoteSession) resume(ctx context.Context, name, job string) error {
	return s.lock(ctx, wire.Lock{Name: name, Job: job, Resume: true})
}

// unlockTimeout bounds how long a cancelled wait for a lock makes sure that it did not get it after all.
const unlockTimeout = 5 * time.Second

func (s *remoteSession) lock(ctx context.Context, l wire.Lock) error {
	err := s.call(ctx, wire.MethodLock, &l, &wire.Empty{})
	if err == nil || ctx.Err() == nil {
		return err
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockTimeout)
	defer cancel()
	_ = s.Unlock(undo, l.Name) // a connection that is lost has no locks
	return err
}

// Unlock implements Session.
func (s *remoteSession) Unlock(ctx context.Context, name string) error {
	return s.call(ctx, wire.MethodUnlock, &wire.Lock{Name: name}, &wire.Empty{})
}

// Pin implements Session.
func (s *remoteSession) Pin(ctx context.Context, snapshots []ID) error {
	return inBatches(snapshots, func(ids []ID) error {
		return s.call(ctx, wire.MethodPin, &wire.IDs{IDs: wireIDs(ids)}, &wire.Empty{})
	})
}

// Rebuild implements Session.
func (s *remoteSession) Rebuild(ctx context.Context, progress func(RebuildProgress)) error {
	onEvent := func(event []byte) error {
		var p wire.Progress
		if err := wire.Decode(event, &p); err != nil {
			return err
		}
		if progress != nil {
			progress(RebuildProgress(p))
		}
		return nil
	}
	return s.asked.during(&consent{kinds: []FactKind{FactCheckpoint}}, func() error {
		_, err := s.conn.Call(ctx, wire.MethodRebuild, onEvent)
		return fromWire(err)
	})
}

// Stats implements Session.
func (s *remoteSession) Stats(ctx context.Context) (Stats, error) {
	var stats wire.Stats
	if err := s.call(ctx, wire.MethodStats, &wire.Empty{}, &stats); err != nil {
		return Stats{}, err
	}
	return storeStats(&stats), nil
}

// Verify implements Session.
func (s *remoteSession) Verify(ctx context.Context, o VerifyOptions, event func(VerifyEvent) error) (VerifySummary, error) {
	onEvent := func(data []byte) error {
		var e wire.VerifyEvent
		if err := wire.Decode(data, &e); err != nil {
			return err
		}
		return event(storeVerifyEvent(&e))
	}
	request := wire.VerifyOptions{Data: o.Data, Percent: o.Percent, Head: o.Head, Repair: o.Repair}
	var summary wire.VerifySummary
	err := s.asked.during(consentToVerify(o), func() error {
		data, err := s.conn.Call(ctx, wire.MethodVerify, onEvent, wire.Encode(&request)...)
		if err != nil {
			return fromWire(err)
		}
		return wire.Decode(data, &summary)
	})
	if err != nil {
		return VerifySummary{}, err
	}
	return VerifySummary(summary), nil
}

// Volumes implements Session.
func (s *remoteSession) Volumes(ctx context.Context) ([]VolumeInfo, error) {
	var list wire.Volumes
	if err := s.call(ctx, wire.MethodVolumes, &wire.Empty{}, &list); err != nil {
		return nil, err
	}
	return storeVolumes(&list), nil
}

// Damaged implements Session.
func (s *remoteSession) Damaged(ctx context.Context, found []DamagedFrame) error {
	return s.call(ctx, wire.MethodDamaged, wireDamaged(found), &wire.Empty{})
}

// DamagedBlobs implements Session.
func (s *remoteSession) DamagedBlobs(ctx context.Context) (ids []ID, err error) {
	join := func(event []byte) error {
		var part wire.IDs
		err := wire.Decode(event, &part)
		ids = append(ids, storeIDs(part.IDs)...)
		return err
	}
	_, err = s.conn.Call(ctx, wire.MethodDamaged, join, wire.Encode(&wire.Damaged{Ask: true})...)
	return ids, fromWire(err)
}

// Unpin implements Session.
func (s *remoteSession) Unpin(ctx context.Context, snapshots []ID) error {
	return inBatches(snapshots, func(ids []ID) error {
		return s.call(ctx, wire.MethodUnpin, &wire.IDs{IDs: wireIDs(ids)}, &wire.Empty{})
	})
}

// Prune implements Session.
func (s *remoteSession) Prune(ctx context.Context, o PruneOptions, progress func(PruneProgress)) (PruneResult, error) {
	onEvent := func(event []byte) error {
		var p wire.PruneProgress
		if err := wire.Decode(event, &p); err != nil {
			return err
		}
		if progress != nil {
			progress(PruneProgress(p))
		}
		return nil
	}
	for n := 1; ; n++ {
		st, err := s.State(ctx, 0)
		if err != nil {
			return PruneResult{}, err
		}
		c := consentToPrune(st)
		r, err := s.pruned(c, func() ([]byte, error) {
			return s.conn.Call(ctx, wire.MethodPrune, onEvent, wire.Encode(wirePrune(o))...)
		})
		var unasked *UnaskedError
		if !errors.As(err, &unasked) || n == pruneAttempts {
			return r, err
		}
		st, stateErr := s.State(ctx, 0)
		if stateErr != nil || maps.Equal(c.snapshots, consentToPrune(st).snapshots) {
			return r, err
		} // else somebody has forgotten more meanwhile: nothing is purged yet, and now it is known what is asked for
	}
}

// Upkeep implements Session.
func (s *remoteSession) Upkeep(ctx context.Context) (PruneResult, error) {
	return s.pruned(&consent{kinds: maintenanceKinds[:]}, func() ([]byte, error) { return s.conn.Call(ctx, wire.MethodUpkeep, nil) })
}

// pruned makes a call with consent that is answered with what was done.
func (s *remoteSession) pruned(c *consent, call func() ([]byte, error)) (PruneResult, error) {
	var m wire.PruneResult
	err := s.asked.during(c, func() error {
		data, err := call()
		if err != nil {
			return fromWire(err)
		}
		return wire.Decode(data, &m)
	})
	if err != nil {
		return PruneResult{}, err
	}
	return storePruneResult(&m), nil
}

// byeTimeout bounds how long Close waits for the holder to end the session; it ends with the connection anyway.
const byeTimeout = 5 * time.Second

// Close implements Session.
func (s *remoteSession) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), byeTimeout)
	defer cancel()
	s.mu.Lock()
	end := s.endAdmin
	s.mu.Unlock()
	if end != nil {
		end()
	}
	_ = s.call(ctx, wire.MethodBye, &wire.Empty{}, &wire.Empty{})
	return s.drop()
}

// drop ends the session without a word, when its holder has ended or is ending.
func (s *remoteSession) drop() error {
	err := s.conn.Close()
	s.admin.Wait()
	return err
}
