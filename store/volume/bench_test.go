package volume

import (
	"fmt"
	"path/filepath"
	"testing"
)

var benchLevels = map[string]Level{
	"none": LevelNone, "s2": LevelS2, "fastest": LevelFastest, "default": LevelDefault, "better": LevelBetter,
}

// discard is a File that forgets.
type discard struct{ memFile }

func (*discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (*discard) Sync() error                            { return nil }

func BenchmarkPack(b *testing.B) {
	for name, level := range benchLevels {
		for kind, raw := range map[string][]byte{"text": textBytes(1, 512<<10), "random": randomBytes(1, 512<<10)} {
			b.Run(name+"/"+kind, func(b *testing.B) {
				p, blobs, dst := NewPacker(level), []Blob{testBlob(raw)}, []byte(nil)
				b.SetBytes(int64(len(raw)))
				b.ReportAllocs()
				for b.Loop() {
					dst = p.Pack(dst[:0], blobs, raw)
				}
			})
		}
	}
}

func BenchmarkBody(b *testing.B) {
	for name, level := range benchLevels {
		raw := textBytes(1, 512<<10)
		p, err := ParsePack(NewPacker(level).Pack(nil, []Blob{testBlob(raw)}, raw))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			dst := make([]byte, len(raw))
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Body(dst); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParsePack(b *testing.B) {
	raw := textBytes(1, 256<<10)
	var blobs []Blob
	for i := range 64 {
		blobs = append(blobs, testBlob(raw[i*4096:][:4096]))
	}
	plain := NewPacker(LevelFastest).Pack(nil, blobs, raw)
	b.ReportAllocs()
	for b.Loop() {
		p, err := ParsePack(plain)
		if err != nil {
			b.Fatal(err)
		}
		if _, _, ok := p.Find(1, blobs[40].ID); !ok {
			b.Fatal("not found")
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{16 << 10, 256 << 10, 512 << 10} {
		plain := randomBytes(1, size)
		blobs := []Blob{testBlob(plain)}
		b.Run(fmt.Sprintf("%dK", size>>10), func(b *testing.B) {
			w := newWriter(b, new(discard))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := w.Append(FrameBlobs, plain, blobs); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpenFrame(b *testing.B) {
	plain := randomBytes(1, 512<<10)
	whole, h := testFrame(b, FrameBlobs, plain)
	aead := testAEAD(b, h.Volume)
	buf := make([]byte, len(whole))
	b.SetBytes(int64(len(plain)))
	b.ReportAllocs()
	for b.Loop() {
		copy(buf, whole)
		if _, _, err := OpenFrame(buf, h.Volume, aead); err != nil {
			b.Fatal(err)
		}
	}
}

// benchVolume is an open volume of 64 MiB in memory.
func benchVolume(b *testing.B) *memFile {
	f := &memFile{data: make([]byte, 0, 70<<20)}
	w := newWriter(b, f)
	for i := range 128 {
		plain := randomBytes(byte(i), 512<<10)
		if _, _, err := w.Append(FrameBlobs, plain, []Blob{testBlob(plain)}); err != nil {
			b.Fatal(err)
		}
	}
	return f
}

func BenchmarkScan(b *testing.B) {
	f := benchVolume(b)
	v, size := testLabel().Volume, int64(len(f.data))
	b.Run("headers", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := Scan(f, 0, size, v, func(int64, Header) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("payloads", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			_, _, err := ScanPayloads(f, 0, size, v, func(_ int64, _ Header, _ []byte, damage error) error { return damage })
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("damaged", func(b *testing.B) {
		clear(f.data[4096 : 4096+HeaderSize])
		clear(f.data[2<<20 : 34<<20])
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			if _, gaps, err := Scan(f, 0, size, v, func(int64, Header) error { return nil }); err != nil || len(gaps) != 2 {
				b.Fatal(gaps, err)
			}
		}
	})
}

// BenchmarkFile writes 256 MiB in pieces of 512 KiB and syncs once, as a volume is written.
func BenchmarkFile(b *testing.B) {
	piece := randomBytes(1, 512<<10)
	for name, create := range map[string]func(path string) (File, error){
		"behind":   func(path string) (File, error) { return CreateFile(path, FileOptions{}) },
		"kept":     func(path string) (File, error) { return CreateFile(path, FileOptions{KeepCached: true}) },
		"buffered": func(path string) (File, error) { return createPlain(path) },
	} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			b.SetBytes(256 << 20)
			for i := 0; b.Loop(); i++ {
				f, err := create(filepath.Join(dir, fmt.Sprint(i)))
				if err != nil {
					b.Fatal(err)
				}
				for at := int64(0); at < 256<<20; at += int64(len(piece)) {
					if _, err := f.WriteAt(piece, at); err != nil {
						b.Fatal(err)
					}
				}
				for _, err := range []error{f.Sync(), f.Truncate(0), f.Close()} {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
