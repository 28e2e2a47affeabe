package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"snapfs/snapshot"
	"snapfs/store"
)

type findOptions struct {
	pattern           string
	regex, zero       bool
	snapshot, dataset string
}

func (p *program) findCommand() *cli.Command {
	return &cli.Command{
		Name: "find", ArgsUsage: "PATTERN", Usage: "find names over all snapshots",
		Description: about(`
Prints DATASET@NAME:/path for each match in each snapshot, fit for 'cat' and 'restore'. A pattern without '/' is
matched against base names, else against the whole path; * ? [a-z] and ** are as in a shell. The exit code is 0
with or without matches.`,
			"snapfs find fstab", "snapfs find '*.conf' --dataset etc", "snapfs find --regex 'host(s|name)$' --snapshot latest"),
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "regex", Usage: "PATTERN is a regular expression"},
			&cli.StringFlag{Name: "snapshot", Usage: "look only in `SNAP`"},
			&cli.StringFlag{Name: "dataset", Usage: "look only in snapshots of dataset `D`"},
			zeroFlag(),
		},
		Action: action(1, 1, func(c *cli.Context, args []string) error {
			o := findOptions{args[0], c.Bool("regex"), c.Bool("0"), c.String("snapshot"), c.String("dataset")}
			if o.snapshot != "" && o.dataset != "" {
				return usagef("give only one of --snapshot and --dataset")
			}
			return p.runFind(c.Context, o)
		}),
	}
}

// matchObject is a match in JSON: the entry, and the snapshot's dataset and name.
type matchObject struct {
	*entryObject
	Dataset string `json:"dataset"`
	Name    string `json:"name"`
}

func (p *program) runFind(ctx context.Context, o findOptions) error {
	return p.withStore(ctx, "find "+o.pattern, func(st *store.Store) error {
		list, err := p.searched(ctx, st, o)
		if err != nil {
			return err
		}
		r := p.newReporter()
		defer r.clear()
		f := snapshot.FindOptions{Pattern: o.pattern, Regexp: o.regex, Snapshots: list, Progress: func(g snapshot.FindProgress) {
			r.progress(nil, func() string { return findLine(g, len(list)) })
		}}
		return snapshot.Find(ctx, st, f, func(m snapshot.Match) error {
			defer r.lines()()
			if p.global.json {
				return p.out.object(matchObject{newEntryObject(m.Snapshot.ID.String(), m.Path, m.Entry), m.Snapshot.Dataset, m.Snapshot.Name})
			}
			return p.out.print(m.Snapshot.Ref() + ":" + p.out.name(m.Path) + p.ending(o.zero))
		})
	})
}

func findLine(g snapshot.FindProgress, total int) string {
	return fmt.Sprintf("%s of %s, %s read  %s", formatCount(int64(g.Snapshots)), count(int64(total), "snapshot", "snapshots"),
		count(g.Pages, "page of directories", "pages of directories"), g.Current)
}

// searched are the snapshots to look in.
func (p *program) searched(ctx context.Context, st *store.Store, o findOptions) ([]snapshot.Listed, error) {
	if o.snapshot == "" {
		return snapshot.List(ctx, st, snapshot.Filter{Dataset: o.dataset})
	}
	t, err := p.resolveWhole(ctx, st, o.snapshot)
	if err != nil {
		return nil, err
	}
	return []snapshot.Listed{t.Listed}, nil
}
