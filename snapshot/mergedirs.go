package snapshot

import "context"

// mergeDirs goes through two directories at once and calls fn for every name in byte order, with an empty Found where
// one side lacks it. Pages that both have are left out without being read if skip agrees to what is in them.
func mergeDirs(ctx context.Context, x, y *mergeSide, skip func(Totals) bool, fn func(x, y Found) error) error {
	if err := x.start(ctx); err != nil {
		return err
	}
	if err := y.start(ctx); err != nil {
		return err
	}
	for {
		p, q := x.top(), y.top()
		if p == nil && q == nil {
			return nil
		}
		var err error
		switch order := compareCursors(p, q); {
		case order == 0 && p.p.level == 0 && q.p.level == 0:
			err = fn(x.take(), y.take())
		case order == 0 && sharePage(p, q) && skip(p.p.branches[p.i].sum.Totals):
			p.i++
			q.i++
		case order < 0 && p.p.level == 0:
			err = fn(x.take(), Found{})
		case order > 0 && q.p.level == 0:
			err = fn(Found{}, y.take())
		// What begins first is read first, and of two that begin alike the one higher up: so equal pages come to
		// stand beside each other, wherever in their directories they are.
		case order < 0 || order == 0 && p.p.level >= q.p.level:
			err = x.descend(ctx)
		default:
			err = y.descend(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// compareCursors compares what comes next on two sides; a side at its end has everything behind it.
func compareCursors(p, q *cursor) int {
	switch {
	case q == nil:
		return -1
	case p == nil:
		return 1
	}
	return p.p.key(p.i).compare(q.p.key(q.i))
}

func sharePage(p, q *cursor) bool {
	return p.p.level > 0 && q.p.level > 0 && p.p.branches[p.i].id == q.p.branches[q.i].id
}

// mergeSide is one of two directories that are merged.
type mergeSide struct {
	t     *Tree
	dir   Found
	stack []cursor
}

func (s *mergeSide) start(ctx context.Context) error {
	if s.dir.Dir.IsZero() {
		return nil
	}
	p, err := s.t.page(ctx, dirRef(s.dir.Entry))
	if err != nil {
		return err
	}
	s.stack = []cursor{{p: p, base: uint64(s.dir.Position) + 1}}
	return nil
}

// top is the next record, nil at the end.
func (s *mergeSide) top() *cursor {
	for n := len(s.stack); n > 0; n-- {
		if c := &s.stack[n-1]; c.i < c.p.len() {
			s.stack = s.stack[:n]
			return c
		}
	}
	return nil
}

// take returns the entry on top and goes on.
func (s *mergeSide) take() Found {
	c := s.top()
	c.i++
	return found(c.p, c.i-1, c.base)
}

// descend replaces the branch on top by the page below it.
func (s *mergeSide) descend(ctx context.Context) error {
	c := s.top()
	p, err := s.t.child(ctx, c.p, c.i, s.dir.FS)
	if err != nil {
		return err
	}
	base := c.base + c.p.before[c.i]
	c.i++
	s.stack = append(s.stack, cursor{p: p, base: base})
	return nil
}
