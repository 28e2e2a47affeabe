package store

import (
	"context"
	"crypto/cipher"
	"io"
	"os"

	"snapfs/store/seal"
	"snapfs/store/volume"
)

// BareVolume is a volume that lies anywhere but in a store.
type BareVolume struct {
	Source io.ReaderAt // from the volume's first byte on; stays the caller's to close
	AEAD   cipher.AEAD // the volume's key

	Pages *os.File // what Source reads, to drop pages behind reading; nil: not a file
	Base  int64    // of the volume in Pages, bytes
}

// BareIndex says where blobs lie, and opens volumes. Its methods are called by many goroutines.
type BareIndex interface {
	// Locate finds blobs; unknown ones give a zero Place.
	Locate(ctx context.Context, ids []ID) ([]Place, error)
	// Volume opens a volume that a Place named.
	Volume(id volume.ID) (*BareVolume, error)
	// Damaged is told of a frame that is not what was written, and reports whether it is worth to ask Locate once more.
	Damaged(ctx context.Context, found DamagedFrame) bool
}

// Bare reads blobs from volumes without a store: what Store's methods of the same names do. Safe for concurrent use.
type Bare struct {
	index  BareIndex
	reader *reader
	keys   idKeys
	bundle *seal.Bundle
}

// NewBare returns a Bare over volumes whose blobs have IDs by the keys of b; cache is for decoded frames, 0 means 32 MiB.
func NewBare(b *seal.Bundle, index BareIndex, cache int64) *Bare {
	if cache == 0 {
		cache = 32 << 20
	}
	r := newReader("", b, bareSource{index}, cache)
	r.open = func(id volume.ID) (*openedVolume, error) {
		v, err := index.Volume(id)
		if err != nil {
			return nil, err
		}
		return &openedVolume{bare: v, aead: v.AEAD}, nil
	}
	return &Bare{index: index, reader: r, keys: newIDKeys(b), bundle: b}
}

// bareSource is a BareIndex as the source of a reader; damage is handled by Bare.
type bareSource struct{ index BareIndex }

func (bareSource) Read(context.Context, volume.ID, int64, int) ([]byte, error) {
	return nil, errVolumeGone
}

func (b bareSource) Locate(ctx context.Context, ids []ID) ([]Place, error) {
	return b.index.Locate(ctx, ids)
}

func (bareSource) Damaged(context.Context, []DamagedFrame) error { return nil }

// Get is Store.Get.
func (b *Bare) Get(ctx context.Context, kind Kind, id ID) ([]byte, error) {
	for {
		data, err := b.reader.get(ctx, kind, id)
		if err == nil || !b.again(ctx, err) {
			return data, err
		}
	}
}

// GetInto is Store.GetInto.
func (b *Bare) GetInto(ctx context.Context, kind Kind, id ID, dst []byte) ([]byte, error) {
	for {
		data, err := b.reader.getInto(ctx, kind, id, dst)
		if err == nil || !b.again(ctx, err) {
			return data, err
		}
	}
}

// again tells the index of damage, which may know another place or heal this one.
func (b *Bare) again(ctx context.Context, err error) bool {
	found, ok := damagedIn(err)
	if !ok || found.Volume.IsZero() || ctx.Err() != nil || !b.index.Damaged(ctx, found) {
		return false
	}
	b.reader.drop(found.Volume)
	return true
}

// Locate is Store.Locate.
func (b *Bare) Locate(ctx context.Context, ids []ID) ([]Place, error) {
	return b.index.Locate(ctx, ids)
}

// BlobID is Store.BlobID.
func (b *Bare) BlobID(kind Kind, data []byte) ID { return b.keys.id(kind, data) }

// PageKey is Store.PageKey.
func (b *Bare) PageKey() [32]byte { return b.bundle.PageKey() }

// Close gives up what it keeps open.
func (b *Bare) Close() error { return b.reader.close() }

// drop forgets an open volume: what it was read from may be another now.
func (r *reader) drop(id volume.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v := r.volumes[id]; v != nil {
		delete(r.volumes, id)
		v.dropped = true
		_ = v.close()
	}
}
