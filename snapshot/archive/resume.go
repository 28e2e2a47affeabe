package archive

import (
	"context"
	"fmt"

	"snapfs/store"
	"snapfs/store/seal"
)

// Resume goes on with a set that was interrupted: complete volumes stay, everything else is written again. Of the options those count
// that say where and how to write; what is in the set was said when it was begun. Errors: ErrUnknownSet, ErrFinished, ErrExpired, ErrParityLost,
// store.ErrNotFound (a snapshot is gone), and those of Create.
func Resume(ctx context.Context, st *store.Store, ref string, o Options) (Result, error) {
	if err := o.fill(); err != nil {
		return Result{}, err
	}
	w, unlock, err := interrupted(ctx, st, ref, &o)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	return w.write(ctx)
}

func resumable(s *store.ArchiveSet) error {
	switch {
	case !s.Expired.IsZero():
		return fmt.Errorf("%s: %w", s.Name, ErrExpired)
	case !s.Finished.IsZero():
		return fmt.Errorf("%s: %w", s.Name, ErrFinished)
	}
	return nil
}

// interrupted finds the set and brings its writer into the state after the last complete volume.
func interrupted(ctx context.Context, st *store.Store, ref string, o *Options) (_ *setWriter, unlock func(), err error) {
	state, err := st.State(ctx)
	if err != nil {
		return nil, nil, err
	}
	set, err := Sets(state.Archives).Find(ref)
	if err != nil {
		return nil, nil, err
	}
	if err := resumable(set); err != nil {
		return nil, nil, err
	}
	if unlock, err = st.LockArchives(ctx, set.Pool, o.Wait); err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			unlock()
		}
	}()
	if state, err = st.State(ctx); err != nil { // it may have been written by whoever had the lock
		return nil, nil, err
	}
	sets := Sets(state.Archives)
	w := &setWriter{st: st, o: o, set: *sets.byID(set.ID)}
	if err := resumable(&w.set); err != nil {
		return nil, nil, err
	}
	if err := w.state.decode(w.set.Resume); err != nil {
		return nil, nil, err
	}
	if w.keys, err = st.OpenSetKeys(w.set.ID, w.state.sealed); err != nil {
		return nil, nil, err
	}
	ids := make([]store.ID, len(w.set.Snapshots))
	for i, s := range w.set.Snapshots {
		ids[i] = s.ID
	}
	w.set.Snapshots, w.state.datasets, w.state.hosts = nil, nil, nil
	if err := w.chooseSnapshots(state, ids); err != nil {
		return nil, nil, err
	}
	w.state.keys.ID = w.set.ID
	for _, v := range w.set.Volumes {
		w.sealed += v.Size
	}
	w.target, err = o.Target(w.permit(sets))
	return w, unlock, err
}

// Fields of what an unfinished set needs to go on. On disk; append only.
const (
	resumeSlots         store.Tag = 1
	resumeBundle        store.Tag = 2
	resumeKeys          store.Tag = 3
	resumeSealed        store.Tag = 4
	resumeParity        store.Tag = 5
	resumeParityVolumes store.Tag = 6
	resumeMetadata      store.Tag = 7
	resumeCounts        store.Tag = 8
	resumeCountBytes    store.Tag = 9
	resumeChunks        store.Tag = 10
	resumeChunkBytes    store.Tag = 11
	resumeEnded         store.Tag = 12
)

func (s *resumeState) encode() []byte {
	w := store.AppendFields(nil)
	w.Bytes(resumeSlots, s.keys.Slots)
	w.Bytes(resumeBundle, s.keys.Bundle)
	w.Bytes(resumeKeys, s.keys.Keys)
	w.Bytes(resumeSealed, s.sealed)
	w.Uint(resumeParity, uint64(s.parity))
	w.Uint(resumeParityVolumes, uint64(s.parityVolumes))
	w.Bool(resumeMetadata, s.metadata)
	w.Uint(resumeCounts, uint64(s.written.Metadata))
	w.Uint(resumeCountBytes, uint64(s.written.MetadataBytes))
	w.Uint(resumeChunks, uint64(s.written.Chunks))
	w.Uint(resumeChunkBytes, uint64(s.written.ChunkBytes))
	w.Bool(resumeEnded, s.ended)
	return w.Encoded()
}

func (s *resumeState) decode(data []byte) error {
	s.keys = seal.SetKeys{}
	r := store.ReadFields(data)
	for r.Next() {
		switch r.Tag() {
		case resumeSlots:
			s.keys.Slots = r.Bytes()
		case resumeBundle:
			s.keys.Bundle = r.Bytes()
		case resumeKeys:
			s.keys.Keys = r.Bytes()
		case resumeSealed:
			s.sealed = r.Bytes()
		case resumeParity:
			s.parity = int(r.Uint32())
		case resumeParityVolumes:
			s.parityVolumes = int(r.Uint32())
		case resumeMetadata:
			s.metadata = r.Bool()
		case resumeCounts:
			s.written.Metadata = int64(r.Uint())
		case resumeCountBytes:
			s.written.MetadataBytes = int64(r.Uint())
		case resumeChunks:
			s.written.Chunks = int64(r.Uint())
		case resumeChunkBytes:
			s.written.ChunkBytes = int64(r.Uint())
		case resumeEnded:
			s.ended = r.Bool()
		default:
			r.Unknown()
		}
	}
	if r.Err() == nil && len(s.sealed) == 0 {
		return fmt.Errorf("%w: an unfinished set without keys", ErrRecord)
	}
	if r.Err() != nil {
		return fmt.Errorf("%w: %w", ErrRecord, r.Err())
	}
	return nil
}
