package main

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"snapfs/fs"
	"snapfs/snapshot"
	"snapfs/snapshot/restore"
	"snapfs/store"
)

type restoreOptions struct {
	restore.Options
	ref string
}

func (p *program) restoreCommand() *cli.Command {
	return &cli.Command{
		Name: "restore", ArgsUsage: "SNAP[:PATH] --to DIR\nSNAP[:PATH] --in-place", Usage: "copy a snapshot, or a part of it, back",
		Description: about(`
A directory's contents go into DIR, a single file becomes DIR/NAME. What is equal already stays; an interrupted
restore goes on when it is run again. Files are built under another name and then renamed. Patterns of --include and
--exclude are gitignore's, relative to PATH.`,
			"snapfs restore etc --to /tmp/etc",
			"snapfs restore home@-2d:/anna/letter.odt --to /home/anna",
			"snapfs restore latest:/etc/ssh --in-place --delete --dry-run",
			"snapfs restore srv --to /srv --exclude '*.iso' --overwrite newer"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "to", Usage: "restore into `DIR`, which is made if it is missing"},
			&cli.BoolFlag{Name: "in-place", Usage: "restore to the original paths"},
			&cli.StringSliceFlag{Name: "include", Usage: "restore only what matches `P`"},
			&cli.StringSliceFlag{Name: "exclude", Usage: "leave out what matches `P`"},
			&cli.StringFlag{Name: "overwrite", Usage: "`WHICH` existing files to replace if they differ: always, newer or never", Value: string(restore.OverwriteAlways)},
			&cli.BoolFlag{Name: "quick", Usage: "same type, size and modification time is equal; else content decides"},
			&cli.BoolFlag{Name: "delete", Usage: "remove what the snapshot does not have"},
			&cli.BoolFlag{Name: "verify", Usage: "read back and compare what was written"},
			&cli.BoolFlag{Name: "patch", Usage: "write only what differs into existing files, instead of replacing them"},
			&cli.BoolFlag{Name: "force", Usage: "in place on another host; --delete below /, with nothing to restore or a snapshot of listed files"},
			&cli.BoolFlag{Name: "dry-run", Usage: "only say what would be done"},
		},
		Action: action(1, 1, func(c *cli.Context, args []string) error {
			o, err := p.readRestoreOptions(c, args[0])
			if err != nil {
				return err
			}
			return p.runRestore(c.Context, o)
		}),
	}
}

func (p *program) readRestoreOptions(c *cli.Context, ref string) (o restoreOptions, err error) {
	o = restoreOptions{ref: ref, Options: restore.Options{
		To: c.String("to"), InPlace: c.Bool("in-place"), Force: c.Bool("force"),
		Include: c.StringSlice("include"), Exclude: c.StringSlice("exclude"), Overwrite: restore.Overwrite(c.String("overwrite")),
		Quick: c.Bool("quick"), Delete: c.Bool("delete"), Verify: c.Bool("verify"), Patch: c.Bool("patch"), DryRun: c.Bool("dry-run"),
	}}
	policies := []restore.Overwrite{restore.OverwriteAlways, restore.OverwriteNewer, restore.OverwriteNever}
	switch {
	case o.InPlace == (o.To != ""):
		return o, usagef("restore wants either --to DIR or --in-place")
	case !slices.Contains(policies, o.Overwrite):
		return o, usagef("--overwrite wants always, newer or never, not %q", o.Overwrite)
	}
	o.Host, err = os.Hostname()
	return o, err
}

func (p *program) runRestore(ctx context.Context, o restoreOptions) error {
	limitMemory(restoreMemory)
	if err := p.outsideStore(o.To); err != nil {
		return err
	}
	o.Workers = 2 * overlapCalls() // they wait for the disk as well
	so := p.storeOptions("restore of " + o.ref)
	so.Cache = restoreCache
	return p.withStoreAs(ctx, so, func(st *store.Store) error {
		t, tree, err := p.openTree(ctx, st, o.ref)
		if err != nil {
			return err
		}
		if o.Protect, err = fs.Mounts(); err != nil {
			return err
		}
		o.Store = st.Dir()
		return p.restoreFrom(ctx, st, tree, t, o)
	})
}

// restoreFrom runs a restore and reports it.
func (p *program) restoreFrom(ctx context.Context, from restore.Reader, tree *snapshot.Tree, t *snapshot.Target, o restoreOptions) error {
	r := p.newReporter()
	defer r.clear()
	o.Path = t.Path
	o.Progress = func(g restore.Progress) {
		r.progress(func() any { return newRestoreProgress(g) }, func() string { return restoreLine(r, g) })
	}
	o.OnError = r.problem
	if o.DryRun || p.global.verbose {
		o.OnItem = func(it restore.Item) { p.printItem(r, it) }
	}
	result, err := restore.Run(ctx, from, tree, o.Options)
	r.clear()
	if err != nil {
		return fmt.Errorf("%s: %w", t.Ref(), err)
	}
	return p.printRestore(result, o, t)
}

// restoreProgress is progress in JSON.
type restoreProgress struct {
	Event        string `json:"event"`
	Entries      int64  `json:"entries"`
	EntriesTotal int64  `json:"entries_total"`
	Bytes        int64  `json:"bytes"`
	BytesTotal   int64  `json:"bytes_total"`
	jsonPath
}

func newRestoreProgress(g restore.Progress) restoreProgress {
	return restoreProgress{"progress", g.Entries, g.EntriesTotal, g.Bytes, g.BytesTotal, newJSONPath(g.Current)}
}

func restoreLine(r *reporter, g restore.Progress) string {
	return fmt.Sprintf("%s of %s files, %s of %s, %s  %s", formatCount(g.Entries), formatCount(g.EntriesTotal),
		formatSize(g.Bytes), formatSize(g.BytesTotal), r.pace(g.Bytes, g.BytesTotal), g.Current)
}

// itemEvent is one thing done to the destination.
type itemEvent struct {
	Event string `json:"event"`
	jsonPath
	Action string `json:"action"`
}

func (p *program) printItem(r *reporter, it restore.Item) {
	if p.global.json {
		r.event(itemEvent{"item", newJSONPath(it.Path), it.Action})
		return
	}
	defer r.lines()()
	p.out.printf("%-10s %s\n", it.Action, p.out.name(it.Path))
}

// restoreSummary is the last object of a restore's JSON.
type restoreSummary struct {
	Event           string  `json:"event"`
	Snapshot        string  `json:"snapshot"`
	Entries         int64   `json:"entries"`
	Written         int64   `json:"written"`
	Equal           int64   `json:"equal"`
	Deleted         int64   `json:"deleted"`
	BytesWritten    int64   `json:"bytes_written"`
	SkippedMetadata int64   `json:"skipped_metadata"`
	Errors          int64   `json:"errors"`
	Damaged         int64   `json:"damaged"`
	Seconds         float64 `json:"seconds"`
	DryRun          bool    `json:"dry_run,omitempty"`
}

// printRestore reports a restore that has ended; its error says that some entries were not written.
func (p *program) printRestore(r *restore.Result, o restoreOptions, t *snapshot.Target) error {
	switch {
	case p.global.json:
		p.out.object(restoreSummary{
			"summary", t.ID.String(), r.Entries, r.Written, r.Equal, r.Deleted, r.BytesWritten, r.SkippedMetadata, r.Errors, r.Damaged,
			r.Elapsed.Seconds(), o.DryRun,
		})
	case p.global.quiet:
	case o.DryRun:
		p.out.printf("nothing was written; of %s of %s, %s would be written, %s are equal, %s would be deleted\n",
			count(r.Entries, "entry", "entries"), t.Ref(), formatCount(r.Written), formatCount(r.Equal), formatCount(r.Deleted))
	default:
		p.out.printf("restored %s: %s, %s written, %s equal, %s deleted\n", t.Ref(), count(r.Entries, "entry", "entries"),
			formatCount(r.Written), formatCount(r.Equal), formatCount(r.Deleted))
		p.out.printf("wrote %s, in %s\n", formatSize(r.BytesWritten), formatElapsed(r.Elapsed))
	}
	if r.SkippedMetadata > 0 && !p.global.quiet && !p.global.json {
		p.say("%s, attributes or flags could not be set: not without being root, or not on that file system", count(r.SkippedMetadata, "owner", "owners"))
	}
	return restoreErrors(r, "could not be written")
}

// restoreErrors is nil if there were none.
func restoreErrors(r *restore.Result, what string) error {
	incomplete := incompleteError{r.Errors, count(r.Errors, "entry", "entries") + " " + what}
	switch {
	case r.Damaged > 0:
		incomplete.what += fmt.Sprintf(", %s because stored data is damaged", formatCount(r.Damaged))
		return &damagedError{incomplete}
	case r.Errors > 0:
		return &incomplete
	}
	return nil
}
