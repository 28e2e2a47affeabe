package store

import (
	"context"
	"sync"
	"time"

	"snapfs/store/wire"
)

// handleSession answers the calls that a Session has a method for.
func handleSession(ctx context.Context, s Session, r *wire.Request) ([][]byte, error) {
	switch r.Method {
	case wire.MethodHave:
		return answer(r, func(m *wire.IDs) (*wire.Flags, error) {
			flags, err := s.Have(ctx, storeIDs(m.IDs))
			return &wire.Flags{Flags: flags}, err
		})
	case wire.MethodPut:
		return answer(r, func(m *wire.Put) (*wire.Number, error) {
			f, err := storeFrame(m)
			if err != nil {
				return nil, err
			}
			n, err := s.Put(ctx, f)
			return &wire.Number{Value: uint64(n)}, err
		})
	case wire.MethodLocate:
		return answer(r, func(m *wire.IDs) (*wire.Places, error) {
			places, err := s.Locate(ctx, storeIDs(m.IDs))
			return wirePlaces(places), err
		})
	case wire.MethodRead:
		return handleRead(ctx, s, r)
	case wire.MethodCommit:
		return answer(r, func(m *wire.Commit) (*wire.Committed, error) {
			snapshot, err := s.Commit(ctx, storeCommit(m))
			return &wire.Committed{Snapshot: wireSnapshot(snapshot), Head: snapshot.Head}, err
		})
	case wire.MethodAppend:
		return answer(r, func(m *wire.Facts) (*wire.Empty, error) {
			facts, err := storeFacts(m.Facts)
			if err != nil {
				return nil, err
			}
			return &wire.Empty{}, s.Append(ctx, facts)
		})
	case wire.MethodState:
		return handleState(ctx, s, r)
	}
	return handleRest(ctx, s, r)
}

func handleRest(ctx context.Context, s Session, r *wire.Request) ([][]byte, error) {
	switch r.Method {
	case wire.MethodWait:
		return answer(r, func(m *wire.Number) (*wire.Empty, error) { return &wire.Empty{}, s.Wait(ctx, m.Value) })
	case wire.MethodUnlock:
		return answer(r, func(m *wire.Lock) (*wire.Empty, error) { return &wire.Empty{}, s.Unlock(ctx, m.Name) })
	case wire.MethodPin:
		return answer(r, func(m *wire.IDs) (*wire.Empty, error) { return &wire.Empty{}, s.Pin(ctx, storeIDs(m.IDs)) })
	case wire.MethodRebuild:
		return handleRebuild(ctx, s, r)
	case wire.MethodStats:
		return answer(r, func(*wire.Empty) (*wire.Stats, error) {
			stats, err := s.Stats(ctx)
			return wireStats(stats), err
		})
	}
	return handleMaintenance(ctx, s, r)
}

// handleMaintenance answers the calls about the state of what is stored.
func handleMaintenance(ctx context.Context, s Session, r *wire.Request) ([][]byte, error) {
	switch r.Method {
	case wire.MethodVerify:
		return handleVerify(ctx, s, r)
	case wire.MethodUnpin:
		return answer(r, func(m *wire.IDs) (*wire.Empty, error) { return &wire.Empty{}, s.Unpin(ctx, storeIDs(m.IDs)) })
	case wire.MethodPrune:
		return handlePrune(ctx, s, r)
	case wire.MethodUpkeep:
		return answer(r, func(*wire.Empty) (*wire.PruneResult, error) {
			result, err := s.Upkeep(ctx)
			return wirePruneResult(result), err
		})
	case wire.MethodDamaged:
		return handleDamaged(ctx, s, r)
	case wire.MethodGoOn:
		known, ok := s.(interface{ goOn(context.Context) error })
		if !ok {
			break
		}
		return answer(r, func(*wire.Empty) (*wire.Empty, error) { return &wire.Empty{}, known.goOn(ctx) })
	case wire.MethodVolumes:
		return answer(r, func(*wire.Empty) (*wire.Volumes, error) {
			list, err := s.Volumes(ctx)
			return wireVolumes(list), err
		})
	}
	return nil, wire.UnknownMethod(r.Method)
}

// handleRead answers with the bytes themselves.
func handleRead(ctx context.Context, s Session, r *wire.Request) ([][]byte, error) {
	var m wire.Read
	if err := wire.Decode(r.Body, &m); err != nil {
		return nil, err
	}
	if err := r.Reserve(ctx, int(m.Length)); err != nil {
		return nil, err
	}
	data, err := s.Read(ctx, m.Volume, m.Offset, int(m.Length))
	return [][]byte{data}, err
}

// handleState sends the state in parts, since it may be larger than a message.
func handleState(ctx context.Context, s Session, r *wire.Request) ([][]byte, error) {
	return answer(r, func(m *wire.Number) (*wire.Flags, error) {
		st, err := s.State(ctx, m.Value)
		if err != nil || st == nil {
			return &wire.Flags{Flags: []bool{false}}, err
		}
		err = wireState(st).Split(func(part *wire.StatePart) error { return r.Emit(ctx, wire.Encode(part)...) })
		return &wire.Flags{Flags: []bool{true}}, err
	})
}

// handleRebuild passes progress on, the newest. Everybody waits for a rebuild, so it does not wait for a listener that is slow or stopped.
func handleRebuild(ctx context.Context, s Session, r *wire.Request) ([][]byte, error) {
	newest := make(chan RebuildProgress, 1)
	var telling sync.WaitGroup
	telling.Go(func() {
		for p := range newest {
			progress := wire.Progress(p)
			if r.Emit(ctx, wire.Encode(&progress)...) != nil {
				return
			}
		}
	})
	err := s.Rebuild(ctx, func(p RebuildProgress) {
		select {
		case <-newest:
		default:
		}
		newest <- p
	})
	close(newest)
	telling.Wait()
	return nil, err
}

// handlePrune passes progress on. A listener that is gone ends the prune.
func handlePrune(ctx context.Context, s Session, r *wire.Request) ([][]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return answer(r, func(m *wire.Prune) (*wire.PruneResult, error) {
		var last time.Time
		result, err := s.Prune(ctx, storePrune(m), func(p PruneProgress) {
			if time.Since(last) < progressEvery && p.Done < p.Total {
				return
			}
			last = time.Now()
			event := wire.PruneProgress(p)
			if r.Emit(ctx, wire.Encode(&event)...) != nil {
				cancel()
			}
		})
		return wirePruneResult(result), err
	})
}

// progressEvery is how often progress of what has very many steps travels.
const progressEvery = 50 * time.Millisecond

// handleDamaged takes a report, or sends what is known.
func handleDamaged(ctx context.Context, s Session, r *wire.Request) ([][]byte, error) {
	return answer(r, func(m *wire.Damaged) (*wire.Empty, error) {
		if !m.Ask {
			return &wire.Empty{}, s.Damaged(ctx, storeDamaged(m))
		}
		ids, err := s.DamagedBlobs(ctx)
		if err != nil {
			return nil, err
		}
		return &wire.Empty{}, inBatches(ids, func(ids []ID) error {
			return r.Emit(ctx, wire.Encode(&wire.IDs{IDs: wireIDs(ids)})...)
		})
	})
}

// handleVerify passes findings and progress on.
func handleVerify(ctx context.Context, s Session, r *wire.Request) ([][]byte, error) {
	return answer(r, func(m *wire.VerifyOptions) (*wire.VerifySummary, error) {
		o := VerifyOptions{Data: m.Data, Percent: m.Percent, Head: m.Head, Repair: m.Repair}
		summary, err := s.Verify(ctx, o, func(e VerifyEvent) error {
			return r.Emit(ctx, wire.Encode(wireVerifyEvent(e))...)
		})
		out := wire.VerifySummary(summary)
		return &out, err
	})
}
