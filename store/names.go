package store

import (
	"sync"

	"github.com/zeebo/blake3"

	"snapfs/store/seal"
	"snapfs/store/volume"
)

// idKeys hashes blobs into IDs, with one keyed hasher for each kind at hand.
type idKeys struct{ pools *[256]sync.Pool }

func newIDKeys(b *seal.Bundle) idKeys {
	k := idKeys{pools: &[256]sync.Pool{}}
	for kind := range k.pools {
		k.pools[kind].New = func() any {
			key := b.BlobIDKey(uint8(kind))
			h, err := blake3.NewKeyed(key[:])
			if err != nil {
				panic("store: " + err.Error()) // only for a key that is not 32 bytes long
			}
			return h
		}
	}
	return k
}

// id is the keyed BLAKE3-256 of data under the kind's key.
func (k idKeys) id(kind Kind, data []byte) (id ID) {
	pool := &k.pools[kind]
	h := pool.Get().(*blake3.Hasher)
	h.Reset()
	_, _ = h.Write(data) // never fails
	h.Sum(id[:0])
	pool.Put(h)
	return id
}

// level translates the store's setting for package volume.
func (c Compression) level() (volume.Level, error) {
	switch c {
	case CompressionNone:
		return volume.LevelNone, nil
	case CompressionS2:
		return volume.LevelS2, nil
	case CompressionFastest:
		return volume.LevelFastest, nil
	case CompressionDefault:
		return volume.LevelDefault, nil
	case CompressionBetter:
		return volume.LevelBetter, nil
	}
	return 0, errUnknownCompression(c)
}
