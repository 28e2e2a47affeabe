package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"snapfs/store/volume"
)

// ChainProblem says what is wrong with the chain of facts.
type ChainProblem string

// Problems of the chain.
const (
	ChainMissing     ChainProblem = "missing"      // facts between others are not there
	ChainReordered   ChainProblem = "reordered"    // a fact does not name the one before it
	ChainTwice       ChainProblem = "twice"        // two facts have one number: the store was rolled back, or somebody made a fact
	ChainUnsigned    ChainProblem = "unsigned"     // a fact of an append-only store is not signed as it must be, and does not count
	ChainCutOff      ChainProblem = "cut-off"      // the newest facts, which the index knows, are not there
	ChainUnknownHead ChainProblem = "head-unknown" // a fact remembered elsewhere is not part of the chain
	ChainDamaged     ChainProblem = "damaged"      // a journal, or the list of the facts before a checkpoint, cannot be read
)

// found is what verify calls it.
func (p ChainProblem) found() Problem {
	switch p {
	case ChainCutOff:
		return ProblemCutOff
	case ChainUnknownHead:
		return ProblemHead
	}
	return ProblemFacts
}

// ChainFinding is something wrong with the chain of facts.
type ChainFinding struct {
	Problem ChainProblem
	Volume  volume.ID // zero: none in particular
	Offset  int64     // of the frame with the fact; -1 if it is about no frame
	Seq     uint64    // of the fact; the first of several
	Fact    ID        // zero: not known
	Text    string    // for people
}

// checkChain reads all journals from the disk, whatever the index says of them, and checks the chain of facts: whether
// one leads to the other, nothing is missing, and nothing stands in it that does not belong there. A head that was given out at
// some time must be part of it; zero: none is asked for.
func (e *engine) checkChain(ctx context.Context, head ID) (findings []ChainFinding, err error) {
	c := &chainCheck{e: e, head: head}
	e.commitMu.Lock()
	c.journals, c.last, c.seq, c.base = e.journalsAt(), e.fold.last, e.fold.seq, e.fold.base
	sealed := e.sealedVolumes()
	e.commitMu.Unlock()
	read, facts, err := e.readJournals(ctx, c.journals)
	if err != nil {
		return nil, err
	}
	c.harmed(read)
	if len(facts) == 0 && c.seq == 0 && sealed > 0 {
		c.findings = append(c.findings, ChainFinding{
			Problem: ChainMissing, Offset: -1, Seq: 1,
			Text: fmt.Sprintf("all facts are missing: the volumes that are there (sealed: %d) belong to snapshots that nothing knows any more", sealed),
		})
	}
	c.order(facts)
	c.signatures(facts)
	if err := c.list(ctx, facts); err != nil {
		return nil, err
	}
	return c.findings, nil
}

// sealedVolumes counts the sealed volumes with blobs, but for those that this process has just sealed: facts name all others.
// Needs commitMu.
func (e *engine) sealedVolumes() (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, v := range e.volumes.byID {
		fresh := slices.ContainsFunc(e.sealed, func(s sealedVolume) bool { return s.id == id })
		if v.kind != volume.Journal && v.sealed && !v.missing && !fresh {
			n++
		}
	}
	return n
}

// chainCheck is one check of the chain.
type chainCheck struct {
	e        *engine
	head     ID
	journals []journal
	last     ID
	seq      uint64
	base     checkpointBase

	findings []ChainFinding
	unread   int // journals that were not read in full
}

func (c *chainCheck) add(p ChainProblem, f *journalFact, format string, args ...any) {
	finding := ChainFinding{Problem: p, Offset: -1, Text: fmt.Sprintf(format, args...)}
	if f != nil {
		finding.Volume, finding.Offset, finding.Seq, finding.Fact = f.volume, f.offset, f.Seq, f.id
	}
	c.findings = append(c.findings, finding)
}

func (c *chainCheck) listDamaged(format string, args ...any) {
	c.findings = append(c.findings, ChainFinding{
		Problem: ChainDamaged, Offset: -1, Seq: c.base.seq, Text: fmt.Sprintf(format, args...),
	})
}

func (c *chainCheck) harmed(read []*journal) {
	for _, j := range read {
		if j.harmed {
			c.unread++
			c.findings = append(c.findings, ChainFinding{
				Problem: ChainDamaged, Volume: j.id, Offset: -1, Text: "facts in the journal cannot be read",
			})
		}
	}
}

// order walks through the facts since the newest checkpoint.
func (c *chainCheck) order(facts []journalFact) {
	var before []journalFact // those of the number before
	expect := max(c.base.seq, 1)
	there := false
	for i := 0; i < len(facts); {
		same := i + 1
		for same < len(facts) && facts[same].Seq == facts[i].Seq {
			same++
		}
		group := facts[i:same]
		i = same
		for _, f := range group {
			there = there || f.id == c.last
		}
		if group[0].Seq < expect && before == nil {
			continue // replaced by the checkpoint
		}
		c.gap(expect, group[0].Seq)
		c.group(before, group, group[0].Seq == expect)
		before, expect = group, group[0].Seq+1
	}
	if !there && c.seq > 0 {
		c.findings = append(c.findings, ChainFinding{
			Problem: ChainCutOff, Offset: -1, Seq: c.seq, Fact: c.last,
			Text: fmt.Sprintf("fact %d, the newest that the index knows, is in no journal: facts were cut off, or the store was rolled back", c.seq),
		})
	}
}

// gap reports the facts that are missing before one.
func (c *chainCheck) gap(expect, seq uint64) {
	if seq <= expect {
		return
	}
	text := fmt.Sprintf("facts %d to %d are missing", expect, seq-1)
	if seq-1 == expect {
		text = fmt.Sprintf("fact %d is missing", expect)
	}
	c.findings = append(c.findings, ChainFinding{Problem: ChainMissing, Offset: -1, Seq: expect, Text: text})
}

// group checks the facts of one number against those of the number before.
func (c *chainCheck) group(before, group []journalFact, follows bool) {
	for i := range group {
		f := &group[i]
		if i > 0 {
			c.add(ChainTwice, f, "there are %d facts with number %d: the store was rolled back and used again, or a fact was made by others",
				len(group), f.Seq)
		}
		if !follows || f.Seq == c.base.seq || f.Seq == 1 && f.Prev == (ID{}) {
			continue
		}
		named := false
		for _, b := range before {
			named = named || b.id == f.Prev && b.Chain == f.Chain
		}
		if !named {
			c.add(ChainReordered, f, "fact %d does not follow fact %d", f.Seq, f.Seq-1)
		}
	}
}

// signatures folds the facts again and reports those that did not count.
func (c *chainCheck) signatures(facts []journalFact) {
	f := newFold()
	if f.admin = c.e.bundle.AppendOnly(); f.admin == nil {
		return
	}
	where := map[ID]*journalFact{}
	for i := range facts {
		fact := &facts[i]
		where[fact.id] = fact
		if fact.Seq < c.base.seq {
			continue
		}
		if err := f.apply(fact.Fact, fact.id); err != nil {
			c.add(ChainDamaged, fact, "fact %d: %v", fact.Seq, err)
		}
	}
	for _, i := range f.ignored {
		c.add(ChainUnsigned, where[i.id], "%s", i)
	}
}

// list reads the list of the facts before the checkpoint, and looks for the head.
func (c *chainCheck) list(ctx context.Context, facts []journalFact) (err error) {
	ids := make(map[ID]*journalFact, len(facts))
	for i := range facts {
		ids[facts[i].id] = &facts[i]
	}
	known := c.head == (ID{}) || ids[c.head] != nil
	s := c.e.newSession("check of the chain of facts")
	defer s.Close()
	get, done := c.e.pageReader(s)
	defer func() { err = errors.Join(err, done()) }()
	count := uint64(0)
	listErr := c.base.list.eachFromEnd(ctx, get, func(page []ID) bool {
		count += uint64(len(page))
		for _, id := range page {
			known = known || id == c.head
			delete(ids, id)
		}
		return ctx.Err() == nil
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case listErr != nil:
		c.listDamaged("the list of the facts before checkpoint %d cannot be read: %v", c.base.seq, listErr)
		return nil // what it may know cannot be said to be unknown
	case count != c.base.count:
		c.listDamaged("the list of the facts before checkpoint %d has %d facts and not %d", c.base.seq, count, c.base.count)
	}
	for _, f := range facts {
		if f.Seq < c.base.seq && ids[f.id] != nil {
			c.add(ChainTwice, &f, "fact %d is not among those that checkpoint %d replaced", f.Seq, c.base.seq)
		}
	}
	if !known {
		c.findings = append(c.findings, ChainFinding{
			Problem: ChainUnknownHead, Offset: -1, Fact: c.head,
			Text: fmt.Sprintf("fact %s is not part of the chain: facts were cut off or replaced since it was its head", c.head),
		})
	}
	return nil
}
