package volume

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"
)

// checkFrames opens each frame where it was said to lie.
func checkFrames(t *testing.T, f *memFile, frames []placed) {
	t.Helper()
	v := testLabel().Volume
	for i, p := range frames {
		stored := bytes.Clone(f.data[p.offset : p.offset+int64(p.stored)])
		_, plain, err := OpenFrame(stored, v, testAEAD(t, v))
		if err != nil || !bytes.Equal(plain, p.plain) {
			t.Fatalf("frame %d at %d: %d bytes, %v", i, p.offset, len(plain), err)
		}
	}
}

// contents lists what a sealed volume's table says.
func contents(t testing.TB, f *memFile) (infos []FrameInfo, err error) {
	t.Helper()
	trailer, err := ReadTrailer(f, int64(len(f.data)))
	if err != nil {
		return nil, err
	}
	err = ReadContents(f, trailer, testAEAD(t, trailer.Volume), func(i FrameInfo) error {
		i.Blobs = slices.Clone(i.Blobs)
		infos = append(infos, i)
		return nil
	})
	return infos, err
}

func checkContents(t *testing.T, f *memFile, frames []placed) {
	t.Helper()
	infos, err := contents(t, f)
	if err != nil || len(infos) != len(frames) {
		t.Fatalf("table of %d frames for %d: %v", len(infos), len(frames), err)
	}
	for i, p := range frames {
		if infos[i].Offset != p.offset || infos[i].Stored != p.stored || !slices.Equal(infos[i].Blobs, p.blobs) {
			t.Fatalf("row %d: %+v, want %+v", i, infos[i], p)
		}
	}
}

func TestSealedVolume(t *testing.T) {
	f, frames := smallVolume(t)
	if f.synced != len(f.data) {
		t.Errorf("%d of %d bytes synced", f.synced, len(f.data))
	}
	checkFrames(t, f, frames)
	checkContents(t, f, frames)

	trailer, err := ReadTrailer(f, int64(len(f.data)))
	if err != nil || trailer.Volume != testLabel().Volume || trailer.Blobs != 5 || trailer.Frames != 6 {
		t.Errorf("trailer %+v, %v", trailer, err)
	}
	if l, err := ReadLabelAgain(f, trailer); err != nil || l != testLabel() {
		t.Errorf("repeated label %+v, %v", l, err)
	}
}

func TestEmptyVolume(t *testing.T) {
	f := new(memFile)
	w := newWriter(t, f)
	if err := w.Seal(); err != nil {
		t.Fatal(err)
	}
	checkContents(t, f, nil)
}

func TestTableInParts(t *testing.T) {
	f := new(memFile)
	w := newWriter(t, f)
	var frames []placed
	blobs := make([]Blob, 5000)
	for i := range blobs {
		blobs[i].ID[0], blobs[i].ID[1] = byte(i), byte(i>>8)
	}
	plain := NewPacker(LevelNone).Pack(nil, blobs, nil)
	for range 15 {
		offset, stored, err := w.Append(FrameBlobs, plain, blobs)
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, placed{offset, stored, blobs, plain})
	}
	if err := w.Seal(); err != nil {
		t.Fatal(err)
	}
	if n := len(w.table.done); n != 0 {
		t.Errorf("%d parts of the table still in memory", n)
	}
	checkContents(t, f, frames)
	trailer, err := ReadTrailer(f, int64(len(f.data)))
	if err != nil || int(trailer.Frames) != 15+3+1 {
		t.Errorf("%d frames, want a table of three: %v", trailer.Frames, err)
	}
}

func TestAppendAfterTheEnd(t *testing.T) {
	f, _ := smallVolume(t)
	w := newWriter(t, f)
	for _, end := range []func() error{w.Seal, w.Seal, w.Close, w.Close} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.Append(FrameFacts, nil, nil); !errors.Is(err, ErrSealed) {
			t.Errorf("append: %v", err)
		}
	}
	if !f.closed {
		t.Error("file not closed")
	}
	if _, _, err := w.Append(FrameFacts, make([]byte, MaxPayload), nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("large frame: %v", err)
	}
}

func TestConcurrentAppends(t *testing.T) {
	f := new(memFile)
	w := newWriter(t, f)
	var group sync.WaitGroup
	all := make([][]placed, 8)
	for g := range all {
		group.Go(func() {
			for i := range 40 {
				all[g] = append(all[g], appendBlobs(t, w, textBytes(byte(g), 10+i*37), []byte{byte(g), byte(i)}))
				if i%10 == 0 {
					checkSync(t, w, all[g][len(all[g])-1])
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
	checkContents(t, f, frames)
}

// checkSync syncs and sees that a frame appended before is covered.
func checkSync(t *testing.T, w *Writer, p placed) {
	if err := w.Sync(); err != nil {
		t.Error(err)
	}
	if w.Synced() < p.offset+int64(p.stored) {
		t.Errorf("synced to %d, frame ends at %d", w.Synced(), p.offset+int64(p.stored))
	}
}

// script is what the failure tests do with a volume; it gives the frames that a Sync has promised.
func script(t *testing.T, f *memFile) (promised []placed, err error) {
	l := testLabel()
	w, err := Create(f, l, Options{AEAD: testAEAD(t, l.Volume), Random: testRandom(1)})
	if err != nil {
		return nil, err
	}
	var frames []placed
	for round := range 3 {
		for i := range 3 {
			raw := textBytes(byte(round*3+i), 400)
			blobs := []Blob{testBlob(raw)}
			plain := NewPacker(LevelFastest).Pack(nil, blobs, raw)
			offset, stored, err := w.Append(FrameBlobs, plain, blobs)
			if err != nil {
				return frames, errors.Join(err, failedForGood(w), w.Close()) // what was written before can be kept
			}
			frames = append(frames, placed{offset, stored, blobs, plain})
		}
		if err := w.Sync(); err != nil {
			return promised, errors.Join(err, failedForGood(w), w.Close())
		}
		promised = slices.Clone(frames)
	}
	if err := w.Seal(); err != nil {
		return promised, errors.Join(err, failedForGood(w), w.Close())
	}
	return promised, w.Close()
}

func failedForGood(w *Writer) error {
	_, _, appending := w.Append(FrameFacts, nil, nil)
	for _, err := range []error{appending, w.Sync(), w.Seal(), w.Err()} {
		if !errors.Is(err, ErrFailed) || !errors.Is(err, errInjected) {
			return errors.New("a failed volume went on")
		}
	}
	return nil
}

func TestEveryOperationFails(t *testing.T) {
	for k := 1; ; k++ {
		f := &memFile{failAt: k}
		promised, err := script(t, f)
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
		n := 0
		end, gaps, err := Scan(f, 0, int64(len(f.data)), testLabel().Volume, func(int64, Header) error { n++; return nil })
		if k > 1 && (n != len(promised) || len(gaps) > 0 || end != int64(len(f.data)) || err != nil) {
			t.Fatalf("operation %d: %d frames for %d, gaps %v, end %d of %d, %v", k, n, len(promised), gaps, end, len(f.data), err)
		}
	}
}

func TestRandomnessFails(t *testing.T) {
	l := testLabel()
	w, err := Create(new(memFile), l, Options{AEAD: testAEAD(t, l.Volume), Random: bytes.NewReader(nil)})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Append(FrameFacts, nil, nil); !errors.Is(err, ErrFailed) {
		t.Errorf("append without random bytes: %v", err)
	}
}

// gate is a File whose first write of a frame waits.
type gate struct {
	memFile
	writing, release chan struct{}
}

func (g *gate) WriteAt(p []byte, off int64) (int, error) {
	if off == 4096 {
		close(g.writing)
		<-g.release
	}
	return g.memFile.WriteAt(p, off)
}

func TestSyncWaitsForWritesUnderWay(t *testing.T) {
	g := &gate{writing: make(chan struct{}), release: make(chan struct{})}
	w := newWriter(t, g)
	var group sync.WaitGroup
	group.Go(func() { appendBlobs(t, w, []byte("slow")) })
	<-g.writing
	quick := appendBlobs(t, w, []byte("quick"))
	synced := make(chan error)
	go func() { synced <- w.Sync() }()
	select {
	case err := <-synced:
		t.Errorf("synced to %d with a write under way: %v", w.Synced(), err)
	default:
	}
	if w.Synced() != 0 {
		t.Error("something is promised already")
	}
	close(g.release)
	if err := <-synced; err != nil || w.Synced() != quick.offset+int64(quick.stored) {
		t.Errorf("synced to %d: %v", w.Synced(), err)
	}
	group.Wait()
}
