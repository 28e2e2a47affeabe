package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"snapfs/snapshot"
	"snapfs/snapshot/backup"
	"snapfs/store"
)

type backupOptions struct {
	backup.Options
	filesFrom, filesFrom0 []string
	hooks                 hooks
	stream                *streamOptions // nil: paths
}

func (p *program) backupCommand() *cli.Command {
	return &cli.Command{
		Name: "backup", Usage: "take a snapshot",
		ArgsUsage: "PATH... [options]\n--stdin NAME [options]\n--command CMD --as NAME [options]\n--as NAME [options] -- PROGRAM [ARGUMENT]...",
		Description: about(`
Takes a snapshot of directories and files, or of a stream: what stdin or a command gives becomes the file /NAME of
the snapshot. What has not changed since the dataset's last snapshot is not read again. CMD runs under
'bash -o pipefail -c'; if it fails, there is no snapshot.
Patterns are gitignore's; a pattern with a slash at its start or middle is relative to each PATH.
--files-from names what to save of each PATH; without PATH, what it names are the PATHs.
--pre and --post are run by 'bash -c' with $SNAPFS_DATASET; --post, which is run whenever --pre has succeeded, also has
$SNAPFS_RESULT (ok, incomplete, unchanged or failed) and, if there is a snapshot, $SNAPFS_SNAPSHOT (its ID), $SNAPFS_NAME
and $SNAPFS_ERRORS. If --pre fails, nothing is saved. With --dry-run neither is run.`,
			"snapfs backup /etc",
			"snapfs backup /home /srv --dataset data --exclude '*.tmp' --exclude-caches --one-file-system",
			"pg_dumpall | snapfs backup --stdin all.sql",
			"snapfs backup --command 'pg_dumpall | zstd' --as all.sql.zst --tag nightly",
			"snapfs backup --as dump.sql -- mysqldump --all-databases",
			"id=$(snapfs backup --quiet /etc)"),
		Flags:  backupFlags(),
		Action: action(0, -1, func(c *cli.Context, args []string) error { return p.backupAction(c, args) }),
	}
}

func backupFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "dataset", Usage: "name of the dataset `D` (default: made from PATH or NAME)"},
		&cli.StringSliceFlag{Name: "tag", Usage: "give the snapshot tag `T`"},
		&cli.StringSliceFlag{Name: "exclude", Usage: "skip what matches `PATTERN`"},
		&cli.StringSliceFlag{Name: "exclude-file", Usage: "skip what matches the patterns in `FILE`"},
		&cli.BoolFlag{Name: "ignore-files", Usage: "honour .gitignore and .snapfsignore files in the tree"},
		&cli.BoolFlag{Name: "exclude-caches", Usage: "skip what is in directories with a CACHEDIR.TAG"},
		&cli.StringFlag{Name: "exclude-larger-than", Usage: "skip files above `SIZE`"},
		&cli.BoolFlag{Name: "one-file-system", Usage: "do not enter other file systems"},
		&cli.StringSliceFlag{Name: "files-from", Usage: "save only what `FILE` lists, a path a line ('-': stdin)"},
		&cli.StringSliceFlag{Name: "files-from0", Usage: "save only what `FILE` lists, each path ended by NUL"},
		&cli.BoolFlag{Name: "reread", Usage: "read all files, changed or not"},
		&cli.BoolFlag{Name: "ignore-inode", Usage: "another inode number is no change"},
		&cli.BoolFlag{Name: "ignore-ctime", Usage: "another change time is no change"},
		&cli.StringFlag{Name: "time", Usage: "start time `T` of the snapshot (default: now)"},
		&cli.StringFlag{Name: "host", Usage: "`NAME` of the host to record (default: this machine's)"},
		&cli.BoolFlag{Name: "new-source", Usage: "the dataset may have had another host or other paths"},
		&cli.BoolFlag{Name: "skip-unchanged", Usage: "take no snapshot if nothing has changed"},
		&cli.StringFlag{Name: "pre", Usage: "run `CMD` before"},
		&cli.StringFlag{Name: "post", Usage: "run `CMD` after"},
		&cli.BoolFlag{Name: "dry-run", Usage: "only say what would be done"},
		&cli.StringFlag{Name: "stdin", Usage: "save stdin as the file `NAME`"},
		&cli.StringFlag{Name: "command", Usage: "save the output of `CMD`"},
		&cli.StringFlag{Name: "as", Usage: "save a command's output as the file `NAME`"},
		&cli.BoolFlag{Name: "allow-empty", Usage: "an empty stream is no error"},
	}
}

func (p *program) backupAction(c *cli.Context, args []string) error {
	o, err := p.backupOptions(c, args)
	if err != nil {
		return err
	}
	return p.runBackup(c.Context, o)
}

func (p *program) backupOptions(c *cli.Context, args []string) (o backupOptions, err error) {
	o.Options = backup.Options{
		Paths: args, Dataset: c.String("dataset"), Tags: c.StringSlice("tag"), Host: c.String("host"), Program: programName(),
		Exclude: c.StringSlice("exclude"), ExcludeFiles: c.StringSlice("exclude-file"), IgnoreFiles: c.Bool("ignore-files"),
		ExcludeCaches: c.Bool("exclude-caches"), OneFileSystem: c.Bool("one-file-system"),
		Reread: c.Bool("reread"), IgnoreInode: c.Bool("ignore-inode"), IgnoreCtime: c.Bool("ignore-ctime"),
		NewSource: c.Bool("new-source"), SkipUnchanged: c.Bool("skip-unchanged"), DryRun: c.Bool("dry-run"), Wait: p.global.wait,
	}
	o.filesFrom, o.filesFrom0 = c.StringSlice("files-from"), c.StringSlice("files-from0")
	o.hooks = hooks{pre: c.String("pre"), post: c.String("post")}
	if o.stream, err = p.streamOptions(c, args); err != nil {
		return o, err
	}
	if o.stream == nil && len(args) == 0 && len(o.filesFrom)+len(o.filesFrom0) == 0 {
		return o, &usageError{msg: "no PATH to back up", hint: "'snapfs backup --help' shows the ways to call it"}
	}
	if s := c.String("exclude-larger-than"); s != "" {
		if o.ExcludeLargerThan, err = parseSize(s); err != nil {
			return o, err
		}
	}
	if s := c.String("time"); s != "" {
		if o.Time, _, err = snapshot.ParseTime(s, p.now(), p.zone); err != nil {
			return o, err
		}
		if err = snapshot.Keepable(s, o.Time); err != nil {
			return o, err
		}
		o.Time = o.Time.Truncate(time.Second) // TIME means the end of what it names
	}
	if o.Dataset != "" {
		if err := snapshot.DatasetName(o.Dataset); err != nil {
			return o, err
		}
	}
	return o, checkTags(o.Tags)
}

func (p *program) runBackup(ctx context.Context, o backupOptions) error {
	if err := p.readLists(&o); err != nil {
		return err
	}
	dataset, err := o.dataset()
	if err != nil {
		return err
	}
	limitMemory(backupMemory)
	collectEarly(backupGC)
	o.Workers = overlapCalls()
	return p.withStore(ctx, "backup of "+dataset, func(st *store.Store) error {
		r := p.newReporter()
		defer r.clear()
		expected := p.expectedBytes(ctx, st, dataset)
		o.Progress = func(g backup.Progress) {
			if o.stream != nil {
				g.Entries, g.Files, g.Bytes, g.Current = 1, 1, g.BytesRead, "/"+o.stream.name
			}
			r.progress(func() any { return newBackupProgress(g, expected) }, func() string { return backupLine(r, g, expected) })
		}
		o.OnError, o.Warn = r.problem, r.warn
		return p.hooked(ctx, o, dataset, func() (*backup.Result, error) {
			result, err := p.takeSnapshot(ctx, st, r, o)
			r.clear()
			if err != nil {
				return result, err
			}
			return result, p.printBackup(result, o)
		})
	})
}

func (p *program) takeSnapshot(ctx context.Context, st *store.Store, r *reporter, o backupOptions) (*backup.Result, error) {
	if o.stream != nil {
		return p.runStream(ctx, st, r, o)
	}
	return backup.Run(ctx, st, o.Options)
}

// errNothingListed: most often the command that made the list has failed; an empty snapshot would look like a loss of everything.
var errNothingListed = &usageError{msg: "nothing to back up: the lists of files are empty", hint: "is what makes the list of --files-from right?"}

// dataset is the name the backup will go by.
func (o *backupOptions) dataset() (string, error) {
	switch {
	case o.UseFiles && len(o.Files) == 0:
		return "", errNothingListed
	case o.Dataset != "":
		return o.Dataset, nil
	case o.stream != nil:
		return o.stream.name, asUsage(snapshot.DatasetName(o.stream.name))
	}
	paths := o.Paths
	if len(paths) == 0 {
		paths = o.Files // without PATH each is one
	}
	if len(paths) == 0 {
		return "", errNothingListed
	}
	return backup.DatasetFor(paths)
}

// readLists reads what --files-from and --files-from0 name.
func (p *program) readLists(o *backupOptions) error {
	for _, list := range []struct {
		files []string
		end   string
	}{{o.filesFrom, "\n"}, {o.filesFrom0, "\x00"}} {
		for _, name := range list.files {
			data, err := p.readList(name)
			if err != nil {
				return err
			}
			for _, path := range bytes.Split(data, []byte(list.end)) {
				if len(path) > 0 {
					o.Files = append(o.Files, string(path))
				}
			}
			o.UseFiles = true
		}
	}
	return nil
}

func (p *program) readList(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(p.stdin)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("list of files: %w", err)
	}
	return data, nil
}

// expectedBytes guesses the size of the snapshot from the dataset's last one; 0 if there is none.
func (p *program) expectedBytes(ctx context.Context, st *store.Store, dataset string) int64 {
	list, err := snapshot.List(ctx, st, snapshot.Filter{Dataset: dataset, Last: 1})
	if err != nil || len(list) == 0 {
		return 0
	}
	return int64(list[0].Summary.Bytes)
}
