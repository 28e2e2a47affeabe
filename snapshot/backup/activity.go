package backup

import (
	"context"
	"sync/atomic"

	"snapfs/snapshot"
	"snapfs/store"
)

// How the contents of changed files are judged.
const (
	judgedAll   = 512 // so many files are judged each, of further ones
	judgedEvery = 16  // one in so many, which stands for the others
	denseSample = 4 << 10
	denseLeast  = 256 // bytes; less says nothing
)

// activity counts what the contents of new and changed files are like. Safe for concurrent use.
type activity struct {
	met                     atomic.Int64
	rewritten, novel, dense atomic.Int64
}

// judge looks at the first chunk of a new or changed file that it is given, before that is stored. Only runs that have a parent
// ask: a first backup costs nothing more.
func (r *run) judge(ctx context.Context, j *fileJob, first []byte) error {
	if r.base == nil || r.mending != nil || j.judged || len(first) == 0 {
		return nil
	}
	j.judged = true
	a, had := &r.activity, j.had
	weight := int64(1)
	if n := a.met.Add(1); n > judgedAll {
		if n%judgedEvery != 0 {
			return nil
		}
		weight = judgedEvery
	}
	id := r.repo.BlobID(store.KindChunk, first)
	if beginsWith(had, id) {
		return nil
	}
	have, err := r.repo.Have(ctx, []store.ID{id})
	if err != nil {
		return err
	}
	known := have[0]
	if had != nil && !(known && len(had.Content.Items) == 0) { // a list that begins with a known chunk: the same one, most likely
		a.rewritten.Add(weight)
	}
	if had == nil && !known {
		a.novel.Add(weight)
	}
	if !known && dense(first) {
		a.dense.Add(weight)
	}
	return nil
}

// beginsWith reports whether a file's content began with a chunk.
func beginsWith(had *snapshot.Entry, id store.ID) bool {
	return had != nil && len(had.Content.Items) > 0 && had.Content.Items[0].ID == id
}

// dense reports whether bytes look random, as what is encrypted does, and what is well compressed: every value comes
// about as often as any other. Chi-squared with 255 degrees of freedom is 255 for random bytes; text, code and encoded text (base64)
// give more than three times that from 256 bytes on.
func dense(data []byte) bool {
	if len(data) < denseLeast {
		return false
	}
	if len(data) > denseSample {
		from := (len(data) - denseSample) / 2 // not the beginning: headers
		data = data[from : from+denseSample]
	}
	var counts [256]int
	for _, b := range data {
		counts[b]++
	}
	squares := 0
	for _, n := range counts {
		squares += n * n
	}
	chi := float64(squares)*256/float64(len(data)) - float64(len(data))
	return chi < 3*255
}

// figures are what the summary keeps of a run. What an interrupted run before this one had counted, and left in its partial, is
// not met again: it is added.
func (r *run) figures() snapshot.Activity {
	c, a := &r.count, &r.activity
	f := snapshot.Activity{
		New: uint64(c.added.Load()), Changed: uint64(c.changed.Load()), Unchanged: uint64(c.unchanged.Load()), Removed: uint64(c.removed.Load()),
		Rewritten: uint64(a.rewritten.Load()), Novel: uint64(a.novel.Load()), Dense: uint64(a.dense.Load()),
	}
	if r.base == nil {
		return snapshot.Activity{}
	}
	if p := r.job.partialActivity; r.extra != nil {
		f.Rewritten, f.Novel, f.Dense = f.Rewritten+p.Rewritten, f.Novel+p.Novel, f.Dense+p.Dense
	}
	return f
}
