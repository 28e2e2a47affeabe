package store

import (
	"crypto/ed25519"
	"encoding/binary"

	"github.com/zeebo/blake3"
)

// A store that was rolled back and used again has two histories, which come together when the volumes of the lost one come back.
// Both gave the same numbers to datasets. The line of the newest fact, which goes on, keeps its numbers; a dataset made off it
// gets one that follows from what made it, whatever else is there and whoever looks.

// Numbers of datasets that were made off the line: nobody counts up to them, and they fit into inode numbers.
const (
	firstApart = 1 << 24
	endApart   = 1 << 28
)

// histories says which datasets the facts off the line of the newest fact are about.
type histories struct {
	facts   map[ID]lateFact
	next    map[ID]lateFact // what follows a fact off the line
	line    map[ID]bool     // the newest fact and all before it
	made    map[uint32]madeDataset
	used    map[uint32]bool // by commits of the line
	of      map[ID]uint32   // datasets of snapshots
	views   map[ID]*view    // after facts off the line
	numbers map[ID]uint32   // of the datasets that facts off the line are about
	same    map[uint32]uint32
	keys    map[uint32]string
	most    uint32 // number that any history gave
}

// madeDataset is a dataset of the line.
type madeDataset struct {
	seq  uint64 // of the fact that made it, or of the first checkpoint that has it
	name string // then
}

// view is what the numbers mean to a fact off the line.
type view struct {
	up *view // zero: what is below holds
	as map[uint32]uint32

	root  ID     // first fact off the line
	fork  uint64 // number of the fact of the line that it follows
	known bool   // all facts since then are there
}

func (v *view) lookup(n uint32) (as uint32, ok bool) {
	for ; v != nil; v = v.up {
		if as, ok := v.as[n]; ok {
			return as, true
		}
	}
	return 0, false
}

// origin is where the view comes from.
func (v *view) origin() *view {
	for v.up != nil {
		v = v.up
	}
	return v
}

// findHistories looks at all facts, which are in the order of the chain; nil if there is one history. What cannot be parsed, or does not
// count for want of the admin's signature, says nothing here: whoever folds it complains.
func findHistories(facts []lateFact, admin ed25519.PublicKey) *histories {
	h := &histories{
		facts: make(map[ID]lateFact, len(facts)), next: map[ID]lateFact{}, line: make(map[ID]bool, len(facts)),
		made: map[uint32]madeDataset{}, used: map[uint32]bool{}, of: map[ID]uint32{}, views: map[ID]*view{},
		numbers: map[ID]uint32{}, same: map[uint32]uint32{}, keys: map[uint32]string{},
	}
	for _, fact := range facts {
		h.facts[fact.id] = fact
	}
	h.findLine(facts)
	if len(h.line) == len(h.facts) {
		return nil
	}
	for _, look := range []struct {
		line bool
		at   func(lateFact, FactBody)
	}{{true, h.onLine}, {false, h.offLine}} {
		for _, fact := range facts {
			if h.line[fact.id] != look.line {
				continue
			}
			body, err := parseBody(fact.Kind, fact.Body)
			if err != nil || fact.Kind == FactCheckpoint && admin != nil && !fact.signedBy(admin) {
				body = nil
			}
			look.at(fact, body)
		}
	}
	return h
}

// findLine goes back from the newest fact. Where facts are missing, it goes on with the newest ones that nothing follows, unless a
// checkpoint stands for what is missing.
func (h *histories) findLine(facts []lateFact) {
	followed := make(map[ID]bool, len(facts))
	for _, fact := range facts {
		followed[fact.Prev] = true
	}
	stop := false
	for i := len(facts) - 1; i >= 0; {
		fact := facts[i]
		for ok := true; ok && !h.line[fact.id]; fact, ok = h.facts[fact.Prev] {
			h.line[fact.id] = true
			stop = stop || fact.Kind == FactCheckpoint
			for i >= 0 && facts[i].Seq >= fact.Seq {
				i--
			}
		}
		for i >= 0 && followed[facts[i].id] {
			i--
		}
		if stop {
			break
		}
	}
	for _, fact := range facts {
		if !h.line[fact.id] {
			h.next[fact.Prev] = fact
		}
	}
}

func (h *histories) onLine(fact lateFact, body FactBody) {
	switch b := body.(type) {
	case *datasetFact:
		h.make(b.number, fact.Seq, b.name)
	case *commitFact:
		h.of[b.snapshot], h.used[b.dataset] = b.dataset, true
	case *checkpointFact:
		f := newFold()
		if err := f.loadCheckpoint(b); err != nil {
			return
		}
		for n, d := range f.datasets {
			h.make(n, fact.Seq, d.name)
		}
		for _, s := range f.snapshots {
			h.of[s.snapshot], h.used[s.dataset] = s.dataset, true
		}
	}
}

// make notes a dataset of the line. Another history may know it under the number that it gets off the line.
func (h *histories) make(n uint32, seq uint64, name string) {
	if _, known := h.made[n]; !known && n < firstApart {
		h.made[n] = madeDataset{seq, name}
		h.same[h.apart(n, name)] = n
	}
}

// apart is the number of a dataset that was made off the line.
func (h *histories) apart(n uint32, what string) uint32 {
	key := string(AppendString(binary.BigEndian.AppendUint32(nil, n), what))
	sum := blake3.Sum256([]byte(key))
	number := firstApart + binary.BigEndian.Uint32(sum[:])%(endApart-firstApart)
	for h.keys[number] != "" && h.keys[number] != key {
		number++
	}
	h.keys[number] = key
	h.most = max(h.most, n)
	return number
}

// offLine finds out what the numbers in a fact mean.
func (h *histories) offLine(fact lateFact, body FactBody) {
	v := h.views[fact.Prev]
	if v == nil {
		v = &view{root: fact.id, known: fact.Seq == 1}
		if before, ok := h.facts[fact.Prev]; ok {
			v.fork, v.known = before.Seq, true
		}
	}
	switch b := body.(type) {
	case *datasetFact:
		as, ok := h.meaning(v, b.number)
		if !ok || as == b.number && h.makes(v, fact, b) {
			as = h.newDataset(b, fact)
			v = &view{up: v, as: map[uint32]uint32{b.number: as}}
		}
		h.numbers[fact.id] = as
	case *commitFact:
		as, ok := h.of[b.snapshot]
		if !ok {
			if as, ok = h.meaning(v, b.dataset); !ok {
				as = h.apart(b.dataset, string(v.origin().root[:]))
			}
		}
		h.numbers[fact.id] = as
	case *checkpointFact:
		f := newFold()
		if f.loadCheckpoint(b) == nil {
			v = h.afterCheckpoint(v, f)
		}
	}
	h.views[fact.id] = v
}

// meaning is what a number means to a fact off the line; not ok: nothing yet, or nobody knows.
func (h *histories) meaning(v *view, n uint32) (as uint32, ok bool) {
	if as, ok := v.lookup(n); ok {
		return as, true
	}
	if n >= firstApart {
		if as, ok := h.same[n]; ok {
			return as, true
		}
		return n, true
	}
	return n, v.origin().known // what was not made since the histories parted is from before
}

// makes reports whether a fact about a dataset made it, or gave one from before the histories parted another name.
func (h *histories) makes(v *view, fact lateFact, d *datasetFact) bool {
	if _, ok := v.lookup(d.number); ok || d.number >= firstApart {
		return false
	}
	made, ok := h.made[d.number]
	if ok && made.seq <= v.origin().fork {
		return false
	}
	return h.firstCommit(fact, d.number) != nil
}

// firstCommit is what follows the fact that makes a dataset: its first snapshot. Nil after most facts that rename one.
func (h *histories) firstCommit(fact lateFact, n uint32) *commitFact {
	next, ok := h.next[fact.id]
	if !ok {
		return nil
	}
	body, _ := parseBody(next.Kind, next.Body) // looked at again in its turn
	if commit, ok := body.(*commitFact); ok && commit.dataset == n {
		return commit
	}
	return nil
}

// newDataset is the number of a dataset made off the line: that of the line's if both histories made the same.
func (h *histories) newDataset(d *datasetFact, fact lateFact) uint32 {
	if commit := h.firstCommit(fact, d.number); commit != nil {
		if as, ok := h.of[commit.snapshot]; ok {
			return as
		}
	}
	if made, ok := h.made[d.number]; ok && made.name == d.name {
		return d.number
	}
	return h.apart(d.number, d.name)
}

// afterCheckpoint is what numbers mean after a checkpoint off the line, some of whose facts may be gone.
func (h *histories) afterCheckpoint(v *view, f *fold) *view {
	out := &view{up: v, as: map[uint32]uint32{}}
	for n, d := range f.datasets {
		out.as[n] = h.recorded(v, f, n, d.name)
	}
	for _, s := range f.snapshots {
		if _, ok := out.as[s.dataset]; !ok {
			out.as[s.dataset] = h.recorded(v, f, s.dataset, "")
		}
		if _, ok := h.of[s.snapshot]; !ok {
			h.of[s.snapshot] = out.as[s.dataset]
		}
	}
	return out
}

func (h *histories) recorded(v *view, f *fold, n uint32, name string) uint32 {
	if as, ok := h.meaning(v, n); ok {
		return as
	}
	for _, s := range f.snapshots {
		if as, ok := h.of[s.snapshot]; ok && s.dataset == n {
			return as
		}
	}
	made, ok := h.made[n]
	if ok && made.name == name || !ok && h.used[n] {
		return n
	}
	return h.apart(n, name)
}

// renumber gives a fact the number of the dataset that it is about.
func (h *histories) renumber(id ID, body FactBody) {
	if h == nil {
		return
	}
	as, ok := h.numbers[id]
	if !ok {
		return
	}
	switch b := body.(type) {
	case *datasetFact:
		b.number = as
	case *commitFact:
		b.dataset = as
	}
}

// renumberAll does it for what a checkpoint says.
func (h *histories) renumberAll(id ID, f *fold) {
	if h == nil || h.views[id] == nil {
		return
	}
	v := h.views[id]
	datasets := f.datasets
	f.datasets = map[uint32]*datasetFact{}
	for n := range datasets {
		f.dirty[string(numberKey(keyDataset, n))] = nil
	}
	for n, d := range datasets {
		if as, ok := v.lookup(n); ok {
			d.number = as
		}
		f.datasets[d.number] = d
		f.dirty[string(numberKey(keyDataset, d.number))] = encodeBody(d)
	}
	for slot, s := range f.snapshots {
		if as, ok := v.lookup(s.dataset); ok && as != s.dataset {
			s.dataset = as
			f.changed(slot)
		}
	}
}
