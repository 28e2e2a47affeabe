package archive

import (
	"context"
	"fmt"

	"snapfs/store"
	"snapfs/store/seal"
)

// Resume goes on with a set that was interrupted: complete volumes stay, everything else is written again. Of the options those count
// that say where and how to write; what is in the set was said when it was begun. Errors: ErrUnknownSet, ErrFinished, ErrExpired, ErrParityLost,
// *GoneError, and those of Create.
func Resume(ctx context.Context, st *store.Store, ref string, o Options) (Result, error) {
	if err := o.fill(); err != nil {
		return Result{}, err
	}
	_, set, err := unfinished(ctx, st, ref)
	if err != nil {
		return Result{}, err
	}
	unlock, err := st.LockArchives(ctx, set.Pool, o.Wait)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	w, err := interrupted(ctx, st, fmt.Sprintf("%x", set.ID), &o) // it may have been written by whoever had the lock
	if err != nil {
		return Result{}, err
	}
	return w.write(ctx)
}

// unfinished finds a set that can be gone on with.
func unfinished(ctx context.Context, st *store.Store, ref string) (*store.State, *store.ArchiveSet, error) {
	state, err := st.State(ctx)
	if err != nil {
		return nil, nil, err
	}
	s, err := Sets(state.Archives).Find(ref)
	switch {
	case err != nil:
		return nil, nil, err
	case !s.Expired.IsZero():
		return nil, nil, fmt.Errorf("%s: %w", s.Name, ErrExpired)
	case !s.Finished.IsZero():
		return nil, nil, fmt.Errorf("%s: %w", s.Name, ErrFinished)
	}
	return state, s, nil
}

// interrupted brings a set's writer into the state after the last complete volume.
func interrupted(ctx context.Context, st *store.Store, ref string, o *Options) (*setWriter, error) {
	state, set, err := unfinished(ctx, st, ref)
	if err != nil {
		return nil, err
	}
	w := &setWriter{st: st, o: o, set: *set}
	if err := w.state.decode(w.set.Resume); err != nil {
		return nil, err
	}
	if w.keys, err = st.OpenSetKeys(w.set.ID, w.state.sealed); err != nil {
		return nil, err
	}
	if err := w.chooseAgain(state); err != nil {
		return nil, err
	}
	w.state.keys.ID = w.set.ID
	for _, v := range w.set.Volumes {
		w.sealed += v.Size
		if w.before = nil; v.Torn { // else the next one has its table
			w.before = &tornVolume{id: v.ID, number: v.Number, whole: v.Size}
		}
	}
	w.target, err = o.Target(w.permit(state.Archives))
	return w, err
}

// chooseAgain takes the snapshots that the set was begun with. Errors: *GoneError.
func (w *setWriter) chooseAgain(state *store.State) error {
	var ids []store.ID
	for _, s := range w.set.Snapshots {
		if committed(state, s.ID) == nil {
			return &GoneError{Set: w.set.Name, Snapshot: s}
		}
		ids = append(ids, s.ID)
	}
	w.set.Snapshots = nil
	return w.chooseSnapshots(state, ids)
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
