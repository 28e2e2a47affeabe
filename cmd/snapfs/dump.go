package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"snapfs/snapshot"
	"snapfs/snapshot/restore"
	"snapfs/store"
)

func (p *program) dumpCommand() *cli.Command {
	return &cli.Command{
		Name: "dump", ArgsUsage: "SNAP[:PATH]", Usage: "write a snapshot, or a part of it, as a tar archive to stdout",
		Description: about(`
The archive is PAX: extended attributes, ACLs, hard links, sparse files and long names are in it, and GNU tar and
bsdtar extract them ('tar --xattrs --xattrs-include=* --acls -xp').`,
			"snapfs dump etc > etc.tar", "snapfs dump home@-1d:/anna | ssh other tar -x"),
		Action: action(1, 1, func(c *cli.Context, args []string) error {
			if p.out.terminal {
				return &usageError{msg: "a tar archive is not for a terminal", hint: "write it to a file or into a pipe: snapfs dump SNAP > FILE"}
			}
			return p.runDump(c.Context, args[0])
		}),
	}
}

func (p *program) runDump(ctx context.Context, ref string) error {
	limitMemory(restoreMemory)
	so := p.storeOptions("dump of " + ref)
	so.Cache = restoreCache
	return p.withStoreAs(ctx, so, func(st *store.Store) error {
		t, tree, err := p.openTree(ctx, st, ref)
		if err != nil {
			return err
		}
		_, total, err := snapshot.Du(ctx, tree, t.Path)
		if err != nil {
			return fmt.Errorf("%s: %w", t.Ref(), err)
		}
		r := p.newReporter()
		defer r.clear()
		result, err := restore.DumpWith(ctx, st, tree, r.meter(int64(total)), restore.DumpOptions{
			Path: t.Path, OnError: func(e *snapshot.PathError) { r.warn(e.Error()) }, // stdout is the archive
		})
		r.clear()
		if err != nil {
			return fmt.Errorf("%s: %w", t.Ref(), err)
		}
		if n := result.SkippedSockets; n > 0 && !p.global.quiet {
			p.say("%s left out: a tar archive has no sockets", count(n, "socket", "sockets"))
		}
		return restoreErrors(result, "could not be read whole")
	})
}
