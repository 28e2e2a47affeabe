package main

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"snapfs/snapshot/archive"
	"snapfs/store"
)

func (p *program) archiveCommand() *cli.Command {
	return &cli.Command{
		Name: "archive", Usage: "write snapshots to volumes on another medium, and keep track of them",
		Description: about(`
An archive set is a series of volumes: files in a directory, a disk, a pipe, a tape. Each volume says what it is, is encrypted
and protected by parity, and can be read without the store. A full set holds all that its snapshots need, an incremental
one what is new since the set before, a differential one what is new since the last full set. The store remembers which
snapshot is in which set, where its volumes are, and how long they are kept.`,
			"snapfs archive create --to /media/disk --keep-for 7y", "snapfs archive sets", "snapfs archive explain etc",
			"snapfs archive info /media/disk", "snapfs archive restore home --from /media/disk --to /srv/home"),
		Subcommands: []*cli.Command{
			p.archiveCreateCommand(), p.archiveSetsCommand(), p.archiveInfoCommand(), p.archiveLsCommand(), p.archiveExplainCommand(),
			p.archiveMarkCommand(), p.archiveExpireCommand(), p.archiveVerifyCommand(), p.archiveRestoreCommand(), p.archiveRepairCommand(), p.archiveImportCommand(),
		},
	}
}

func (p *program) archiveMarkCommand() *cli.Command {
	return &cli.Command{
		Name: "mark", Usage: "say where a set is, or that it is of no use any more", ArgsUsage: "SET --state STATE",
		Description: about(`
STATE is onsite, offsite, vault, damaged or retired. No set is built on a damaged or retired one, and no snapshot leaves
the store because of it. SET is a name or the beginning of an ID, as 'snapfs archive sets' shows them. The texts about it
and about the sets that build on it are brought up to date where they lie with the volumes.`,
			"snapfs archive mark default-2026-11-22_03-15-07-full --state vault --location 'bank, box 17'",
			"snapfs archive mark 1a2b3c4d --state damaged"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "state", Usage: "`STATE`: onsite, offsite, vault, damaged or retired"},
			&cli.StringFlag{Name: "location", Usage: "`TEXT` that says where the volumes are"},
		},
		Action: action(1, 1, func(c *cli.Context, args []string) error {
			state, location := c.String("state"), c.String("location")
			if state == "" && !c.IsSet("location") {
				return usagef("give --state or --location")
			}
			if state != "" && !archive.KnownState(state) {
				return usagef("--state wants onsite, offsite, vault, damaged or retired, not %q", state)
			}
			return p.runArchiveMark(c.Context, args[0], state, location)
		}),
	}
}

func (p *program) runArchiveMark(ctx context.Context, ref, state, location string) error {
	return p.withStore(ctx, "archive mark", func(st *store.Store) error {
		sets, err := archiveSets(ctx, st)
		if err != nil {
			return err
		}
		s, err := sets.Find(ref)
		if err != nil {
			return err
		}
		m := store.ArchiveMark{State: s.State, Location: s.Location, Verified: s.Verified, Problem: s.Problem}
		if state != "" {
			m.State = state
		}
		if state == archive.StateDamaged {
			m.Verified = time.Time{} // whatever it is marked as next: it has to be verified again
		}
		if location != "" {
			m.Location = location
		}
		if err := st.MarkArchive(ctx, s.ID, m); err != nil {
			return err
		}
		return p.rewriteSheets(ctx, st, s)
	})
}

// rewriteSheets brings the texts about a set, and about those that build on it, up to date. The mark stands whether or not they can be reached.
func (p *program) rewriteSheets(ctx context.Context, st *store.Store, s *store.ArchiveSet) error {
	sets, err := archiveSets(ctx, st)
	if err != nil {
		return err
	}
	for _, t := range sets.On(s) {
		if err := sets.RewriteSheet(t, st.ID()); err != nil {
			p.say("the text about set %s could not be brought up to date: %v", t.Name, err)
		}
	}
	return nil
}

func archiveSets(ctx context.Context, st *store.Store) (archive.Sets, error) {
	state, err := st.State(ctx)
	if err != nil {
		return nil, err
	}
	return archive.Sets(state.Archives), nil
}

func (p *program) archiveExpireCommand() *cli.Command {
	return &cli.Command{
		Name: "expire", Usage: "give up the sets that were kept long enough",
		Description: about(`
A set that was made with --keep-for expires when that time is over and no set that is still kept builds on it. Its
volumes are not touched; 'snapfs archive create --overwrite' may write over them from then on. A set that was never
finished expires when it is marked as retired.`,
			"snapfs archive expire", "snapfs archive expire --dry-run"),
		Flags: []cli.Flag{&cli.BoolFlag{Name: "dry-run", Usage: "only say what would be done"}},
		Action: action(0, 0, func(c *cli.Context, _ []string) error {
			return p.runArchiveExpire(c.Context, c.Bool("dry-run"))
		}),
	}
}

// expireItem is a set that has expired, in JSON.
type expireItem struct {
	Event   string `json:"event"`
	ID      string `json:"id"`
	Name    string `json:"name"`
	Pool    string `json:"pool"`
	Volumes int    `json:"volumes"`
}

// expireSummary is the last object.
type expireSummary struct {
	Event   string `json:"event"`
	Expired int    `json:"expired"`
	DryRun  bool   `json:"dry_run,omitempty"`
}

func (p *program) runArchiveExpire(ctx context.Context, dryRun bool) error {
	return p.withStore(ctx, "archive expire", func(st *store.Store) error {
		if !dryRun {
			if err := p.adminRights(ctx, st); err != nil {
				return err
			}
		}
		gone, err := archive.Expire(ctx, st, p.now(), dryRun)
		for _, s := range gone {
			if p.global.json {
				p.out.object(expireItem{"item", fmt.Sprintf("%x", s.ID), s.Name, s.Pool, len(s.Volumes)})
			} else if !p.global.quiet {
				p.out.printf("%s  %s\n", s.Name, count(int64(len(s.Volumes)), "volume", "volumes"))
			}
		}
		if err != nil {
			return err
		}
		switch {
		case p.global.json:
			return p.out.object(expireSummary{"summary", len(gone), dryRun})
		case p.global.quiet:
			return nil
		case dryRun:
			return p.out.printf("nothing was done, %s would expire\n", count(int64(len(gone)), "set", "sets"))
		}
		return p.out.printf("%s expired\n", count(int64(len(gone)), "set", "sets"))
	})
}
