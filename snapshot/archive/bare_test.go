package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"snapfs/snapshot"
	"snapfs/store/volume"
)

// chained writes a full set and two incrementals, each with a snapshot of its own.
func chained(t testing.TB, w *world, volumeSize int64) (dir string, sets []*testSet) {
	dir = t.TempDir()
	files := someFiles(1, 30)
	for i, name := range []string{"full", "inc1", "inc2"} {
		files[filepath.Join("dir1", "new"+name)] = noise(uint64(100+i), 200_000+i)
		files["dir2/file002"] = noise(uint64(200+i), 3000)
		s := w.snapshot("data", files)
		snaps := slices.Clone(w.snapshots)
		if name == "inc2" {
			snaps = []HeadSnapshot{s}
		}
		parents := slices.Clone(sets)
		slices.Reverse(parents)
		sets = append(sets, w.write(dir, snaps, setOptions{name: name, parents: parents, volumeSize: volumeSize, parity: 6}))
	}
	return dir, sets
}

func TestRestoreFromDirectory(t *testing.T) {
	for _, size := range []int64{0, 700_000} {
		w := newWorld(t)
		dir, _ := chained(t, w, size)
		for _, s := range w.snapshots {
			w.whole(s, s.Dataset+"@"+s.Name, dir)
		}
		w.whole(w.snapshots[2], "latest", dir)
	}
}

// pipe is the volumes of sets one after another.
func pipe(t testing.TB, sets ...*testSet) io.Reader {
	var all []io.Reader
	for _, s := range sets {
		for _, v := range s.volumes {
			data, err := os.ReadFile(v)
			must(t, err)
			all = append(all, bytes.NewReader(data))
		}
	}
	return io.MultiReader(all...)
}

func (w *world) openPipe(ref string, r io.Reader, change func(*OpenOptions)) (*Bare, error) {
	o := w.options(ref)
	o.Stdin = r
	if change != nil {
		change(&o)
	}
	return Open(w.t.Context(), []string{"-"}, o)
}

func TestRestoreThroughPipe(t *testing.T) {
	w := newWorld(t)
	_, sets := chained(t, w, 700_000)
	for i, s := range w.snapshots {
		needed := slices.Clone(sets[:i+1])
		slices.Reverse(needed)
		r := pipe(t, needed...)
		b, err := w.openPipe(s.Dataset+"@"+s.Name, r, nil)
		must(t, err)
		if damaged := w.read(b, s); len(damaged) > 0 {
			t.Errorf("snapshot %d: damaged %v", i, damaged)
		}
		must(t, b.Close())
	}
}

func TestPipeInWrongOrder(t *testing.T) {
	w := newWorld(t)
	_, sets := chained(t, w, 700_000)
	last := w.snapshots[2]
	_, err := w.openPipe("data@"+last.Name, pipe(t, sets[0], sets[1], sets[2]), nil)
	if !errors.Is(err, ErrOrder) {
		t.Errorf("oldest first: %v", err)
	}
	b, err := w.openPipe("data@"+last.Name, pipe(t, sets[0], sets[1], sets[2]), func(o *OpenOptions) { o.KeepAll, o.Scratch = true, t.TempDir() })
	must(t, err)
	defer b.Close()
	if damaged := w.read(b, last); len(damaged) > 0 {
		t.Errorf("damaged: %v", damaged)
	}
}

func TestMissingParent(t *testing.T) {
	w := newWorld(t)
	_, sets := chained(t, w, 0)
	last := w.snapshots[2]
	for name, open := range map[string]func() (*Bare, error){
		"files": func() (*Bare, error) {
			return Open(t.Context(), append(sets[2].volumes, sets[1].volumes...), w.options("latest"))
		},
		"pipe": func() (*Bare, error) {
			b, err := w.openPipe("latest", pipe(t, sets[2], sets[1]), nil)
			must(t, err)
			defer b.Close()
			return nil, (&passed{Bare: b}).all(t.Context())
		},
	} {
		var missing *ParentError
		_, err := open()
		if !errors.As(err, &missing) || len(missing.Missing) != 1 || missing.Missing[0].Name != "full" || missing.Missing[0].Location == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	o := w.options("latest")
	o.Incomplete = true
	b, err := Open(t.Context(), append(sets[2].volumes, sets[1].volumes...), o)
	must(t, err)
	defer b.Close()
	if damaged := w.read(b, last); len(damaged) == 0 || len(damaged) == len(w.content[last.ID]) {
		t.Errorf("damaged %d of %d", len(damaged), len(w.content[last.ID]))
	}
}

func TestForeignVolumes(t *testing.T) {
	w := newWorld(t)
	_, sets := chained(t, w, 0)
	other := newWorld(t)
	other.store = [16]byte{9}
	otherDir, otherSets := chained(t, other, 0)
	_ = otherDir
	first := w.snapshots[0]
	ref := "data@" + first.Name
	_, err := Open(t.Context(), []string{sets[0].volumes[0], otherSets[0].volumes[0]}, w.options(ref))
	if !errors.Is(err, ErrOtherStore) || !strings.Contains(err.Error(), otherSets[0].volumes[0]) || !strings.Contains(err.Error(), fmt.Sprintf("%x", other.store)) {
		t.Errorf("another store: %v", err)
	}
	_, err = Open(t.Context(), []string{sets[0].volumes[0], sets[2].volumes[0]}, w.options(ref))
	if !errors.Is(err, ErrOtherSet) || !strings.Contains(err.Error(), sets[2].volumes[0]) || !strings.Contains(err.Error(), "set "+sets[2].head.Name) || !strings.Contains(err.Error(), ref) {
		t.Errorf("another set: %v", err)
	}
	if _, err := w.openPipe(ref, pipe(t, sets[0], otherSets[1]), nil); err != nil {
		t.Errorf("what comes when all is there is not looked at: %v", err)
	}
	if _, err := w.openPipe(ref, pipe(t, sets[2], sets[0]), nil); !errors.Is(err, ErrOrder) {
		t.Errorf("pipe with another set first: %v", err)
	}
	var unknown *snapshot.UnknownError
	if _, err := Open(t.Context(), sets[0].volumes, w.options("nothing")); !errors.As(err, &unknown) {
		t.Errorf("no such snapshot: %v", err)
	}
	if _, err := Open(t.Context(), []string{w.keys}, w.options(ref)); !errors.Is(err, ErrNoVolume) {
		t.Errorf("no volume: %v", err)
	}
}

func TestVolumeTwice(t *testing.T) {
	w := newWorld(t)
	dir, sets := chained(t, w, 0)
	data, err := os.ReadFile(sets[0].volumes[0])
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "copy.snapfs"), data, 0o600))
	notes := 0
	o := w.options("latest")
	o.Note = func(note string) { notes++; t.Log(note) }
	b, err := Open(t.Context(), []string{dir}, o)
	must(t, err)
	must(t, b.Close())
	if notes != 1 {
		t.Errorf("%d notes", notes)
	}
}

func TestHeadsAreLost(t *testing.T) {
	w := newWorld(t)
	_, sets := chained(t, w, 0)
	first := w.snapshots[0]
	data, err := os.ReadFile(sets[0].volumes[0])
	must(t, err)
	_, length, err := volume.ReadLabel(bytes.NewReader(data), int64(len(data)))
	must(t, err)
	copy(data[length+100:], make([]byte, 64)) // in the head
	b, err := w.openPipe("data@"+first.Name, bytes.NewReader(data), nil)
	must(t, err)
	defer b.Close()
	if damaged := w.read(b, first); len(damaged) > 0 {
		t.Errorf("damaged: %v", damaged)
	}
}

func TestPipeOfVolumesInWrongOrder(t *testing.T) {
	w := newWorld(t)
	_, sets := chained(t, w, 700_000)
	s := sets[0]
	if len(s.volumes) < 3 {
		t.Fatalf("%d volumes", len(s.volumes))
	}
	ref := "data@" + w.snapshots[0].Name
	swapped := func(i, j int) *testSet {
		c := *s
		c.volumes = slices.Clone(s.volumes)
		c.volumes[i], c.volumes[j] = c.volumes[j], c.volumes[i]
		return &c
	}
	if _, err := w.openPipe(ref, pipe(t, swapped(0, 1)), nil); !errors.Is(err, ErrOrder) {
		t.Errorf("the second first: %v", err)
	}
	for what, open := range map[string]func() (*Bare, error){
		"the last two": func() (*Bare, error) { return w.openPipe(ref, pipe(t, swapped(1, 2)), nil) },
		"the second first, with scratch": func() (*Bare, error) {
			return w.openPipe(ref, pipe(t, swapped(0, 1)), func(o *OpenOptions) { o.KeepAll, o.Scratch = true, t.TempDir() })
		},
	} {
		b, err := open()
		must(t, err)
		if damaged := w.read(b, w.snapshots[0]); len(damaged) > 0 {
			t.Errorf("%s: damaged %v", what, damaged)
		}
		must(t, b.Close())
	}
}

// Damage in a pipe is healed where all that comes can be kept.
func TestPipeHealsWithScratch(t *testing.T) {
	w := newWorld(t)
	_, sets := chained(t, w, 0)
	data, err := os.ReadFile(sets[0].volumes[0])
	must(t, err)
	for _, at := range []int{10, len(data) / 2, len(data) - 10} { // label, a chunk, trailer
		damaged := bytes.Clone(data)
		damaged[at] ^= 4
		b, err := w.openPipe("data@"+w.snapshots[0].Name, bytes.NewReader(damaged), func(o *OpenOptions) { o.KeepAll, o.Scratch = true, t.TempDir() })
		must(t, err)
		if damaged := w.read(b, w.snapshots[0]); len(damaged) > 0 {
			t.Errorf("byte %d: damaged %v", at, damaged)
		}
		must(t, b.Close())
	}
}
