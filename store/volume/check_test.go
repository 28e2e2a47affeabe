package volume

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/zeebo/xxh3"
)

// checked gives what Check finds, as text: the part, and how many numbers are missing.
func checked(t testing.TB, b []byte) (found []string, r Report) {
	t.Helper()
	r, err := Check(bytes.NewReader(b), int64(len(b)), CheckOptions{Volume: testLabel().Volume, Blocks: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range r.Damage {
		if d.Err == nil || d.Offset < 0 || d.End() > int64(len(b)) {
			t.Errorf("%+v", d)
		}
		found = append(found, fmt.Sprintf("%s %d", d.Part, d.Missing))
	}
	return found, r
}

func TestCheckFinds(t *testing.T) {
	f, frames := smallVolume(t) // of the first release: without parity
	at := func(i int) int64 { return frames[i].offset }
	size := int64(len(f.data))
	flip := func(i int64) []byte {
		b := bytes.Clone(f.data)
		b[i] ^= 4
		return b
	}
	trailer, err := ReadTrailer(f, size)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		data   []byte
		want   []string
		sealed bool
	}{
		{"whole", f.data, nil, true},
		{"label", flip(700), []string{"label 0"}, true},
		{"label zero", slices.Concat(make([]byte, labelUnit), f.data[labelUnit:]), []string{"label 0"}, true},
		{"label and frame", slices.Concat(make([]byte, at(1)), f.data[at(1):]), []string{"label 0", "gap 1"}, true},
		{"payload", flip(at(1) + 100), []string{"frame 0"}, true},
		{"header", flip(at(1) + 10), []string{"gap 1"}, true},
		{"frames cut out", slices.Concat(f.data[:at(1)], f.data[at(3):]), []string{"gap 2", "tail 0"}, false},
		{"trailer", flip(size - 10), []string{"tail 0"}, false},
		{"cut", f.data[:at(2)+20], []string{"tail 0"}, false},
		{"cut between frames", f.data[:at(2)], nil, false},
		{"contents header", flip(trailer.Contents + 5), []string{"gap 1"}, true},
		{"repeated label header", flip(trailer.Label + 5), []string{"gap 1"}, true},
		{"empty but for the label", f.data[:labelUnit], nil, false},
	} {
		got, r := checked(t, test.data)
		if !slices.Equal(got, test.want) || r.Sealed != test.sealed || (r.Label.Volume != testLabel().Volume) {
			t.Errorf("%s: %v, want %v; sealed %v, label %v", test.name, got, test.want, r.Sealed, r.Label.Volume)
		}
	}
	_, r := checked(t, f.data)
	if len(r.Unprotected) != 1 || r.Unprotected[0] != (Range{0, size - TrailerSize}) || r.Sets != 0 || r.Frames != 6 {
		t.Errorf("%+v", r)
	}
	if _, err := Check(bytes.NewReader(make([]byte, 9000)), 9000, CheckOptions{}); !errors.Is(err, ErrNotVolume) {
		t.Errorf("zeros: %v", err)
	}
	enough := errors.New("enough")
	stop := func(int64, Header, []byte, error) error { return enough }
	if _, err := Check(f, size, CheckOptions{Frame: stop}); err != enough {
		t.Errorf("callback's error: %v", err)
	}
}

// The id comes from what is left of a volume.
func TestCheckFindsID(t *testing.T) {
	f, _ := smallVolume(t)
	for _, from := range []int{0, labelUnit, labelUnit + 300} {
		b := bytes.Clone(f.data)
		clear(b[:from])
		r, err := Check(bytes.NewReader(b), int64(len(b)), CheckOptions{})
		if err != nil || r.Volume != testLabel().Volume {
			t.Errorf("from %d: %s, %v", from, r.Volume, err)
		}
		clear(b[len(b)-TrailerSize:])
		if r, err := Check(bytes.NewReader(b), int64(len(b)), CheckOptions{}); err != nil || r.Volume != testLabel().Volume {
			t.Errorf("from %d, without trailer: %s, %v", from, r.Volume, err)
		}
	}
}

// Parity that was made of other bytes is found only by comparing blocks.
func TestCheckBlocks(t *testing.T) {
	f := new(memFile)
	w := newWriter(t, f)
	p := appendBlobs(t, w, randomBytes(1, 9000))
	g := geometry{shift: 9, data: 8, rows: 2, groups: 4, offset: p.offset, length: int64(p.stored)}
	parity := newSpanParity(g, w.id, g.coder())
	other := bytes.Clone(f.data)
	other[p.offset+3000] ^= 1
	if err := parity.encodeFrom(bytes.NewReader(other), nil); err != nil {
		t.Fatal(err)
	}
	d := &dueSet{paritySet: paritySet{geometry: g}, parity: parity}
	w.reserveSet(d)
	if err := w.writeSets([]*dueSet{d}); err != nil {
		t.Fatal(err)
	}
	if got, _ := checked(t, f.data); !slices.Equal(got, []string{"parity 0"}) {
		t.Errorf("%v", got)
	}
}

// Without parity the label comes back from its repetition, and that from the label.
func TestLabelsHealEachOther(t *testing.T) {
	f, _ := smallVolume(t)
	bad := bytes.Clone(f.data)
	clear(bad[:labelUnit])
	mustHeal(t, "label", f.data, bad)
	tr, err := ReadTrailer(f, int64(len(f.data)))
	if err != nil {
		t.Fatal(err)
	}
	bad = bytes.Clone(f.data)
	bad[tr.Label+HeaderSize+900] ^= 1
	mustHeal(t, "repeated label", f.data, bad)
}

// damagePatterns are what a bad disk or a bad day does; each must heal at the default, in a volume of more than a span and
// a small one.
func damagePatterns(r *rand.Rand, whole []byte) map[string][]byte {
	size := len(whole)
	t, _ := parseTrailer(whole[size-TrailerSize:])
	burst := min(1<<20, size/40)
	change := func(do func(b []byte)) []byte {
		b := bytes.Clone(whole)
		do(b)
		return b
	}
	junk := func(from, to int) []byte {
		return change(func(b []byte) { copy(b[from:to], randomBytes(byte(r.Int()), to-from)) })
	}
	zero := func(from, to int) []byte { return change(func(b []byte) { clear(b[from:to]) }) }
	at := r.IntN(size - burst)
	return map[string][]byte{
		"label zeroed":             zero(0, labelUnit),
		"label flipped":            change(func(b []byte) { b[r.IntN(labelUnit)] ^= 1 }),
		"first burst gone":         zero(0, burst),
		"burst of junk":            junk(at, at+burst),
		"burst of zeros":           zero(at, at+burst),
		"page":                     zero(at&^4095, at&^4095+4096),
		"four flips":               change(func(b []byte) { flips(r, b, 4) }),
		"contents table destroyed": junk(int(t.Contents), min(int(t.Label), int(t.Contents)+burst)),
		"contents header":          zero(int(t.Contents), int(t.Contents)+HeaderSize),
		"repeated label destroyed": zero(int(t.Label), int(t.Label)+HeaderSize+labelUnit),
		"trailer zeroed":           zero(size-TrailerSize, size),
		"trailer flipped":          change(func(b []byte) { b[size-1-r.IntN(TrailerSize)] ^= 8 }),
		"trailer cut off":          bytes.Clone(whole[:size-TrailerSize]),
		"cut inside the trailer":   bytes.Clone(whole[:size-1-r.IntN(TrailerSize-1)]),
		"last burst gone":          zero(size-burst, size),
		"end cut off":              bytes.Clone(whole[:size-burst]),
		"junk appended":            slices.Concat(whole, randomBytes(1, 5000)),
		"bytes inserted":           slices.Concat(whole[:at], randomBytes(2, burst/2), whole[at:]),
		"bytes removed":            slices.Concat(whole[:at], whole[at+burst/2:]),
	}
}

func flips(r *rand.Rand, b []byte, n int) {
	for range n {
		b[r.IntN(len(b))] ^= 1 << r.IntN(8)
	}
}

func TestDamagePatternsHeal(t *testing.T) {
	r := rand.New(rand.NewChaCha8([32]byte{12}))
	healed, tried := 0, 0
	try := func(f *memFile, rounds int) {
		for range rounds {
			for name, bad := range damagePatterns(r, f.data) {
				tried++
				mustHeal(t, fmt.Sprintf("%s, volume of %d bytes", name, len(f.data)), f.data, bad)
				healed++
			}
		}
	}
	for _, n := range []int{5000, 70_000, 500_000, 3 << 20} {
		try(protectedVolume(t, n, 3), 8)
	}
	try(largeVolume(t), 1)
	t.Logf("%d of %d patterns healed", healed, tried)
}

func putSetSum(b []byte, v ID) {
	binary.LittleEndian.PutUint64(b[40:], xxh3.HashSeed(b[:40], v.seed()))
}

func FuzzParityHead(f *testing.F) {
	v := testLabel().Volume
	for _, s := range []paritySet{
		{geometry: geometry{shift: 12, data: 128, rows: 4, groups: 128, length: fullSpan}, at: fullSpan + 70},
		{geometry: geometry{shift: 9, data: 3, rows: 4, groups: 3, offset: 4096, length: 4000}, at: 9000, first: 7, trailer: testTrailer().encode()},
	} {
		b := make([]byte, setHead+TrailerSize)
		s.putHead(b, v, 2)
		copy(b[setHead:], s.trailer)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < setHead+TrailerSize {
			return
		}
		b = b[:setHead+TrailerSize]
		b[0] = setLayout
		putSetSum(b, v)
		s, part, err := parseSetHead(b, v)
		if err != nil {
			return
		}
		again := make([]byte, setHead+TrailerSize)
		s.putHead(again, v, part)
		if !bytes.Equal(again[:setHead], b[:setHead]) {
			t.Fatalf("%x encodes again as %x", b, again)
		}
		for i := range s.frames() {
			if n := s.stored(i) - HeaderSize; n < setHead || n > MaxPayload {
				t.Fatalf("%+v: frame of %d bytes", s, n)
			}
		}
		if s.size() <= 0 || int64(s.rows)*s.stripe() > maxSetBytes {
			t.Fatalf("%+v: %d bytes", s, s.size())
		}
	})
}

// Whatever a volume holds, repair ends, and gives a copy not much longer.
func FuzzRepair(f *testing.F) {
	small := protectedVolume(f, 3000, 3)
	f.Add(small.data, uint32(9), []byte{1, 2})
	f.Add(small.data, uint32(labelUnit+20), []byte{0xff, 0xff, 0xff, 0xff})
	tail := len(small.data) - 9000
	f.Add(small.data, uint32(tail), bytes.Repeat([]byte{7}, 60))
	f.Fuzz(func(t *testing.T, data []byte, at uint32, junk []byte) {
		b := bytes.Clone(data)
		if len(b) > 1<<20 {
			return
		}
		if len(b) > 0 {
			copy(b[int(at)%len(b):], junk)
		}
		dst := new(memFile)
		r, err := Repair(bytes.NewReader(b), int64(len(b)), dst, RepairOptions{Volume: testLabel().Volume})
		if err == nil && (r.Size != int64(len(dst.data)) || len(dst.data) > 2*len(b)+3*maxSetBytes) {
			t.Fatalf("%+v from %d bytes", r, len(b))
		}
	})
}

// Heads of parity frames need no key: whoever forges one gets an error or a bad copy, not a crash or a full disk.
func TestForgedHeads(t *testing.T) {
	f := protectedVolume(t, 3000, 3)
	v := testLabel().Volume
	sets, err := (&repair{dst: f, v: v, fileSize: int64(len(f.data))}).findSets()
	if err != nil || len(sets) != 1 {
		t.Fatal(sets, err)
	}
	r := rand.New(rand.NewChaCha8([32]byte{13}))
	for i := range 400 {
		b := bytes.Clone(f.data)
		for part := range sets[0].frames() {
			head := b[sets[0].frameAt(part)+HeaderSize:]
			if r.IntN(2) == 0 {
				continue
			}
			for range 1 + r.IntN(3) {
				head[1+r.IntN(39)] = byte(r.Int())
			}
			putSetSum(head, v)
		}
		clear(b[100:200])
		dst := new(memFile)
		report, err := Repair(bytes.NewReader(b), int64(len(b)), dst, RepairOptions{})
		if err != nil || len(dst.data) > len(b)+2*maxSetBytes+maxShift {
			t.Fatalf("%d: %d bytes, %+v, %v", i, len(dst.data), report, err)
		}
	}
}
