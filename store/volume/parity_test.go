package volume

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// parityWriter is a Writer that makes parity.
func parityWriter(t testing.TB, f File, percent int) *Writer {
	t.Helper()
	l := testLabel()
	w, err := Create(f, l, Options{AEAD: testAEAD(t, l.Volume), Random: testRandom(1), Parity: percent})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// protectedVolume is a sealed volume with parity that stores about so many random bytes, in frames of up to 300 KB.
func protectedVolume(t testing.TB, n, percent int) *memFile {
	t.Helper()
	f := &memFile{data: make([]byte, 0, n+n/8+64<<10)}
	w := parityWriter(t, f, percent)
	r := rand.New(rand.NewChaCha8([32]byte{7}))
	for n > 0 {
		size := min(n, 1+r.IntN(300_000))
		b := randomBytes(byte(n), size)
		if _, _, err := w.Append(FrameBlobs, b, []Blob{testBlob(b[:1])}); err != nil {
			t.Fatal(err)
		}
		n -= size
	}
	if err := w.Seal(); err != nil {
		t.Fatal(err)
	}
	return f
}

// repaired runs Repair over damaged bytes and fails the test unless the report tells the truth.
func repaired(t testing.TB, whole, damaged []byte) (RepairReport, *memFile) {
	t.Helper()
	src, dst := &memFile{data: damaged}, new(memFile)
	before := bytes.Clone(damaged)
	report, err := Repair(src, int64(len(damaged)), dst, RepairOptions{Volume: testLabel().Volume})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, damaged) {
		t.Error("the source was changed")
	}
	if same := bytes.Equal(dst.data, whole); same != (len(report.Lost) == 0) || report.Size != int64(len(dst.data)) {
		t.Errorf("same %v, but report says lost %v, size %d of %d", same, report.Lost, report.Size, len(dst.data))
	}
	if dst.synced != len(dst.data) {
		t.Error("the copy was not synced")
	}
	return report, dst
}

// mustHeal fails the test unless the damaged bytes become what they were.
func mustHeal(t testing.TB, what string, whole, damaged []byte) {
	t.Helper()
	report, dst := repaired(t, whole, damaged)
	if bytes.Equal(dst.data, whole) {
		return
	}
	at := 0
	for at < min(len(whole), len(dst.data)) && dst.data[at] == whole[at] {
		at++
	}
	t.Fatalf("%s: differs from byte %d on, %d bytes instead of %d; lost %v", what, at, len(dst.data), len(whole), report.Lost)
}

func TestParityOfWholeVolume(t *testing.T) {
	for _, size := range []int{1, 5000, 100_000, 1 << 20, 5 << 20} {
		f := protectedVolume(t, size, 3)
		report, err := Check(f, int64(len(f.data)), CheckOptions{Blocks: true})
		if err != nil || !report.Whole() || !report.Sealed || report.Sets != 1 || len(report.Unprotected) > 0 {
			t.Errorf("%d bytes: %+v, %v", size, report, err)
		}
		t.Logf("%d bytes: volume %d, parity %d (%.1f %%)", size, len(f.data), report.Parity, 100*float64(report.Parity)/float64(len(f.data)))
		mustHeal(t, "nothing", f.data, bytes.Clone(f.data))
		infos, err := contents(t, f)
		if err != nil || len(infos) == 0 {
			t.Errorf("%d bytes: contents %v", size, err)
		}
	}
}

// Any page of a small volume, whatever lies there, can be lost.
func TestEveryPageHeals(t *testing.T) {
	for _, size := range []int{1, 3000, 20_000, 100_000, 400_000} {
		f := protectedVolume(t, size, 3)
		for at := 0; at < len(f.data); at += 4096 {
			bad := bytes.Clone(f.data)
			copy(bad[at:], randomBytes(9, min(4096, len(bad)-at)))
			mustHeal(t, fmt.Sprintf("%d bytes, page at %d", size, at), f.data, bad)
		}
	}
}

func TestEveryFlippedByteHeals(t *testing.T) {
	f := protectedVolume(t, 3000, 3)
	for at := 0; at < len(f.data); at += 7 {
		bad := bytes.Clone(f.data)
		bad[at] ^= 0x10
		mustHeal(t, fmt.Sprintf("byte %d", at), f.data, bad)
	}
}

// setOver writes parity of any geometry behind what a Writer has written.
func setOver(t testing.TB, w *Writer, g geometry) *paritySet {
	t.Helper()
	p := newSpanParity(g, w.id, g.coder())
	if err := p.encodeFrom(w.f, nil); err != nil {
		t.Fatal(err)
	}
	d := &dueSet{paritySet: paritySet{geometry: g}, parity: p}
	w.mu.Lock()
	w.reserveSet(d)
	w.mu.Unlock()
	if err := w.writeSets([]*dueSet{d}); err != nil {
		t.Fatal(err)
	}
	return &d.paritySet
}

// Whatever the geometry, up to as many lost blocks of a group as it has parity blocks come back, and one more is reported.
func TestRandomGeometries(t *testing.T) {
	r := rand.New(rand.NewChaCha8([32]byte{3}))
	for range 60 {
		f := new(memFile)
		w := newWriter(t, f)
		appendBlobs(t, w, randomBytes(5, 1+r.IntN(60_000)))
		g := geometry{shift: uint8(9 + r.IntN(3)), rows: 1 + r.IntN(6), groups: 1 + r.IntN(9), offset: int64(r.IntN(5000))}
		g.length = w.Size() - g.offset
		stripe := g.stripe()
		if g.data = int((g.length+stripe-1)/stripe) + r.IntN(3); !g.sound() {
			continue
		}
		s := setOver(t, w, g)
		whole := bytes.Clone(f.data)
		group := r.IntN(g.groups)
		members := groupOf(s, group)
		for _, lost := range []int{min(g.rows, len(members)), min(g.rows+1, len(members))} {
			bad := bytes.Clone(whole)
			r.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
			data := 0
			for i, m := range members[:lost] {
				copy(bad[m.Offset:m.End()], randomBytes(byte(i), int(m.Length)))
				if m.Offset < g.end() {
					data++
				}
			}
			name := fmt.Sprintf("%+v, %d of group %d lost", g, lost, group)
			if lost <= g.rows {
				mustHeal(t, name, whole, bad)
			} else if report, dst := repaired(t, whole, bad); data > 0 && bytes.Equal(dst.data, whole) {
				t.Errorf("%s: healed by a miracle, %+v", name, report)
			}
		}
	}
}

// groupOf lists the blocks of a group, of data and parity.
func groupOf(s *paritySet, group int) (list []Range) {
	for i := group; i < s.blocks(); i += s.groups {
		at := s.offset + int64(i)<<s.shift
		list = append(list, Range{at, min(s.block(), s.end()-at)})
	}
	for row := range s.rows {
		list = append(list, Range{s.bodyAt(1+row) + int64(group)<<s.shift, s.block()})
	}
	return list
}

// largeVolume has one full span and the beginning of a second one.
var largeVolume = func() func(t testing.TB) *memFile {
	var f *memFile
	return func(t testing.TB) *memFile {
		if f == nil {
			f = protectedVolume(t, fullSpan+5<<20, 3)
		}
		return f
	}
}()

// A burst of 1 MiB heals wherever it lies in a volume of at least a span: in data, across the end of the span, over parity,
// contents table, trailer.
func TestBurstsHeal(t *testing.T) {
	f := largeVolume(t)
	size := len(f.data)
	const burst = 1 << 20
	ends := []int{0, 1, 4095, fullSpan - burst, fullSpan - burst/2, fullSpan - 1, size - burst, size - burst - 70_000}
	report, err := Check(f, int64(size), CheckOptions{})
	if err != nil || !report.Whole() || report.Sets != 2 {
		t.Fatalf("%+v, %v", report, err)
	}
	r := rand.New(rand.NewChaCha8([32]byte{4}))
	for range 4 {
		ends = append(ends, r.IntN(size-burst))
	}
	for at := fullSpan; at < size-burst; at += 1_700_001 {
		ends = append(ends, at)
	}
	for i, at := range ends {
		bad := bytes.Clone(f.data)
		copy(bad[at:at+burst], randomBytes(byte(i), burst))
		mustHeal(t, fmt.Sprintf("burst at %d of %d", at, size), f.data, bad)
	}
}

// The longest burst that heals for certain touches rows*groups blocks.
func TestLongestBurst(t *testing.T) {
	f := largeVolume(t)
	const longest = (4*fullGroups-1)*4096 + 1
	for _, at := range []int{4096*100 + 1, 4096 * 1000, 4096*5000 + 4095} {
		bad := bytes.Clone(f.data)
		clear(bad[at : at+longest])
		mustHeal(t, fmt.Sprintf("burst at %d", at), f.data, bad)
		clear(bad[at : at+longest+2*4096])
		if report, dst := repaired(t, f.data, bad); bytes.Equal(dst.data, f.data) || len(report.Lost) == 0 {
			t.Errorf("a longer burst at %d healed", at)
		}
	}
}

func TestScatteredFlipsHeal(t *testing.T) {
	f := largeVolume(t)
	r := rand.New(rand.NewChaCha8([32]byte{5}))
	for range 3 {
		bad := bytes.Clone(f.data)
		for range 60 {
			bad[r.IntN(len(bad))] ^= 1 << r.IntN(8)
		}
		mustHeal(t, "flips", f.data, bad)
	}
}

// A file that is cut behind the first digests of its last set gets its end back.
func TestCutHeals(t *testing.T) {
	for _, size := range []int{10, 200_000, 3 << 20} {
		f := protectedVolume(t, size, 3)
		sets, err := (&repair{dst: f, v: testLabel().Volume, fileSize: int64(len(f.data))}).findSets()
		if err != nil || len(sets) != 1 {
			t.Fatal(sets, err)
		}
		s := sets[0]
		from := int(s.frameAt(1))
		for at := from; at < len(f.data); at += 1 + (len(f.data)-from)/20 {
			mustHeal(t, fmt.Sprintf("%d bytes cut at %d", size, at), f.data, bytes.Clone(f.data[:at]))
		}
		report, _ := repaired(t, f.data, bytes.Clone(f.data[:s.at-10]))
		if report.Copy.Sealed || len(report.Lost) == 0 {
			t.Errorf("cut into the label: %+v", report)
		}
	}
}

func TestInsertedAndRemovedBytesHeal(t *testing.T) {
	f := protectedVolume(t, 3<<20, 3)
	r := rand.New(rand.NewChaCha8([32]byte{6}))
	for range 40 {
		at, n := r.IntN(len(f.data)), 1+r.IntN(20_000)
		inserted := slices.Concat(f.data[:at], randomBytes(1, n), f.data[at:])
		mustHeal(t, fmt.Sprintf("%d bytes inserted at %d of %d", n, at, len(f.data)), f.data, inserted)
		end := min(at+n, len(f.data))
		mustHeal(t, fmt.Sprintf("%d bytes removed at %d of %d", end-at, at, len(f.data)), f.data, slices.Concat(f.data[:at], f.data[end:]))
	}
}
