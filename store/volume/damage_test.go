package volume

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"syscall"
	"testing"
)

// seen is what a scan found.
type seen struct {
	offsets []int64
	damaged []int64
	gaps    []Gap
	end     int64
}

func scanAll(t testing.TB, r io.ReaderAt, from, size int64) seen {
	t.Helper()
	var s seen
	v := testLabel().Volume
	var err error
	s.end, s.gaps, err = ScanPayloads(r, from, size, v, func(offset int64, h Header, stored []byte, damage error) error {
		s.offsets = append(s.offsets, offset)
		if damage != nil {
			s.damaged = append(s.damaged, offset)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var offsets []int64
	end, gaps, err := Scan(r, from, size, v, func(offset int64, h Header) error {
		offsets = append(offsets, offset)
		return nil
	})
	if err != nil || end != s.end || !slices.Equal(gaps, s.gaps) || !slices.Equal(offsets, s.offsets) {
		t.Fatalf("scan by headers: %v, %v, end %d, %v; with payloads %+v", offsets, gaps, end, err, s)
	}
	return s
}

func TestScanSealed(t *testing.T) {
	f, frames := smallVolume(t)
	size := int64(len(f.data))
	s := scanAll(t, f, 0, size)
	if len(s.offsets) != len(frames)+2 || len(s.gaps)+len(s.damaged) > 0 || s.end != size-TrailerSize {
		t.Errorf("%+v", s)
	}
	if s := scanAll(t, f, frames[2].offset, size); len(s.offsets) != len(frames) || len(s.gaps) > 0 {
		t.Errorf("from frame 2: %+v", s)
	}
	want := errors.New("enough")
	if _, _, err := Scan(f, 0, size, testLabel().Volume, func(int64, Header) error { return want }); err != want {
		t.Errorf("callback's error: %v", err)
	}
}

// A crash may cut a volume anywhere: the whole frames before are found, and nothing else.
func TestTornAtEveryOffset(t *testing.T) {
	f, _ := smallVolume(t)
	whole := scanAll(t, f, 0, int64(len(f.data)))
	ends := append(slices.Clone(whole.offsets[1:]), whole.end)
	for size := int64(labelUnit); size < int64(len(f.data)); size++ {
		cut := bytes.NewReader(f.data[:size])
		n := 0
		for n < len(ends) && ends[n] <= size {
			n++
		}
		s := scanAll(t, cut, 0, size)
		if len(s.offsets) != n || len(s.gaps)+len(s.damaged) > 0 || s.end > size {
			t.Fatalf("cut at %d: %+v, want %d frames", size, s, n)
		}
		if _, err := ReadTrailer(cut, size); !errors.Is(err, ErrTorn) {
			t.Fatalf("cut at %d: trailer %v", size, err)
		}
	}
	for size := range int64(labelUnit) {
		if _, _, err := ReadLabel(bytes.NewReader(f.data[:size]), size); !errors.Is(err, ErrTorn) {
			t.Fatalf("cut at %d: label %v", size, err)
		}
	}
}

// Whatever byte is flipped, some check fails, and only the frame it lies in is lost.
func TestEveryFlippedByte(t *testing.T) {
	f, frames := smallVolume(t)
	size := int64(len(f.data))
	whole := scanAll(t, f, 0, size)
	for i := range f.data {
		bad := &memFile{data: bytes.Clone(f.data)}
		bad.data[i] ^= 0x20
		s := scanAll(t, bad, 0, size)
		_, _, labelErr := ReadLabel(bad, size)
		_, trailerErr := ReadTrailer(bad, size)
		switch {
		case i < labelUnit:
			if labelErr == nil || len(s.offsets) != len(whole.offsets) {
				t.Fatalf("byte %d of the label: %v, scan %+v", i, labelErr, s)
			}
		case int64(i) >= size-TrailerSize:
			if trailerErr == nil || len(s.offsets) != len(whole.offsets) || s.end != whole.end {
				t.Fatalf("byte %d of the trailer: %v, scan %+v", i, trailerErr, s)
			}
		default:
			lost := len(whole.offsets) - len(s.offsets)
			if lost+len(s.damaged) != 1 || lost != len(s.gaps) && s.end == whole.end {
				t.Fatalf("byte %d: %d frames lost, scan %+v", i, lost, s)
			}
		}
		checkRead(t, bad, frames, int64(i))
	}
}

// checkRead reads all frames: the one that holds the flipped byte must fail, and only that.
func checkRead(t *testing.T, f *memFile, frames []placed, flipped int64) {
	t.Helper()
	v := testLabel().Volume
	for i, p := range frames {
		end := p.offset + int64(p.stored)
		_, plain, err := OpenFrame(bytes.Clone(f.data[p.offset:end]), v, testAEAD(t, v))
		hit := flipped >= p.offset && flipped < end
		if hit != errors.Is(err, ErrChecksum) || (!hit && !bytes.Equal(plain, p.plain)) {
			t.Fatalf("byte %d: frame %d: %v", flipped, i, err)
		}
	}
}

func TestScanResynchronises(t *testing.T) {
	f, frames := smallVolume(t)
	size := int64(len(f.data))
	whole := scanAll(t, f, 0, size)
	at := func(i int) int64 { return frames[i].offset }
	for _, test := range []struct {
		name string
		data []byte
		want []Gap
		lost int
	}{
		{"header broken", slices.Concat(f.data[:at(1)], make([]byte, 8), f.data[at(1)+8:]),
			[]Gap{{at(1), at(2) - at(1), 1}}, 1},
		{"frames cut out", slices.Concat(f.data[:at(1)], f.data[at(3):]), []Gap{{at(1), 0, 2}}, 2},
		{"bytes cut out", slices.Concat(f.data[:at(1)+100], f.data[at(1)+150:]),
			[]Gap{{at(1) + HeaderSize, at(2) - at(1) - HeaderSize - 50, 0}}, 0},
		{"bytes added", slices.Concat(f.data[:at(2)], make([]byte, 3<<20), f.data[at(2):]), []Gap{{at(2), 3 << 20, 0}}, 0},
		{"frame twice", slices.Concat(f.data[:at(2)], f.data[at(1):]), []Gap{{at(2), 0, -1}}, -1},
		{"label gone", slices.Concat(make([]byte, at(0)), f.data[at(0):]), []Gap{{0, at(0), 0}}, 0},
		{"label and frame gone", slices.Concat(make([]byte, at(1)), f.data[at(1):]), []Gap{{0, at(1), 1}}, 1},
		{"tail overwritten", slices.Concat(f.data[:at(2)], make([]byte, size-at(2))), nil, len(whole.offsets) - 2},
	} {
		s := scanAll(t, bytes.NewReader(test.data), 0, int64(len(test.data)))
		if !slices.Equal(s.gaps, test.want) || len(whole.offsets)-len(s.offsets) != test.lost {
			t.Errorf("%s: %+v, want gaps %v and %d frames lost", test.name, s, test.want, test.lost)
		}
	}
}

// A volume that was itself backed up lies inside a frame; even in clear its frames are not taken for the outer one's.
func TestNestedVolume(t *testing.T) {
	inner := new(memFile)
	l := testLabel()
	l.Volume = ID{0xee}
	w, err := Create(inner, l, Options{AEAD: testAEAD(t, l.Volume), Random: testRandom(3)})
	if err != nil {
		t.Fatal(err)
	}
	appendBlobs(t, w, textBytes(1, 1000))
	if err := w.Seal(); err != nil {
		t.Fatal(err)
	}
	outer := new(memFile)
	w = newWriter(t, outer)
	first := appendBlobs(t, w, []byte("first"))
	if _, _, err := w.Append(FrameParity, inner.data, nil); err != nil { // not sealed
		t.Fatal(err)
	}
	appendBlobs(t, w, []byte("last"))
	hidden := first.offset + int64(first.stored)
	outer.data[hidden+2] ^= 1
	if s := scanAll(t, outer, 0, int64(len(outer.data))); len(s.offsets) != 2 || len(s.gaps) != 1 || s.gaps[0].Missing != 1 {
		t.Errorf("scan of a volume with another inside: %+v", s)
	}
}

// badSectors is a reader that fails with EIO where sectors are bad.
type badSectors struct {
	*memFile
	from, to int64
}

func (b badSectors) ReadAt(p []byte, off int64) (int, error) {
	if off < b.to && off+int64(len(p)) > b.from {
		return 0, syscall.EIO
	}
	return b.memFile.ReadAt(p, off)
}

func TestUnreadableSectors(t *testing.T) {
	f := new(memFile)
	w := newWriter(t, f)
	var frames []placed
	for i := range byte(6) {
		frames = append(frames, appendBlobs(t, w, randomBytes(i, 10_000)))
	}
	bad := badSectors{f, 2 * sector, 3 * sector} // in frame 0
	if s := scanAll(t, bad, 0, int64(len(f.data))); len(s.offsets) != 6 || len(s.damaged) != 1 || len(s.gaps) > 0 {
		t.Errorf("payload unreadable: %+v", s)
	}
	bad = badSectors{f, frames[2].offset, frames[2].offset + 1}
	if s := scanAll(t, bad, 0, int64(len(f.data))); len(s.offsets) != 5 || len(s.gaps) != 1 {
		t.Errorf("header unreadable: %+v", s)
	}
	gone := errors.New("gone")
	_, _, err := Scan(failingReader{gone}, 0, 1<<20, testLabel().Volume, func(int64, Header) error { return nil })
	if !errors.Is(err, gone) {
		t.Errorf("reader's error: %v", err)
	}
}

type failingReader struct{ err error }

func (r failingReader) ReadAt([]byte, int64) (int, error) { return 0, r.err }

func FuzzScan(f *testing.F) {
	small, _ := smallVolume(f)
	f.Add(small.data[labelUnit:], uint16(3), byte(1))
	f.Add(small.data[labelUnit:], uint16(400), byte(0))
	f.Add(small.data[labelUnit:labelUnit+200], uint16(150), byte(0xff))
	f.Fuzz(func(t *testing.T, data []byte, at uint16, flip byte) {
		if len(data) > 0 {
			data[int(at)%len(data)] ^= flip
		}
		s := scanAll(t, bytes.NewReader(data), 0, int64(len(data)))
		last := int64(-1)
		for _, offset := range s.offsets {
			if offset <= last {
				t.Fatalf("offsets go back: %v", s.offsets)
			}
			last = offset
		}
		if s.end > int64(len(data)) {
			t.Fatalf("end %d of %d", s.end, len(data))
		}
	})
}
