package archive

import (
	"os"
	"slices"
	"testing"
)

// TestUnfinishedSetIsNewest: a set that was never finished is no reason to miss what older ones hold, in a directory, by name, or through a pipe.
func TestUnfinishedSetIsNewest(t *testing.T) {
	w := newWorld(t)
	dir, sets := chained(t, w, 400_000)
	s := w.snapshots[2]
	unfinished := w.write(dir, []HeadSnapshot{s}, setOptions{name: "unfinished", volumeSize: 400_000})
	for _, path := range unfinished.volumes[2:] {
		must(t, os.Remove(path))
	}
	unfinished.volumes = unfinished.volumes[:2]
	named := slices.Clone(unfinished.volumes)
	for _, set := range sets {
		named = append(named, set.volumes...)
	}
	for _, ref := range []string{s.ID.String(), "data"} {
		w.whole(s, ref, dir)
		w.whole(s, ref, named...)
		for _, keep := range []bool{false, true} {
			b, err := w.openPipe(ref, pipe(t, unfinished, sets[2], sets[1], sets[0]), func(o *OpenOptions) { o.KeepAll, o.Scratch = keep, t.TempDir() })
			must(t, err)
			if lacking, err := b.receive(t); err != nil || lacking > 0 {
				t.Errorf("%s, kept %v: %d chunks are missing, %v", ref, keep, lacking, err)
			}
			must(t, b.Close())
		}
	}
	must(t, os.Remove(unfinished.volumes[0])) // the one with the metadata
	w.whole(s, "data", dir)
}
