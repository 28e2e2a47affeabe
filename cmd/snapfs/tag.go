package main

import (
	"context"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"snapfs/snapshot"
	"snapfs/store"
)

type tagOptions struct {
	snap        string
	add, remove []string
}

func (p *program) tagCommand() *cli.Command {
	return &cli.Command{
		Name: "tag", ArgsUsage: "SNAP [--add T]... [--remove T]...", Usage: "change or show a snapshot's tags",
		Description: about("Prints the tags the snapshot has then.", "snapfs tag latest --add before-upgrade", "snapfs tag etc@2026-11-22 --remove weekly"),
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "add", Usage: "add tag `T`"},
			&cli.StringSliceFlag{Name: "remove", Usage: "remove tag `T`"},
		},
		Action: action(1, 1, func(c *cli.Context, args []string) error {
			return p.runTag(c.Context, tagOptions{args[0], c.StringSlice("add"), c.StringSlice("remove")})
		}),
	}
}

// checkTags refuses tags that could not be told apart in a list.
func checkTags(tags []string) error {
	for _, t := range tags {
		if t == "" || strings.ContainsAny(t, ", \t\n") || escape(t) != t {
			return usagef("%q is no tag: it must not be empty, nor have commas, white space or control characters", t)
		}
	}
	return nil
}

func (p *program) runTag(ctx context.Context, o tagOptions) error {
	if err := checkTags(append(o.add[:len(o.add):len(o.add)], o.remove...)); err != nil {
		return err
	}
	if err := wholeSnapshot(o.snap); err != nil {
		return err
	}
	return p.withStore(ctx, "tags of "+o.snap, func(st *store.Store) error {
		t, err := snapshot.Resolve(ctx, st, o.snap, p.now(), p.zone)
		if err != nil {
			return err
		}
		tags := t.Tags
		if len(o.add)+len(o.remove) > 0 {
			if err := st.Tag(ctx, t.ID, o.add, o.remove); err != nil {
				return err
			}
			tags = changedTags(tags, o.add, o.remove)
		}
		if p.global.json {
			return p.out.object(map[string]any{"id": t.ID.String(), "tags": orEmpty(tags)})
		}
		for _, tag := range tags {
			p.out.print(p.out.name(tag) + "\n")
		}
		return nil
	})
}

func changedTags(tags, add, remove []string) []string {
	all := append(slices.Clone(tags), add...)
	all = slices.DeleteFunc(all, func(t string) bool { return slices.Contains(remove, t) })
	slices.Sort(all)
	return slices.Compact(all)
}
