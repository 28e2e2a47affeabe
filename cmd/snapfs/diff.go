package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"snapfs/snapshot"
	"snapfs/store"
)

type diffOptions struct {
	from, to string
	zero     bool
}

func (p *program) diffCommand() *cli.Command {
	return &cli.Command{
		Name: "diff", ArgsUsage: "SNAP[:PATH] SNAP[:PATH]", Usage: "say what differs between two snapshots",
		Description: about(`
Prints a line for each path below the compared directories: + added, - removed, M modified, and what of it
(content, mode, owner, time, xattr, type). What both share is not looked at. The exit code is 0 either way.`,
			"snapfs diff etc@-1d etc", "snapfs diff etc@2026-11-20:/ssh etc:/ssh --json"),
		Flags: []cli.Flag{zeroFlag()},
		Action: action(2, 2, func(c *cli.Context, args []string) error {
			return p.runDiff(c.Context, diffOptions{args[0], args[1], c.Bool("0")})
		}),
	}
}

// changeObject is a difference in JSON.
type changeObject struct {
	jsonPath
	Change string   `json:"change"`
	What   []string `json:"what"`
}

func (p *program) runDiff(ctx context.Context, o diffOptions) error {
	return p.withStore(ctx, "diff "+o.from+" "+o.to, func(st *store.Store) error {
		from, a, err := p.openTree(ctx, st, o.from)
		if err != nil {
			return err
		}
		to, b, err := p.openTree(ctx, st, o.to)
		if err != nil {
			return err
		}
		for _, side := range []struct {
			*snapshot.Target
			tree *snapshot.Tree
		}{{from, a}, {to, b}} {
			if _, err := side.tree.Walk(ctx, side.Path); err != nil {
				return fmt.Errorf("%s:%s: %w", side.Ref(), side.Path, err)
			}
		}
		r, seen := p.newReporter(), int64(0)
		defer r.clear()
		return snapshot.Diff(ctx, a, from.Path, b, to.Path, func(c snapshot.Change) error {
			seen++
			r.progress(nil, func() string { return count(seen, "difference", "differences") + "  " + c.Path })
			defer r.lines()()
			if p.global.json {
				return p.out.object(changeObject{newJSONPath(c.Path), c.Change, orEmpty(c.What)})
			}
			return p.out.print(p.changeLine(c) + p.ending(o.zero))
		})
	})
}

// changeLetters mark the lines of diff.
var changeLetters = map[string]string{"added": "+", "removed": "-", "modified": "M"}

func (p *program) changeLine(c snapshot.Change) string {
	line := changeLetters[c.Change] + " " + p.out.name(c.Path)
	if c.Change == "modified" {
		line += " (" + strings.Join(c.What, ", ") + ")"
	}
	return line
}
