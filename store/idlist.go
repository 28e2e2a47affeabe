package store

import (
	"bytes"
	"context"
	"fmt"
)

// A list of IDs is kept as pages: nodes that name only other pages of the list, and at the lowest level the IDs, which are
// no references. A page is a record of 1 level (0: IDs of the list; above: of pages of the level below), 2! the IDs one after another.

// idPageSize is how many IDs a page has: 64 KiB of them.
const idPageSize = 2048

// maxIDLevel is more than any list has: 2048^4 IDs.
const maxIDLevel = 3

// Tags of a page. On disk; append only.
const (
	tagIDPageLevel = 1 | Critical
	tagIDPageIDs   = 2 | Critical
)

// IDListWriter stores a long list of IDs in ascending order. Not safe for concurrent use.
type IDListWriter struct {
	w      *Writer
	levels [][]byte // the open page of each level
	last   ID
	count  uint64
}

// NewIDList begins a list, written through w, which must be flushed after Finish.
func NewIDList(w *Writer) *IDListWriter { return &IDListWriter{w: w} }

// Add appends an ID greater than the last one; the same again is left out.
func (l *IDListWriter) Add(ctx context.Context, id ID) error {
	if l.count > 0 {
		switch c := bytes.Compare(l.last[:], id[:]); {
		case c == 0:
			return nil
		case c > 0:
			return fmt.Errorf("%w: list of IDs out of order", ErrFields)
		}
	}
	l.last = id
	l.count++
	return l.add(ctx, 0, id)
}

func (l *IDListWriter) add(ctx context.Context, level int, id ID) error {
	if level == len(l.levels) {
		l.levels = append(l.levels, nil)
	}
	if len(l.levels[level]) == idPageSize*len(id) {
		if err := l.flush(ctx, level); err != nil {
			return err
		}
	}
	l.levels[level] = append(l.levels[level], id[:]...)
	return nil
}

func (l *IDListWriter) flush(ctx context.Context, level int) error {
	page, err := l.put(ctx, level)
	if err != nil {
		return err
	}
	return l.add(ctx, level+1, page)
}

func (l *IDListWriter) put(ctx context.Context, level int) (ID, error) {
	page := encodeIDPage(level, l.levels[level])
	l.levels[level] = l.levels[level][:0]
	return l.w.Put(ctx, KindNode, page)
}

func encodeIDPage(level int, ids []byte) []byte {
	w := AppendFields(nil)
	w.Uint(tagIDPageLevel, uint64(level))
	w.Bytes(tagIDPageIDs, ids)
	return w.Encoded()
}

// Finish returns the list's root, zero for an empty list, and how many IDs there are.
func (l *IDListWriter) Finish(ctx context.Context) (root ID, count uint64, err error) {
	for level := 0; level < len(l.levels); level++ {
		if level == len(l.levels)-1 {
			root, err = l.put(ctx, level)
			return root, l.count, err
		}
		if err := l.flush(ctx, level); err != nil {
			return ID{}, 0, err
		}
	}
	return ID{}, 0, nil
}

func parseIDPage(data []byte) (level int, ids []byte, err error) {
	r := ReadFields(data)
	for r.Next() {
		switch r.Tag() {
		case tagIDPageLevel:
			level = int(r.Uint32())
		case tagIDPageIDs:
			ids = r.Bytes()
		default:
			r.Unknown()
		}
	}
	if r.Err() == nil && (level > maxIDLevel || len(ids) == 0 || len(ids)%len(ID{}) != 0 || len(ids) > idPageSize*len(ID{})) {
		r.Refuse("page of a list of IDs")
	}
	if r.Err() != nil {
		return 0, nil, fmt.Errorf("list of IDs: %w", r.Err())
	}
	return level, ids, nil
}

// IDList reads a list in order; at most a page of each level is in memory. Not safe for concurrent use.
type IDList struct {
	get   func(ctx context.Context, id ID) ([]byte, error)
	stack []idPage
	last  ID
	begun bool
}

// idPage is what is left of a page.
type idPage struct {
	level int
	ids   []byte
}

// IDList opens the list with that root; a zero one is empty.
func (s *Store) IDList(root ID) *IDList {
	return openIDList(root, func(ctx context.Context, id ID) ([]byte, error) { return s.Get(ctx, KindNode, id) })
}

func openIDList(root ID, get func(context.Context, ID) ([]byte, error)) *IDList {
	l := &IDList{get: get}
	if root != (ID{}) {
		l.stack = []idPage{{maxIDLevel + 1, root[:]}}
	}
	return l
}

// Next returns the next ID; false at the end.
func (l *IDList) Next(ctx context.Context) (id ID, ok bool, err error) {
	for len(l.stack) > 0 {
		top := &l.stack[len(l.stack)-1]
		if len(top.ids) == 0 {
			l.stack = l.stack[:len(l.stack)-1]
			continue
		}
		id, top.ids = ID(top.ids), top.ids[len(id):]
		if top.level == 0 {
			if l.begun && bytes.Compare(l.last[:], id[:]) >= 0 {
				return id, false, fmt.Errorf("%w: list of IDs out of order", ErrFields)
			}
			l.last, l.begun = id, true
			return id, true, nil
		}
		if err := l.descend(ctx, id, top.level); err != nil {
			return id, false, err
		}
	}
	return ID{}, false, nil
}

func (l *IDList) descend(ctx context.Context, id ID, above int) error {
	data, err := l.get(ctx, id)
	if err != nil {
		return err
	}
	level, ids, err := parseIDPage(data)
	if err == nil && (level >= above || above <= maxIDLevel && level != above-1) {
		err = fmt.Errorf("%w: list of IDs: level %d below %d", ErrFields, level, above)
	}
	l.stack = append(l.stack, idPage{level, ids})
	return err
}

// eachIDPage calls visit for every page of a list. It reads those above the lowest level only, and the root.
func eachIDPage(ctx context.Context, root ID, get func(context.Context, ID) ([]byte, error), visit func(ID) error) error {
	return visitIDPages(ctx, root, -1, get, visit)
}

func visitIDPages(ctx context.Context, at ID, level int, get func(context.Context, ID) ([]byte, error), visit func(ID) error) error {
	if err := visit(at); err != nil || level == 0 {
		return err
	}
	data, err := get(ctx, at)
	if err != nil {
		return err
	}
	found, ids, err := parseIDPage(data)
	if err == nil && level > 0 && found != level {
		err = fmt.Errorf("%w: list of IDs: level %d, want %d", ErrFields, found, level)
	}
	if err != nil || found == 0 {
		return err
	}
	for ; len(ids) > 0; ids = ids[len(ID{}):] {
		if err := visitIDPages(ctx, ID(ids), found-1, get, visit); err != nil {
			return err
		}
	}
	return nil
}
