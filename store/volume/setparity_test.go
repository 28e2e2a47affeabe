package volume

import (
	"bytes"
	"testing"
)

func TestSetCodeMakesLostVolumesAgain(t *testing.T) {
	for parity := 1; parity <= 4; parity++ {
		code, err := NewSetCode(parity)
		if err != nil {
			t.Fatal(err)
		}
		const volumes, length = 7, 3000
		shards := make([][]byte, SetData+parity)
		for i := range shards {
			shards[i] = make([]byte, length)
		}
		for n := range volumes {
			copy(shards[n], randomBytes(byte(n), length))
			if err := code.Add(n, shards[n], shards[SetData:]); err != nil {
				t.Fatal(err)
			}
		}
		for n := range parity {
			shards[n*2] = nil
		}
		if err := code.Recompute(shards); err != nil {
			t.Fatal(err)
		}
		for n := range volumes {
			if !bytes.Equal(shards[n], randomBytes(byte(n), length)) {
				t.Errorf("%d parity volumes: volume %d is another", parity, n)
			}
		}
	}
	if _, err := NewSetCode(0); err == nil {
		t.Error("no parity volume is a code")
	}
}

func TestLargestCoveredFits(t *testing.T) {
	for _, limit := range []int64{1 << 20, 5 << 20, 33 << 20, 150 << 20} {
		n := LargestCovered(limit, 8192, 6)
		f := &memFile{}
		w, err := Create(f, testLabel(), Options{AEAD: testAEAD(t, testLabel().Volume), Parity: 6})
		if err != nil {
			t.Fatal(err)
		}
		for at := int64(0); at < n; at += SetParityFrame {
			if _, _, err := w.Append(FrameSetParity, make([]byte, 8+min(SetParityFrame, n-at)), nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Seal(); err != nil {
			t.Fatal(err)
		}
		if w.Size() > limit || n < limit*3/4 {
			t.Errorf("limit %d: %d bytes covered by a volume of %d", limit, n, w.Size())
		}
	}
}
