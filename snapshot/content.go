package snapshot

import (
	"context"
	"io"
	"syscall"

	"snapfs/store"
)

// Items calls fn for the items of a regular file's content in order, with the offset of each, from the one that
// covers offset, until fn returns false.
func (t *Tree) Items(ctx context.Context, e *Entry, offset int64, fn func(offset int64, it Item) bool) error {
	if offset < 0 {
		return syscall.EINVAL
	}
	if e.Content.List.IsZero() {
		at := int64(0)
		for _, it := range e.Content.Items {
			if at+it.Length > offset && !fn(at, it) {
				return nil
			}
			at += it.Length
		}
		return nil
	}
	if offset >= e.Size {
		return nil
	}
	p, err := t.contentRoot(ctx, e)
	if err != nil {
		return err
	}
	_, err = t.items(ctx, p, 0, offset, fn)
	return err
}

func (t *Tree) contentRoot(ctx context.Context, e *Entry) (*page, error) {
	s := sums{Totals: Totals{Bytes: uint64(e.Size)}, holes: uint64(e.Content.Holes)}
	return t.page(ctx, ref{id: e.Content.List, kind: pageContent, level: -1, sum: s})
}

// items goes through the page that begins at base. Its depth is bounded by maxLevel.
func (t *Tree) items(ctx context.Context, p *page, base, offset int64, fn func(int64, Item) bool) (more bool, err error) {
	for i := p.covering(uint64(max(0, offset-base))); i < p.len(); i++ {
		at := base + int64(p.before[i])
		if p.level == 0 {
			if !fn(at, p.items[i]) {
				return false, nil
			}
			continue
		}
		c, err := t.child(ctx, p, i, 0)
		if err != nil {
			return false, err
		}
		if more, err := t.items(ctx, c, at, offset, fn); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// ReadAt reads from a regular file as io.ReaderAt does; holes read as zeros.
func (t *Tree) ReadAt(ctx context.Context, e *Entry, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, syscall.EINVAL
	}
	if off >= e.Size {
		return 0, io.EOF
	}
	short := int64(len(p)) > e.Size-off
	if short {
		p = p[:e.Size-off]
	}
	if len(p) == 0 {
		return 0, nil
	}
	n := 0
	var failed error
	err := t.Items(ctx, e, off, func(at int64, it Item) bool {
		var m int
		m, failed = t.readItem(ctx, p[n:], it, off+int64(n)-at)
		n += m
		return failed == nil && n < len(p)
	})
	switch {
	case failed != nil:
		return n, failed
	case err != nil:
		return n, err
	case n < len(p):
		return n, malformed("content ends after %d of %d bytes", off+int64(n), e.Size)
	case short:
		return n, io.EOF
	}
	return n, nil
}

// readItem copies from an item, beginning skip bytes into it.
func (t *Tree) readItem(ctx context.Context, p []byte, it Item, skip int64) (int, error) {
	if it.ID.IsZero() {
		p = p[:min(int64(len(p)), it.Length-skip)]
		clear(p)
		return len(p), nil
	}
	data, err := t.src.Get(ctx, store.KindChunk, it.ID)
	if err == nil && int64(len(data)) != it.Length {
		err = malformed("%d bytes, not %d", len(data), it.Length)
	}
	if err != nil {
		return 0, &NodeError{store.KindChunk, it.ID, err}
	}
	return copy(p, data[skip:]), nil
}

// NextData and NextHole answer lseek's SEEK_DATA and SEEK_HOLE; io.EOF stands for ENXIO.
func (t *Tree) NextData(ctx context.Context, e *Entry, off int64) (int64, error) {
	return t.nextOf(ctx, e, off, false)
}

// NextHole: see NextData. The end of the file counts as a hole.
func (t *Tree) NextHole(ctx context.Context, e *Entry, off int64) (int64, error) {
	at, err := t.nextOf(ctx, e, off, true)
	if err == io.EOF && off >= 0 && off < e.Size {
		return e.Size, nil
	}
	return at, err
}

// nextOf finds the first byte at or after off that is in a hole, or in data.
func (t *Tree) nextOf(ctx context.Context, e *Entry, off int64, hole bool) (int64, error) {
	switch {
	case off < 0:
		return 0, syscall.EINVAL
	case off >= e.Size:
		return 0, io.EOF
	case !e.Content.List.IsZero():
		p, err := t.contentRoot(ctx, e)
		if err != nil {
			return 0, err
		}
		return t.nextBelow(ctx, p, 0, off, hole)
	}
	at := int64(-1)
	err := t.Items(ctx, e, off, func(start int64, it Item) bool {
		if it.ID.IsZero() == hole {
			at = max(off, start)
		}
		return at < 0
	})
	if err == nil && at < 0 {
		err = io.EOF
	}
	return at, err
}

// nextBelow is nextOf below a page, passing over the pages that have none of what is sought.
func (t *Tree) nextBelow(ctx context.Context, p *page, base, off int64, hole bool) (int64, error) {
	for i := p.covering(uint64(max(0, off-base))); i < p.len(); i++ {
		at := base + int64(p.before[i])
		if p.level == 0 {
			if p.items[i].ID.IsZero() == hole {
				return max(off, at), nil
			}
			continue
		}
		s := p.branches[i].sum
		if hole && s.holes == 0 || !hole && s.holes == s.Bytes {
			continue
		}
		c, err := t.child(ctx, p, i, 0)
		if err != nil {
			return 0, err
		}
		if found, err := t.nextBelow(ctx, c, at, off, hole); err != io.EOF {
			return found, err
		}
	}
	return 0, io.EOF
}
