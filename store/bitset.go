package store

import "math/bits"

// bitset is a set of small numbers: ordinals of blobs in a volume. Not safe for concurrent use.
type bitset struct{ words []uint64 }

// add reports whether n was not in the set.
func (b *bitset) add(n uint32) bool {
	at := int(n / 64)
	if at >= len(b.words) {
		b.words = append(b.words, make([]uint64, max(at+1, 2*len(b.words))-len(b.words))...)
	}
	if b.words[at]&(1<<(n%64)) != 0 {
		return false
	}
	b.words[at] |= 1 << (n % 64)
	return true
}

func (b *bitset) has(n uint32) bool {
	at := int(n / 64)
	return b != nil && at < len(b.words) && b.words[at]&(1<<(n%64)) != 0
}

func (b *bitset) remove(n uint32) {
	if at := int(n / 64); at < len(b.words) {
		b.words[at] &^= 1 << (n % 64)
	}
}

func (b *bitset) count() (n int64) {
	for _, w := range b.words {
		n += int64(bits.OnesCount64(w))
	}
	return n
}

// union adds all of another set.
func (b *bitset) union(o *bitset) {
	if len(b.words) < len(o.words) {
		b.words = append(b.words, make([]uint64, len(o.words)-len(b.words))...)
	}
	for i, w := range o.words {
		b.words[i] |= w
	}
}

// subtract removes all of another set.
func (b *bitset) subtract(o *bitset) {
	for i := range min(len(b.words), len(o.words)) {
		b.words[i] &^= o.words[i]
	}
}

// fill adds all numbers below n.
func (b *bitset) fill(n int64) {
	b.words = append(b.words, make([]uint64, max(0, int((n+63)/64)-len(b.words)))...)
	for i := range b.words[:n/64] {
		b.words[i] = ^uint64(0)
	}
	if n%64 != 0 {
		b.words[n/64] |= 1<<(n%64) - 1
	}
}
