package chunker

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"testing"
)

// plainCut is the definition, byte by byte.
func plainCut(c *Cutter, buf []byte) int {
	end := min(len(buf), c.params.Max)
	for n := c.params.Min + 1; n <= end; n++ {
		var h uint64
		for _, b := range buf[n-windowSize : n] {
			h = h<<1 + c.gear[b]
		}
		mask := c.strict
		if n > c.centre {
			mask = c.loose
		}
		if h&mask == 0 {
			return n
		}
	}
	return end
}

func cuts(c *Cutter, data []byte) (lengths []int) {
	for len(data) > 0 {
		n := c.Cut(data)
		lengths = append(lengths, n)
		data = data[n:]
	}
	return lengths
}

func TestParams(t *testing.T) {
	for _, test := range []struct{ in, want Params }{
		{Params{}, Params{128 << 10, 512 << 10, 2 << 20}},
		{Params{Average: 1 << 20}, Params{256 << 10, 1 << 20, 4 << 20}},
		{Params{Min: 1, Average: 1000, Max: 10}, Params{64, 1000, 1000}},
		{Params{Average: 1}, Params{64, 64, 256}},
		{Params{Average: 1 << 60}, Params{256 << 20, 1 << 30, 4 << 30}},
	} {
		if got := New(test.in, [32]byte{}).Params(); got != test.want {
			t.Errorf("%+v filled is %+v, want %+v", test.in, got, test.want)
		}
	}
}

// The golden cut points may never change: backups made before and after would no longer share data.
func TestGolden(t *testing.T) {
	var key [32]byte
	copy(key[:], "golden cut points, append only!!")
	for _, test := range []struct {
		params Params
		size   int
		first  []int
		sum    string
	}{
		{Params{}, 8 << 20, []int{682584, 328629, 713046, 353251}, "852a910d4e413a69"},
		{Params{Average: 8 << 10}, 1 << 20, []int{9134, 6832, 2115, 8341}, "6500bc23aab276d7"},
		{Params{Average: 3000, Min: 100, Max: 20000}, 1 << 20, []int{3520, 2642, 2972, 2508}, "d8ce5a82f27ea539"},
	} {
		lengths := cuts(New(test.params, key), randomBytes(7, test.size))
		sum := sha256.Sum256(fmt.Append(nil, lengths))
		if got := hex.EncodeToString(sum[:8]); got != test.sum || !slices.Equal(lengths[:4], test.first) {
			t.Errorf("%+v: cut points begin %v, sum %s", test.params, lengths[:4], got)
		}
	}
}

func TestKeyDecides(t *testing.T) {
	data := randomBytes(2, 4<<20)
	a, b := cuts(New(Params{}, [32]byte{1}), data), cuts(New(Params{}, [32]byte{2}), data)
	if slices.Equal(a, b) {
		t.Fatalf("two keys cut alike: %v", a)
	}
}

func TestBoundsAndAverage(t *testing.T) {
	data := randomBytes(3, 32<<20)
	for _, average := range []int{4 << 10, 24 << 10, 64 << 10, 100_000} {
		c := New(Params{Average: average}, [32]byte{9})
		lengths := cuts(c, data)
		for _, n := range lengths[:len(lengths)-1] {
			if n <= c.params.Min || n > c.params.Max {
				t.Fatalf("average %d: chunk of %d bytes", average, n)
			}
		}
		mean, allowed := len(data)/len(lengths), 4
		if average&(average-1) == 0 {
			allowed = 20
		}
		if d := max(mean-average, average-mean); d > average/allowed {
			t.Errorf("average %d: mean is %d", average, mean)
		}
	}
}

func TestConstantData(t *testing.T) {
	c := New(Params{Average: 4 << 10}, [32]byte{5})
	for _, n := range []int{0, 1, 63, 64, 1024, 1025, 16 << 10, 16<<10 + 1} {
		buf := make([]byte, n)
		if got, want := c.Cut(buf), plainCut(c, buf); got != want {
			t.Errorf("%d zeros: cut at %d, want %d", n, got, want)
		}
	}
}

func TestInsertionMovesNothingElse(t *testing.T) {
	c := New(Params{Average: 16 << 10}, [32]byte{6})
	data := randomBytes(4, 4<<20)
	at := len(data) / 2
	edited := slices.Concat(data[:at], []byte("inserted"), data[at:])
	known := make(map[[32]byte]bool)
	each(c, data, func(chunk []byte) { known[sha256.Sum256(chunk)] = true })
	fresh := 0
	each(c, edited, func(chunk []byte) {
		if !known[sha256.Sum256(chunk)] {
			fresh++
		}
	})
	if fresh == 0 || fresh > 4 {
		t.Fatalf("an insertion makes %d of %d chunks new", fresh, len(known))
	}
}

func each(c *Cutter, data []byte, fn func(chunk []byte)) {
	for len(data) > 0 {
		n := c.Cut(data)
		fn(data[:n])
		data = data[n:]
	}
}

func FuzzCut(f *testing.F) {
	f.Add(uint64(1), uint16(300), []byte("seed"))
	f.Add(uint64(2), uint16(4000), randomBytes(8, 60_000))
	f.Add(uint64(3), uint16(64), make([]byte, 20_000))
	f.Add(uint64(4), uint16(20_000), randomBytes(9, 100_000))
	f.Fuzz(func(t *testing.T, seed uint64, average uint16, data []byte) {
		c := New(Params{Average: int(average)}, [32]byte{byte(seed), byte(seed >> 8)})
		for rest := data; len(rest) > 0; {
			got, want := c.Cut(rest), plainCut(c, rest)
			if got != want {
				t.Fatalf("average %d: cut at %d of %d, want %d", average, got, len(rest), want)
			}
			rest = rest[got:]
		}
	})
}
