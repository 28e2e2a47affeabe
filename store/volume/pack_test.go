package volume

import (
	"bytes"
	"encoding/base64"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/klauspost/compress/s2"
)

func TestPackRoundTrip(t *testing.T) {
	contents := [][]byte{textBytes(1, 5000), nil, randomBytes(2, 700), []byte("x"), textBytes(3, 90_000)}
	var blobs []Blob
	for _, c := range contents {
		blobs = append(blobs, testBlob(c))
	}
	raw := slices.Concat(contents...)
	for level, want := range map[Level]Codec{
		LevelNone: CodecNone, LevelS2: CodecS2, LevelFastest: CodecZstd, LevelDefault: CodecZstd, LevelBetter: CodecZstd,
	} {
		plain := NewPacker(level).Pack([]byte("before"), blobs, raw)
		p, err := ParsePack(plain[len("before"):])
		if err != nil || p.Codec != want || !slices.Equal(p.Blobs, blobs) || int(p.RawLength) != len(raw) {
			t.Fatalf("level %d: codec %d, %d blobs, %d bytes, %v", level, p.Codec, len(p.Blobs), p.RawLength, err)
		}
		body, err := p.Body(nil)
		if err != nil || !bytes.Equal(body, raw) {
			t.Fatalf("level %d: body of %d bytes: %v", level, len(body), err)
		}
		start, length, ok := p.Find(1, blobs[2].ID)
		if !ok || !bytes.Equal(body[start:start+length], contents[2]) {
			t.Errorf("level %d: blob 2 at %d+%d, %v", level, start, length, ok)
		}
		if _, _, ok := p.Find(2, blobs[2].ID); ok {
			t.Errorf("level %d: a blob of another kind was found", level)
		}
	}
}

func TestPackChoosesCodec(t *testing.T) {
	for _, test := range []struct {
		name string
		raw  []byte
		want Codec
	}{
		{"empty", nil, CodecNone},
		{"text", textBytes(1, 512<<10), CodecZstd},
		{"random", randomBytes(1, 512<<10), CodecNone},
		{"short random", randomBytes(1, 500), CodecNone},
		{"short text", textBytes(1, 500), CodecZstd},
		{"largest", make([]byte, MaxRaw), CodecZstd},
	} {
		plain := NewPacker(LevelFastest).Pack(nil, []Blob{testBlob(test.raw)}, test.raw)
		p, err := ParsePack(plain)
		if err != nil || p.Codec != test.want {
			t.Errorf("%s: codec %d, %v", test.name, p.Codec, err)
		}
		if overhead := len(plain) - len(test.raw); p.Codec == CodecNone && overhead > 41 {
			t.Errorf("%s: %d bytes of overhead", test.name, overhead)
		}
		if body, err := p.Body(nil); err != nil || !bytes.Equal(body, test.raw) {
			t.Errorf("%s: body of %d bytes, %v", test.name, len(body), err)
		}
	}
}

func TestBodyReusesMemory(t *testing.T) {
	raw := textBytes(1, 100_000)
	p, err := ParsePack(NewPacker(LevelFastest).Pack(nil, []Blob{testBlob(raw)}, raw))
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, len(raw))
	if body, err := p.Body(dst); err != nil || &body[0] != &dst[0] {
		t.Errorf("body not in the memory given: %v", err)
	}
}

func TestPackRefusals(t *testing.T) {
	raw := textBytes(1, 3000)
	blobs := []Blob{testBlob(raw)}
	small := s2.Encode(nil, make([]byte, 10))
	head := func(c Codec, n int) []byte { return appendPackHead(nil, c, []Blob{{Length: uint32(n)}}, n) }
	for name, plain := range map[string][]byte{
		"empty":           nil,
		"codec alone":     {1},
		"length too long": {0, 0xff, 0xff, 0xff, 0xff, 1},
		"many rows":       {0, 0, 0xff, 0xff, 0xff, 0x7f},
		"longer varint":   {0, 0x80, 0},
		"rows differ":     append(appendPackHead(nil, CodecNone, blobs, 2999), raw...),
		"body short":      append(appendPackHead(nil, CodecNone, blobs, 3000), raw[1:]...),
		"s2 bomb":         append(head(CodecS2, MaxRaw), small...),
		"zstd garbage":    append(head(CodecZstd, MaxRaw), raw...),
		"zstd cut":        NewPacker(LevelFastest).Pack(nil, blobs, raw)[:80],
	} {
		p, err := ParsePack(plain)
		if err == nil {
			_, err = p.Body(nil)
		}
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParsePack([]byte{9, 0, 0}); !errors.Is(err, ErrNewerVersion) {
		t.Errorf("unknown codec: %v", err)
	}
}

func FuzzPack(f *testing.F) {
	for _, level := range []Level{LevelNone, LevelS2, LevelFastest} {
		raw := textBytes(1, 400)
		f.Add(NewPacker(level).Pack(nil, []Blob{testBlob(raw[:100]), testBlob(raw[100:])}, raw))
	}
	f.Add([]byte{0, 0, 0})
	f.Add([]byte{1, 0x80, 0x80, 0x80, 0x20, 1})
	f.Fuzz(func(t *testing.T, plain []byte) {
		p, err := ParsePack(plain)
		if err != nil {
			return
		}
		again := append(appendPackHead(nil, p.Codec, p.Blobs, int(p.RawLength)), p.body...)
		if !bytes.Equal(again, plain) {
			t.Fatalf("%x encodes again as %x", plain, again)
		}
		if body, err := p.Body(nil); err == nil && len(body) != int(p.RawLength) {
			t.Fatalf("body of %d bytes, not %d", len(body), p.RawLength)
		}
	})
}

// TestEncodedTextIsCompressed: data without repetitions, of few distinct bytes.
func TestEncodedTextIsCompressed(t *testing.T) {
	raw := make([]byte, 256<<10)
	rng := rand.NewChaCha8([32]byte{5})
	rng.Read(raw)
	text := []byte(base64.StdEncoding.EncodeToString(raw))
	for name, c := range map[string]struct {
		data []byte
		want Codec
	}{"base64": {text, CodecZstd}, "random": {raw, CodecNone}} {
		plain := NewPacker(LevelFastest).Pack(nil, []Blob{{Kind: 1, Length: uint32(len(c.data))}}, c.data)
		pack, err := ParsePack(plain)
		if err != nil {
			t.Fatal(err)
		}
		if pack.Codec != c.want {
			t.Errorf("%s: codec %d", name, pack.Codec)
		}
		t.Logf("%s: %d bytes packed into %d", name, len(c.data), len(plain))
	}
}
