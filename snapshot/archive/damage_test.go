package archive

import (
	"bytes"
	"context"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"snapfs/snapshot"
	"snapfs/store"
)

// cut is damage to a volume: bytes from to, with others in their place.
type cut struct {
	from, to int64
	with     []byte
	again    int64 // so many bytes come twice
}

func (c cut) apply(b []byte) []byte { return slices.Concat(b[:c.from], c.with, b[c.to:]) }

// touches reports whether a frame is not what it was: bytes changed or lost, or put in between.
func (c cut) touches(f frameAt) bool {
	if c.again > 0 { // a frame in which they begin or end is whole in one of the copies, unless they do both
		return c.splits(f, c.from) && c.splits(f, c.from+c.again)
	}
	return f.offset < c.to && c.from < f.offset+f.length
}

func (c cut) splits(f frameAt, at int64) bool { return f.offset < at && at < f.offset+f.length }

// mayTouch also has frames of which one copy is whole.
func (c cut) mayTouch(f frameAt) bool {
	return c.touches(f) || c.again > 0 && (c.splits(f, c.from) || c.splits(f, c.from+c.again))
}

// randomCut damages a volume at random; lasting damage is of a kind that leaves lengths alone.
func randomCut(r *rand.Rand, data []byte, sameLength bool) cut {
	n := int64(len(data))
	from := r.Int64N(n)
	to := min(n, from+1+r.Int64N(20_000))
	kind := r.IntN(6)
	if sameLength {
		kind %= 3
	}
	switch kind {
	case 0:
		return cut{from: from, to: from + 1, with: []byte{data[from] ^ 1<<r.IntN(8)}}
	case 1:
		return cut{from: from, to: to, with: make([]byte, to-from)}
	case 2:
		return cut{from: from, to: to, with: noise(r.Uint64N(1<<20), int(to-from))}
	case 3: // lost blocks
		return cut{from: from, to: to}
	case 4: // a block twice
		return cut{from, from, data[from:to], to - from}
	}
	return cut{from: from, to: n} // cut short
}

// expected computes which files of a snapshot a damaged volume takes away.
func (w *world) expected(s HeadSnapshot, sets []*testSet, lost func(set *testSet, f frameAt) bool) []string {
	gone := map[store.ID]bool{}
	at := map[store.ID]bool{}
	for _, set := range sets {
		for id, frames := range set.where {
			at[id] = true
			for _, f := range frames {
				gone[id] = gone[id] || lost(set, f)
			}
		}
	}
	for _, set := range sets { // another place will do
		for id, frames := range set.where {
			for _, f := range frames {
				if !lost(set, f) {
					gone[id] = false
				}
			}
		}
	}
	var damaged []string
	reach := &goneWalk{w: w, gone: gone}
	for _, path := range slices.Sorted(maps.Keys(w.content[s.ID])) {
		if reach.path(s.ID, path) {
			damaged = append(damaged, path)
		}
	}
	return damaged
}

// goneWalk looks a path up in the origin and reports whether a blob on the way is gone.
type goneWalk struct {
	w    *world
	gone map[store.ID]bool
	hit  bool
}

func (g *goneWalk) path(id store.ID, path string) bool {
	ctx := g.w.t.Context()
	g.hit = false
	src := goneSource{g}
	tree, err := snapshot.OpenTree(ctx, src, g.w.bundle.PageKey(), id, nil)
	if err != nil {
		return true
	}
	f, err := tree.Walk(ctx, path)
	if err != nil {
		return true
	}
	err = tree.Items(ctx, f.Entry, 0, func(_ int64, it snapshot.Item) bool {
		g.hit = g.hit || !it.ID.IsZero() && g.gone[it.ID]
		return true
	})
	return g.hit || err != nil
}

// goneSource is the origin without what is gone.
type goneSource struct{ g *goneWalk }

func (s goneSource) Get(_ context.Context, kind store.Kind, id store.ID) ([]byte, error) {
	if s.g.gone[id] {
		return nil, &store.MissingError{Kind: kind, ID: id}
	}
	return s.g.w.blobs[id].data, nil
}

// damageCases runs random damage through open and compares what is damaged with what was computed.
func damageCases(t *testing.T, rounds int, parity int, sameLength, inPipe bool) {
	w := newWorld(t)
	dir := t.TempDir()
	s := w.snapshot("data", someFiles(5, 24))
	set := w.write(dir, []HeadSnapshot{s}, setOptions{name: "full", volumeSize: 900_000, parity: parity})
	var originals [][]byte
	for _, v := range set.volumes {
		data, err := os.ReadFile(v)
		must(t, err)
		originals = append(originals, data)
	}
	r := rand.New(rand.NewPCG(uint64(rounds), uint64(parity)))
	healed, named := 0, 0
	for round := range rounds {
		n := r.IntN(len(originals))
		c := randomCut(r, originals[n], sameLength)
		lost := func(_ *testSet, f frameAt) bool { return f.volume == n && c.touches(f) }
		want := w.expected(s, []*testSet{set}, lost)
		most := w.expected(s, []*testSet{set}, func(_ *testSet, f frameAt) bool { return f.volume == n && c.mayTouch(f) })
		got := w.readDamaged(s, originals, n, c.apply(originals[n]), inPipe)
		switch {
		case len(got) == 0:
			healed++
		default:
			named++
		}
		if parity == 0 {
			if !contains(got, want) || !contains(most, got) || inPipe && len(got) != len(want) {
				t.Fatalf("round %d: volume %d, %d to %d of %d replaced by %d bytes: damaged %v, want %v", round, n+1, c.from, c.to, len(originals[n]), len(c.with), got, want)
			}
			continue
		}
		for _, path := range got {
			if !slices.Contains(most, path) {
				t.Fatalf("round %d: volume %d, %d to %d replaced by %d bytes: %s is damaged, want at most %v", round, n+1, c.from, c.to, len(c.with), path, most)
			}
		}
		if len(got) > 0 && c.to-c.from < 8<<10 && len(c.with) < 8<<10 {
			t.Fatalf("round %d: volume %d, %d to %d replaced by %d bytes: parity did not heal %v", round, n+1, c.from, c.to, len(c.with), got)
		}
	}
	t.Logf("%d whole, %d with files named", healed, named)
}

func contains(all, some []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}

// readDamaged reads a snapshot from volumes of which one was exchanged.
func (w *world) readDamaged(s HeadSnapshot, originals [][]byte, n int, damaged []byte, inPipe bool) []string {
	o := w.options("latest")
	o.Note = nil
	args := []string{"-"}
	if inPipe {
		volumes := slices.Clone(originals)
		volumes[n] = damaged
		o.Stdin = bytes.NewReader(slices.Concat(volumes...))
	} else {
		dir := w.t.TempDir()
		for i, data := range originals {
			if i == n {
				data = damaged
			}
			must(w.t, os.WriteFile(filepath.Join(dir, string(rune('a'+i))+".snapfs"), data, 0o600))
		}
		defer os.RemoveAll(dir)
		args = []string{dir}
	}
	b, err := Open(w.t.Context(), args, o)
	if err != nil {
		w.t.Log(err)
		return slices.Sorted(maps.Keys(w.content[s.ID]))
	}
	defer b.Close()
	return w.read(b, s)
}

func TestDamageIsNamedExactly(t *testing.T)     { damageCases(t, 300, 0, true, false) }
func TestLostBytesAreNamedExactly(t *testing.T) { damageCases(t, 200, 0, false, false) }
func TestDamageIsHealed(t *testing.T)           { damageCases(t, 200, 6, false, false) }
func TestDamageInPipeIsHealed(t *testing.T)     { damageCases(t, 300, 6, false, true) }
func TestDamageInPipeIsNamed(t *testing.T)      { damageCases(t, 200, 0, false, true) }
