package store

import (
	"os"
	"testing"

	"snapfs/store/volume"
)

// vanishing removes a volume when it is opened, and does something else then.
type vanishing struct {
	Files
	path string
	then func()
}

func (f *vanishing) Open(path string) (volume.File, error) {
	if path == f.path {
		_ = os.Remove(path)
		f.then()
	}
	return f.Files.Open(path)
}

// TestDamageInVanishedVolume: what cannot be read because a prune has just dropped the volume is no damage, and no error; where nobody did,
// the index says what is lost with it.
func TestDamageInVanishedVolume(t *testing.T) {
	for name, dropped := range map[string]bool{"dropped": true, "removed by hand": false} {
		t.Run(name, func(t *testing.T) {
			dir := newStore(t)
			st := openStore(t, dir)
			ids, _ := putAll(t, st, "d", "one", blobs(1, 5))
			closeStore(t, st)
			own, err := filesFor(dir)
			must(t, err)
			files := &vanishing{Files: own}
			st, err = Open(t.Context(), dir, Options{Unlock: unlockTest, Files: files})
			must(t, err)
			defer closeStore(t, st)
			e := engineOf(st)
			places, err := st.Locate(t.Context(), ids[:1])
			must(t, err)
			at := places[0]
			files.path = volumePath(dir, at.Volume)
			files.then = func() {
				e.mu.Lock()
				defer e.mu.Unlock()
				e.volumes.byID[at.Volume].dropped = dropped
			}
			must(t, e.noteDamage(t.Context(), []DamagedFrame{{Volume: at.Volume, Offset: at.Offset, Blob: ids[0]}}))
			e.mu.Lock()
			defer e.mu.Unlock()
			if found := e.damage.frames[frameKey{at.Volume, at.Offset}]; (len(found) == 0) != dropped {
				t.Errorf("recorded as damaged: %v", found)
			}
		})
	}
}
