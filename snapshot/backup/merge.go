package backup

import (
	"context"
	"errors"
	"io"

	"snapfs/snapshot"
)

// lister goes through a directory of an earlier snapshot beside the names of today.
type lister struct {
	it   *snapshot.DirIter
	next snapshot.Found // Entry nil: read on
}

// upTo calls fn for the entries whose names lie before limit, or for all that is left.
func (l *lister) upTo(ctx context.Context, limit string, all bool, fn func(snapshot.Found)) error {
	for l.it != nil {
		if l.next.Entry == nil {
			f, err := l.it.Next(ctx)
			if errors.Is(err, io.EOF) {
				l.it = nil
				return nil
			}
			if err != nil {
				return err
			}
			l.next = f
		}
		if !all && l.next.Name >= limit {
			return nil
		}
		f := l.next
		l.next = snapshot.Found{}
		fn(f)
	}
	return nil
}

// merge finds the earlier entries of a window's names: in w.base and w.extra, index by index. What is no
// longer there goes to w.gone.
func (w *walker) merge(t *dirTask, from, to int) error {
	w.base = resized(w.base, to-from)
	w.extra = resized(w.extra, to-from)
	if t.fed == 0 && from == 0 {
		t.lists = [2]lister{w.r.lister(w.r.base, t.base), w.r.lister(w.r.extra, t.extra)}
	}
	limit, all := "", to == t.names.len()
	if !all {
		limit = string(t.names.bytesAt(to))
	}
	for which, into := range [2][]snapshot.Found{w.base, w.extra} {
		if t.lists[which].it == nil {
			continue
		}
		i := from
		err := t.lists[which].upTo(w.ctx, limit, all, func(f snapshot.Found) {
			if which == 0 {
				t.listed++
			}
			for i < to && string(t.names.bytesAt(i)) < f.Name {
				i++
			}
			if i < to && string(t.names.bytesAt(i)) == f.Name {
				into[i-from] = f
			} else if which == 0 {
				w.gone = append(w.gone, f)
			}
		})
		if err != nil {
			if w.ctx.Err() != nil {
				return w.ctx.Err()
			}
			// A damaged page of an earlier snapshot: what it held is read anew.
			w.r.job.metDamage.Store(true)
			w.r.warnOnce("page", "a page of an earlier snapshot cannot be read: what it described is read anew: "+err.Error())
			t.lists[which].it = nil
			if which == 0 {
				t.differs = true
			}
		}
	}
	return nil
}

func (r *run) lister(tree *snapshot.Tree, dir snapshot.Found) lister {
	if tree == nil || dir.Entry == nil || dir.Dir.IsZero() {
		return lister{}
	}
	return lister{it: tree.Entries(dir)}
}

func resized(s []snapshot.Found, n int) []snapshot.Found {
	clear(s[:cap(s)])
	if cap(s) < n {
		return make([]snapshot.Found, n)
	}
	return s[:n]
}

// removed counts the names of a subtree that is not there any more, but not its directories.
func (w *walker) removed(f snapshot.Found) {
	if f.Type != snapshot.TypeDir {
		w.r.count.removed.Add(1)
		return
	}
	w.r.count.dirs.Add(1)
	stack := []snapshot.Found{f}
	for len(stack) > 0 && w.ctx.Err() == nil {
		dir := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if dir.Dir.IsZero() {
			continue
		}
		// An unreadable page only makes the count smaller.
		_ = w.r.base.List(w.ctx, dir, 0, func(f snapshot.Found) bool {
			if f.Type == snapshot.TypeDir {
				stack = append(stack, f)
			} else {
				w.r.count.removed.Add(1)
			}
			return true
		})
	}
}

// follow returns the full entry behind a linked one; nil if it cannot be had.
func (r *run) follow(ctx context.Context, tree *snapshot.Tree, f snapshot.Found) *snapshot.Entry {
	if f.Entry == nil || f.Type == snapshot.TypeDir {
		return nil
	}
	if !f.Linked {
		return f.Entry
	}
	full, err := tree.Follow(ctx, f)
	if err != nil {
		r.job.metDamage.Store(true)
		return nil
	}
	return full.Entry
}
