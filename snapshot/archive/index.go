package archive

import (
	"cmp"
	"encoding/binary"
	"slices"
	"sync"

	"snapfs/store"
	"snapfs/store/volume"
)

// blobPlace is where a blob lies, in 32 bytes: an archive of a terabyte has some 2 million.
type blobPlace struct {
	key    uint64 // the first bytes of the ID; the frame itself says whether the rest is right
	offset int64  // of the frame in the volume
	volume uint32 // number in the index; goneVolume: damaged
	stored uint32
	start  uint32
	length uint32
}

// goneVolume marks places that turned out to be damaged.
const goneVolume = ^uint32(0)

func keyOf(id store.ID) uint64 { return binary.LittleEndian.Uint64(id[:]) }

// blobIndex finds blobs in volumes. It is filled by one goroutine, and then used by many.
type blobIndex struct {
	mu     sync.RWMutex
	places []blobPlace // by key once sorted
	sorted int         // so many of them are
}

// add takes the blobs of a frame.
func (x *blobIndex) add(vol uint32, offset int64, stored uint32, blobs []volume.Blob) {
	x.mu.Lock()
	defer x.mu.Unlock()
	start := uint32(0)
	for i := range blobs {
		b := &blobs[i]
		x.places = append(x.places, blobPlace{keyOf(b.ID), offset, vol, stored, start, b.Length})
		start += b.Length
	}
}

// find returns the places of a blob, and perhaps of others that begin alike; those earlier in the order of volumes first.
func (x *blobIndex) find(id store.ID) (list []blobPlace) {
	key := keyOf(id)
	x.sort()
	x.mu.RLock()
	defer x.mu.RUnlock()
	for i := x.seek(key); i < len(x.places) && x.places[i].key == key; i++ {
		if x.places[i].volume != goneVolume {
			list = append(list, x.places[i])
		}
	}
	return list
}

// first is find for the most frequent question.
func (x *blobIndex) first(id store.ID) (blobPlace, bool) {
	key := keyOf(id)
	x.sort()
	x.mu.RLock()
	defer x.mu.RUnlock()
	for i := x.seek(key); i < len(x.places) && x.places[i].key == key; i++ {
		if x.places[i].volume != goneVolume {
			return x.places[i], true
		}
	}
	return blobPlace{}, false
}

// sort puts what was added since into order.
func (x *blobIndex) sort() {
	x.mu.RLock()
	done := x.sorted == len(x.places)
	x.mu.RUnlock()
	if done {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	slices.SortStableFunc(x.places, func(a, b blobPlace) int { return cmp.Compare(a.key, b.key) })
	x.sorted = len(x.places)
}

// drop forgets a place of a blob.
func (x *blobIndex) drop(id store.ID, vol uint32, offset int64) {
	x.sort()
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := x.seek(keyOf(id)); i < len(x.places) && x.places[i].key == keyOf(id); i++ {
		if p := &x.places[i]; p.volume == vol && p.offset == offset {
			p.volume = goneVolume
		}
	}
}

// seek is where the places of a key begin. Needs mu.
func (x *blobIndex) seek(key uint64) int {
	i, _ := slices.BinarySearchFunc(x.places, key, func(p blobPlace, k uint64) int { return cmp.Compare(p.key, k) })
	return i
}
