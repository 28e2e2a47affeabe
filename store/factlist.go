package store

import (
	"context"
	"fmt"
)

// factList is the list of the IDs of all facts that checkpoints replaced: a tree of pages, all of them full but the last of
// each level, so that a longer list shares its pages with the one before. The newest facts stand in the checkpoint itself,
// as they may have come while the pages were written.
type factList struct {
	root ID // zero: there are no pages
	tail []ID
}

// factPageSize is how many IDs a page has: 64 KiB of them.
const factPageSize = 2048

// Tags of a page. On disk; append only.
const (
	tagPageLevel = 1 | Critical // 0: IDs of facts; above: of pages of the level below
	tagPageIDs   = 2 | Critical
)

func encodeFactPage(level int, ids []ID) []byte {
	w := AppendFields(nil)
	w.Uint(tagPageLevel, uint64(level))
	w.Bytes(tagPageIDs, joinIDs(ids))
	return w.Encoded()
}

// readIDs reads IDs one after the other.
func readIDs(r *FieldReader) (ids []ID) {
	b := r.Bytes()
	if len(b)%len(ID{}) != 0 {
		r.Refuse("list of IDs")
		return nil
	}
	for ; len(b) > 0; b = b[len(ID{}):] {
		ids = append(ids, ID(b))
	}
	return ids
}

func parseFactPage(data []byte) (level int, ids []ID, err error) {
	r := ReadFields(data)
	for r.Next() {
		switch r.Tag() {
		case tagPageLevel:
			level = int(r.Uint32())
		case tagPageIDs:
			ids = readIDs(&r)
		default:
			r.Unknown()
		}
	}
	if r.Err() == nil && (level > maxFactLevel || len(ids) == 0 || len(ids) > factPageSize) {
		r.Refuse("page of facts")
	}
	return level, ids, r.Err()
}

// maxFactLevel is more than the list of any store has: 2048^4 facts.
const maxFactLevel = 3

// pageGetter reads a page.
type pageGetter func(ctx context.Context, id ID) ([]byte, error)

func (get pageGetter) page(ctx context.Context, id ID, level int) (int, []ID, error) {
	data, err := get(ctx, id)
	if err != nil {
		return 0, nil, err
	}
	at, ids, err := parseFactPage(data)
	if err == nil && level >= 0 && at != level {
		err = fmt.Errorf("%w: page of facts on level %d, want %d", ErrFields, at, level)
	}
	return at, ids, err
}

// eachFromEnd calls fn with all facts of the list, the last ones first, until it returns false.
func (l factList) eachFromEnd(ctx context.Context, get pageGetter, fn func([]ID) bool) error {
	if len(l.tail) > 0 && !fn(l.tail) || l.root == (ID{}) {
		return nil
	}
	_, err := walkFactPages(ctx, get, l.root, -1, fn)
	return err
}

// pages calls visit for every page of the list. It reads those above the last level only.
func (l factList) pages(ctx context.Context, get pageGetter, visit func(ID) error) error {
	if l.root == (ID{}) {
		return nil
	}
	return visitFactPages(ctx, get, l.root, -1, visit)
}

func visitFactPages(ctx context.Context, get pageGetter, at ID, level int, visit func(ID) error) error {
	if err := visit(at); err != nil || level == 0 {
		return err
	}
	level, ids, err := get.page(ctx, at, level)
	if err != nil {
		return fmt.Errorf("list of facts: %w", err)
	}
	for i := 0; level > 0 && i < len(ids); i++ {
		if err := visitFactPages(ctx, get, ids[i], level-1, visit); err != nil {
			return err
		}
	}
	return nil
}

func walkFactPages(ctx context.Context, get pageGetter, at ID, level int, fn func([]ID) bool) (more bool, err error) {
	level, ids, err := get.page(ctx, at, level)
	if err != nil {
		return false, fmt.Errorf("list of facts: %w", err)
	}
	if level == 0 {
		return fn(ids), nil
	}
	for i := len(ids) - 1; i >= 0; i-- {
		if more, err := walkFactPages(ctx, get, ids[i], level-1, fn); err != nil || !more {
			return more, err
		}
	}
	return true, nil
}

// contains tells which facts are in the list. It reads pages from the end until it has found all.
func (l factList) contains(ctx context.Context, get pageGetter, facts map[ID]bool) (map[ID]bool, error) {
	found := map[ID]bool{}
	if len(facts) == 0 {
		return found, nil
	}
	err := l.eachFromEnd(ctx, get, func(ids []ID) bool {
		for _, id := range ids {
			if facts[id] {
				found[id] = true
			}
		}
		return len(found) < len(facts)
	})
	return found, err
}

// factListWriter makes a longer list of one that is there.
type factListWriter struct {
	put    func(page []byte) (ID, error)
	levels [][]ID // the last page of each level, still open; above the facts the last child is missing while that is open
}

// open takes up the list with these pages.
func (w *factListWriter) open(ctx context.Context, get pageGetter, root ID) error {
	w.levels = nil
	if root == (ID{}) {
		return nil
	}
	level, ids, err := get.page(ctx, root, -1)
	if err != nil {
		return err
	}
	w.levels = make([][]ID, level+1)
	for ; level > 0; level-- {
		last := len(ids) - 1
		w.levels[level] = ids[:last:last]
		if _, ids, err = get.page(ctx, ids[last], level-1); err != nil {
			return err
		}
	}
	w.levels[0] = ids
	return nil
}

// add appends to a level.
func (w *factListWriter) add(level int, id ID) error {
	if level == len(w.levels) {
		w.levels = append(w.levels, nil)
	}
	if len(w.levels[level]) == factPageSize {
		page, err := w.put(encodeFactPage(level, w.levels[level]))
		if err != nil {
			return err
		}
		w.levels[level] = nil
		if err := w.add(level+1, page); err != nil {
			return err
		}
	}
	w.levels[level] = append(w.levels[level], id)
	return nil
}

// finish writes the open pages and returns the root.
func (w *factListWriter) finish() (root ID, err error) {
	for level := 0; level < len(w.levels); level++ {
		if root, err = w.put(encodeFactPage(level, w.levels[level])); err != nil {
			return ID{}, err
		}
		if level+1 < len(w.levels) {
			if err := w.add(level+1, root); err != nil {
				return ID{}, err
			}
		}
	}
	return root, nil
}
