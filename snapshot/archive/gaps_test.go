package archive

import (
	"math"
	"slices"
	"testing"
)

// TestGaps: labels may claim any number; gaps are told without going through them one by one.
func TestGaps(t *testing.T) {
	for _, c := range []struct {
		here []uint32
		last uint32
		want []gap
	}{
		{nil, 0, nil},
		{nil, 3, []gap{{1, 3}}},
		{[]uint32{1, 2, 3}, 3, nil},
		{[]uint32{4, 1, 1, 2}, 6, []gap{{3, 3}, {5, 6}}},
		{[]uint32{2, 1 << 31}, 0, []gap{{1, 1}, {3, 1<<31 - 1}}},
		{[]uint32{0, math.MaxUint32}, math.MaxUint32, []gap{{1, math.MaxUint32 - 1}}},
	} {
		if got := gapsIn(c.here, c.last); !slices.Equal(got, c.want) {
			t.Errorf("%v up to %d: %v, want %v", c.here, c.last, got, c.want)
		}
	}
}
