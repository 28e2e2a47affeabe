package volume

import (
	"fmt"
	"testing"
)

// BenchmarkParity is what parity costs while a volume is written, digests included.
func BenchmarkParity(b *testing.B) {
	for _, percent := range []int{3, 10, 25} {
		for _, size := range []int{16 << 10, 512 << 10} {
			b.Run(fmt.Sprintf("%d%%/%dK", percent, size>>10), func(b *testing.B) {
				m := newParityMaker(testLabel().Volume, fullGeometry(rowsFor(percent)))
				frame := randomBytes(1, size+72)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				at := int64(0)
				for b.Loop() {
					m.add(at, frame)
					if before := at / m.full.length; (at+int64(len(frame)))/m.full.length > before {
						s := m.take(before, (before+1)*m.full.length)
						s.sumRows()
						m.giveBack(s)
					}
					at += int64(len(frame))
				}
			})
		}
	}
}

// BenchmarkAppendParity is BenchmarkAppend with the frames sealed and parity made of them.
func BenchmarkAppendParity(b *testing.B) {
	for _, percent := range []int{0, 3} {
		plain := randomBytes(1, 512<<10)
		blobs := []Blob{testBlob(plain)}
		b.Run(fmt.Sprintf("%d%%", percent), func(b *testing.B) {
			w := parityWriter(b, new(discard), percent)
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := w.Append(FrameBlobs, plain, blobs); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSealSmall ends a volume of a few frames, as most backups do.
func BenchmarkSealSmall(b *testing.B) {
	for _, percent := range []int{0, 3} {
		b.Run(fmt.Sprintf("%d%%", percent), func(b *testing.B) {
			plain := randomBytes(1, 30_000)
			b.ReportAllocs()
			for b.Loop() {
				w := parityWriter(b, new(memFile), percent)
				if _, _, err := w.Append(FrameBlobs, plain, nil); err != nil {
					b.Fatal(err)
				}
				if err := w.Seal(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	f := largeVolume(b)
	for _, blocks := range []bool{false, true} {
		b.Run(fmt.Sprintf("blocks=%v", blocks), func(b *testing.B) {
			b.SetBytes(int64(len(f.data)))
			b.ReportAllocs()
			for b.Loop() {
				if r, err := Check(f, int64(len(f.data)), CheckOptions{Blocks: blocks}); err != nil || !r.Whole() {
					b.Fatal(r, err)
				}
			}
		})
	}
}

// BenchmarkRepair heals a burst of 1 MiB in a volume of 69 MiB.
func BenchmarkRepair(b *testing.B) {
	f := largeVolume(b)
	bad := append([]byte(nil), f.data...)
	clear(bad[20<<20 : 21<<20])
	b.SetBytes(int64(len(bad)))
	b.ReportAllocs()
	for b.Loop() {
		dst := &memFile{data: make([]byte, 0, len(bad))}
		if r, err := Repair(&memFile{data: bad}, int64(len(bad)), dst, RepairOptions{}); err != nil || len(r.Lost) > 0 {
			b.Fatal(r, err)
		}
	}
}
