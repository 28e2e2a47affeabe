package snapshot

import (
	"context"
	"fmt"
	"math"

	"snapfs/store"
)

// DirWriter encodes one directory: it takes entries in byte order of their names and puts pages as they are cut.
// It keeps one open page per level. Not safe for concurrent use.
type DirWriter struct {
	pager pager
	fs    uint32
	last  string
	rec   []byte
}

// NewDirWriter returns a writer for a directory on the file system with index fs.
func NewDirWriter(sink Sink, pageKey [32]byte, fs uint32) *DirWriter {
	return &DirWriter{pager: pager{sink: sink, kind: pageDirectory, pageKey: pageKey}, fs: fs}
}

// Add takes the next entry; e is not kept. What does not belong to its type is not stored (a directory's
// size, Nlink; of a linked entry all but Name, Type, FS and Inode). Errors: ErrName, ErrOrder, ErrEntry, and the sink's.
func (w *DirWriter) Add(ctx context.Context, e *Entry) error {
	if err := checkName(e.Name); err != nil {
		return err
	}
	if e.Name <= w.last {
		return fmt.Errorf("%w: %q after %q", ErrOrder, e.Name, w.last)
	}
	if err := e.check(); err != nil {
		return err
	}
	w.last = e.Name
	k := key{name: e.Name}
	if err := w.pager.room(ctx, 0, k); err != nil {
		return err
	}
	w.rec = appendEntry(w.rec[:0], e, inDirectory, w.fs, &w.pager.owners)
	w.pager.add(0, k, w.rec, entrySums(e))
	return nil
}

// Finish puts what is left and returns the root page (zero for an empty directory) and the totals. More than
// 2^31-1 entries below the directory: ErrTooManyEntries. The writer is ready for another directory of the file system.
func (w *DirWriter) Finish(ctx context.Context) (store.ID, Totals, error) {
	id, sum, err := w.pager.finish(ctx)
	w.last = ""
	if err != nil {
		return store.ID{}, Totals{}, err
	}
	return id, sum.Totals, nil
}

// ContentWriter encodes a file's list of items. Not safe for concurrent use.
type ContentWriter struct {
	pager  pager
	few    []Item // until there are more than an entry holds
	paged  bool
	open   Item // the last item, not yet recorded: a hole may grow
	length int64
	rec    []byte
}

// NewContentWriter returns a writer for one file.
func NewContentWriter(sink Sink, pageKey [32]byte) *ContentWriter {
	return &ContentWriter{pager: pager{sink: sink, kind: pageContent, pageKey: pageKey}}
}

// Add takes the next item; neighbouring holes are merged. Items without length are ignored.
func (w *ContentWriter) Add(ctx context.Context, it Item) error {
	if it.Length == 0 {
		return nil
	}
	if it.Length < 0 || it.Length > math.MaxInt64-w.length {
		return fmt.Errorf("%w: item of %d bytes after %d", ErrEntry, it.Length, w.length)
	}
	w.length += it.Length
	if it.ID.IsZero() && w.open.ID.IsZero() {
		w.open.Length += it.Length
		return nil
	}
	err := w.record(ctx, w.open)
	w.open = it
	return err
}

// record keeps an item that is complete.
func (w *ContentWriter) record(ctx context.Context, it Item) error {
	if it.Length == 0 {
		return nil
	}
	if !w.paged && len(w.few) < inlineItems {
		w.few = append(w.few, it)
		return nil
	}
	if !w.paged {
		w.paged = true
		for _, few := range w.few {
			if err := w.page(ctx, few); err != nil {
				return err
			}
		}
	}
	return w.page(ctx, it)
}

func (w *ContentWriter) page(ctx context.Context, it Item) error {
	k := key{}
	if !it.ID.IsZero() {
		k.name = string(it.ID[:])
	}
	if err := w.pager.room(ctx, 0, k); err != nil {
		return err
	}
	w.rec = appendItem(w.rec[:0], it)
	w.pager.add(0, k, w.rec, itemSums(it))
	return nil
}

// Finish returns the content for the entry, and makes w ready for another file.
func (w *ContentWriter) Finish(ctx context.Context) (Content, error) {
	err := w.record(ctx, w.open)
	c := Content{Items: w.few}
	if err == nil && w.paged {
		var sum sums
		c.Items = nil
		c.List, sum, err = w.pager.finish(ctx)
		c.Holes = int64(sum.holes)
	}
	w.few, w.paged, w.open, w.length = nil, false, Item{}, 0
	w.pager.levels = w.pager.levels[:0]
	if err != nil {
		return Content{}, err
	}
	return c, nil
}
