package store

import (
	"slices"
	"testing"

	"snapfs/store/volume"
)

// TestNamedVolumes: while a commit fact is written, a prune removes a volume that it names, and others fill volumes: those are for
// the next commit.
func TestNamedVolumes(t *testing.T) {
	sealed := func(n byte, length int64) sealedVolume { return sealedVolume{volume.ID{n}, volume.Data, length} }
	e := &engine{sealed: []sealedVolume{sealed(1, 10), sealed(2, 10)}, orphans: []sealedVolume{sealed(3, 10)}}
	list := e.openLengths()
	list = append(list, sealed(4, 10), sealed(5, 10)) // as if they were still written
	e.sealed = []sealedVolume{sealed(2, 10), sealed(4, 10), sealed(5, 20), sealed(6, 10)}
	e.orphans = append(e.orphans, sealed(7, 10))
	e.named(list)
	if want := []sealedVolume{sealed(5, 20), sealed(6, 10)}; !slices.Equal(e.sealed, want) {
		t.Errorf("left to name %v, want %v", e.sealed, want)
	}
	if want := []sealedVolume{sealed(7, 10)}; !slices.Equal(e.orphans, want) {
		t.Errorf("orphans left to name %v, want %v", e.orphans, want)
	}
}
