package archive

import (
	"context"
	"slices"

	"snapfs/snapshot"
	"snapfs/store"
	"snapfs/store/volume"
)

// keepMetadata remembers where metadata lie, so that paths can be told in the end; of a pipe they go to scratch. Without room paths are not told.
func (c *checker) keepMetadata(f *checkedFrame) {
	at := f.offset
	if c.file == nil {
		if c.b.spool == nil {
			file, err := snapshot.ScratchFile(c.o.Scratch)
			if err != nil {
				return
			}
			c.b.spool = &spool{file: file}
		}
		var err error
		if at, err = c.b.spool.put(f.copied); err != nil {
			return
		}
	}
	c.volume.set.add(c.volume, &c.b.index, at, f.header.Stored(), f.blobs)
}

// contents looks what lay where something was found in the volume, now that its contents table comes.
func (c *checker) contents(plain []byte) {
	if c.from == len(c.findings) {
		return
	}
	_ = volume.ReadContentsPart(plain, func(f volume.FrameInfo) { // what it says is compared with what was found whole
		for i := c.from; i < len(c.findings); i++ {
			found := &c.findings[i]
			if found.Offset < 0 || f.Offset >= found.Offset+max(found.Length, 1) || found.Offset >= f.Offset+int64(f.Stored) {
				continue
			}
			for _, b := range f.Blobs {
				c.blobsOf[i] = append(c.blobsOf[i], b.ID)
			}
		}
	})
}

// lacking are the keys that are in none of others, which are sorted.
func (l *idList) lacking(others []*idList) (list []uint64) {
	l.sort()
	for _, k := range l.keys {
		if !slices.ContainsFunc(others, func(o *idList) bool { return o.has(k) }) {
			list = append(list, k)
		}
	}
	return list
}

func (l *idList) has(key uint64) bool {
	_, ok := slices.BinarySearch(l.keys, key)
	return ok
}

// findHits tells which paths need what is damaged or missing, finding by finding. What no contents table could name is put to the finding that
// tells of a missing or cut volume of the set, or to the first of the set.
func (c *checker) findHits(ctx context.Context) error {
	if c.o.NoKey || c.b.bare == nil || len(c.findings) == 0 {
		return nil
	}
	var whole []*idList
	for _, set := range c.sets {
		set.metadata.sort()
		set.chunks.sort()
		whole = append(whole, &set.metadata, &set.chunks)
	}
	by := map[uint64][]int{} // findings by the key of what is not there
	for i := range c.findings {
		for _, id := range c.blobsOf[i] {
			if k := keyOf(id); !slices.ContainsFunc(whole, func(l *idList) bool { return l.has(k) }) && !slices.Contains(by[k], i) {
				by[k] = append(by[k], i)
			}
		}
	}
	for _, r := range c.result.Sets {
		c.putRest(r, whole, by)
	}
	if len(by) == 0 {
		return nil
	}
	return c.walkHits(ctx, by)
}

// putRest adds what a set's snapshots need, what nothing given holds, and what no finding is known to be to blame for.
func (c *checker) putRest(r CheckedSet, whole []*idList, by map[uint64][]int) {
	set, s := c.sets[r.ID], c.b.setByID(r.ID)
	if s == nil {
		return
	}
	rest := set.needs.lacking(whole)
	if len(c.b.absent(s)) == 0 { // else chunks may be there
		rest = append(rest, set.uses.lacking(whole)...)
	}
	blame := -1
	for i, f := range c.findings {
		if f.Set == r.Name && (blame < 0 || f.Offset < 0 && c.findings[blame].Offset >= 0) {
			blame = i
		}
	}
	for _, k := range rest {
		if by[k] == nil && blame >= 0 {
			by[k] = []int{blame}
		}
	}
}

// walkHits walks the snapshots.
func (c *checker) walkHits(ctx context.Context, by map[uint64][]int) error {
	at := make([]map[string]int, len(c.findings)) // paths of each finding
	return snapshot.FindAffected(ctx, c.b, func(id store.ID) bool { return by[keyOf(id)] != nil }, func(a snapshot.Affected) error {
		for _, i := range by[keyOf(a.Blob)] {
			f := &c.findings[i]
			n, known := at[i][a.Path]
			if !known {
				if at[i] == nil {
					at[i] = map[string]int{}
				}
				n = len(f.Hits)
				at[i][a.Path] = n
				f.Hits = append(f.Hits, Hit{Path: a.Path})
			}
			h := &f.Hits[n]
			if id := a.Snapshot.ID; len(h.Snapshots) == 0 || h.Snapshots[len(h.Snapshots)-1] != id {
				h.Snapshots = append(h.Snapshots, id)
				h.Ref = a.Snapshot.Dataset + "@" + a.Snapshot.Name
			}
		}
		return nil
	})
}
