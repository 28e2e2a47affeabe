package volume

import (
	"bytes"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"
)

// streamVolumes gives n sealed volumes one after another, and where their frames lie in all.
func streamVolumes(t testing.TB, n int) (all []byte, ids []ID, frames []streamed) {
	for i := range n {
		f := &memFile{}
		l := testLabel()
		l.Volume[0] = byte(i + 1)
		w, err := Create(f, l, Options{AEAD: testAEAD(t, l.Volume), Random: testRandom(byte(i)), Parity: 3})
		if err != nil {
			t.Fatal(err)
		}
		for k := range 12 {
			p := appendBlobs(t, w, randomBytes(byte(16*i+k), 200+700*k))
			frames = append(frames, streamed{l.Volume, int64(len(all)) + p.offset, int64(p.stored)})
		}
		if err := w.Seal(); err != nil {
			t.Fatal(err)
		}
		all, ids = append(all, f.data...), append(ids, l.Volume)
	}
	return all, ids, frames
}

type streamed struct {
	volume         ID
	offset, length int64
}

// readStream collects what a Stream says.
func readStream(t testing.TB, r io.Reader) (items []StreamItem, whole []streamed) {
	s := NewStream(r)
	for {
		it, err := s.Next()
		if err == io.EOF {
			return items, whole
		}
		if err != nil {
			t.Fatal(err)
		}
		if it.Kind == StreamFrame && it.Damage == nil {
			if _, _, err := OpenFrame(bytes.Clone(it.Stored), it.Volume, testAEAD(t, it.Volume)); err != nil {
				t.Fatalf("frame at %d: %v", it.Offset, err)
			}
			whole = append(whole, streamed{it.Volume, it.Offset, int64(it.Header.Stored())})
		}
		it.Stored = nil
		items = append(items, it)
	}
}

func TestStreamReadsVolumesOneAfterAnother(t *testing.T) {
	all, ids, frames := streamVolumes(t, 3)
	for name, r := range map[string]io.Reader{
		"at once": bytes.NewReader(all), "byte by byte": iotest.OneByteReader(bytes.NewReader(all)), "ends with data": iotest.DataErrReader(bytes.NewReader(all)),
	} {
		items, whole := readStream(t, r)
		var begun, ended []ID
		for _, it := range items {
			switch it.Kind {
			case StreamLabel:
				if it.Label == nil {
					t.Errorf("%s: a label is missing", name)
				}
				begun = append(begun, it.Volume)
			case StreamEnd:
				if it.Trailer.Volume != it.Volume || it.Trailer.Size != it.At {
					t.Errorf("%s: volume ends at %d with %+v", name, it.At, it.Trailer)
				}
				ended = append(ended, it.Volume)
			case StreamGap:
				t.Errorf("%s: gap %+v", name, it)
			}
		}
		if !slices.Equal(begun, ids) || !slices.Equal(ended, ids) {
			t.Errorf("%s: volumes %v began, %v ended", name, begun, ended)
		}
		for _, f := range frames {
			if !slices.Contains(whole, f) {
				t.Errorf("%s: frame %+v was not found", name, f)
			}
		}
	}
}

func TestStreamStepsOverPadding(t *testing.T) {
	var padded []byte
	all, _, frames := streamVolumes(t, 1)
	for range 3 {
		padded = append(append(padded, all...), make([]byte, 5000)...)
	}
	items, whole := readStream(t, bytes.NewReader(padded))
	for _, it := range items {
		if it.Kind == StreamGap {
			t.Errorf("gap %+v", it)
		}
	}
	n := 0
	for _, f := range whole {
		if slices.ContainsFunc(frames, func(g streamed) bool { return g.length == f.length }) {
			n++
		}
	}
	if n < 3*len(frames) {
		t.Errorf("%d frames of %d", n, 3*len(frames))
	}
}

// edit is damage: bytes of the original that are lost or changed; what was put in instead.
type edit struct {
	from, to int64
	with     []byte
}

func randomEdit(r *rand.Rand, all []byte) edit {
	n := int64(len(all))
	from := r.Int64N(n)
	to := min(n, from+1+r.Int64N(3000))
	switch r.IntN(5) {
	case 0: // a bit
		b := all[from] ^ 1<<r.IntN(8)
		return edit{from, from + 1, []byte{b}}
	case 1: // rubbish
		b := make([]byte, to-from)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return edit{from, to, b}
	case 2: // lost
		return edit{from, to, nil}
	case 3: // twice
		return edit{from, from, all[from:to]}
	}
	return edit{from, from, make([]byte, to-from)} // zeros put in between
}

func TestStreamFindsWhatIsNotTouched(t *testing.T) {
	all, _, frames := streamVolumes(t, 3)
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 2000 {
		e := randomEdit(r, all)
		damaged := slices.Concat(all[:e.from], e.with, all[e.to:])
		moved := int64(len(e.with)) - (e.to - e.from)
		_, whole := readStream(t, bytes.NewReader(damaged))
		for _, f := range frames {
			switch {
			case f.offset+f.length <= e.from:
			case f.offset >= e.to:
				f.offset += moved
			default:
				continue
			}
			again := streamed{f.volume, f.offset - moved, f.length} // or its copy
			if !slices.Contains(whole, f) && !slices.Contains(whole, again) {
				t.Fatalf("round %d: %d to %d replaced by %d bytes: frame %+v was not found", round, e.from, e.to, len(e.with), f)
			}
		}
	}
}

func TestStreamVolumeCutShort(t *testing.T) {
	all, ids, frames := streamVolumes(t, 2)
	second := bytes.Index(all[1:], []byte(firstLine)) + 1
	for cut := second - 1; cut > 0; cut -= 501 {
		_, whole := readStream(t, io.MultiReader(bytes.NewReader(all[:cut]), bytes.NewReader(all[second:])))
		for _, f := range frames {
			if f.volume == ids[1] {
				f.offset += int64(cut - second)
			} else if f.offset+f.length > int64(cut) {
				continue
			}
			if !slices.Contains(whole, f) {
				t.Fatalf("cut at %d: frame %+v was not found", cut, f)
			}
		}
	}
}

func TestFindVolume(t *testing.T) {
	all, ids, _ := streamVolumes(t, 2)
	all = append(all, randomBytes(9, 5000)...)
	r := bytes.NewReader(all)
	for from, i := int64(0), 0; i < 2; i++ {
		tr, end, err := FindVolume(r, from, int64(len(all)))
		if err != nil || tr.Volume != ids[i] || end != from+tr.Size {
			t.Fatalf("volume %d: %+v to %d: %v", i, tr, end, err)
		}
		from = end
	}
}

func FuzzStream(f *testing.F) {
	all, _, _ := streamVolumes(f, 2)
	f.Add(all[:20000])
	f.Add(all[5000:9000])
	f.Fuzz(func(t *testing.T, b []byte) {
		s := NewStream(bytes.NewReader(b))
		for last := int64(-1); ; {
			it, err := s.Next()
			if err != nil {
				return
			}
			if it.Offset < last {
				t.Fatalf("went back from %d to %d", last, it.Offset)
			}
			if it.Kind == StreamFrame {
				last = it.Offset
			}
		}
	})
}
