package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"snapfs/snapshot/archive"
	"snapfs/store"
)

func (p *program) archiveSetsCommand() *cli.Command {
	return &cli.Command{
		Name: "sets", Usage: "list the sets that the store knows",
		Description: about("Oldest first, with where they are and when they were last verified.", "snapfs archive sets", "snapfs archive sets --pool weekly --json"),
		Flags:       []cli.Flag{&cli.StringFlag{Name: "pool", Usage: "only sets of pool `P`"}},
		Action:      action(0, 0, func(c *cli.Context, _ []string) error { return p.runArchiveSets(c.Context, c.String("pool")) }),
	}
}

// setObject is a set in JSON.
type setObject struct {
	ID        string          `json:"id"`
	Name      string          `json:"name"`
	Pool      string          `json:"pool"`
	Level     string          `json:"level"`
	Parent    string          `json:"parent"`
	State     string          `json:"state"`
	Location  string          `json:"location"`
	Started   string          `json:"started"`
	Finished  string          `json:"finished"`
	Verified  string          `json:"verified"`
	KeepUntil string          `json:"keep_until"`
	Problem   string          `json:"problem"`
	Chunks    int64           `json:"chunks"`
	Bytes     int64           `json:"bytes"`
	Stored    int64           `json:"bytes_stored"`
	Lost      int64           `json:"lost"`
	Snapshots []setSnapshot   `json:"snapshots"`
	Volumes   []setVolumeJSON `json:"volumes"`
}

type setSnapshot struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Dataset string `json:"dataset"`
	Time    string `json:"time"`
}

type setVolumeJSON struct {
	ID     string `json:"id"`
	Number uint32 `json:"number"`
	Bytes  int64  `json:"bytes"`
	Where  string `json:"where"`
	Parity bool   `json:"parity"`
	Torn   bool   `json:"torn"`
}

func newSetObject(s *store.ArchiveSet) setObject {
	o := setObject{
		ID: fmt.Sprintf("%x", s.ID), Name: s.Name, Pool: s.Pool, Level: s.Level.String(), Parent: parentText(s), State: archive.StateOf(s),
		Location: s.Location, Started: jsonTime(s.Started), Finished: jsonTime(s.Finished), Verified: jsonTime(s.Verified),
		KeepUntil: jsonTime(s.KeepUntil), Problem: s.Problem, Chunks: s.Chunks, Bytes: s.Plain, Stored: storedBytes(s), Lost: s.Lost,
		Snapshots: []setSnapshot{}, Volumes: []setVolumeJSON{},
	}
	for _, a := range s.Snapshots {
		o.Snapshots = append(o.Snapshots, setSnapshot{a.ID.String(), a.Name, a.Dataset, jsonTime(a.Start)})
	}
	for _, v := range s.Volumes {
		o.Volumes = append(o.Volumes, setVolumeJSON{v.ID.String(), v.Number, v.Size, v.Where, v.Parity, v.Torn})
	}
	return o
}

func storedBytes(s *store.ArchiveSet) (n int64) {
	for _, v := range s.Volumes {
		n += v.Size
	}
	return n
}

func (p *program) runArchiveSets(ctx context.Context, pool string) error {
	return p.withStore(ctx, "archive sets", func(st *store.Store) error {
		sets, err := archiveSets(ctx, st)
		if err != nil {
			return err
		}
		if pool != "" {
			sets = slices.DeleteFunc(slices.Clone(sets), func(s store.ArchiveSet) bool { return s.Pool != pool })
		}
		if p.global.json {
			objects := []setObject{}
			for i := range sets {
				objects = append(objects, newSetObject(&sets[i]))
			}
			return p.out.object(objects)
		}
		if len(sets) == 0 {
			return nil
		}
		return p.setTable(sets).write(p.out)
	})
}

// setTable has a column for pools if there are several.
func (p *program) setTable(sets archive.Sets) *table {
	pools := slices.ContainsFunc(sets, func(s store.ArchiveSet) bool { return s.Pool != sets[0].Pool })
	row := func(pool string, cells ...string) []string {
		if !pools {
			return cells
		}
		return slices.Insert(cells, 2, pool)
	}
	t := newTable(row("POOL", "ID", "SET", "LEVEL", "PARENT", ">VOLUMES", ">SNAPSHOTS", ">SIZE", "STATE", "VERIFIED", "KEEP", "LOCATION")...)
	for i := range sets {
		s := &sets[i]
		t.add(row(s.Pool, fmt.Sprintf("%x", s.ID[:4]), s.Name, s.Level.String(), parentID(s), fmt.Sprint(len(s.Volumes)), fmt.Sprint(len(s.Snapshots)),
			formatSize(storedBytes(s)), archive.StateOf(s), p.dateOr(s, s.Verified.IsZero(), "never"), p.keepText(s), p.out.name(s.Location))...)
	}
	return t
}

// parentID is the beginning of a parent's ID, as in the column of IDs.
func parentID(s *store.ArchiveSet) string {
	if s.Parent == [16]byte{} {
		return "-"
	}
	return fmt.Sprintf("%x", s.Parent[:4])
}

func (p *program) dateOr(s *store.ArchiveSet, none bool, word string) string {
	if none {
		return word
	}
	return s.Verified.In(p.zone).Format("2006-01-02")
}

// keepText says until when a set is kept.
func (p *program) keepText(s *store.ArchiveSet) string {
	if s.KeepUntil.IsZero() {
		return "for ever"
	}
	return s.KeepUntil.In(p.zone).Format("2006-01-02")
}

func (p *program) archiveExplainCommand() *cli.Command {
	return &cli.Command{
		Name: "explain", Usage: "say which volumes a snapshot is restored from", ArgsUsage: "SNAP",
		Description: about(`
Lists the sets in the order in which they are read, with their volumes and where these are. The newest set that holds the
snapshot is taken; --json lists all of them. SNAP may be a snapshot that the store has forgotten: DATASET@NAME or an ID.`,
			"snapfs archive explain etc", "snapfs archive explain etc@2026-11-22_03-15-07"),
		Action: action(1, 1, func(c *cli.Context, args []string) error { return p.runArchiveExplain(c.Context, args[0]) }),
	}
}

// explainObject is one way to restore a snapshot, in JSON.
type explainObject struct {
	Snapshot string      `json:"snapshot"`
	Name     string      `json:"name"`
	Dataset  string      `json:"dataset"`
	Verified bool        `json:"verified"`
	Sets     []setObject `json:"sets"`
}

func (p *program) runArchiveExplain(ctx context.Context, ref string) error {
	return p.withStore(ctx, "archive explain", func(st *store.Store) error {
		sets, err := archiveSets(ctx, st)
		if err != nil {
			return err
		}
		snap, err := p.archivedSnapshot(ctx, st, sets, ref)
		if err != nil {
			return err
		}
		holding := sets.Holding(snap.ID)
		if p.global.json {
			objects := []explainObject{}
			for _, s := range holding {
				objects = append(objects, newExplain(sets, snap, s))
			}
			return p.out.object(objects)
		}
		if len(holding) == 0 {
			return p.explainMissing(sets, snap)
		}
		return p.explain(sets, snap, holding)
	})
}

func newExplain(sets archive.Sets, snap store.ArchivedSnapshot, s *store.ArchiveSet) explainObject {
	o := explainObject{snap.ID.String(), snap.Name, snap.Dataset, sets.Verified(snap.ID), nil}
	chain, _ := sets.Chain(s)
	for _, c := range chain {
		o.Sets = append(o.Sets, newSetObject(c))
	}
	return o
}

// archivedSnapshot finds what ref names among what the sets hold, and else in the store.
func (p *program) archivedSnapshot(ctx context.Context, st *store.Store, sets archive.Sets, ref string) (store.ArchivedSnapshot, error) {
	for i := len(sets) - 1; i >= 0; i-- {
		for _, a := range sets[i].Snapshots {
			if a.Dataset+"@"+a.Name == ref || len(ref) >= 8 && len(ref) <= 64 && a.ID.String()[:len(ref)] == ref {
				return a, nil
			}
		}
	}
	t, err := p.resolveWhole(ctx, st, ref)
	if err != nil {
		return store.ArchivedSnapshot{}, err
	}
	return store.ArchivedSnapshot{ID: t.ID, Dataset: t.Dataset, Name: t.Listed.Name, Start: t.Start}, nil
}

// explainMissing says why a snapshot cannot be restored from sets, if some hold it all the same.
func (p *program) explainMissing(sets archive.Sets, snap store.ArchivedSnapshot) error {
	for i := len(sets) - 1; i >= 0; i-- {
		s := &sets[i]
		if !slices.ContainsFunc(s.Snapshots, func(a store.ArchivedSnapshot) bool { return a.ID == snap.ID }) {
			continue
		}
		chain, _ := sets.Chain(s)
		for _, c := range chain {
			p.out.printf("%s is %s\n", c.Name, archive.StateOf(c))
		}
		if first := chain[len(chain)-1]; first.Parent != [16]byte{} && len(chain) <= len(sets) {
			p.out.printf("%s builds on set %x, which this store does not know\n", first.Name, first.Parent)
		}
	}
	return fmt.Errorf("snapshot %s@%s: %w", snap.Dataset, snap.Name, archive.ErrNotArchived)
}

func (p *program) explain(sets archive.Sets, snap store.ArchivedSnapshot, holding []*store.ArchiveSet) error {
	chain, _ := sets.Chain(holding[0])
	p.out.printf("%s@%s: read in this order\n", snap.Dataset, snap.Name)
	n := 0
	for _, s := range chain {
		where := ""
		if s.Location != "" {
			where = ", " + p.out.name(s.Location)
		}
		p.out.printf("%s (%s, %s%s)\n", s.Name, s.Level, archive.StateOf(s), where)
		for _, v := range s.Volumes {
			if v.Parity {
				continue
			}
			n++
			p.out.printf("  %3d  volume %d  %10s  %s  %s\n", n, v.Number, formatSize(v.Size), v.ID, p.out.name(v.Where))
		}
	}
	if len(holding) > 1 {
		p.out.printf("also in %s\n", count(int64(len(holding)-1), "other set", "other sets"))
	}
	if !sets.Verified(snap.ID) {
		p.out.print("not yet verified\n")
	}
	return nil
}
