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
'volumes' and 'keys' is left of a store: then it makes the rest as well.

What the index knew before and the volumes no longer have is named, held snapshots first, and so are the volumes that are missing;
the exit code is 4 then. Volumes that are put back bring back what they hold.`,
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
		var loss *store.LossError
		if err != nil && !errors.As(err, &loss) {
			return err
		}
		p.printLoss(r, loss)
		switch {
		case p.global.json:
			return errors.Join(err, p.out.object(event("summary")))
		case p.global.quiet:
			return err
		}
		return errors.Join(err, p.out.printf("rebuilt the index: %s, %s, in %s\n", count(int64(last.Volumes), "volume", "volumes"),
			count(last.Blobs, "blob", "blobs"), formatElapsed(p.now().Sub(r.started))))
	})
}

// lossEvent is something that a rebuild did not find any more.
type lossEvent struct {
	Event     string  `json:"event"`
	Problem   string  `json:"problem"` // snapshot, hold or volume
	ID        string  `json:"id"`
	Dataset   string  `json:"dataset,omitempty"`
	Name      string  `json:"name,omitempty"`
	HeldUntil *string `json:"held_until,omitempty"`
	Kind      string  `json:"kind,omitempty"` // of a volume
}

// printLoss names what is lost, on stderr for people: the index is there.
func (p *program) printLoss(r *reporter, loss *store.LossError) {
	if loss == nil {
		return
	}
	tell := func(e lossEvent, format string, args ...any) {
		if p.global.json {
			e.Event = "finding"
			r.event(e)
			return
		}
		p.say(format, args...)
	}
	for _, lost := range []struct {
		what string
		list []store.Snapshot
	}{{"snapshot", loss.Snapshots}, {"hold", loss.Holds}} {
		for _, s := range lost.list {
			until := p.holdText(s)
			if until != "" {
				until = ", " + until
			}
			tell(lossEvent{Problem: lost.what, ID: s.ID.String(), Dataset: s.Dataset, Name: s.Name, HeldUntil: heldUntil(s)},
				"%s gone: %s@%s (%s)%s", lost.what, s.Dataset, s.Name, s.ID, until)
		}
	}
	for _, v := range loss.Volumes {
		tell(lossEvent{Problem: "volume", ID: v.ID.String(), Kind: kindWord(v)}, "volume missing: %s (%s)", v.ID, kindWord(v))
	}
}

// lossHints say how to get back what a rebuild did not find.
func lossHints(loss *store.LossError) []string {
	list := []string{"put the missing volumes back from a copy of the store, into its directory 'volumes', and run 'snapfs rebuild' again"}
	if len(loss.Snapshots)+len(loss.Holds) > 0 {
		list = append(list, "if the volumes were put back from an older copy on purpose, the store goes on from there")
	}
	return append(list, "'snapfs verify' tells which files and snapshots can still be read whole")
}
