package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"snapfs/fs"
	"snapfs/snapshot"
	"snapfs/snapshot/archive"
	"snapfs/store"
)

type archiveRestoreOptions struct {
	restoreOptions
	from       []string
	scratch    string
	incomplete bool
}

func (p *program) archiveRestoreCommand() *cli.Command {
	return &cli.Command{
		Name: "restore", ArgsUsage: "SNAP[:PATH] --from VOLUME... --to DIR", Usage: "copy a snapshot back from archive volumes, without a store",
		Description: about(`
Needs nothing but the volumes and a password or key of the set. VOLUME is a file, a directory of volumes, a device, a
FIFO, or - for standard input, through which volumes come one after another: the set with the snapshot first, then
its parents, newest first, as 'snapfs archive explain' prints them. Content goes to its places as it comes, and damage
is healed by parity in passing; a scratch directory takes metadata, the list of open places and at most 96 MiB of what
came last. With --scratch DIR a wrong order will do as well if all that comes fits in there. An ID or DATASET@NAME means
one snapshot; for other names the pipe is read to its end: a newer snapshot behind an older one is an error, or with
--scratch sorted out before anything is written. Other options are those of 'snapfs restore'.`,
			"snapfs archive restore home --from /mnt/usb/archive --to /srv/home",
			"snapfs archive restore etc@2026-11-22:/ssh --from a.snapfs --from b.snapfs --to /etc/ssh",
			"ssh tapes cat inc.snapfs full.snapfs | snapfs archive restore latest --from - --to /srv"),
		Flags: append([]cli.Flag{
			&cli.StringSliceFlag{Name: "from", Usage: "read `VOLUME`, or a directory of them; may be given more than once"},
			&cli.StringFlag{Name: "scratch", Usage: "`DIR` for what reading pipes needs, and for all that comes if its order is wrong"},
			&cli.BoolFlag{Name: "incomplete", Usage: "restore what there is although sets are missing that hold a part of it"},
		}, p.restoreCommand().Flags...),
		Action: action(1, -1, func(c *cli.Context, args []string) error {
			o, err := p.readArchiveRestore(c, args)
			if err != nil {
				return err
			}
			return p.runArchiveRestore(c.Context, o)
		}),
	}
}

func (p *program) readArchiveRestore(c *cli.Context, args []string) (o archiveRestoreOptions, err error) {
	if o.restoreOptions, err = p.readRestoreOptions(c, args[0]); err != nil {
		return o, err
	}
	o.from, o.scratch, o.incomplete = append(c.StringSlice("from"), args[1:]...), c.String("scratch"), c.Bool("incomplete")
	if len(o.from) == 0 {
		return o, usagef("archive restore wants --from VOLUME")
	}
	return o, nil
}

// archiveSecretFlags unlock the volumes where the store has another secret.
func archiveSecretFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "archive-password-file", Usage: "read the password of the volumes from `FILE`; else that of the store is tried"},
		&cli.StringFlag{Name: "archive-password-command", Usage: "read it from the output of `COMMAND`"},
		&cli.StringFlag{Name: "archive-key-file", Usage: "unlock the volumes with `FILE`, 32 random bytes"},
	}
}

// withArchiveSecret makes o ask for the secret that these options name.
func (p *program) withArchiveSecret(c *cli.Context, o *archive.OpenOptions) error {
	f := readSecretFlags(c, "archive-")
	if err := f.check(); err != nil || !f.any() {
		return err
	}
	o.Unlock = func(ctx context.Context, _ []store.KeySlot) (store.Secret, error) { return p.readSecret(ctx, f) }
	return nil
}

// bareOptions are what all commands share that read volumes without a store.
func (p *program) bareOptions() archive.OpenOptions {
	return archive.OpenOptions{
		Unlock: p.archiveUnlocker, Stdin: p.stdin, Cache: restoreCache,
		Note: func(note string) {
			if !p.global.quiet {
				p.say("%s", note)
			}
		},
	}
}

func (p *program) runArchiveRestore(ctx context.Context, o archiveRestoreOptions) error {
	limitMemory(restoreMemory)
	if err := p.outsideStore(o.To, o.scratch); err != nil {
		return err
	}
	o.Store, o.Scratch = p.global.store, o.scratch
	bo := p.bareOptions()
	bo.Scratch, bo.KeepAll, bo.Incomplete = o.scratch, o.scratch != "", o.incomplete
	bo.Resolve = func(ctx context.Context, st snapshot.Store) (*snapshot.Target, error) {
		return snapshot.Resolve(ctx, st, o.ref, p.now(), p.zone)
	}
	b, err := archive.Open(ctx, o.from, bo)
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }() // it was only read
	err = p.restoreBare(ctx, b, o)
	return errors.Join(err, b.Unread())
}

// restoreBare restores what is wanted.
func (p *program) restoreBare(ctx context.Context, b *archive.Bare, o archiveRestoreOptions) error {
	t := b.Target()
	if n := t.Summary.Errors; n > 0 && !p.global.quiet {
		p.say("snapshot %s is incomplete: %s could not be read when it was taken", t.Listed.Ref(), count(int64(n), "path", "paths"))
	}
	tree, err := snapshot.OpenTree(ctx, b, b.PageKey(), t.ID, nil)
	if err != nil {
		return fmt.Errorf("snapshot %s: %w", t.Listed.Ref(), err)
	}
	if o.Protect, err = fs.Mounts(); err != nil {
		return err
	}
	o.Protect = append(o.Protect, presentFiles(o.from)...)
	return p.restoreFrom(ctx, b, tree, t, o.restoreOptions)
}

// presentFiles are the arguments that are files or directories: --delete spares them.
func presentFiles(args []string) (list []string) {
	for _, arg := range args {
		path, err := store.AbsolutePath(arg)
		if err != nil {
			continue
		}
		if _, err := os.Stat(path); err == nil {
			list = append(list, path)
		}
	}
	return list
}
