package main

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/urfave/cli/v2"

	"snapfs/snapshot"
	"snapfs/store"
)

type lsOptions struct {
	ref                   string
	long, recursive, zero bool
}

func (p *program) lsCommand() *cli.Command {
	return &cli.Command{
		Name: "ls", ArgsUsage: "SNAP[:PATH]", Usage: "list a directory of a snapshot",
		Description: about(`
Prints the names in a directory, or the name of a single file. With -R, everything below it with full paths.
With -l --json, the birth time, inode flags and extended attributes (values in base64) as well.`,
			"snapfs ls latest", "snapfs ls -l etc:ssh", "snapfs ls -R etc@2026-11-22:/ssh", "snapfs ls -R -0 latest | xargs -0 -n1 basename"),
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "l", Usage: "show type, permissions, owner, size and modification time"},
			&cli.BoolFlag{Name: "R", Usage: "list everything below, with full paths"},
			zeroFlag(),
		},
		Action: action(1, 1, func(c *cli.Context, args []string) error {
			return p.runLs(c.Context, lsOptions{args[0], c.Bool("l"), c.Bool("R"), c.Bool("0")})
		}),
	}
}

func zeroFlag() cli.Flag {
	return &cli.BoolFlag{Name: "0", Usage: "end names with NUL instead of a newline"}
}

func (p *program) runLs(ctx context.Context, o lsOptions) error {
	return p.withStore(ctx, "ls "+o.ref, func(st *store.Store) error {
		t, tree, f, err := p.openEntry(ctx, st, o.ref)
		if err != nil {
			return err
		}
		l := &lister{p: p, o: o, tree: tree, id: t.ID.String(), progress: p.newReporter()}
		defer l.progress.clear()
		if f.Type != snapshot.TypeDir {
			return l.show(ctx, t.Path, f)
		}
		return errors.Join(l.directory(ctx, t.Path, f), l.damage)
	})
}

// lister prints the entries of one snapshot.
type lister struct {
	p    *program
	o    lsOptions
	tree *snapshot.Tree
	id   string

	progress *reporter
	listed   int64
	damage   error // what could not be read; the rest is listed all the same
}

func (l *lister) directory(ctx context.Context, dir string, f snapshot.Found) (err error) {
	listed := l.tree.List(ctx, f, 0, func(child snapshot.Found) bool {
		err = l.child(ctx, path.Join(dir, child.Name), child)
		return err == nil
	})
	if err == nil {
		err = listed
	}
	return l.note(dir, err)
}

// note keeps damage for the end.
func (l *lister) note(at string, err error) error {
	if isDamage(err) {
		l.damage = errors.Join(l.damage, fmt.Errorf("%s: %w", at, err))
		return nil
	}
	return err
}

func (l *lister) child(ctx context.Context, at string, f snapshot.Found) error {
	l.listed++
	l.progress.progress(nil, func() string { return count(l.listed, "entry", "entries") + "  " + at })
	if l.o.long || l.p.global.json {
		var err error
		if f, err = l.tree.Follow(ctx, f); err != nil {
			return l.note(at, err)
		}
	}
	if err := l.note(at, l.show(ctx, at, f)); err != nil {
		return err
	}
	if l.o.recursive && f.Type == snapshot.TypeDir {
		return l.directory(ctx, at, f)
	}
	return ctx.Err()
}

func (l *lister) show(ctx context.Context, at string, f snapshot.Found) error {
	defer l.progress.lines()()
	if l.p.global.json {
		o := newEntryObject(l.id, at, f.Entry)
		if !l.o.long {
			return l.p.out.object(o)
		}
		long, err := newLongEntryObject(ctx, l.tree, o, f.Entry)
		if err != nil {
			return err
		}
		return l.p.out.object(long)
	}
	name := path.Base(at)
	if l.o.recursive {
		name = at
	}
	line := l.p.out.name(name)
	if l.o.long {
		line = l.p.longLine(f.Entry) + line
		if f.Type == snapshot.TypeSymlink {
			line += " -> " + l.p.out.name(f.Target)
		}
	}
	return l.p.out.print(line + l.p.ending(l.o.zero))
}

// ending is what follows a name.
func (p *program) ending(zero bool) string {
	if zero {
		return "\x00"
	}
	return "\n"
}
