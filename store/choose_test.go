package store

import (
	"testing"

	"snapfs/store/volume"
)

// TestWhatIsRewrittenCountsInItsTier: seven small volumes and one that is rewritten as it is wasteful are merged at once. Else the next prune
// would do it.
func TestWhatIsRewrittenCountsInItsTier(t *testing.T) {
	one := func(n uint32, size, live int64) *candidate {
		c := &candidate{volumeState: &volumeState{number: n, kind: volume.Metadata, size: size, sealed: true}, wanted: &bitset{}, live: live}
		c.wanted.fill(1)
		return c
	}
	list := []*candidate{one(0, 100_000, 20_000)}
	for n := range uint32(mergeTiers - 1) {
		list = append(list, one(n+1, 20_000, 20_000))
	}
	if p := choose(list, 240_000, volumeLimit, PruneOptions{}); len(p.rewrite) != len(list) {
		t.Errorf("%d volumes of %d are rewritten", len(p.rewrite), len(list))
	}
	if p := choose(list, 240_000, volumeLimit, PruneOptions{MaxWaste: 100}); len(p.rewrite) != 0 {
		t.Errorf("%d volumes are rewritten, whatever is allowed", len(p.rewrite))
	}
}
