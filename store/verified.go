package store

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"time"

	"snapfs/store/volume"
)

// Kinds of volumes, for those above this package.
const (
	VolumeData     = volume.Data
	VolumeMetadata = volume.Metadata
	VolumeJournal  = volume.Journal
)

// VolumeInfo describes a volume of the store.
type VolumeInfo struct {
	ID       volume.ID
	Kind     volume.Kind
	Size     int64
	Blobs    int64
	Sealed   bool
	Missing  bool
	Damaged  int       // frames known to be damaged
	Verified time.Time // when all of it was last read and found whole, or damaged as recorded; zero: never, or not known
}

// verifiedKey is the key of the time a volume was last verified.
func verifiedKey(id volume.ID) []byte { return append([]byte{keyVerified}, id[:]...) }

// loadVerified reads when volumes were last verified; a new index takes over what the one before it knew.
func (e *engine) loadVerified(x *index, cat *catalogue) map[volume.ID]time.Time {
	times := map[volume.ID]time.Time{}
	err := x.each([]byte{keyVerified}, func(key, value []byte) error {
		if n, used := binary.Varint(value); used > 0 && len(key) == 1+len(volume.ID{}) {
			times[volume.ID(key[1:])] = fromNanos(n)
		}
		return nil
	})
	if err != nil {
		e.log.Warn("times of verification in the index cannot be read", "err", err)
	}
	for id, at := range e.verified {
		if s := cat.byID[id]; s != nil && !s.dropped {
			times[id] = at
			e.saveVerified(x, id, at)
		}
	}
	return times
}

func (e *engine) saveVerified(x *index, id volume.ID, at time.Time) {
	err := x.write(func(set func(key, value []byte) error, _ func([]byte) error) error {
		return set(verifiedKey(id), binary.AppendVarint(nil, nanos(at)))
	})
	if err != nil {
		e.log.Warn("time of verification not recorded in the index", "volume", id, "err", err)
	}
}

// noteVerified records that all of a volume was read.
func (e *engine) noteVerified(id volume.ID, at time.Time) {
	e.mu.Lock()
	e.verified[id] = at
	e.mu.Unlock()
	if e.enoughIndexSpace() != nil {
		return
	}
	e.indexMu.RLock()
	defer e.indexMu.RUnlock()
	e.saveVerified(e.idx, id, at)
}

// volumeList describes all volumes, in the order of their IDs: those that are there, and those that should be by what facts or
// index say.
func (e *engine) volumeList() []VolumeInfo {
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []VolumeInfo
	for id, n := range e.fold.volumes {
		if e.volumes.byID[id] == nil {
			list = append(list, VolumeInfo{ID: id, Kind: n.kind, Missing: true})
		}
	}
	for id, s := range e.volumes.byID {
		_, named := e.fold.volumes[id]
		if s.dropped || s.missing && s.blobs == 0 && !named && s.kind != volume.Journal {
			continue
		}
		list = append(list, VolumeInfo{
			ID: id, Kind: s.kind, Size: s.size, Blobs: s.blobs, Sealed: s.sealed, Missing: s.missing, Verified: e.verified[id],
		})
	}
	frames := map[volume.ID]int{}
	for k := range e.damage.frames {
		frames[k.volume]++
	}
	for i := range list {
		list[i].Damaged = frames[list[i].ID]
	}
	slices.SortFunc(list, func(a, b VolumeInfo) int { return compareBytes(a.ID[:], b.ID[:]) })
	return list
}

// chooseVolumes says which volumes are read as a whole: all, or those verified longest ago until they have that share
// of the bytes; at least one.
func chooseVolumes(list []VolumeInfo, percent float64) map[volume.ID]bool {
	var total int64
	for _, s := range list {
		if !s.Missing {
			total += s.Size
		}
	}
	want := total
	if percent > 0 {
		want = max(1, int64(float64(total)*percent/100))
	}
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b VolumeInfo) int { return cmp.Compare(nanos(a.Verified), nanos(b.Verified)) })
	chosen := map[volume.ID]bool{}
	for _, s := range list {
		if want > 0 && !s.Missing {
			chosen[s.ID] = true
			want -= s.Size
		}
	}
	return chosen
}

// Volumes implements Session.
func (s *localSession) Volumes(ctx context.Context) ([]VolumeInfo, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.e.volumeList(), nil
}

// Verify implements Session.
func (s *localSession) Verify(ctx context.Context, o VerifyOptions, event func(VerifyEvent) error) (VerifySummary, error) {
	if err := s.ready(ctx); err != nil {
		return VerifySummary{}, err
	}
	return s.e.verify(ctx, s, o, event)
}
