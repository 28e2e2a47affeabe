package chunker

import (
	"math/rand/v2"
	"testing"
)

func BenchmarkCut(b *testing.B) {
	data := randomBytes(1, 32<<20)
	c := New(Params{}, [32]byte{1})
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		for rest := data; len(rest) > 0; {
			rest = rest[c.Cut(rest):]
		}
	}
}

// randomBytes is the same for the same seed, everywhere.
func randomBytes(seed uint64, n int) []byte {
	var key [32]byte
	key[0] = byte(seed)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}
