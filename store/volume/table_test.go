package volume

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
)

func onlyPart(t testing.TB, tab *table) []byte {
	t.Helper()
	part, err := tab.part(0)
	if err != nil || tab.parts() != 1 {
		t.Fatalf("%d parts: %v", tab.parts(), err)
	}
	return part
}

// manyBlobs writes a volume with a contents table of several parts, but for frames that fail.
func manyBlobs(t *testing.T, spill func() (File, error)) (*memFile, *Writer, error) {
	t.Helper()
	f := &memFile{}
	w, err := Create(f, testLabel(), Options{AEAD: testAEAD(t, testLabel().Volume), Parity: 6, Random: rand.NewChaCha8([32]byte{1}), Spill: spill})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 1500 {
		blobs := make([]Blob, 60)
		for i := range blobs {
			blobs[i] = Blob{Kind: 1, Length: 9}
			copy(blobs[i].ID[:], randomBytes(byte(r.Uint32()), 32))
		}
		if _, _, err := w.Append(FrameBlobs, make([]byte, 100), blobs); err != nil {
			return f, w, err
		}
	}
	return f, w, w.Seal()
}

// TestSpilledTable: a volume is the same whether its contents table was in memory or in a file.
func TestSpilledTable(t *testing.T) {
	inMemory, _, err := manyBlobs(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	scratch := &memFile{}
	spilled, w, err := manyBlobs(t, func() (File, error) { return scratch, nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if len(scratch.data) < 2*tablePart || !scratch.closed {
		t.Errorf("%d bytes spilled, closed %v", len(scratch.data), scratch.closed)
	}
	if !bytes.Equal(inMemory.data, spilled.data) {
		t.Error("the volumes differ")
	}
}

// TestSpillFails: a volume whose table cannot be kept takes no more frames, and cannot be sealed.
func TestSpillFails(t *testing.T) {
	for failAt := 1; failAt <= 2; failAt++ {
		scratch := &memFile{failAt: failAt}
		_, w, err := manyBlobs(t, func() (File, error) { return scratch, nil })
		if !errors.Is(err, ErrFailed) || !errors.Is(err, errInjected) {
			t.Errorf("write %d: %v", failAt, err)
		}
		if err := w.Seal(); !errors.Is(err, ErrFailed) {
			t.Errorf("write %d: sealed: %v", failAt, err)
		}
		if err := w.Close(); err != nil || !scratch.closed {
			t.Errorf("write %d: %v, closed %v", failAt, err, scratch.closed)
		}
	}
	if _, _, err := manyBlobs(t, func() (File, error) { return nil, errInjected }); !errors.Is(err, errInjected) {
		t.Errorf("no file: %v", err)
	}
}

// TestTableTaken: the table of a volume that is given up outlives its writer.
func TestTableTaken(t *testing.T) {
	scratch := &memFile{}
	f := &memFile{}
	w, err := Create(f, testLabel(), Options{AEAD: testAEAD(t, testLabel().Volume), Spill: func() (File, error) { return scratch, nil }})
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if _, _, err := w.Append(FrameBlobs, make([]byte, 100), make([]Blob, 60)); err != nil {
			t.Fatal(err)
		}
	}
	tab := w.Table()
	if err := w.Close(); err != nil || scratch.closed {
		t.Errorf("%v, closed %v", err, scratch.closed)
	}
	if tab.Parts() < 2 {
		t.Errorf("%d parts", tab.Parts())
	}
	for i := range tab.Parts() {
		if part, err := tab.Part(i); err != nil || part[0] != byte(i) || part[1] != byte(tab.Parts()) {
			t.Errorf("part %d: % x, %v", i, part[:2], err)
		}
	}
	if err := tab.Close(); err != nil || !scratch.closed {
		t.Errorf("%v, closed %v", err, scratch.closed)
	}
}
