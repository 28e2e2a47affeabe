package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"snapfs/snapshot"
	"snapfs/store"
	"snapfs/store/volume"
)

// errNotSure: not enough of a set was read to enter it into the catalogue.
var errNotSure = errors.New("not in the catalogue")

// enterSets enters the sets that were read completely into the store's catalogue, as Create left them; what the store knows of a set stays.
// Where the store has other keys the lists would name chunks that it does not have: there nothing is entered.
func (i *importer) enterSets(ctx context.Context) error {
	if i.result.Anew {
		return nil
	}
	for _, s := range i.b.newestFirst() {
		state, err := i.st.State(ctx)
		if err != nil {
			return err
		}
		if Sets(state.Archives).byID(s.id) != nil {
			continue
		}
		err = i.enter(ctx, s)
		switch {
		case errors.Is(err, errNotSure):
			i.b.o.Note(fmt.Sprintf("set %s is %v", s.name(), err))
		case err != nil:
			return fmt.Errorf("set %s: %w", s.name(), err)
		default:
			i.result.Sets++
		}
	}
	return nil
}

// enter records one set. Errors: errNotSure.
func (i *importer) enter(ctx context.Context, s *openSet) error {
	set, err := s.entry()
	if err != nil {
		return err
	}
	for n, e := range s.end.Volumes {
		v, err := i.wholeVolume(s, n)
		if err != nil {
			return err
		}
		at := store.ArchiveVolume{ID: v.ID, Number: e.Number, Size: cmp.Or(e.Length, v.Size), Torn: !v.Sealed(), Where: v.where()}
		if at.Chunks, err = i.chunkList(ctx, v, &at); err != nil {
			return err
		}
		set.Volumes = append(set.Volumes, at)
	}
	for _, v := range s.volumes {
		if v.Parity() && v.Sealed() {
			set.Volumes = append(set.Volumes, store.ArchiveVolume{ID: v.ID, Number: v.Label.Set.Sequence, Size: v.Size, Parity: true, Where: v.where()})
		}
	}
	slices.SortFunc(set.Volumes, func(a, b store.ArchiveVolume) int { return cmp.Compare(a.Number, b.Number) })
	return i.st.SetArchive(ctx, set)
}

// entry is what head and end say of a set. Names that no writer gives are refused: files are named by them.
func (s *openSet) entry() (set store.ArchiveSet, err error) {
	h, e := s.head, s.end
	switch {
	case h == nil:
		return set, fmt.Errorf("%w: its head is damaged", errNotSure)
	case e == nil || len(e.Volumes) == 0:
		return set, fmt.Errorf("%w: its end was not given", errNotSure)
	case h.Level < volume.Full || h.Level > volume.Differential || (h.Level == volume.Full) != (h.Parent == [16]byte{}):
		return set, fmt.Errorf("%w: its level and its parent contradict each other", errNotSure)
	}
	set = store.ArchiveSet{
		ID: s.id, Name: h.Name, Pool: h.Pool, Level: h.Level, Parent: h.Parent, Started: h.Created, Finished: e.Finished, KeepUntil: h.KeepUntil,
		Plain: e.Written.MetadataBytes, Chunks: e.Written.Chunks, Lost: e.Lost,
	}
	err = errors.Join(CheckName(h.Name), CheckName(h.Pool))
	for _, r := range h.Snapshots {
		err = errors.Join(err, checkNames(store.Snapshot{ID: r.ID, Dataset: r.Dataset, Name: r.Name}))
		set.Snapshots = append(set.Snapshots, store.ArchivedSnapshot{ID: r.ID, Dataset: r.Dataset, Name: r.Name, Start: r.Start})
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", errNotSure, err)
	}
	return set, err
}

// wholeVolume is the n-th volume that the end of a set names, if it is here as it was written or its own parity makes it so.
func (i *importer) wholeVolume(s *openSet, n int) (*Volume, error) {
	e := s.end.Volumes[n]
	v := s.volume(e.ID)
	if v == nil || v.made || v.source == nil {
		return nil, fmt.Errorf("%w: volume %d was not given", errNotSure, e.Number)
	}
	whole := e.Number == uint32(n+1) && !v.gone
	if v.Sealed() {
		whole = whole && (e.Length == 0 || e.Length == v.Size) && (v.healed == nil || v.report.Copy.Whole())
	} else {
		whole = whole && e.Length > 0 && e.Length == s.torn[v.ID] // chunkList looks at its frames
	}
	if !whole {
		return nil, fmt.Errorf("%w: volume %d is damaged", errNotSure, e.Number)
	}
	return v, nil
}

// where is the place of the volume, for people; of one that came through a pipe nobody knows it.
func (v *Volume) where() string {
	if v.piped {
		return ""
	}
	if abs, err := store.AbsolutePath(v.Name); err == nil {
		return abs
	}
	return v.Name
}

// chunkList stores the list of the chunks in a volume. Errors: errNotSure.
func (i *importer) chunkList(ctx context.Context, v *Volume, at *store.ArchiveVolume) (store.ID, error) {
	ids := snapshot.NewSorter(len(store.ID{}), i.o.Scratch)
	var full error // scratch is
	err := v.eachRow(at.Size, func(blobs []volume.Blob) error {
		for k := range blobs {
			if store.Kind(blobs[k].Kind) == store.KindChunk {
				if full = ids.Add(blobs[k].ID[:]); full != nil {
					return full
				}
			}
		}
		return ctx.Err()
	})
	switch {
	case ctx.Err() != nil || full != nil:
		return store.ID{}, errors.Join(ctx.Err(), full, ids.Close())
	case err != nil:
		return store.ID{}, errors.Join(fmt.Errorf("%w: volume %d: %w", errNotSure, at.Number, err), ids.Close())
	}
	w := i.st.NewWriter()
	defer i.addStored(w)
	return writeList(ctx, w, ids)
}

// eachRow calls fn for the blobs of each frame: as the contents table has them, or, without one, of all in the first so many bytes, which must be
// whole.
func (v *Volume) eachRow(size int64, fn func([]volume.Blob) error) error {
	aead, err := v.set.aead(v.ID)
	if err != nil {
		return err
	}
	if v.Sealed() {
		return volume.ReadContents(v.source, v.Trailer, aead, func(f volume.FrameInfo) error { return fn(f.Blobs) })
	}
	end, gaps, err := volume.ScanPayloads(v.source, 0, size, v.ID, func(_ int64, h volume.Header, stored []byte, damage error) error {
		if damage != nil || h.Kind != volume.FrameBlobs {
			return damage
		}
		_, plain, err := volume.OpenFrame(stored, v.ID, aead)
		if err != nil {
			return err
		}
		pack, err := volume.ParsePack(plain)
		if err != nil {
			return err
		}
		return fn(pack.Blobs)
	})
	if err == nil && (len(gaps) > 0 || end != size) {
		err = volume.ErrTorn
	}
	return err
}
