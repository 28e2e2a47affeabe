package main

import (
	"context"
	"errors"
	"fmt"
	"path"

	"snapfs/snapshot"
	"snapfs/snapshot/archive"
)

// runArchiveLsFiles lists the files of all snapshots in volumes.
func (p *program) runArchiveLsFiles(ctx context.Context, paths []string, zero bool) error {
	b, err := archive.Open(ctx, paths, archive.OpenOptions{
		Unlock: p.archiveUnlocker, Stdin: p.stdin, Incomplete: true, Note: func(note string) { p.say("%s", note) },
	})
	if err != nil {
		return err
	}
	defer b.Close()
	list, err := snapshot.List(ctx, b, snapshot.Filter{})
	if err != nil {
		return err
	}
	var damage error
	for i := range list {
		l := &archivedFiles{p: p, of: &list[i], zero: zero}
		err := l.list(ctx, b)
		if err != nil && !isDamage(err) {
			return err
		}
		damage = errors.Join(damage, l.damage, err)
	}
	return errors.Join(damage, b.Unread())
}

// archivedFiles prints the files of one snapshot.
type archivedFiles struct {
	p    *program
	of   *snapshot.Listed
	zero bool
	tree *snapshot.Tree

	damage error // what could not be read; the rest is listed all the same
}

func (l *archivedFiles) list(ctx context.Context, b *archive.Bare) (err error) {
	if l.tree, err = snapshot.OpenTree(ctx, b, b.PageKey(), l.of.ID, nil); err != nil {
		return fmt.Errorf("snapshot %s: %w", l.of.Ref(), err)
	}
	root, err := l.tree.Walk(ctx, "/")
	if err != nil {
		return fmt.Errorf("snapshot %s: %w", l.of.Ref(), err)
	}
	return l.directory(ctx, "/", root)
}

func (l *archivedFiles) directory(ctx context.Context, dir string, f snapshot.Found) (err error) {
	listed := l.tree.List(ctx, f, 0, func(child snapshot.Found) bool {
		at := path.Join(dir, child.Name)
		if err = l.show(ctx, at, child); err == nil && child.Type == snapshot.TypeDir {
			err = l.directory(ctx, at, child)
		}
		return err == nil && ctx.Err() == nil
	})
	if err == nil {
		err = errors.Join(listed, ctx.Err())
	}
	return l.note(dir, err)
}

// note keeps damage for the end.
func (l *archivedFiles) note(at string, err error) error {
	if isDamage(err) {
		l.damage = errors.Join(l.damage, fmt.Errorf("%s:%s: %w", l.of.Ref(), at, err))
		return nil
	}
	return err
}

func (l *archivedFiles) show(ctx context.Context, at string, f snapshot.Found) error {
	if !l.p.global.json {
		return l.p.out.print(l.p.out.name(l.of.Ref()+":"+at) + l.p.ending(l.zero))
	}
	f, err := l.tree.Follow(ctx, f)
	if err != nil {
		return l.note(at, err)
	}
	return l.p.out.object(newEntryObject(l.of.ID.String(), at, f.Entry))
}
