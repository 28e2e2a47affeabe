package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"snapfs/snapshot"
	"snapfs/store"
)

type versionsOptions struct {
	arg  string
	zero bool
}

func (p *program) versionsCommand() *cli.Command {
	return &cli.Command{
		Name: "versions", ArgsUsage: "PATH | DATASET:PATH", Usage: "list the states of a file over time",
		Description: about(`
PATH is a path at the source, looked up in every dataset that covers it; DATASET:PATH is one below the dataset's
snapshots. Prints one line for each different state, oldest first: the first snapshot that has it as
DATASET@NAME:/path, fit for 'cat', its size, its modification time and how many snapshots have it.`,
			"snapfs versions /etc/fstab", "snapfs versions etc:fstab --json"),
		Flags: []cli.Flag{&cli.BoolFlag{Name: "0", Usage: "print only DATASET@NAME:/path, ended with NUL"}},
		Action: action(1, 1, func(c *cli.Context, args []string) error {
			return p.runVersions(c.Context, versionsOptions{args[0], c.Bool("0")})
		}),
	}
}

// versionObject is a state of a file in JSON.
type versionObject struct {
	Dataset string `json:"dataset"`
	jsonPath
	Type      string   `json:"type"`
	Size      int64    `json:"size"`
	Mtime     string   `json:"mtime"`
	Snapshots []string `json:"snapshots"`
}

func (p *program) runVersions(ctx context.Context, o versionsOptions) error {
	return p.withStore(ctx, "versions of "+o.arg, func(st *store.Store) error {
		paths, err := p.lookedUp(ctx, st, o.arg)
		if err != nil {
			return err
		}
		var damage error
		r := p.newReporter()
		defer r.clear()
		for _, at := range paths {
			versions, err := snapshot.Versions(ctx, st, at.Snapshots, at.Path, func(done int) {
				r.progress(nil, func() string {
					return fmt.Sprintf("%d of %s of %s", done, count(int64(len(at.Snapshots)), "snapshot", "snapshots"), at.Dataset)
				})
			})
			r.clear()
			damage = errors.Join(damage, err) // beside what is not damaged
			for _, v := range versions {
				if err := p.printVersion(v, o.zero); err != nil {
					return err
				}
			}
		}
		return damage
	})
}

// lookedUp finds which snapshots may have what arg names, and as which path below them.
func (p *program) lookedUp(ctx context.Context, st *store.Store, arg string) ([]snapshot.DatasetPath, error) {
	if dataset, below, ok := strings.Cut(arg, ":"); ok && snapshot.DatasetName(dataset) == nil {
		list, err := snapshot.List(ctx, st, snapshot.Filter{Dataset: dataset})
		if err == nil && len(list) == 0 {
			err = fmt.Errorf("dataset %s: %w", dataset, store.ErrNotFound)
		}
		return []snapshot.DatasetPath{{Dataset: dataset, Path: below, Snapshots: list}}, err
	}
	source, err := store.AbsolutePath(arg)
	if err != nil {
		return nil, err
	}
	paths, err := snapshot.Covering(ctx, st, source)
	if err == nil && len(paths) == 0 && !p.global.quiet {
		p.say("%s: no dataset covers this path", source)
		p.say("hint: 'snapfs dataset list' shows what each dataset is a copy of")
	}
	return paths, err
}

func (p *program) printVersion(v snapshot.Version, zero bool) error {
	first := v.Snapshots[0]
	name := first.Ref() + ":" + p.out.name(v.Path)
	switch {
	case p.global.json:
		o := versionObject{
			Dataset: first.Dataset, jsonPath: newJSONPath(v.Path), Type: typeName(v.Entry.Type), Size: v.Entry.Size,
			Mtime: jsonTime(goTime(v.Entry.Mtime)),
		}
		for _, l := range v.Snapshots {
			o.Snapshots = append(o.Snapshots, l.ID.String())
		}
		return p.out.object(o)
	case zero:
		return p.out.print(name + "\x00")
	}
	return p.out.printf("%s  %s  %s  in %s\n", name, formatSize(v.Entry.Size), p.localTime(goTime(v.Entry.Mtime)),
		count(int64(len(v.Snapshots)), "snapshot", "snapshots"))
}
