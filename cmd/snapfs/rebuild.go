package main

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"

	"snapfs/store"
)

func (p *program) rebuildCommand() *cli.Command {
	return &cli.Command{
		Name: "rebuild", Usage: "make the index anew from the volumes",
		Description: about(`
Needed only if the index is damaged in a way that opening the store has not noticed, or if nothing but the directories
'volumes' and 'keys' is left of a store: then it makes the rest as well.`,
			"snapfs rebuild"),
		Action: action(0, 0, func(c *cli.Context, _ []string) error { return p.runRebuild(c.Context) }),
	}
}

// rebuildEvent is progress and, at the end, the summary.
type rebuildEvent struct {
	Event        string  `json:"event"`
	Volumes      int     `json:"volumes"`
	VolumesTotal int     `json:"volumes_total"`
	Blobs        int64   `json:"blobs"`
	Bytes        int64   `json:"bytes"`
	Seconds      float64 `json:"seconds"`
}

// runRebuild also makes snapfs.json anew where only volumes and keys are left.
func (p *program) runRebuild(ctx context.Context) error {
	err := p.rebuild(ctx)
	if !errors.Is(err, store.ErrNoStore) {
		return err
	}
	if err := store.Recreate(ctx, p.global.store, p.storeOptions("rebuild")); err != nil {
		return err
	}
	return p.rebuild(ctx)
}

func (p *program) rebuild(ctx context.Context) error {
	return p.withStore(ctx, "rebuild", func(st *store.Store) error {
		r := p.newReporter()
		defer r.clear()
		var last store.RebuildProgress
		event := func(name string) rebuildEvent {
			return rebuildEvent{name, last.Volumes, last.VolumesTotal, last.Blobs, last.Bytes, p.now().Sub(r.started).Seconds()}
		}
		err := st.Rebuild(ctx, func(g store.RebuildProgress) {
			last = g
			r.progress(func() any { return event("progress") }, func() string {
				return formatCount(int64(g.Volumes)) + " of " + count(int64(g.VolumesTotal), "volume", "volumes") + ", " + r.pace(g.Bytes, 0)
			})
		})
		r.clear()
		switch {
		case err != nil:
			return err
		case p.global.json:
			return p.out.object(event("summary"))
		case p.global.quiet:
			return nil
		}
		return p.out.printf("rebuilt the index: %s, %s, in %s\n", count(int64(last.Volumes), "volume", "volumes"),
			count(last.Blobs, "blob", "blobs"), formatElapsed(p.now().Sub(r.started)))
	})
}
