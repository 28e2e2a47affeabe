package fs

import "slices"

// arena hands out pieces of one piece of memory. Chunks in buffers of the heap are garbage for the collector at up to
// 800 MB/s, and near a mount's memory limit it then runs a hundred times a second (measured: a third of the CPU of a tar of small
// and middling files). Not safe for concurrent use.
type arena struct {
	size  int // bytes; the memory is taken with the first piece
	mem   []byte
	holes []hole // in order of offset, none empty, none beside another
}

// hole is a stretch that is free.
type hole struct{ at, size int }

// arenaUnit is what pieces are rounded up to.
const arenaUnit = 4096

func newArena(size int) *arena {
	size = size / arenaUnit * arenaUnit
	return &arena{size: size, holes: []hole{{0, size}}}
}

// roomFor is how much of an arena a piece of n bytes takes.
func roomFor(n int) int { return (n + arenaUnit - 1) &^ (arenaUnit - 1) }

// take returns a piece with n bytes, nil if no hole is large enough: the first that is.
func (a *arena) take(n int) (piece []byte, at int) {
	room := roomFor(n)
	for i := range a.holes {
		h := &a.holes[i]
		if h.size < room {
			continue
		}
		if a.mem == nil {
			a.mem = make([]byte, a.size)
		}
		at = h.at
		if h.at, h.size = h.at+room, h.size-room; h.size == 0 {
			a.holes = slices.Delete(a.holes, i, i+1)
		}
		return a.mem[at : at+n : at+room], at
	}
	return nil, 0
}

// give takes back a piece of n bytes.
func (a *arena) give(at, n int) {
	room := roomFor(n)
	i, _ := slices.BinarySearchFunc(a.holes, at, func(h hole, at int) int { return h.at - at })
	before := i > 0 && a.holes[i-1].at+a.holes[i-1].size == at
	behind := i < len(a.holes) && at+room == a.holes[i].at
	switch {
	case before && behind:
		a.holes[i-1].size += room + a.holes[i].size
		a.holes = slices.Delete(a.holes, i, i+1)
	case before:
		a.holes[i-1].size += room
	case behind:
		a.holes[i].at, a.holes[i].size = at, a.holes[i].size+room
	default:
		a.holes = slices.Insert(a.holes, i, hole{at, room})
	}
}
