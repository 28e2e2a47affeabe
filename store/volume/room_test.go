package volume

import (
	"math/rand/v2"
	"testing"
)

func TestSealedSizeIsEnough(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		percent := []int{0, 3, 6, 25}[r.IntN(4)]
		f := &memFile{}
		w, err := Create(f, testLabel(), Options{AEAD: testAEAD(t, testLabel().Volume), Parity: percent})
		if err != nil {
			t.Fatal(err)
		}
		limit := int64(r.IntN(3 << 20))
		if seed%20 == 0 {
			limit = 70 << 20
		}
		before := int64(0)
		for w.Size() < limit {
			plain, blobs := make([]byte, r.IntN(300_000)), make([]Blob, r.IntN(20))
			most := w.SealedSize(len(plain), len(blobs))
			if _, _, err := w.Append(FrameBlobs, plain, blobs); err != nil {
				t.Fatal(err)
			}
			before = most
		}
		most := w.SealedSize(-1, 0)
		if before > 0 {
			most = min(most, before)
		}
		if err := w.Seal(); err != nil {
			t.Fatal(err)
		}
		if got := w.Size(); got > most || most > got+got/4+(400<<10) {
			t.Errorf("seed %d, %d %%: %d bytes, at most %d were expected", seed, percent, got, most)
		}
	}
}
