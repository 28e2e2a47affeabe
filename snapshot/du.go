package snapshot

import (
	"context"

	"snapfs/store"
)

// Du returns how many entries are below a path and the sum of the sizes of regular files, each name of a hard link
// counted. Read from the totals that directories carry; only branches with hard links are visited. What is no directory
// counts as one entry.
func Du(ctx context.Context, t *Tree, path string) (entries, bytes uint64, err error) {
	f, err := t.Walk(ctx, path)
	if err != nil {
		return 0, 0, err
	}
	if f.Position == 0 {
		totals := t.Manifest().Totals // these have the links counted
		return totals.Entries, totals.Bytes, nil
	}
	if f.Type == TypeDir {
		bytes, err = t.linkedBytes(ctx, f)
		if err != nil {
			return 0, 0, &PathError{Op: "sum up", Path: path, Err: err}
		}
		return f.Totals.Entries, addSaturated(f.Totals.Bytes, bytes), nil
	}
	if f, err = t.Follow(ctx, f); err != nil {
		return 0, 0, &PathError{Op: "sum up", Path: path, Err: err}
	}
	if f.Type == TypeFile {
		bytes = uint64(f.Size)
	}
	return 1, bytes, nil
}

// linkedBytes sums the sizes of linked regular files below a directory, name by name.
func (t *Tree) linkedBytes(ctx context.Context, dir Found) (bytes uint64, err error) {
	linked := func(_ store.ID, totals Totals) bool { return totals.Linked > 0 }
	var inner error
	err = t.Pages(ctx, dir, linked, func(f Found) bool {
		var n uint64
		switch {
		case f.Linked && f.Type == TypeFile:
			if f, inner = t.Follow(ctx, f); inner == nil {
				n = uint64(f.Size)
			}
		case f.Type == TypeDir && f.Totals.Linked > 0:
			n, inner = t.linkedBytes(ctx, f)
		}
		bytes = addSaturated(bytes, n)
		return inner == nil
	})
	if err == nil {
		err = inner
	}
	return bytes, err
}
