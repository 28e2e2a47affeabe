package store

import (
	"fmt"
	"testing"
	"unsafe"
)

// TestMarksTakeBits: what a prune remembers of each blob it has marked is a bit or two, however often the blob is met; what it remembers besides
// is of one size. See TestPruneThousands for what the process takes.
func TestMarksTakeBits(t *testing.T) {
	st := openTrees(t, newStore(t))
	defer func() { closeStore(t, st) }()
	const files, snapshots = 20_000, 5
	tr := tree{}
	for i := range files {
		tr.files = append(tr.files, fmt.Appendf(nil, "file %d", i))
	}
	for n := range snapshots { // of the same files, but for one directory
		tr.name = fmt.Sprint(n)
		tr.files[n] = []byte("changed in " + tr.name)
		tr.mustWrite(t, st)
	}
	e := engineOf(st)
	p := &pruning{e: e, progress: func(PruneProgress) {}}
	p.begin()
	defer p.end()
	must(t, p.markAll(t.Context()))
	var blobs, words int64
	for _, m := range []*mark{p.marking.mark, p.pinned} {
		for _, v := range m.volumes {
			words += int64(cap(v.bits.words))
		}
	}
	for _, v := range p.marking.mark.volumes {
		blobs += v.bits.count()
	}
	if want := int64(files + files/filesPerNode + snapshots); blobs < want || blobs > want+4*snapshots {
		t.Errorf("%d blobs are marked, want %d or a few more", blobs, want)
	}
	t.Logf("%d blobs, %.2f bits for each", blobs, float64(words*64)/float64(blobs))
	if words*64 > 6*blobs { // two sets, which grow by doubling
		t.Errorf("%d bits for %d blobs", words*64, blobs)
	}
	lately := 0
	for i := range p.marking.seen {
		lately += cap(p.marking.seen[i].ids)
	}
	if size := lately * int(unsafe.Sizeof(p.marking.seen[0].ids[0])); size != 16<<20 {
		t.Errorf("%d bytes for what was met lately", size)
	}
}
