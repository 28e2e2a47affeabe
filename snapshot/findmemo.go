package snapshot

import (
	"bytes"
	"slices"
	"strings"
	"unsafe"

	"snapfs/store"
)

// findKey names a page, where whole paths are matched also the directory it is seen in.
type findKey struct {
	id   store.ID
	fs   uint32 // linked entries inherit it
	path string
}

// findNode is what was found in a page and below it. Immutable once it is in the memo.
type findNode struct {
	parts []findPart
	cost  int64
}

// findPart is an entry that matches, or has matches below, or a page of the same directory with matches.
type findPart struct {
	name  string // "" for a page
	hit   *Entry // nil: does not match
	below *findNode
}

// noFinds stands for all pages without matches.
var noFinds = &findNode{}

const findPartCost = 64

// add appends a part that holds a match. n is nil when it cannot be kept anyway.
func (n *findNode) add(p findPart) *findNode {
	if n == nil || p.below == nil {
		return nil
	}
	if p.hit == nil && p.below == noFinds {
		return n
	}
	p.name = strings.Clone(p.name) // it shares the memory of its whole page
	n.cost += findPartCost + int64(len(p.name))
	if p.hit != nil {
		var cost int64
		p.hit, cost = p.hit.detach(p.name)
		n.cost += cost
	}
	n.parts = append(n.parts, p)
	return n
}

// detach copies an entry out of its page, whose memory it would otherwise hold, and returns about its size.
func (e *Entry) detach(name string) (*Entry, int64) {
	c := *e
	c.Name = name
	c.Target, c.User, c.Group = strings.Clone(e.Target), strings.Clone(e.User), strings.Clone(e.Group)
	c.Content.Items = slices.Clone(e.Content.Items)
	c.Xattrs = slices.Clone(e.Xattrs)
	size := int(unsafe.Sizeof(c)) + len(c.Target) + len(c.User) + len(c.Group) + len(c.Content.Items)*int(unsafe.Sizeof(Item{}))
	for i, x := range c.Xattrs {
		c.Xattrs[i] = Xattr{strings.Clone(x.Name), bytes.Clone(x.Value)}
		size += int(unsafe.Sizeof(x)) + len(x.Name) + len(x.Value)
	}
	return &c, int64(size)
}

// findMemo remembers finds up to a budget. It is filled only: a memo that made room by forgetting the oldest would
// lose everything on a tree slightly too large for it. But it starts anew when it has long been full.
type findMemo struct {
	budget int64
	used   int64
	m      map[findKey]*findNode
	served int // snapshots since it was empty
}

const (
	defaultFindMemory = 64 << 20
	findKeyCost       = 120 // of a map entry
	findMemoLife      = 16  // snapshots a full memo serves at least
)

func newFindMemo(budget int64) *findMemo {
	if budget <= 0 {
		budget = defaultFindMemory
	}
	return &findMemo{budget: budget, m: map[findKey]*findNode{}}
}

func (m *findMemo) nextSnapshot() {
	if m.served++; m.served > findMemoLife && m.used > m.budget-m.budget/8 {
		m.used, m.served = 0, 0
		m.m = map[findKey]*findNode{}
	}
}

func (m *findMemo) get(k findKey) (*findNode, bool) {
	n, ok := m.m[k]
	return n, ok
}

// put keeps n, unless that is nil or too much, and returns what is kept.
func (m *findMemo) put(k findKey, n *findNode) *findNode {
	if n == nil {
		return nil
	}
	cost := n.cost + findKeyCost + int64(len(k.path))
	if len(n.parts) == 0 {
		n = noFinds // worth knowing above, kept or not
	}
	if m.used+cost > m.budget {
		if n != noFinds {
			n = nil
		}
		return n
	}
	m.used += cost
	m.m[k] = n
	return n
}
