package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"snapfs/store/volume"
)

// LossError says what the index before a rebuild knew and the volumes no longer have, and which volumes they should be in. The index
// was made anew from what is there; volumes that are put back are read into it.
type LossError struct {
	Snapshots []Snapshot   // of which no fact is left; held ones first, those that were forgotten left out
	Holds     []Snapshot   // as they were held; they are there, and not held as long any more
	Volumes   []VolumeInfo // that facts name; if anything is lost, also those that only the index before knew
}

func (e *LossError) Error() string {
	var parts []string
	for _, p := range []struct {
		n    int
		text string
	}{
		{len(e.Snapshots), "snapshots gone"}, {len(e.Holds), "holds gone"}, {len(e.Volumes), "volumes missing"},
	} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%s: %d", p.text, p.n))
		}
	}
	return "the index was made of what is there, and that is not all: " + strings.Join(parts, ", ")
}

// Rebuild makes the index anew from the volumes alone. Errors: *LossError, when that has been done.
func (s *Store) Rebuild(ctx context.Context, progress func(RebuildProgress)) error {
	before, err := s.inventory(ctx)
	if err != nil {
		return err
	}
	if err := s.session.Rebuild(ctx, progress); err != nil {
		return err
	}
	after, err := s.inventory(ctx)
	if err != nil {
		return err
	}
	if loss := after.lacks(before); len(loss.Snapshots)+len(loss.Holds)+len(loss.Volumes) > 0 {
		return loss
	}
	return nil
}

// inventory is what an index says is there.
type inventory struct {
	state   *State
	volumes []VolumeInfo
}

func (s *Store) inventory(ctx context.Context) (i inventory, err error) {
	if i.state, err = s.State(ctx); err == nil {
		i.volumes, err = s.Volumes(ctx)
	}
	return i, err
}

// lacks compares with what was there before. What others remove meanwhile was forgotten before.
func (i inventory) lacks(before inventory) *LossError {
	loss := &LossError{}
	there := map[ID]Snapshot{}
	for _, s := range i.state.Snapshots {
		there[s.ID] = s
	}
	var held, others []Snapshot
	for _, s := range before.state.Snapshots {
		now, ok := there[s.ID]
		isHeld := s.HeldForever || s.HeldUntil.After(before.state.HoldTime)
		switch {
		case s.Partial:
		case !ok && isHeld:
			held = append(held, s)
		case !ok && !s.Forgotten:
			others = append(others, s)
		case ok && isHeld && !now.HeldForever && (s.HeldForever || now.HeldUntil.Before(s.HeldUntil)):
			loss.Holds = append(loss.Holds, s)
		}
	}
	loss.Snapshots = slices.Concat(held, others)
	present := map[volume.ID]bool{}
	for _, v := range i.volumes {
		present[v.ID] = true
		if v.Missing {
			loss.Volumes = append(loss.Volumes, v)
		}
	}
	if len(loss.Snapshots)+len(loss.Holds) == 0 {
		return loss
	}
	for _, v := range before.volumes {
		if !present[v.ID] {
			v.Missing = true
			loss.Volumes = append(loss.Volumes, v)
		}
	}
	return loss
}
