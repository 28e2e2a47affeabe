package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"snapfs/store/volume"
)

// TestMustHeal damages stores, large and small, in all ways that parity by default must bring back, and repairs them: the exact former
// bytes, every time.
func TestMustHeal(t *testing.T) {
	large := 66
	if testing.Short() {
		large = 33
	}
	for _, size := range []int{large << 20, 3 << 20, 40 << 10} {
		t.Run(fmt.Sprintf("%d KiB", size>>10), func(t *testing.T) { mustHeal(t, size) })
	}
}

func mustHeal(t *testing.T, size int) {
	dir := newStore(t)
	st := openStore(t, dir)
	var sizes []int
	for left := size; left > 0; left -= sizes[len(sizes)-1] {
		sizes = append(sizes, min(left, 500<<10))
	}
	ids, _ := putAll(t, st, "d", "one", blobs(1, sizes...))
	closeStore(t, st)
	rng := rand.New(rand.NewPCG(5, 6))
	var read, tried int64
	var took time.Duration
	for path, whole := range readVolumes(t, dir) {
		for name, damage := range healing(rng, path, whole) {
			b := damage(bytes.Clone(whole))
			must(t, os.WriteFile(path, b, 0o600))
			if rng.IntN(4) == 0 {
				must(t, os.RemoveAll(filepath.Join(dir, indexName)))
			}
			st := openStore(t, dir)
			began := time.Now()
			sum, findings := verified(t, st.session, VerifyOptions{Data: true, Repair: true})
			took += time.Since(began)
			read += sum.Bytes
			tried++
			if sum.Findings != sum.Healed || sum.Findings == 0 {
				t.Errorf("%s: %+v", name, findings)
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, whole) {
				t.Fatalf("%s: not what it was: %v", name, err)
			}
			if _, err := st.Get(t.Context(), KindChunk, ids[0]); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			closeStore(t, st)
		}
	}
	t.Logf("%d damaged volumes are what they were; %d MB/s", tried, read/max(took.Microseconds(), 1))
}

// healing are ways to damage a volume that parity must bring back.
func healing(rng *rand.Rand, path string, whole []byte) map[string]func([]byte) []byte {
	n := len(whole)
	trailer, err := volume.ReadTrailer(bytes.NewReader(whole), int64(n))
	if err != nil {
		panic(path)
	}
	burst := func(at, length int) func([]byte) []byte {
		return func(b []byte) []byte {
			for i := at; i < min(at+length, len(b)); i++ {
				b[i] ^= byte(1 + rng.IntN(255))
			}
			return b
		}
	}
	longest := 4096 - 511 // within a page or so, whatever the size; more where there is more parity
	switch {
	case n >= 32<<20:
		longest = 1 << 20
	case n >= 1<<20:
		longest = 64 << 10
	}
	all := map[string]func([]byte) []byte{
		"label":            burst(0, 4000),
		"trailer":          burst(n-volume.TrailerSize, volume.TrailerSize),
		"contents table":   burst(int(trailer.Contents), min(int(trailer.Label-trailer.Contents), longest)),
		"repeated label":   burst(int(trailer.Label), min(3000, longest)),
		"cut trailer":      func(b []byte) []byte { return b[:n-volume.TrailerSize] },
		"flipped bit":      burst(4096+rng.IntN(n-4096-volume.TrailerSize), 1),
		"bytes at the end": func(b []byte) []byte { return append(b, make([]byte, 5000)...) },
	}
	for i := range 4 {
		all[fmt.Sprintf("burst %d", i)] = burst(rng.IntN(n-longest), longest)
	}
	if n >= 1<<20 {
		all["4 flips"] = func(b []byte) []byte {
			for range 4 {
				b[rng.IntN(n)] ^= 0x40
			}
			return b
		}
		all["1000 bytes removed"] = func(b []byte) []byte {
			at := 8192 + rng.IntN(int(trailer.Contents)-20_000)
			return append(b[:at], b[at+1000:]...)
		}
	}
	return all
}
