package archive

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"snapfs/snapshot"
	"snapfs/store"
	"snapfs/store/seal"
	"snapfs/store/volume"
)

// Target is what Resolve found.
func (b *Bare) Target() *snapshot.Target { return b.target }

// State says which snapshots the sets hold, as their heads do.
func (b *Bare) State(ctx context.Context) (*store.State, error) {
	b.mu.Lock()
	st := b.state
	b.mu.Unlock()
	if st != nil {
		return st, nil
	}
	st, err := b.makeState(ctx)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state = st
	return st, nil
}

func (b *Bare) makeState(ctx context.Context) (*store.State, error) {
	st := &store.State{Seq: 1}
	seen := map[store.ID]bool{}
	for _, s := range b.newestFirst() {
		for _, r := range b.records(ctx, s) {
			if !seen[r.ID] {
				seen[r.ID] = true
				st.Snapshots = append(st.Snapshots, store.Snapshot{
					ID: r.ID, Slot: r.Slot, Dataset: r.Dataset, Name: r.Name, Start: r.Start, Committed: r.Committed, Tags: r.Tags, Summary: r.Summary,
				})
			}
		}
	}
	slices.SortStableFunc(st.Snapshots, func(x, y store.Snapshot) int {
		return cmp.Or(cmp.Compare(x.Slot, y.Slot), x.Start.Compare(y.Start))
	})
	for i := range st.Snapshots {
		st.Snapshots[i].DatasetNumber = datasetNumber(st, st.Snapshots[i].Dataset)
	}
	return st, nil
}

// datasetNumber numbers the datasets as they are met.
func datasetNumber(st *store.State, name string) uint32 {
	for _, d := range st.Datasets {
		if d.Name == name {
			return d.Number
		}
	}
	n := uint32(len(st.Datasets) + 1)
	st.Datasets = append(st.Datasets, store.Dataset{Number: n, Name: name})
	return n
}

// records are a set's snapshots: its head names them, else their manifests do.
func (b *Bare) records(ctx context.Context, s *openSet) (list []HeadSnapshot) {
	if s.head != nil {
		return s.head.Snapshots
	}
	for _, id := range s.manifests {
		m, err := snapshot.ReadManifest(ctx, b, id)
		if err != nil {
			continue
		}
		list = append(list, HeadSnapshot{ID: id, Dataset: m.Dataset, Name: m.Name, Start: m.Start, Tags: m.Tags, Committed: m.End})
	}
	return list
}

// Get returns a blob's plaintext, which the caller must not change. Errors: *store.MissingError, *store.CorruptError.
func (b *Bare) Get(ctx context.Context, kind store.Kind, id store.ID) ([]byte, error) {
	return b.bare.Get(ctx, kind, id)
}

// GetInto is Get in dst's memory.
func (b *Bare) GetInto(ctx context.Context, kind store.Kind, id store.ID, dst []byte) ([]byte, error) {
	return b.bare.GetInto(ctx, kind, id, dst)
}

// Locate tells where blobs lie, for reading them in the order of store.Place.Compare.
func (b *Bare) Locate(ctx context.Context, ids []store.ID) ([]store.Place, error) {
	return b.bare.Locate(ctx, ids)
}

// BlobID is the ID that data has in the store the sets were written from.
func (b *Bare) BlobID(kind store.Kind, data []byte) store.ID { return b.bare.BlobID(kind, data) }

// Keys are those of a set; they name and cut content as its store does.
func (b *Bare) Keys() *seal.Bundle { return b.sets[0].bundle }

// Secret is what opened the sets; nil if none was needed.
func (b *Bare) Secret() *seal.Secret { return b.keys.secret }

// ChunkAverage is the origin's, in bytes; 0 if that is not known.
func (b *Bare) ChunkAverage() int {
	for _, s := range b.sets {
		if s.head != nil {
			return s.head.ChunkAverage
		}
	}
	return 0
}

// PageKey is that store's.
func (b *Bare) PageKey() [32]byte { return b.bare.PageKey() }

// places is a Bare as the index of a store.Bare.
type places Bare

// Locate is store.BareIndex's.
func (p *places) Locate(_ context.Context, ids []store.ID) ([]store.Place, error) {
	list := make([]store.Place, len(ids))
	for i, id := range ids {
		if at, ok := p.index.first(id); ok {
			list[i] = store.Place{Volume: p.volume(at.volume).ID, Offset: at.offset, Stored: at.stored, Start: at.start, Length: at.length}
		}
	}
	return list, nil
}

func (p *places) volume(n uint32) *Volume {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.volumes[n]
}

// Volume is store.BareIndex's.
func (p *places) Volume(id volume.ID) (*store.BareVolume, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range p.volumes {
		if v.ID != id {
			continue
		}
		aead, err := v.set.aead(id)
		if err != nil {
			return nil, err
		}
		if v.source == nil {
			return &store.BareVolume{Source: p.spool.file, AEAD: aead}, nil
		}
		return &store.BareVolume{Source: v.source, AEAD: aead, Pages: v.pages, Base: v.base}, nil
	}
	return nil, fmt.Errorf("volume %s: %w", id, ErrNoVolume)
}

// Damaged is store.BareIndex's: the volume is healed, or another place of the blob tried.
func (p *places) Damaged(_ context.Context, found store.DamagedFrame) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.volumes, func(v *Volume) bool { return v.ID == found.Volume })
	if i < 0 {
		return false
	}
	v := p.volumes[i]
	if v.source != nil && v.healed == nil {
		if err := v.heal(p.o.Scratch); err == nil {
			(*Bare)(p).noteHealed(v)
			return true
		}
	}
	v.gone = true
	p.index.drop(found.Blob, v.number, found.Offset)
	return len(p.index.find(found.Blob)) > 0
}
