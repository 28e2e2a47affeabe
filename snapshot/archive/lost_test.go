package archive

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

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
