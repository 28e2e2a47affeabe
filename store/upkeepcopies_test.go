package store

import (
	"os"
	"testing"

	"snapfs/store/volume"
)

// TestUpkeepKeepsTheOnlyCopy: upkeep removes nothing of which no other copy can be read, whatever the index says.
func TestUpkeepKeepsTheOnlyCopy(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, dir string, id ID) *Store{
		"the index lacks it": func(t *testing.T, dir string, id ID) *Store {
			st := openTrees(t, dir)
			must(t, engineOf(st).removeEntry(id))
			return st
		},
		"the index leads to a volume that is gone": func(t *testing.T, dir string, id ID) *Store {
			other := storedTwice(t, dir, id)
			must(t, os.Remove(volumePath(dir, other)))
			return openTrees(t, dir)
		},
		"the index leads to a damaged frame": func(t *testing.T, dir string, id ID) *Store {
			other := storedTwice(t, dir, id)
			b, err := os.ReadFile(volumePath(dir, other))
			must(t, err)
			at := layoutOf(t, b).blobs[0].Offset
			flipByte(t, volumePath(dir, other), at+200)
			st := openTrees(t, dir)
			must(t, engineOf(st).noteDamage(t.Context(), []DamagedFrame{{other, at, id}}))
			return st
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newStore(t)
			st := openTrees(t, dir)
			s := engineOf(st).newSession("backup")
			id := putChunk(t, s, twice)
			commitChunk(t, s, "kept", id)
			crash(t, st) // so that upkeep copies the volume
			st = spoil(t, dir, id)
			defer closeStore(t, st)
			r, err := st.Upkeep(t.Context())
			must(t, err)
			if len(r.Rewritten) == 0 {
				t.Fatal("nothing was copied")
			}
			must(t, engineOf(st).reindex())
			checkChunk(t, st, id, twice)
		})
	}
}

// storedTwice makes the index lead to a second copy of the chunk, and returns its volume.
func storedTwice(t *testing.T, dir string, id ID) volume.ID {
	t.Helper()
	st := openTrees(t, dir)
	defer closeStore(t, st)
	e := engineOf(st)
	s := e.newSession("again")
	defer s.Close()
	if putChunk(t, s, twice) != id {
		t.Fatal("another chunk")
	}
	sealData(t, e)
	places, err := e.locate([]ID{id})
	must(t, err)
	return places[0].Volume
}
