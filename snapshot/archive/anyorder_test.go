package archive

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"

	"snapfs/store"
)

// TestAnyOrder: with scratch that holds all that comes volumes may come in any order, those of sets that are not needed among them.
func TestAnyOrder(t *testing.T) {
	w := newWorld(t)
	dir, sets := chained(t, w, 400_000)
	other := w.snapshot("other", someFiles(50, 20))
	many := someFiles(9, 10) // whose metadata do not fit into one volume
	for i := range 3000 {
		many[fmt.Sprintf("many/%x", noise(uint64(i), 100))] = nil
	}
	newest := w.snapshot("data", many)
	sets = append(sets, w.write(dir, []HeadSnapshot{other}, setOptions{name: "other", parity: 6, volumeSize: 400_000}),
		w.write(dir, []HeadSnapshot{newest}, setOptions{name: "full2", parity: 6, volumeSize: 150_000}))
	var volumes []string
	for _, s := range sets {
		volumes = append(volumes, s.volumes...)
	}
	r := rand.New(rand.NewPCG(4, 2))
	for round := range 100 {
		order := slices.Clone(volumes)
		r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		if round%2 == 0 { // the head of another set before the metadata of the first are complete
			full2 := sets[4].volumes
			order = slices.Concat(full2[:1], sets[3].volumes[:1], order)
		}
		var all []io.Reader
		for _, path := range order {
			data, err := os.ReadFile(path)
			must(t, err)
			all = append(all, bytes.NewReader(data))
		}
		s := w.snapshots[round%len(w.snapshots)]
		ref := s.ID.String()
		switch round / len(w.snapshots) % 3 {
		case 1:
			ref = s.Dataset + "@" + s.Name
		case 2:
			s, ref = newest, "data"
		}
		b, err := w.openPipe(ref, io.MultiReader(all...), func(o *OpenOptions) { o.KeepAll, o.Scratch = true, t.TempDir() })
		if err != nil {
			t.Errorf("%s: %v: %v", ref, order, err)
			continue
		}
		if lacking, err := b.receive(t); err != nil || lacking > 0 || b.Target().ID != s.ID {
			t.Errorf("%s: %v: %d chunks are missing, %v", ref, order, lacking, err)
		}
		must(t, b.Close())
	}
}

// receive counts the chunks that the wanted snapshot needs, and that neither are here nor come.
func (b *Bare) receive(t testing.TB) (lacking int, err error) {
	var mu sync.Mutex
	need := map[store.ID]bool{}
	_, err = b.neededChunks(t.Context(), func(id store.ID) {
		if _, err := b.Get(t.Context(), store.KindChunk, id); err != nil {
			need[id] = true
		}
	})
	must(t, err)
	if b.Passes() {
		err = b.Pass(t.Context(), func(id store.ID) bool { mu.Lock(); defer mu.Unlock(); return need[id] }, func(id store.ID, _ []byte) error {
			mu.Lock()
			defer mu.Unlock()
			delete(need, id)
			return nil
		}, func() bool { mu.Lock(); defer mu.Unlock(); return len(need) == 0 })
	}
	return len(need), err
}
