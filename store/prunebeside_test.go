package store

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// TestPruneBesideBackups takes backups that share content from several sessions while snapshots are forgotten and pruned
// all the time: every snapshot that is kept is whole, at every moment.
func TestPruneBesideBackups(t *testing.T) {
	dir := newStore(t)
	st := openTrees(t, dir)
	engineOf(st).limit = 3 << 20 // several volumes
	var mu sync.Mutex
	kept := map[ID]tree{}
	snaps := map[ID]Snapshot{}
	deadline := time.Now().Add(6 * time.Second)
	if testing.Short() {
		deadline = time.Now().Add(2 * time.Second)
	}
	var wg sync.WaitGroup
	for n := range 3 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(n), 7))
			for i := 0; time.Now().Before(deadline) && !t.Failed(); i++ {
				client := openTrees(t, dir, func(o *Options) { o.Direct = true })
				tr := randomTree(rng, i, 150)
				tr.name = fmt.Sprintf("%d-%d", n, i)
				s, err := tr.write(t, client, fmt.Sprint("d", n))
				if err == nil {
					err = tr.compare(t, client, s.ID)
				}
				if err != nil {
					t.Errorf("%s: %v", tr.name, err)
				}
				mu.Lock()
				kept[s.ID], snaps[s.ID] = tr, s
				mu.Unlock()
				closeStore(t, client)
			}
		})
	}
	prunes := 0
	for ; time.Now().Before(deadline) && !t.Failed(); prunes++ {
		mu.Lock()
		var gone []Snapshot
		for id, s := range snaps {
			if _, ok := kept[id]; ok && rand.IntN(2) == 0 {
				gone = append(gone, s)
				delete(kept, id)
			}
		}
		mu.Unlock()
		if len(gone) > 0 {
			forgetAll(t, st, gone...)
		}
		mustPrune(t, st, PruneOptions{})
		reader := openTrees(t, dir, func(o *Options) { o.Direct = true })
		mu.Lock()
		for id, tr := range kept {
			if err := tr.compare(t, reader, id); err != nil {
				t.Errorf("after prune %d: %s: %v", prunes, tr.name, err)
			}
		}
		mu.Unlock()
		closeStore(t, reader)
	}
	wg.Wait()
	t.Logf("%d snapshots, %d kept, %d prunes", len(snaps), len(kept), prunes)
	mustPrune(t, st, PruneOptions{})
	closeStore(t, st)
	checkKept(t, dir, kept, "at the end")
	checkVolumesKnown(t, dir)
}
