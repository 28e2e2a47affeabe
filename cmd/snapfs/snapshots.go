package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"snapfs/snapshot"
	"snapfs/store"
)

func (p *program) snapshotsCommand() *cli.Command {
	return &cli.Command{
		Name: "snapshots", Usage: "list snapshots, oldest first",
		Description: about("The names in the second column are what other commands take as SNAP. --forgotten lists what 'snapfs unforget' can bring back.",
			"snapfs snapshots", "snapfs snapshots --dataset etc --last 5", "snapfs snapshots --tag weekly --json", "snapfs snapshots --forgotten"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dataset", Usage: "only snapshots of dataset `D`"},
			&cli.StringFlag{Name: "tag", Usage: "only snapshots with tag `T`"},
			&cli.StringFlag{Name: "host", Usage: "only snapshots of host `H`"},
			&cli.IntFlag{Name: "last", Usage: "only the newest `N` of these"},
			&cli.BoolFlag{Name: "forgotten", Usage: "the snapshots that are forgotten and not yet pruned"},
		},
		Action: action(0, 0, func(c *cli.Context, _ []string) error {
			if c.IsSet("last") && c.Int("last") < 1 {
				return usagef("--last wants a number above 0")
			}
			return p.runSnapshots(c.Context, snapshot.Filter{
				Dataset: c.String("dataset"), Tag: c.String("tag"), Host: c.String("host"), Last: c.Int("last"),
				Forgotten: c.Bool("forgotten"),
			})
		}),
	}
}

// snapshotObject is a snapshot in JSON.
type snapshotObject struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Dataset     string   `json:"dataset"`
	Host        string   `json:"host"`
	User        string   `json:"user"`
	Time        string   `json:"time"`
	End         string   `json:"end"`
	Parent      *string  `json:"parent"`
	Paths       []string `json:"paths"`
	PathsBase64 []string `json:"paths_base64,omitempty"` // of all of them, if one is not UTF-8
	Entries     uint64   `json:"entries"`
	Bytes       uint64   `json:"bytes"`
	BytesStored uint64   `json:"bytes_stored"`
	Tags        []string `json:"tags"`
	Errors      uint64   `json:"errors"`
	HeldUntil   *string  `json:"held_until"`
	HeldForever bool     `json:"held_forever"`
	Damaged     string   `json:"damaged,omitempty"`
	Forgotten   bool     `json:"forgotten,omitempty"`
	Program     string   `json:"program"`
}

func newSnapshotObject(l snapshot.Listed) snapshotObject {
	o := snapshotObject{
		ID: l.ID.String(), Name: l.Name, Dataset: l.Dataset, Time: jsonTime(l.Start), Tags: orEmpty(l.Tags), Damaged: l.Damaged, Forgotten: l.Forgotten,
		Host: l.Summary.Host, User: l.Summary.User, End: jsonTime(l.Summary.End), Paths: orEmpty(l.Summary.Paths), PathsBase64: base64Paths(l.Summary.Paths),
		Entries: l.Summary.Entries, Bytes: l.Summary.Bytes, BytesStored: l.Summary.BytesStored, Errors: l.Summary.Errors,
		Program: l.Summary.Program,
	}
	if l.Summary.Parent != (store.ID{}) {
		parent := l.Summary.Parent.String()
		o.Parent = &parent
	}
	o.HeldUntil, o.HeldForever = heldUntil(l.Snapshot), l.HeldForever
	return o
}

// orEmpty makes JSON's [] of no list, where null would trouble its readers.
func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func (p *program) runSnapshots(ctx context.Context, f snapshot.Filter) error {
	return p.withStore(ctx, "list of snapshots", func(st *store.Store) error {
		list, err := snapshot.List(ctx, st, f)
		if err != nil {
			return err
		}
		state, err := st.State(ctx)
		if err == nil {
			err = p.sayVolumes(ctx, st, state)
		}
		if err != nil {
			return err
		}
		if p.global.json {
			objects := []snapshotObject{}
			for _, l := range list {
				objects = append(objects, newSnapshotObject(l))
			}
			return p.out.object(objects)
		}
		if len(list) == 0 && f.Forgotten && !p.global.quiet {
			p.say("no forgotten snapshots")
			return nil
		}
		p.sayHoldClock(state, list)
		p.sayRefused(state)
		return p.printSnapshots(state, list)
	})
}

// sayVolumes tells of volumes that are missing or cut short. A commit names the volumes that were written meanwhile, and only by these a
// snapshot is marked: what it needs of others, only a walk through all of it shows.
func (p *program) sayVolumes(ctx context.Context, st *store.Store, state *store.State) error {
	if p.global.quiet {
		return nil
	}
	volumes, err := st.Volumes(ctx)
	if err != nil {
		return err
	}
	var list []string
	for _, v := range volumes {
		if v.Missing && v.Kind != store.VolumeJournal { // facts that are missing are for verify to tell
			list = append(list, fmt.Sprintf("volume %s is missing", v.ID))
		}
	}
	for _, s := range state.Snapshots {
		if s.Damaged != "" && !slices.Contains(list, s.Damaged) {
			list = append(list, s.Damaged)
		}
	}
	if len(list) == 0 {
		return nil
	}
	more := ""
	if n := int64(len(list)) - 1; n > 0 {
		more = ", " + count(n, "other is", "others are") + " missing or cut short"
	}
	p.say("%s%s: marked are the snapshots taken while it was written", list[0], more)
	p.say("hint: 'snapfs verify' names all snapshots that need it")
	return nil
}

func (p *program) printSnapshots(state *store.State, list []snapshot.Listed) error {
	if len(list) == 0 {
		if !p.global.quiet {
			p.say("no snapshots")
		}
		return nil
	}
	t := newTable("ID", "SNAPSHOT", ">ENTRIES", ">SIZE", ">STORED", "HOST", "TAGS", "NOTES")
	for _, l := range list {
		var notes []string
		if n := l.Summary.Errors; n > 0 {
			notes = append(notes, count(int64(n), "error", "errors"))
		}
		if held := p.heldText(state, l.Snapshot); held != "" {
			notes = append(notes, held)
		}
		if l.Damaged != "" {
			notes = append(notes, "damaged: "+l.Damaged)
		}
		t.add(shortID(l.ID), l.Ref(), formatCount(int64(l.Summary.Entries)), formatSize(int64(l.Summary.Bytes)),
			formatSize(int64(l.Summary.BytesStored)), p.out.name(l.Summary.Host), p.out.name(strings.Join(l.Tags, ",")), strings.Join(notes, ", "))
	}
	return t.write(p.out)
}

// shortID is enough of an ID for people.
func shortID(id store.ID) string { return fmt.Sprintf("%x", id[:4]) }

// localTime writes an instant for people.
func (p *program) localTime(t time.Time) string { return t.In(p.zone).Format("2006-01-02 15:04:05") }
