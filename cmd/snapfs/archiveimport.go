package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"snapfs/snapshot/archive"
	"snapfs/store"
)

type archiveImportOptions struct {
	volumes   []string
	dataset   string
	scratch   string
	newSource bool
	secrets   secretFlags // of a new store
	open      archive.OpenOptions
}

func (p *program) archiveImportCommand() *cli.Command {
	return &cli.Command{
		Name: "import", ArgsUsage: "VOLUME...", Usage: "take the snapshots of archive volumes over into a store",
		Description: about(`
A store that is missing is made: it has the origin's keys for naming content, so that snapshots keep their IDs, and opens with the
secret that opened the archive, or with a new one that is given. In a store with other keys all content is named, cut and
encoded anew; the snapshots are found by their former IDs as well. Snapshots that are there are passed over, so that an
interrupted import goes on when it is run again. Where the store has a dataset of the same name with another host or other
paths, nothing is imported without --new-source. What comes through a pipe is kept in a scratch directory first.

A store with the origin's keys then also knows the sets that were read completely, as 'snapfs archive sets' shows them: it
builds on them and finds snapshots in them. State, location and verification are in no volume; what the store knows of a
set already stays. In a store with other keys the sets stay unknown: their snapshots and chunks have other names there.`,
			"snapfs --store /srv/new archive import /mnt/usb/archive",
			"snapfs archive import --dataset home a-0001.snapfs a-0002.snapfs"),
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "dataset", Usage: "only snapshots of dataset `D`"},
			&cli.BoolFlag{Name: "new-source", Usage: "a dataset of the store may go on with another host or other paths"},
			&cli.StringFlag{Name: "scratch", Usage: "`DIR` for what comes through pipes and for healed bytes"},
		}, append(archiveSecretFlags(), newSecretFlags()...)...),
		Action: action(1, -1, func(c *cli.Context, args []string) error {
			o := archiveImportOptions{
				volumes: args, dataset: c.String("dataset"), scratch: c.String("scratch"), newSource: c.Bool("new-source"),
				secrets: readSecretFlags(c, "new-"), open: p.bareOptions(),
			}
			if err := p.withArchiveSecret(c, &o.open); err != nil {
				return err
			}
			return p.runArchiveImport(c.Context, o)
		}),
	}
}

func (p *program) runArchiveImport(ctx context.Context, o archiveImportOptions) error {
	dir, err := p.storeDir()
	if err != nil {
		return err
	}
	if err := p.outsideStore(o.scratch); err != nil {
		return err
	}
	bo := o.open
	bo.Scratch, bo.All = o.scratch, true
	b, err := archive.Open(ctx, o.volumes, bo)
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }() // it was only read
	if _, err := store.KeySlots(dir); errors.Is(err, store.ErrNoStore) {
		if err := p.initFor(ctx, dir, b, o.secrets); err != nil {
			return err
		}
	}
	err = p.withStore(ctx, "archive import", func(st *store.Store) error { return p.archiveImport(ctx, st, b, o) })
	return errors.Join(err, b.Unread())
}

// initFor makes a store that names content as the volumes' origin does.
func (p *program) initFor(ctx context.Context, dir string, b *archive.Bare, secrets secretFlags) error {
	slots, undo, err := p.slotsFor(ctx, b, secrets)
	if err != nil {
		return err
	}
	err = store.Init(ctx, dir, store.InitOptions{Slots: slots, ChunkAverage: b.ChunkAverage(), Like: b.Keys(), Program: programName()})
	if err != nil {
		undo()
		return err
	}
	if !p.global.quiet && !p.global.json {
		p.say("made a store in %s", dir)
	}
	return nil
}

// slotsFor are what was given for the new store, else the secret that opened the archive.
func (p *program) slotsFor(ctx context.Context, b *archive.Bare, secrets secretFlags) ([]store.NewKeySlot, func(), error) {
	s := b.Secret()
	switch {
	case secrets.any():
		return p.firstSlots(ctx, initOptions{secrets: secrets})
	case s == nil:
		return []store.NewKeySlot{{Clear: true}}, func() {}, nil
	case s.Password != nil:
		return []store.NewKeySlot{{Password: s.Password}}, func() {}, nil
	case s.KeyFile != nil:
		return []store.NewKeySlot{{KeyFile: s.KeyFile}}, func() {}, nil
	}
	return nil, func() {}, usagef("an identity opened the archive: give --new-password-file or --new-key-file for the new store")
}

// importItem is a snapshot in JSON.
type importItem struct {
	Event    string `json:"event"`
	Snapshot string `json:"snapshot,omitempty"`
	Origin   string `json:"origin"`
	Dataset  string `json:"dataset"`
	Name     string `json:"name"`
	Action   string `json:"action"` // imported, present, damaged
	Error    string `json:"error,omitempty"`
}

type importSummary struct {
	Event       string  `json:"event"`
	Snapshots   int     `json:"snapshots"`
	Present     int     `json:"present"`
	Damaged     int     `json:"damaged"`
	Sets        int     `json:"sets"`
	BytesStored int64   `json:"bytes_stored"`
	Anew        bool    `json:"anew"`
	Seconds     float64 `json:"seconds"`
}

func (p *program) archiveImport(ctx context.Context, st *store.Store, b *archive.Bare, o archiveImportOptions) error {
	r := p.newReporter()
	defer r.clear()
	result, err := archive.Import(ctx, st, b, archive.ImportOptions{
		Dataset: o.dataset, NewSource: o.newSource, Scratch: o.scratch, Program: programName(), Wait: p.global.wait,
		Done: func(i archive.Imported) { p.printImported(r, i) },
		Progress: func(g archive.ImportProgress) {
			r.progress(func() any { return archiveProgress{"progress", g.Bytes, 0} }, func() string {
				return fmt.Sprintf("%d of %s, %s", g.Snapshots, count(int64(g.SnapshotsTotal), "snapshot", "snapshots"), r.pace(g.Bytes, 0))
			})
		},
	})
	r.clear()
	if err != nil {
		return err
	}
	seconds := p.now().Sub(r.started).Seconds()
	switch {
	case p.global.json:
		p.out.object(importSummary{"summary", result.Snapshots, result.There, result.Damaged, result.Sets, result.Stored, result.Anew, seconds})
	case !p.global.quiet:
		p.out.printf("imported %s, %d were there already; the store grew by %s\n", count(int64(result.Snapshots), "snapshot", "snapshots"),
			result.There, formatSize(result.Stored))
		if result.Sets > 0 {
			p.out.printf("%s entered into the catalogue\n", count(int64(result.Sets), "set was", "sets were"))
		}
	}
	if result.Damaged > 0 {
		return &damagedError{incompleteError{int64(result.Damaged), count(int64(result.Damaged), "snapshot is", "snapshots are") + " damaged in the volumes and could not be imported"}}
	}
	return nil
}

func (p *program) printImported(r *reporter, i archive.Imported) {
	e := importItem{Event: "item", Origin: i.Origin.String(), Dataset: i.Snapshot.Dataset, Name: i.Snapshot.Name, Action: "imported"}
	if !i.Snapshot.ID.IsZero() {
		e.Snapshot = i.Snapshot.ID.String()
	}
	switch {
	case i.Err != nil:
		e.Action, e.Error = "damaged", i.Err.Error()
	case i.There:
		e.Action = "present"
	}
	if p.global.json {
		r.event(e)
		return
	}
	if p.global.quiet {
		return
	}
	defer r.lines()()
	text := fmt.Sprintf("%-9s %s@%s", e.Action, e.Dataset, e.Name)
	if e.Error != "" {
		text += ": " + e.Error
	}
	p.out.printf("%s\n", p.out.name(text))
}
