package archive

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"snapfs/snapshot"
	"snapfs/store"
	"snapfs/store/volume"
)

// TestNewerBehind: a name is not an older snapshot because that came first, whether or not anything of the set behind is wanted.
func TestNewerBehind(t *testing.T) {
	w := newWorld(t)
	_, sets := chained(t, w, 700_000)
	last := w.snapshots[2]
	for _, ref := range []string{"latest", "data", "data@2099-01-01"} {
		for _, done := range []bool{false, true} {
			b, err := w.openPipe(ref, pipe(t, sets[0], sets[1], sets[2]), nil)
			must(t, err)
			err = b.Pass(t.Context(), func(store.ID) bool { return true }, func(store.ID, []byte) error { return nil }, func() bool { return done })
			var newer *NewerError
			if !errors.As(err, &newer) || newer.Taken != "data@"+w.snapshots[0].Name || newer.Newer != "data@"+w.snapshots[1].Name {
				t.Errorf("%s, done %v: %v", ref, done, err)
			}
			must(t, b.Close())
		}
		b, err := w.openPipe(ref, pipe(t, sets[0], sets[2], sets[1]), func(o *OpenOptions) { o.KeepAll, o.Scratch = true, t.TempDir() })
		must(t, err)
		if damaged := w.read(b, last); b.Target().ID != last.ID || len(damaged) > 0 {
			t.Errorf("%s, with scratch: %s, damaged %v", ref, b.Target().Ref(), damaged)
		}
		must(t, b.Close())
	}
	if _, err := w.openPipe("data@2001-01-01", pipe(t, sets[2], sets[1], sets[0]), nil); !errors.Is(err, ErrOrder) || !strings.Contains(err.Error(), "the oldest is") {
		t.Errorf("an older one than the set has that comes first: %v", err)
	}
}

// TestOlderBehind: sets that are not needed may come behind what is; what is missing is told all the same.
func TestOlderBehind(t *testing.T) {
	w := newWorld(t)
	dir, sets := chained(t, w, 0)
	last := w.snapshot("data", someFiles(9, 10))
	full := w.write(dir, []HeadSnapshot{last}, setOptions{name: "full2", parity: 6})
	b, err := w.openPipe("data", pipe(t, full, sets[1], sets[0]), nil)
	must(t, err)
	must(t, b.Pass(t.Context(), func(store.ID) bool { return true }, func(store.ID, []byte) error { return nil }, func() bool { return true }))
	must(t, b.Close())
	b, err = w.openPipe("data", pipe(t, full, sets[1], sets[0]), nil)
	must(t, err)
	if err := (&passed{Bare: b}).all(t.Context()); !errors.Is(err, ErrOtherSet) {
		t.Errorf("something did not come: %v", err)
	}
	must(t, b.Close())
}

// TestLabelLostBehind: a volume without a label is no reason to doubt what a name means if a set that is needed lists it.
func TestLabelLostBehind(t *testing.T) {
	w := newWorld(t)
	_, sets := chained(t, w, 700_000)
	hurt, err := io.ReadAll(pipe(t, sets[0]))
	must(t, err)
	clear(hurt[:300_000])
	for _, c := range []struct {
		behind []byte
		fails  bool
	}{{hurt, false}, {hurt[:400_000], true}} {
		b, err := w.openPipe("data", io.MultiReader(pipe(t, sets[2], sets[1]), bytes.NewReader(c.behind)), func(o *OpenOptions) { o.Incomplete = true })
		must(t, err)
		var newer *NewerError
		if err := (&passed{Bare: b}).all(t.Context()); errors.As(err, &newer) != c.fails || !c.fails && err != nil {
			t.Errorf("%d bytes: %v", len(c.behind), err)
		}
		must(t, b.Close())
	}
}

// TestFullScratch: what was copied ahead comes out again when scratch is full, and the pipe behind it.
func TestFullScratch(t *testing.T) {
	w := newWorld(t)
	_, sets := chained(t, w, 700_000)
	for _, most := range []int64{0, 1, streamPiece, 3 * streamPiece / 2} {
		all, err := io.ReadAll(pipe(t, sets[0], sets[1], sets[2]))
		must(t, err)
		c := &rawCopy{pipe: &pieces{data: all}}
		c.file, err = snapshot.ScratchFile(t.TempDir())
		must(t, err)
		head := make([]byte, 1000)
		_, err = io.ReadFull(c, head)
		must(t, err)
		if err := c.fill(t.Context(), most); !errors.Is(err, errNoRoom) {
			t.Errorf("%d: %v", most, err)
		}
		rest, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(append(head, rest...), all) {
			t.Errorf("%d: %d bytes of %d, %v", most, len(head)+len(rest), len(all), err)
		}
		if c.file != nil {
			t.Errorf("%d: the copy is still there", most)
		}
	}
}

// TestScratchTooSmall: damage that parity heals elsewhere is said to be a matter of scratch where that is too small.
func TestScratchTooSmall(t *testing.T) {
	data := largeVolume(t)
	damaged := bytes.Clone(data)
	damaged[len(data)/2] ^= 1
	for keep, short := range map[int64]bool{2 << 20: true, keptMost: false} {
		f, err := snapshot.ScratchFile(t.TempDir())
		must(t, err)
		h := &healingPipe{in: &pieces{data: damaged}, dir: t.TempDir(), note: func(string) {}, last: ring{file: f, size: keep}}
		h.parser = volume.NewStream(keptBy{h})
		out, err := io.ReadAll(h)
		must(t, err)
		if h.short.Load() != short || bytes.Equal(out, data) == short {
			t.Errorf("%d kept: short %v, healed %v", keep, h.short.Load(), bytes.Equal(out, data))
		}
		must(t, h.close())
	}
	notes := ""
	p := pipeReader{b: &Bare{o: OpenOptions{Note: func(note string) { notes += note }}}, in: &input{name: "pipe"}}
	p.damage(nil, 1, 1)
	if !strings.Contains(notes, "scratch has too little room to heal it in passing: 384 MiB are enough") {
		t.Error(notes)
	}
}
