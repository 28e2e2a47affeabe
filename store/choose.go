package store

import (
	"cmp"
	"context"
	"math/bits"
	"slices"
	"time"

	"snapfs/store/volume"
)

// unfinishedFor is how long blobs stay that no snapshot names and that somebody stored who ended without a commit: whoever goes
// on with that work finds them.
const unfinishedFor = 7 * 24 * time.Hour

// candidate is a volume that may be removed or rewritten.
type candidate struct {
	*volumeState
	wanted *bitset // ordinals of the blobs that must stay
	live   int64   // about how many of its bytes they take
}

func (c *candidate) waste() int64 { return c.size - c.live }

// plan is what a prune or upkeep will do.
type plan struct {
	drop    []*candidate
	rewrite []*candidate
	part    int64 // so much of the last one to be rewritten at most; 0: all
	unknown bool  // what the index does not know anywhere else is copied as well: nobody looked whether it is wanted
	bytes   int64 // of the store before
	waste   int64 // that will be left
}

// mergeTiers: volumes of about the same size are merged when there are so many of them, so that each byte moves once for each
// factor of that in size.
const mergeTiers = 8

// mergeLeast is the size up to which volumes count as equally small.
const mergeLeast = 64 << 10

// tier is 0 for the smallest volumes; -1 for those that are large enough as they are.
func tier(size, limit int64) int {
	if size >= limit/2 {
		return -1
	}
	return (bits.Len64(uint64(size/mergeLeast)) + 2) / 3
}

// choose decides which volumes are worth rewriting: those without anything wanted go, then those with most waste for what
// has to be copied, until the rest of the waste is allowed; those that a crash left unfinished are finished, small ones merged
// in tiers.
func choose(list []*candidate, bytes, limit int64, o PruneOptions) *plan {
	p := &plan{bytes: bytes}
	var rest []*candidate
	for _, c := range list {
		if c.wanted.count() == 0 {
			p.drop = append(p.drop, c)
			bytes -= c.size
		} else {
			rest = append(rest, c)
			p.waste += c.waste()
		}
	}
	slices.SortStableFunc(rest, func(a, b *candidate) int {
		return cmp.Compare(float64(b.waste())/float64(b.size), float64(a.waste())/float64(a.size))
	})
	allowed := int64(o.MaxWaste / 100 * float64(bytes))
	budget := o.MaxRewrite
	if o.MaxRewrite == 0 {
		budget = bytes
	}
	rest = slices.DeleteFunc(rest, func(c *candidate) bool {
		wasteful := p.waste > allowed && c.waste() > c.size/negligible
		if c.size > budget || c.sealed && !wasteful {
			return false
		}
		p.rewrite = append(p.rewrite, c)
		p.waste -= c.waste()
		budget -= c.size
		return true
	})
	p.rewrite = append(p.rewrite, merges(rest, p.rewrite, limit, budget)...)
	return p
}

// negligible: a volume with less waste than one in so many bytes is not rewritten, whatever is allowed.
const negligible = 200

// merges picks small volumes of which there are many of one kind and tier, of at most so many bytes together. What a tier is
// merged into counts in the tier that it then belongs to, and so does what is rewritten anyway.
func merges(list, rewritten []*candidate, limit, budget int64) (chosen []*candidate) {
	for _, kind := range []volume.Kind{volume.Data, volume.Metadata} {
		var tiers [64][]*candidate
		for _, c := range list {
			if t := tier(c.size, limit); c.kind == kind && t >= 0 {
				tiers[t] = append(tiers[t], c)
			}
		}
		merged := slices.DeleteFunc(slices.Clone(rewritten), func(c *candidate) bool { return c.kind != kind })
		anyway := len(merged)
		for t, here := range tiers {
			n := len(here)
			if len(merged) > 0 && tier(sumLive(merged), limit) == t {
				n++
			}
			if n >= mergeTiers {
				merged = append(merged, here...)
			}
		}
		for _, c := range merged[anyway:] {
			if c.size <= budget {
				budget -= c.size
				chosen = append(chosen, c)
			}
		}
	}
	return chosen
}

func sumLive(list []*candidate) (n int64) {
	for _, c := range list {
		n += c.live
	}
	return n
}

// candidates lists the volumes that may be rewritten, with what must stay of them as keep says. Needs mu.
func (e *engine) candidates(keep func(*volumeState) (*candidate, bool)) (list []*candidate) {
	for _, v := range e.volumes.byID {
		if !kindMoved(v.kind) || v.missing || v.dropped || v.leaving != nil || v.indexed == 0 || v.seen != v.size || e.writing(v) || e.isHarmed(v) || e.fixed(v.id) {
			continue
		}
		if c, ok := keep(v); ok {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *candidate) int { return compareBytes(a.id[:], b.id[:]) }) // the same choice every time
	return list
}

// isHarmed reports whether a volume lacks something it should hold: only who repairs it may remove it. What a crash tore behind
// the last commit was never promised to anybody. Needs mu and commitMu.
func (e *engine) isHarmed(v *volumeState) bool {
	need := e.fold.volumes[v.id].length
	return v.size < need || v.harmed > 0 && v.harmed-1 < need
}

// byAge orders volumes as they were made, so that what was stored together stays together.
func (e *engine) byAge(ctx context.Context, list []*candidate) ([]*candidate, error) {
	made := map[volume.ID]int64{}
	for _, c := range list {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if label, err := labelOf(volumePath(e.dir, c.id), c.size); err == nil {
			made[c.id] = label.Created.UnixNano()
		}
	}
	slices.SortFunc(list, func(a, b *candidate) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(made[a.id], made[b.id]), compareBytes(a.id[:], b.id[:]))
	})
	return list, nil
}
