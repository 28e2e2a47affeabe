package volume

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// shortSpans is a geometry with spans of 64 KiB, so that many fit into a test: 16 blocks of 512 bytes in 8 groups.
var shortSpans = geometry{shift: 9, data: 16, rows: 4, groups: 8, length: 16 * 8 << 9}

// spanWriter is a Writer with short spans.
func spanWriter(t testing.TB, f File) *Writer {
	t.Helper()
	l := testLabel()
	w, err := Create(f, l, Options{AEAD: testAEAD(t, l.Volume), Random: testRandom(1), full: shortSpans})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// checkWhole verifies everything, blocks against their parity too.
func checkWhole(t testing.TB, f *memFile) Report {
	t.Helper()
	r, err := Check(f, int64(len(f.data)), CheckOptions{Blocks: true})
	if err != nil || !r.Whole() {
		t.Fatalf("%+v, %v", r, err)
	}
	return r
}

// Writers at the same time, syncs and Protect among them: the parity is right all the same.
func TestConcurrentParity(t *testing.T) {
	f := new(memFile)
	w := spanWriter(t, f)
	var group sync.WaitGroup
	all := make([][]placed, 6)
	for g := range all {
		group.Go(func() {
			r := rand.New(rand.NewChaCha8([32]byte{byte(g)}))
			for i := range 60 {
				all[g] = append(all[g], appendBlobs(t, w, randomBytes(byte(i), 1+r.IntN(20_000))))
				switch i % 20 {
				case 7:
					checkSync(t, w, all[g][len(all[g])-1])
				case 13:
					if err := w.Protect(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	group.Wait()
	if err := w.Seal(); err != nil {
		t.Fatal(err)
	}
	frames := slices.Concat(all...)
	slices.SortFunc(frames, func(a, b placed) int { return int(a.offset - b.offset) })
	checkFrames(t, f, frames)
	r := checkWhole(t, f)
	if spans := len(f.data) / int(shortSpans.length); !r.Sealed || r.Sets < spans || len(r.Unprotected) > 0 || r.Parity != w.ParityBytes() {
		t.Errorf("%d spans, %+v, parity %d", spans, r, w.ParityBytes())
	}
	bursts(t, f, (4-2)*8*512, 60)
}

// bursts damages a volume in one place after the other.
func bursts(t testing.TB, f *memFile, length, n int) {
	t.Helper()
	r := rand.New(rand.NewChaCha8([32]byte{8}))
	for i := range n {
		at := r.IntN(len(f.data))
		if i%5 == 0 { // around the ends of spans
			at = max(0, min(len(f.data)-1, at/int(shortSpans.length)*int(shortSpans.length)-r.IntN(length)))
		}
		bad := bytes.Clone(f.data)
		end := min(at+length, len(bad))
		copy(bad[at:end], randomBytes(byte(i), end-at))
		mustHeal(t, fmt.Sprintf("burst at %d of %d", at, len(bad)), f.data, bad)
	}
}

// A frame longer than several spans.
func TestFrameOverSpans(t *testing.T) {
	f := new(memFile)
	w := spanWriter(t, f)
	appendBlobs(t, w, randomBytes(1, 5*int(shortSpans.length)))
	appendBlobs(t, w, []byte("behind"))
	if err := w.Seal(); err != nil {
		t.Fatal(err)
	}
	checkWhole(t, f)
	bursts(t, f, 2*8*512, 20)
}

// A volume may end anywhere in a span.
func TestLastSpanOfEveryLength(t *testing.T) {
	for n := 0; n < int(shortSpans.length); n += 1031 {
		f := new(memFile)
		w := spanWriter(t, f)
		appendBlobs(t, w, randomBytes(1, int(shortSpans.length)-5000))
		appendBlobs(t, w, randomBytes(2, n))
		if err := w.Seal(); err != nil {
			t.Fatal(err)
		}
		if r := checkWhole(t, f); len(r.Unprotected) > 0 {
			t.Fatalf("%d: %+v", n, r)
		}
		bad := bytes.Clone(f.data)
		clear(bad[len(bad)-4096:])
		mustHeal(t, fmt.Sprintf("%d bytes behind the first span", n), f.data, bad)
	}
}

// What is new in an open volume heals after Protect, costs little, and nothing is added for its own sake.
func TestProtect(t *testing.T) {
	f := new(memFile)
	w := spanWriter(t, f)
	appendBlobs(t, w, randomBytes(1, 9000))
	for range 3 {
		if err := w.Protect(); err != nil {
			t.Fatal(err)
		}
	}
	size := w.Size()
	if r := checkWhole(t, f); r.Sets != 1 || len(r.Unprotected) > 0 || r.Sealed {
		t.Fatalf("%+v", r)
	}
	for at := 0; at < int(size); at += 4096 {
		bad := bytes.Clone(f.data)
		clear(bad[at:min(at+4096, len(bad))])
		mustHeal(t, fmt.Sprintf("page at %d of an open volume", at), f.data, bad)
	}
	p := appendBlobs(t, w, randomBytes(2, 5000))
	if err := w.Protect(); err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(f.data)
	clear(bad[p.offset : p.offset+4000])
	mustHeal(t, "the newest frame", f.data, bad)
	if err := errors.Join(w.Seal(), w.Protect(), w.Close()); err != nil {
		t.Fatal(err)
	}
	checkWhole(t, f)
}

// However often, it takes no more than its share.
func TestProtectIsBounded(t *testing.T) {
	f := new(memFile)
	w := parityWriter(t, f, 3)
	for i := range 400 {
		appendBlobs(t, w, randomBytes(byte(i), 700))
		if err := w.Protect(); err != nil {
			t.Fatal(err)
		}
	}
	if most := int64(interimBytes) + w.Size()/interimShare; w.ParityBytes() > most {
		t.Errorf("%d bytes of parity in %d, at most %d", w.ParityBytes(), w.Size(), most)
	}
	checkWhole(t, f)
}

// lying is a File that reads back something else than was written.
type lying struct {
	memFile
	lie bool
}

func (l *lying) ReadAt(p []byte, off int64) (int, error) {
	n, err := l.memFile.ReadAt(p, off)
	if l.lie && n > 0 {
		p[n/2] ^= 1
	}
	return n, err
}

// A disk that does not give back what was written is found out, and the parity is made of what was written.
func TestReadBackLies(t *testing.T) {
	f := new(lying)
	w := spanWriter(t, f)
	appendBlobs(t, w, randomBytes(1, 20_000))
	f.lie = true
	if err := w.Protect(); !errors.Is(err, ErrChecksum) {
		t.Errorf("protect: %v", err)
	}
	if err := w.Seal(); err != nil {
		t.Fatal(err)
	}
	f.lie = false
	checkWhole(t, &f.memFile)
}

// parityScript writes several spans; it gives the frames that a Sync has promised.
func parityScript(t *testing.T, f *memFile) (promised []placed, err error) {
	l := testLabel()
	w, err := Create(f, l, Options{AEAD: testAEAD(t, l.Volume), Random: testRandom(1), full: shortSpans})
	if err != nil {
		return nil, err
	}
	var frames []placed
	for round := range 4 {
		for i := range 3 {
			raw := randomBytes(byte(round*3+i), 15_000)
			blobs := []Blob{testBlob(raw)}
			plain := NewPacker(LevelNone).Pack(nil, blobs, raw)
			offset, stored, err := w.Append(FrameBlobs, plain, blobs)
			if err != nil {
				return promised, errors.Join(err, failedForGood(w), w.Close())
			}
			frames = append(frames, placed{offset, stored, blobs, plain})
		}
		if err := errors.Join(w.Protect(), w.Sync()); err != nil {
			return promised, errors.Join(err, failedForGood(w), w.Close())
		}
		promised = slices.Clone(frames)
	}
	if err := w.Seal(); err != nil {
		return promised, errors.Join(err, failedForGood(w), w.Close())
	}
	return promised, w.Close()
}

// Whatever operation fails, parity's own among them: what was promised is there, and the volume is whole up to its end.
func TestEveryOperationFailsWithParity(t *testing.T) {
	for k := 1; ; k++ {
		f := &memFile{failAt: k}
		promised, err := parityScript(t, f)
		if err == nil {
			if f.ops >= k {
				t.Fatalf("operation %d failed and nobody noticed", k)
			}
			return
		}
		if !errors.Is(err, errInjected) || err.Error() == "a failed volume went on" {
			t.Fatalf("operation %d: %v", k, err)
		}
		checkFrames(t, f, promised)
		if len(f.data) >= labelUnit {
			checkWhole(t, f)
		}
	}
}

// recorder keeps what a crash after each write would leave, if the device keeps the order.
type recorder struct {
	memFile
	images [][]byte
}

func (r *recorder) WriteAt(p []byte, off int64) (int, error) {
	n, err := r.memFile.WriteAt(p, off)
	r.images = append(r.images, bytes.Clone(r.data))
	if len(p) > 2 { // and in the midst of it
		r.images = append(r.images, bytes.Clone(r.data[:int(off)+len(p)/2]))
	}
	return n, err
}

// After a crash the frames are there, and damage heals in the spans whose parity was written.
func TestCrashLeavesParity(t *testing.T) {
	f := new(recorder)
	w := spanWriter(t, f)
	for i := range 20 {
		appendBlobs(t, w, randomBytes(byte(i), 11_000))
	}
	if err := w.Seal(); err != nil {
		t.Fatal(err)
	}
	for i, image := range f.images {
		r, err := Check(bytes.NewReader(image), int64(len(image)), CheckOptions{Volume: w.ID(), Blocks: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range r.Damage {
			if d.Part != PartTail && d.Part != PartTrailer && len(image) >= labelUnit {
				t.Fatalf("image %d of %d bytes: %+v", i, len(image), d)
			}
		}
		for s := range r.Sets {
			bad := bytes.Clone(image)
			at := s * int(shortSpans.length)
			clear(bad[at+5000 : at+9000])
			dst := new(memFile)
			if _, err := Repair(&memFile{data: bad}, int64(len(bad)), dst, RepairOptions{}); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(dst.data[:len(image)], image) {
				t.Fatalf("image %d of %d bytes: damage in span %d of %d does not heal", i, len(image), s, r.Sets)
			}
		}
	}
}

// Parity of a volume may be left out, at any percentage it is made, and what it takes is what was asked for.
func TestParityPercent(t *testing.T) {
	for percent, rows := range map[int]int{-1: 0, 0: 0, 1: 1, 2: 3, 3: 4, 10: 13, 25: 32, 99: 32} {
		if got := rowsFor(percent); got != rows {
			t.Errorf("%d %%: %d rows, want %d", percent, got, rows)
		}
	}
	for _, percent := range []int{1, 2, 10, 25} {
		f := protectedVolume(t, 100_000, percent)
		checkWhole(t, f)
		bad := bytes.Clone(f.data)
		clear(bad[50_000:52_000])
		mustHeal(t, fmt.Sprintf("%d %%", percent), f.data, bad)
	}
}
