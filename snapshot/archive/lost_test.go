package archive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapfs/snapshot"
	"snapfs/store"
	"snapfs/store/volume"
)

// TestLost: what the store cannot give is named and left out, everything else is in the set, and the next one tries again.
func TestLost(t *testing.T) {
	s, out := newSource(t), t.TempDir()
	id := s.take(randomFiles(rand.New(rand.NewPCG(8, 8)), 20))
	must(t, s.st.Close())
	paths, err := filepath.Glob(filepath.Join(s.dir, "volumes", "*"))
	must(t, err)
	for _, path := range paths {
		data, err := os.ReadFile(path)
		must(t, err)
		if l, n, err := volume.ParseLabel(data); err == nil && l.Kind == volume.Data {
			data[n+volume.HeaderSize+1000] ^= 1
			must(t, os.WriteFile(path, data, 0o600))
		}
	}
	s.open()
	for _, level := range []Level{LevelFull, LevelIncremental} {
		o := s.options(out, id)
		o.Level = level
		res, err := Create(t.Context(), s.st, o)
		must(t, err)
		if len(res.Lost) == 0 || res.Set.Lost != int64(len(res.Lost)) || StateOf(&res.Set) != StateOnsite {
			t.Errorf("%s: lost %d, %d entered, %s", level, len(res.Lost), res.Set.Lost, StateOf(&res.Set))
		}
		carried := s.listed(&res.Set)
		for _, l := range res.Lost {
			if carried[l.ID] {
				t.Errorf("%s: a lost chunk counts as carried", level)
			}
		}
		if level == LevelFull && len(carried)+len(res.Lost) != len(s.chunks(id)) {
			t.Errorf("%d chunks carried, %d lost of %d", len(carried), len(res.Lost), len(s.chunks(id)))
		}
	}
}

// lateCancel is a context that is cancelled at the n-th time anybody asks.
type lateCancel struct {
	context.Context
	n *int
}

func (c lateCancel) Err() error {
	if *c.n--; *c.n < 0 {
		return context.Canceled
	}
	return nil
}

// withParityVolumes writes a set of several volumes and parity volumes; what is wanted is its snapshot, by ID.
func withParityVolumes(t testing.TB, parity int) (dir string, o OpenOptions) {
	s, dir := newSource(t), t.TempDir()
	id := s.take(randomFiles(rand.New(rand.NewPCG(9, 9)), 25))
	c := s.options(dir, id)
	c.Level, c.VolumeSize, c.ParityVolumes, c.ParityDir = LevelFull, 1<<20, parity, t.TempDir()
	_, err := Create(t.Context(), s.st, c)
	must(t, err)
	return dir, OpenOptions{Unlock: unlockTest, Resolve: func(ctx context.Context, st snapshot.Store) (*snapshot.Target, error) {
		return snapshot.Resolve(ctx, st, id.String(), time.Now(), time.UTC)
	}}
}

// TestNoDescriptorsLeft: a volume is lost, and the work is given up at the n-th step.
func TestNoDescriptorsLeft(t *testing.T) {
	dir, o := withParityVolumes(t, 1)
	must(t, os.Remove(glob(t, dir, "*-0002"+Suffix)))
	for n := 0; ; n++ {
		before := descriptors(t)
		left := n
		b, err := Open(lateCancel{t.Context(), &left}, []string{dir}, o)
		if err == nil {
			must(t, b.Close())
		} else if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if after := descriptors(t); after != before {
			t.Fatalf("step %d: %d descriptors are left", n, after-before)
		}
		if err == nil {
			return
		}
	}
}

// glob is the one file that a pattern finds.
func glob(t testing.TB, dir, pattern string) string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, pattern))
	must(t, err)
	if len(list) != 1 {
		t.Fatalf("%s: %v", pattern, list)
	}
	return list[0]
}

// lacking counts the chunks that the wanted snapshot needs and that are not here.
func (b *Bare) lacking(t testing.TB) (n int, err error) {
	_, err = b.neededChunks(t.Context(), func(id store.ID) {
		if _, err := b.Get(t.Context(), store.KindChunk, id); err != nil {
			n++
		}
	})
	return n, err
}

func descriptors(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(list)
}

// TestLostInPipe: parity volumes replace a lost volume where all that comes is kept, and where it is not, a note says so.
func TestLostInPipe(t *testing.T) {
	dir, o := withParityVolumes(t, 1)
	paths, err := filepath.Glob(filepath.Join(dir, "*"+Suffix))
	must(t, err)
	for _, keep := range []bool{false, true} {
		var all []byte
		for _, path := range paths {
			if data, err := os.ReadFile(path); err == nil && !strings.Contains(path, "-0002") {
				all = append(all, data...)
			}
		}
		notes := ""
		o.KeepAll, o.Scratch, o.Stdin, o.Note = keep, t.TempDir(), bytes.NewReader(all), func(note string) { notes += note + "\n" }
		b, err := Open(t.Context(), []string{"-"}, o)
		must(t, err)
		if !keep {
			must(t, (&passed{Bare: b}).all(t.Context()))
		}
		want := map[bool]string{false: "where they can be read anywhere", true: "was made anew from the parity volumes"}[keep]
		if !strings.Contains(notes, want) || b.Passes() {
			t.Errorf("kept %v: %s", keep, notes)
		}
		must(t, b.Close())
	}
}

// TestParityGroups: a parity volume whose label says anything else than the others' is none of theirs, and counts no row that they have not.
func TestParityGroups(t *testing.T) {
	covered := []Covered{{ID: volume.ID{1}, Number: 1, Length: 4}}
	of := func(p SetParity) *Volume {
		v := &Volume{Label: &volume.Label{Set: &volume.Set{Parity: p.Encode()}}}
		v.source = bytes.NewReader(nil)
		return v
	}
	groups := groupsOf([]*Volume{
		of(SetParity{Volumes: 2, Covered: covered}),
		of(SetParity{Volumes: 9, Number: 8, Covered: covered}),
		of(SetParity{Volumes: 2, Number: 1, Covered: covered}),
		of(SetParity{Volumes: 2, Covered: []Covered{{ID: volume.ID{2}, Number: 1, Length: 4}}}),
	})
	if len(groups) != 3 {
		t.Errorf("%d groups", len(groups))
	}
	for _, g := range groups {
		_, err := g.recompute(t.Context(), func(Covered) (io.WriterAt, error) { return nil, errIO })
		if !errors.Is(err, errIO) {
			t.Errorf("%+v: %v", g.what, err)
		}
	}
}
