package archive

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"snapfs/snapshot"
	"snapfs/store/volume"
)

// throughHealing is what comes out of a healing pipe that keeps so many bytes; pieces are of odd sizes.
func throughHealing(t testing.TB, data []byte, keep int64) (out []byte, notes int) {
	t.Helper()
	f, err := snapshot.ScratchFile(t.TempDir())
	must(t, err)
	h := &healingPipe{in: &pieces{data: data}, dir: t.TempDir(), note: func(string) { notes++ }, last: ring{file: f, size: keep}}
	h.parser = volume.NewStream(keptBy{h})
	out, err = io.ReadAll(h)
	must(t, err)
	must(t, h.close())
	if h.last.end > 0 {
		if info, _ := f.Stat(); info != nil && info.Size() > keep {
			t.Errorf("%d bytes in scratch, not %d", info.Size(), keep)
		}
	}
	return out, notes
}

// pieces gives data in pieces as a pipe would.
type pieces struct {
	data []byte
	n    int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.data) == 0 {
		return 0, io.EOF
	}
	p.n = (p.n*7919 + 4099) % 70_001
	n := copy(b, p.data[:min(len(p.data), p.n+1)])
	p.data = p.data[n:]
	return n, nil
}

// largeVolume has two full spans and a part of a third.
func largeVolume(t testing.TB) []byte {
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "large")
	f, err := volume.CreateFile(path, volume.FileOptions{})
	must(t, err)
	id := volume.ID{1, 2, 3}
	aead, err := w.bundle.VolumeAEAD(id)
	must(t, err)
	v, err := volume.Create(f, volume.Label{Store: w.store, Volume: id, Kind: volume.Archive, Set: &volume.Set{ID: [16]byte{1}, Sequence: 1, Level: volume.Full, Pool: "p"}}, volume.Options{AEAD: aead, Parity: 6})
	must(t, err)
	for i := range 90 {
		_, _, err := v.Append(volume.FrameSet, noise(uint64(i), 800_000+i), nil)
		must(t, err)
	}
	must(t, v.Seal())
	must(t, v.Close())
	data, err := os.ReadFile(path)
	must(t, err)
	return data
}

// TestHealingPipe damages a volume of several spans, once or in several spans; what comes out is what it was, byte for byte.
func TestHealingPipe(t *testing.T) {
	data := largeVolume(t)
	_, sets := chained(t, newWorld(t), 0)
	next, err := io.ReadAll(pipe(t, sets[0]))
	must(t, err)
	two := slices.Concat(data, make([]byte, 70_000), next, data)
	if out, notes := throughHealing(t, two, keptMost); !bytes.Equal(out, two) || notes != 0 {
		t.Fatalf("what is whole comes as %d bytes of %d with %d notes", len(out), len(two), notes)
	}
	const span = 32 << 20
	r := rand.New(rand.NewPCG(1, 2))
	bad := func(cuts ...cut) []byte {
		b := data
		for _, c := range slices.Backward(cuts) { // offsets are those before
			b = c.apply(b)
		}
		return b
	}
	zeros := func(from, n int64) cut { return cut{from: from, to: from + n, with: make([]byte, n)} }
	flip := func(at int64) cut { return cut{from: at, to: at + 1, with: []byte{data[at] ^ 1}} }
	lost := func(from, n int64) cut { return cut{from: from, to: from + n} }
	size := int64(len(data))
	cases := map[string][]cut{
		"label": {cut{from: 0, to: 5000, with: noise(1, 5000)}}, "trailer": {zeros(size-80, 80)}, "end cut off": {lost(size-100_000, 100_000)},
		"burst": {zeros(10<<20, 1<<20)}, "over the end of a span": {zeros(span-500_000, 1<<20)}, "digests": {zeros(span+1000, 400_000)},
		"in each span": {flip(5000), zeros(span/2, 300_000), flip(span + 9<<20), zeros(span*3/2, 900_000), flip(2*span + 4<<20), zeros(2*span+5<<20, 50_000)},
		"a block lost": {lost(20<<20, 65536)}, "blocks lost in two spans": {lost(20<<20, 65536), lost(45<<20, 512)},
		"bytes come twice": {cut{from: 15 << 20, to: 15 << 20, with: data[14<<20 : 14<<20+32768]}},
	}
	for range 10 {
		at := r.Int64N(size - 1<<20)
		cases["at random"] = append(cases["at random"], zeros(at, 4096))
		if len(cases["at random"]) == 3 {
			break
		}
	}
	slices.SortFunc(cases["at random"], func(a, b cut) int { return int(a.from - b.from) })
	for name, cuts := range cases {
		damaged := slices.Concat(bad(cuts...), next)
		out, notes := throughHealing(t, damaged, keptMost)
		if want := slices.Concat(data, next); !bytes.Equal(out, want) || notes == 0 {
			same := 0
			for same < min(len(out), len(want)) && out[same] == want[same] {
				same++
			}
			t.Errorf("%s: %d bytes of %d come, the first %d as they were, %d notes", name, len(out), len(want), same, notes)
		}
	}
}

// TestHealingPipeWithLittleRoom keeps less than is needed: then damage goes on as it came, and nothing else is touched.
func TestHealingPipeWithLittleRoom(t *testing.T) {
	data := largeVolume(t)
	damaged := bytes.Clone(data)
	clear(damaged[10<<20 : 10<<20+5000])
	damaged[50<<20] ^= 1
	for _, keep := range []int64{1 << 20, 3 << 20, 20 << 20, 40 << 20} {
		out, _ := throughHealing(t, damaged, keep)
		if len(out) != len(data) {
			t.Fatalf("%d kept: %d bytes come, not %d", keep, len(out), len(data))
		}
		differ := 0
		for i := range out {
			if out[i] != data[i] {
				differ++
			}
			if out[i] != data[i] && out[i] != damaged[i] {
				t.Fatalf("%d kept: byte %d is neither what was written nor what came", keep, i)
			}
		}
		if keep == 40<<20 && differ > 0 {
			t.Errorf("%d kept: %d bytes are not healed", keep, differ)
		}
	}
}

// A scratch directory without room: a pipe is read all the same.
func TestHealingPipeWithoutScratch(t *testing.T) {
	w := newWorld(t)
	b := &Bare{o: OpenOptions{Scratch: filepath.Join(t.TempDir(), "missing"), Note: func(string) {}}}
	in := &pieces{data: []byte("x")}
	if got := (&pipeReader{b: b}).open(in); got != io.Reader(in) {
		t.Errorf("%T", got)
	}
	_, sets := chained(t, w, 700_000)
	data, err := io.ReadAll(pipe(t, sets[0]))
	must(t, err)
	f, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	must(t, err)
	h := &healingPipe{in: &pieces{data: data}, dir: t.TempDir(), note: func(string) {}, last: ring{file: f, size: 8 << 20}}
	h.parser = volume.NewStream(keptBy{h})
	if out, err := io.ReadAll(h); err != nil || !bytes.Equal(out, data) {
		t.Errorf("%d bytes of %d, %v", len(out), len(data), err)
	}
	must(t, h.close())
}

// TestHealingPipeForgets: what is remembered of a volume does not grow with it.
func TestHealingPipeForgets(t *testing.T) {
	h := &healingPipe{last: ring{size: keptMost}}
	for range 100 {
		for range keptMost / frameEvery {
			h.at += frameEvery
			h.last.end = h.at + frameEvery
			h.frame(volume.StreamItem{})
		}
		if n := len(h.frames); n < keptMost/frameEvery || n > 2*keptMost/frameEvery+2 {
			t.Fatalf("%d frames are remembered at %d", n, h.at)
		}
	}
	if start := h.start(); start < h.last.start() || start > h.last.start()+frameEvery {
		t.Errorf("what is kept begins at %d, the first frame in it at %d", h.last.start(), start)
	}
}
