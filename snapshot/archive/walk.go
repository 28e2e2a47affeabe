package archive

import (
	"context"
	"errors"
	"fmt"

	"snapfs/snapshot"
	"snapfs/store"
)

// Lost is a blob that a set should hold and the store could not give.
type Lost struct {
	Kind store.Kind
	ID   store.ID
	Err  error
}

// walker finds what snapshots need. Each node is read once, whatever leads to it: it keeps 32 bytes for each.
type walker struct {
	src      snapshot.Source
	met      map[store.ID]struct{} // all but chunks
	meta     func(store.Kind, store.ID) error
	chunk    func(store.ID) error
	lost     func(Lost)
	progress func(nodes int64)
}

type reference struct {
	kind store.Kind
	id   store.ID
}

// walk visits a snapshot and all it names.
func (w *walker) walk(ctx context.Context, root store.ID) error {
	stack := []reference{{store.KindManifest, root}}
	if _, ok := w.met[root]; ok {
		return nil
	}
	w.met[root] = struct{}{}
	for len(stack) > 0 {
		at := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if err := ctx.Err(); err != nil {
			return err
		}
		below, err := w.visit(ctx, at)
		if err != nil {
			return err
		}
		for i := len(below) - 1; i >= 0; i-- {
			stack = append(stack, below[i])
		}
	}
	return nil
}

// visit reads a manifest or node and returns those it names that are new.
func (w *walker) visit(ctx context.Context, at reference) (below []reference, err error) {
	if err := w.meta(at.kind, at.id); err != nil || at.kind == store.KindXattrs {
		return nil, err
	}
	data, err := w.src.Get(ctx, at.kind, at.id)
	if isLoss(err) {
		w.lost(Lost{at.kind, at.id, err})
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var failed error
	err = snapshot.References(at.kind, data, func(kind store.Kind, id store.ID) {
		if kind == store.KindChunk {
			failed = errors.Join(failed, w.chunk(id))
			return
		}
		if _, ok := w.met[id]; !ok {
			w.met[id] = struct{}{}
			below = append(below, reference{kind, id})
		}
	})
	w.progress(int64(len(w.met)))
	switch {
	case failed != nil:
		return nil, failed
	case err != nil:
		return nil, fmt.Errorf("blob %s: %w", at.id, err)
	}
	return below, nil
}

// isLoss tells damage, which costs what it touches, from all other errors.
func isLoss(err error) bool {
	var corrupt *store.CorruptError
	var missing *store.MissingError
	return errors.As(err, &corrupt) || errors.As(err, &missing)
}
