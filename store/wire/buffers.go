package wire

import (
	"math/bits"
	"sync"
)

// Request buffers from 64 KiB on are used again, one pool for each power of two that MaxPayload needs.
const (
	minPooled = 16 // log2
	maxPooled = 25
)

// buffers hands out memory for requests. Safe for concurrent use.
type buffers struct {
	pools [maxPooled - minPooled + 1]sync.Pool
}

func (p *buffers) get(n int) []byte {
	if n <= 1<<minPooled {
		return make([]byte, n)
	}
	class := bits.Len(uint(n - 1))
	if b, ok := p.pools[class-minPooled].Get().(*[]byte); ok {
		return (*b)[:n]
	}
	return make([]byte, n, 1<<class)
}

func (p *buffers) put(b []byte) {
	class := bits.Len(uint(cap(b))) - 1
	if class > minPooled && class <= maxPooled && cap(b) == 1<<class {
		p.pools[class-minPooled].Put(&b)
	}
}
