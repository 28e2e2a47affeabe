package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"snapfs/snapshot"
	"snapfs/store"
)

func (p *program) unforgetCommand() *cli.Command {
	return &cli.Command{
		Name: "unforget", ArgsUsage: "ID...", Usage: "bring forgotten snapshots back",
		Description: about(`
ID is the beginning of an ID, or DATASET@NAME; 'snapfs snapshots --forgotten' lists what there is. What has been
pruned does not come back.`,
			"snapfs unforget 1a2b3c4d", "snapfs unforget etc@2026-11-22_03-15-07"),
		Action: action(1, -1, func(c *cli.Context, args []string) error { return p.runUnforget(c.Context, args) }),
	}
}

// unforgetItem is a snapshot that is back, in JSON.
type unforgetItem struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Dataset string `json:"dataset"`
	Time    string `json:"time"`
}

func (p *program) runUnforget(ctx context.Context, refs []string) error {
	return p.withStore(ctx, "unforget", func(st *store.Store) error {
		list, err := snapshot.ResolveExact(ctx, st, refs...)
		if err != nil {
			return err
		}
		var ids []store.ID
		var back []snapshot.Listed
		met := map[store.ID]bool{}
		for _, l := range list {
			if !l.Forgotten && !p.global.quiet {
				p.say("%s is not forgotten", l.Ref())
			}
			if l.Forgotten && !met[l.ID] {
				ids, back = append(ids, l.ID), append(back, l)
			}
			met[l.ID] = true
		}
		if len(ids) > 0 {
			if err := st.Unforget(ctx, ids); err != nil {
				return err
			}
		}
		return p.printUnforgotten(back)
	})
}

func (p *program) printUnforgotten(list []snapshot.Listed) error {
	for _, l := range list {
		var err error
		switch {
		case p.global.json:
			err = p.out.object(unforgetItem{l.ID.String(), l.Name, l.Dataset, jsonTime(l.Start)})
		case !p.global.quiet:
			err = p.out.printf("%s  %s\n", shortID(l.ID), l.Ref())
		}
		if err != nil {
			return err
		}
	}
	return nil
}
