package snapshot

import (
	"context"
	"strings"
	"syscall"

	"snapfs/store"
)

// DiffDirs merges two directories, of the same or of two trees: it calls fn for each name in byte order, with
// a Found without Entry where one side lacks it. Equal pages are passed over, with all names in them, if skip, told
// the totals of what they hold and all below, allows it. (Entries of equal pages are equal but for the file system and link
// records they inherit.) An error of fn ends the merge and is returned.
func DiffDirs(ctx context.Context, a *Tree, x Found, b *Tree, y Found, skip func(Totals) bool, fn func(x, y Found) error) error {
	if x.Type != TypeDir || y.Type != TypeDir {
		return syscall.ENOTDIR
	}
	l, r := newSide(a, x), newSide(b, y)
	for {
		p, q := l.peek(), r.peek()
		var err error
		switch {
		case p.end && q.end:
			return nil
		case p.page && q.page && p.id == q.id && skip(p.totals):
			l.pass()
			r.pass()
		case p.opensBefore(q):
			err = l.open(ctx)
		case q.opensBefore(p):
			err = r.open(ctx)
		default:
			err = emit(l, r, p, q, fn)
		}
		if err != nil {
			return err
		}
	}
}

// emit hands on the smaller of two entries, or both.
func emit(l, r *side, p, q next, fn func(x, y Found) error) error {
	order := strings.Compare(p.name, q.name)
	if p.end || p.page {
		order = 1
	} else if q.end || q.page {
		order = -1
	}
	if order <= 0 {
		l.pass()
	} else {
		p.Found = Found{}
	}
	if order >= 0 {
		r.pass()
	} else {
		q.Found = Found{}
	}
	return fn(p.Found, q.Found)
}

// next is what a side comes to: a page that was not opened, an entry, or the end.
type next struct {
	Found
	end, page bool
	name      string // of the entry, or the first one in the page
	level     int
	id        store.ID
	totals    Totals
}

// opensBefore reports whether n is a page that must be opened now: one that may hold what the other side comes to.
// Of pages that begin alike the higher is opened, to compare like with like.
func (n next) opensBefore(o next) bool {
	if !n.page || o.end {
		return n.page
	}
	if n.name != o.name || !o.page {
		return n.name <= o.name
	}
	return n.level >= o.level
}

// side is a directory being merged, its pages opened one by one.
type side struct {
	t     *Tree
	dir   Found
	root  bool // the root page was not opened
	stack [maxLevel + 1]cursor
	depth int
}

func newSide(t *Tree, dir Found) *side { return &side{t: t, dir: dir, root: !dir.Dir.IsZero()} }

func (s *side) peek() next {
	if s.root {
		return next{page: true, level: maxLevel + 1, id: s.dir.Dir, totals: s.dir.Totals}
	}
	for s.depth > 0 && s.stack[s.depth-1].i == s.stack[s.depth-1].p.len() {
		s.depth--
		s.stack[s.depth] = cursor{}
	}
	if s.depth == 0 {
		return next{end: true}
	}
	c := &s.stack[s.depth-1]
	if c.p.level == 0 {
		f := found(c.p, c.i, c.base)
		return next{Found: f, name: f.Name}
	}
	b := &c.p.branches[c.i]
	return next{page: true, name: b.first.name, level: c.p.level, id: b.id, totals: b.sum.Totals}
}

// pass goes past what peek showed.
func (s *side) pass() {
	if s.root {
		s.root = false
		return
	}
	s.stack[s.depth-1].i++
}

// open reads the page that peek showed.
func (s *side) open(ctx context.Context) error {
	if s.root {
		p, err := s.t.page(ctx, dirRef(s.dir.Entry))
		if err != nil {
			return err
		}
		s.root = false
		s.push(cursor{p: p, base: uint64(s.dir.Position) + 1})
		return nil
	}
	c := &s.stack[s.depth-1]
	p, err := s.t.child(ctx, c.p, c.i, s.dir.FS)
	if err != nil {
		return err
	}
	below := cursor{p: p, base: c.base + c.p.before[c.i]}
	c.i++
	s.push(below)
	return nil
}

func (s *side) push(c cursor) {
	s.stack[s.depth] = c
	s.depth++
}
