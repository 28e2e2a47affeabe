package main

import (
	"context"
	"fmt"
	"runtime/debug"

	"snapfs/snapshot"
	"snapfs/store"
)

// storeDir is where the store is, exit code 2 if nobody said.
func (p *program) storeDir() (string, error) {
	if p.global.store == "" {
		return "", &usageError{msg: "no store given", hint: "use --store DIR or set $SNAPFS_STORE"}
	}
	return p.global.store, nil
}

// outsideStore refuses places in the store for what a command writes, if a store was named.
func (p *program) outsideStore(paths ...string) error {
	return store.CheckOutside(p.global.store, paths...)
}

// withStore opens the store for fn and closes it after. job says what this process does, for people who meet it.
func (p *program) withStore(ctx context.Context, job string, fn func(*store.Store) error) error {
	return p.withStoreAs(ctx, p.storeOptions(job), fn)
}

// withStoreAs is withStore with options of its own.
func (p *program) withStoreAs(ctx context.Context, o store.Options, fn func(*store.Store) error) (err error) {
	dir, err := p.storeDir()
	if err != nil {
		return err
	}
	st, err := store.Open(ctx, dir, o)
	if err != nil {
		return err
	}
	if p.stretched {
		debug.FreeOSMemory() // stretching a password takes memory that is not needed again
	}
	defer func() {
		if closed := st.Close(); err == nil {
			err = closed
		}
	}()
	return fn(st)
}

func (p *program) storeOptions(job string) store.Options {
	return store.Options{
		Unlock: p.unlocker, Job: job, Log: p.logger(), Program: programName(), References: snapshot.References,
	}
}

func programName() string { return "snapfs " + version }

// resolve finds SNAP or SNAP:PATH and tells of paths that are missing in it.
func (p *program) resolve(ctx context.Context, st *store.Store, ref string) (*snapshot.Target, error) {
	t, err := snapshot.Resolve(ctx, st, ref, p.now(), p.zone)
	if err != nil {
		return nil, err
	}
	if t.Damaged != "" {
		p.say("snapshot %s is damaged: %s", t.Listed.Ref(), t.Damaged)
	}
	if n := t.Summary.Errors; n > 0 && !p.global.quiet {
		p.say("snapshot %s is incomplete: %s could not be read when it was taken", t.Listed.Ref(), count(int64(n), "path", "paths"))
	}
	return t, nil
}

// resolveWhole is resolve where a snapshot is wanted and nothing in it.
func (p *program) resolveWhole(ctx context.Context, st *store.Store, ref string) (*snapshot.Target, error) {
	if err := wholeSnapshot(ref); err != nil {
		return nil, err
	}
	return p.resolve(ctx, st, ref)
}

// wholeSnapshot refuses SNAP:PATH where PATH would be passed over in silence.
func wholeSnapshot(ref string) error {
	if snap, below := snapshot.SplitRef(ref); below != "/" {
		return &usageError{msg: ref + ": a snapshot is wanted here, without a path", hint: fmt.Sprintf("give %s alone", snap)}
	}
	return nil
}

// openTree finds SNAP or SNAP:PATH and opens its tree.
func (p *program) openTree(ctx context.Context, st *store.Store, ref string) (*snapshot.Target, *snapshot.Tree, error) {
	t, err := p.resolve(ctx, st, ref)
	if err != nil {
		return nil, nil, err
	}
	tree, err := snapshot.OpenTree(ctx, st, st.PageKey(), t.ID, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("snapshot %s: %w", t.Listed.Ref(), err)
	}
	return t, tree, nil
}

// openEntry finds what SNAP:PATH names, followed into the link tree; errors name both.
func (p *program) openEntry(ctx context.Context, st *store.Store, ref string) (*snapshot.Target, *snapshot.Tree, snapshot.Found, error) {
	t, tree, err := p.openTree(ctx, st, ref)
	if err != nil {
		return nil, nil, snapshot.Found{}, err
	}
	f, err := tree.Walk(ctx, t.Path)
	if err == nil {
		f, err = tree.Follow(ctx, f)
	}
	if err != nil {
		return nil, nil, snapshot.Found{}, fmt.Errorf("%s:%s: %w", t.Listed.Ref(), t.Path, err)
	}
	return t, tree, f, nil
}
