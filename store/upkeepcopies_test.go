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

// TestUpkeepKeepsWhatCameBack: a volume that a crash left has a damaged frame, which is whole again when all volumes are read again, so that there are
// more blobs in it than before. All of them are copied.
func TestUpkeepKeepsWhatCameBack(t *testing.T) {
	dir := newStore(t)
	st := openTrees(t, dir)
	e := engineOf(st)
	s := e.newSession("backup")
	var ids []ID
	data := blobs(1, 150_000, 150_000, 150_000)
	for _, d := range data {
		ids = append(ids, putChunk(t, s, d))
	}
	id, at := e.current[volume.Data].id, e.pending[ids[0]].place.offset+200
	must(t, e.syncVolumes())
	crash(t, st)
	flipByte(t, volumePath(dir, id), at)
	st = openTrees(t, dir)
	defer closeStore(t, st)
	e = engineOf(st)
	flipByte(t, volumePath(dir, id), at)
	must(t, e.reindex())
	s = e.newSession("next backup")
	have, err := s.Have(t.Context(), ids)
	if err != nil || !have[0] || !have[1] || !have[2] {
		t.Fatalf("have %v: %v", have, err)
	}
	r, err := st.Upkeep(t.Context())
	must(t, err)
	if len(r.Rewritten) == 0 {
		t.Fatal("nothing was copied")
	}
	for i, id := range ids {
		commitChunk(t, e.newSession("backup"), string('a'+rune(i)), id)
		checkChunk(t, st, id, data[i])
	}
}
