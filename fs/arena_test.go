package fs

import (
	"math/rand/v2"
	"testing"
)

// TestArena takes and gives pieces at random: no two overlap, and given back they make one hole again.
func TestArena(t *testing.T) {
	const size = 1 << 20
	a := newArena(size + 100)
	type piece struct {
		b  []byte
		at int
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	var taken []piece
	full := 0
	for range 20_000 {
		if i := rnd.IntN(len(taken) + 1); i < len(taken) && rnd.IntN(2) == 0 {
			p := taken[i]
			for _, b := range p.b {
				if b != byte(p.at/arenaUnit) {
					t.Fatalf("piece at %d was overwritten", p.at)
				}
			}
			a.give(p.at, len(p.b))
			taken[i] = taken[len(taken)-1]
			taken = taken[:len(taken)-1]
			continue
		}
		n := 1 + rnd.IntN(100_000)
		b, at := a.take(n)
		if b == nil {
			full++
			continue
		}
		if len(b) != n || cap(b) != roomFor(n) {
			t.Fatalf("%d bytes with room for %d, wanted %d", len(b), cap(b), n)
		}
		for i := range b {
			b[i] = byte(at / arenaUnit)
		}
		taken = append(taken, piece{b, at})
	}
	if full == 0 {
		t.Error("the arena was never full")
	}
	for _, p := range taken {
		a.give(p.at, len(p.b))
	}
	if len(a.holes) != 1 || a.holes[0] != (hole{0, size}) {
		t.Errorf("holes left: %v", a.holes)
	}
}
