package store

import (
	"encoding/binary"

	"github.com/zeebo/blake3"
)

// CutHash is the keyed hash that says where pages of directories, content lists and link trees are cut:
// the first eight bytes, little-endian, of the keyed BLAKE3 of a name. Not safe for concurrent use.
type CutHash struct {
	hash *blake3.Hasher
	sum  [32]byte
}

// NewCutHash returns the hash under a store's page key.
func NewCutHash(key [32]byte) *CutHash {
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		panic("store: " + err.Error()) // only for a key that is not 32 bytes long
	}
	return &CutHash{hash: h}
}

// Sum hashes data.
func (h *CutHash) Sum(data []byte) uint64 {
	h.hash.Reset()
	h.hash.Write(data)
	return binary.LittleEndian.Uint64(h.hash.Sum(h.sum[:0]))
}
