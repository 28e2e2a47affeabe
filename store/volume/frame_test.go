package volume

import (
	"bytes"
	"errors"
	"testing"
)

func testFrame(t testing.TB, k FrameKind, plain []byte) ([]byte, Header) {
	v := testLabel().Volume
	h := Header{Kind: k, Volume: v, Sequence: 77, Random: [8]byte{9, 8, 7}}
	b := appendFrame(nil, h, plain, testAEAD(t, v))
	h, err := ParseHeader(b, v)
	if err != nil {
		t.Fatal(err)
	}
	return b, h
}

func TestFrameRoundTrip(t *testing.T) {
	v := testLabel().Volume
	for _, k := range []FrameKind{FrameBlobs, FrameFacts, FrameContents, FrameParity, FrameLabel} {
		for _, n := range []int{0, 1, 1000} {
			plain := textBytes(1, n)
			b, h := testFrame(t, k, plain)
			if int(h.Stored()) != len(b) || h.Kind != k || h.Sequence != 77 {
				t.Fatalf("kind %d: header %+v for %d bytes", k, h, len(b))
			}
			if n > 1 && bytes.Contains(b, plain) == k.Sealed() {
				t.Errorf("kind %d: payload sealed is %v", k, !k.Sealed())
			}
			_, got, err := OpenFrame(append(b, "what follows"...), v, testAEAD(t, v))
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("kind %d: opened %q, %v", k, got, err)
			}
		}
	}
}

func TestFrameRefusals(t *testing.T) {
	v := testLabel().Volume
	aead := testAEAD(t, v)
	whole, h := testFrame(t, FrameBlobs, []byte("payload"))
	forged := h
	forged.Random[0]++
	tests := []struct {
		name   string
		change func(b []byte) []byte
		volume ID
		want   error
	}{
		{"short header", func(b []byte) []byte { return b[:HeaderSize-1] }, v, ErrTorn},
		{"short payload", func(b []byte) []byte { return b[:len(b)-1] }, v, ErrTorn},
		{"other volume", func(b []byte) []byte { return b }, ID{1}, ErrChecksum},
		{"flipped header", func(b []byte) []byte { b[20] ^= 1; return b }, v, ErrChecksum},
		{"flipped payload", func(b []byte) []byte { b[HeaderSize] ^= 1; return b }, v, ErrChecksum},
		{"forged header", func(b []byte) []byte { forged.put(b); return b }, v, ErrForged},
		{"newer format", func(b []byte) []byte { return putVersion(b, h, Version+1) }, v, ErrNewerVersion},
		{"format 0", func(b []byte) []byte { return putVersion(b, h, 0) }, v, ErrMalformed},
		{"too long", func(b []byte) []byte { l := h; l.Length = MaxPayload + 1; l.put(b); return b }, v, ErrMalformed},
		{"kind 0", func(b []byte) []byte { k := h; k.Kind = 0; k.put(b); return b }, v, ErrMalformed},
		{"unknown critical kind", func(b []byte) []byte { k := h; k.Kind = 0x81; k.put(b); return b }, v, ErrNewerVersion},
	}
	for _, test := range tests {
		_, _, err := OpenFrame(test.change(bytes.Clone(whole)), test.volume, aead)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
	if _, _, err := OpenFrame(bytes.Clone(whole), v, nil); !errors.Is(err, ErrForged) {
		t.Errorf("without a key: %v", err)
	}
}

func TestUnknownKindIsNoError(t *testing.T) {
	b, h := testFrame(t, 0x44, []byte("of later"))
	if h.Kind.Known() || h.Kind.Critical() {
		t.Errorf("kind %#x known or critical", h.Kind)
	}
	if _, _, err := OpenFrame(b, h.Volume, testAEAD(t, h.Volume)); err != nil {
		t.Error(err)
	}
}

// putVersion writes the header with another format version and a right sum.
func putVersion(b []byte, h Header, version byte) []byte {
	h.put(b)
	b[4] = version
	putHeaderSum(b, h.Volume)
	return b
}

func FuzzHeader(f *testing.F) {
	v := testLabel().Volume
	whole, _ := testFrame(f, FrameBlobs, []byte("payload"))
	f.Add(whole, true)
	f.Add(whole[:10], false)
	f.Add(bytes.Repeat([]byte{0xff}, HeaderSize), true)
	f.Fuzz(func(t *testing.T, b []byte, mend bool) {
		if mend && len(b) >= HeaderSize {
			copy(b, frameMagic)
			copy(b[8:], v[:])
			putHeaderSum(b, v)
		}
		h, err := ParseHeader(b, v)
		if err != nil {
			return
		}
		again := make([]byte, HeaderSize)
		h.put(again)
		if !bytes.Equal(again, b[:HeaderSize]) {
			t.Fatalf("%x encodes again as %x", b[:HeaderSize], again)
		}
		_, _, _ = OpenFrame(b, v, testAEAD(t, v))
	})
}
