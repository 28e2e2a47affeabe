package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"snapfs/snapshot"
	"snapfs/store"
)

func (p *program) duCommand() *cli.Command {
	return &cli.Command{
		Name: "du", ArgsUsage: "SNAP[:PATH]", Usage: "say how much is below a path",
		Description: about("Counts the entries below a directory and the sizes of its regular files, each name of a hard-linked file by itself.",
			"snapfs du latest", "snapfs du home:/anna/music --json"),
		Action: action(1, 1, func(c *cli.Context, args []string) error {
			return p.runDu(c.Context, args[0])
		}),
	}
}

// duObject is the sum in JSON.
type duObject struct {
	Snapshot string `json:"snapshot"`
	jsonPath
	Entries uint64 `json:"entries"`
	Bytes   uint64 `json:"bytes"`
}

func (p *program) runDu(ctx context.Context, ref string) error {
	return p.withStore(ctx, "du "+ref, func(st *store.Store) error {
		t, tree, err := p.openTree(ctx, st, ref)
		if err != nil {
			return err
		}
		entries, bytes, err := snapshot.Du(ctx, tree, t.Path)
		if err != nil {
			return fmt.Errorf("%s:%s: %w", t.Ref(), t.Path, err)
		}
		if p.global.json {
			return p.out.object(duObject{t.ID.String(), newJSONPath(t.Path), entries, bytes})
		}
		return p.out.printf("%s  %s  %s\n", formatSize(int64(bytes)), count(int64(entries), "entry", "entries"), p.out.name(t.Path))
	})
}
