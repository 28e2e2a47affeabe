package snapshot

import (
	"context"
	"io"
	"sort"
	"syscall"

	"snapfs/store"
)

// DirIter goes through a directory in byte order of its names, reading a page at a time. Not safe for
// concurrent use; the entries it gives stay valid.
type DirIter struct {
	t     *Tree
	dir   Found
	enter func(store.ID, Totals) bool // nil: all pages

	started  bool
	byName   bool // start at name, else at position
	name     string
	position uint64
	stack    [maxLevel + 1]cursor
	depth    int
}

// cursor is the next record of a page whose first entry has position base.
type cursor struct {
	p    *page
	i    int
	base uint64
}

// Entries returns an iterator over a directory.
func (t *Tree) Entries(dir Found) *DirIter { return &DirIter{t: t, dir: dir} }

func (it *DirIter) fromName(name string)     { it.byName, it.name = true, name }
func (it *DirIter) fromPosition(from uint32) { it.position = uint64(from) }

// Next returns the next entry; io.EOF after the last. A linked entry is given as it stands; see Tree.Follow.
func (it *DirIter) Next(ctx context.Context) (Found, error) {
	if !it.started {
		if err := it.start(ctx); err != nil {
			return Found{}, err
		}
	}
	for it.depth > 0 {
		c := &it.stack[it.depth-1]
		if c.i >= c.p.len() {
			it.stack[it.depth-1] = cursor{}
			it.depth--
			continue
		}
		i := c.i
		c.i++
		if c.p.level == 0 {
			return found(c.p, i, c.base), nil
		}
		if b := &c.p.branches[i]; it.enter != nil && !it.enter(b.id, b.sum.Totals) {
			continue
		}
		p, err := it.t.child(ctx, c.p, i, it.dir.FS)
		if err != nil {
			c.i = i
			return Found{}, err
		}
		it.push(cursor{p: p, base: c.base + c.p.before[i]})
	}
	return Found{}, io.EOF
}

func (it *DirIter) push(c cursor) {
	it.stack[it.depth] = c
	it.depth++
}

// start goes down to the first entry wanted.
func (it *DirIter) start(ctx context.Context) error {
	if it.dir.Type != TypeDir {
		return syscall.ENOTDIR
	}
	it.depth = 0
	if it.dir.Dir.IsZero() {
		it.started = true
		return nil
	}
	p, err := it.t.page(ctx, dirRef(it.dir.Entry))
	if err != nil {
		return err
	}
	c := cursor{p: p, base: uint64(it.dir.Position) + 1}
	c.i = it.first(c)
	it.push(c)
	seeking := it.byName || it.position > c.base
	for seeking && c.p.level > 0 {
		if p, err = it.t.child(ctx, c.p, c.i, it.dir.FS); err != nil {
			return err
		}
		it.stack[it.depth-1].i++
		c = cursor{p: p, base: c.base + c.p.before[c.i]}
		c.i = it.first(c)
		it.push(c)
	}
	it.started = true
	return nil
}

// first is the record to begin with.
func (it *DirIter) first(c cursor) int {
	switch {
	case it.byName:
		return c.p.seek(key{name: it.name})
	case it.position <= c.base:
		return 0
	case c.p.level > 0:
		return c.p.covering(it.position - c.base)
	}
	return sort.Search(c.p.len(), func(i int) bool { return c.base+c.p.before[i] >= it.position })
}
