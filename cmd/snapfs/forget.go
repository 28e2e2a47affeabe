package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // --timezone knows the zones on machines without them, too

	"github.com/urfave/cli/v2"

	"snapfs/snapshot"
	"snapfs/snapshot/retention"
	"snapfs/store"
)

func (p *program) forgetCommand() *cli.Command {
	return &cli.Command{
		Name: "forget", Usage: "remove snapshots: those named, or those that no rule keeps",
		ArgsUsage: "ID... [options]\n--keep-last N --keep-daily N ... [options]\n--dataset D --all [options]",
		Description: about(`
Forgotten snapshots are gone from lists and mounts at once. 'snapfs unforget' brings them back until 'snapfs prune'
gives their space back. ID is the beginning of an ID, or DATASET@NAME. Rules are applied to each
dataset by itself. --keep-daily 7 keeps the newest snapshot of each of the 7 newest days that have one; the others
likewise, weeks are ISO weeks. --keep-within counts back from the dataset's newest snapshot. What any rule keeps
stays, and so does what it would keep if there were only snapshots without errors. Rules never remove the newest
snapshot of a dataset, one that is held or dated in the future, one tagged suspicious and the last one before that.
Days begin at midnight of the local time zone, or of --timezone. --only-archived keeps what could not be restored from
archive sets that were verified. --dry-run shows what would be removed, what kept,
and why.`,
			"snapfs forget --keep-hourly 24 --keep-daily 7 --keep-weekly 4 --keep-monthly 12 --prune",
			"snapfs forget --keep-within 30d --keep-tag release --dataset src --dry-run",
			"snapfs forget 1a2b3c4d etc@2026-11-22_03-15-07",
			"snapfs forget --keep-within 30d --only-archived --prune",
			"snapfs forget --dataset old-laptop --all"),
		Flags: forgetFlags(),
		Action: action(0, -1, func(c *cli.Context, args []string) error {
			o, err := p.forgetOptions(c, args)
			if err != nil {
				return err
			}
			return p.runForget(c.Context, o)
		}),
	}
}

// keepCounts are the rules with a number.
var keepCounts = []struct {
	name, usage string
	field       func(*retention.Rules) *int
}{
	{"last", "the `N` newest", func(r *retention.Rules) *int { return &r.Last }},
	{"hourly", "the newest of `N` hours", func(r *retention.Rules) *int { return &r.Hourly }},
	{"daily", "the newest of `N` days", func(r *retention.Rules) *int { return &r.Daily }},
	{"weekly", "the newest of `N` weeks", func(r *retention.Rules) *int { return &r.Weekly }},
	{"monthly", "the newest of `N` months", func(r *retention.Rules) *int { return &r.Monthly }},
	{"yearly", "the newest of `N` years", func(r *retention.Rules) *int { return &r.Yearly }},
}

func forgetFlags() []cli.Flag {
	var flags []cli.Flag
	for _, k := range keepCounts {
		flags = append(flags, &cli.IntFlag{Name: "keep-" + k.name, Usage: "keep " + k.usage})
	}
	return append(flags,
		&cli.StringFlag{Name: "keep-within", Usage: "keep what is not older than `DURATION` before the newest"},
		&cli.StringSliceFlag{Name: "keep-tag", Usage: "keep what has tag `T`"},
		&cli.StringSliceFlag{Name: "dataset", Usage: "only snapshots of dataset `D`"},
		&cli.StringFlag{Name: "tag", Usage: "only snapshots with tag `T`"},
		&cli.StringFlag{Name: "timezone", Usage: "time zone `Z` that days begin in, as Europe/Berlin (default: local)"},
		&cli.BoolFlag{Name: "all", Usage: "all snapshots of the dataset"},
		&cli.BoolFlag{Name: "only-archived", Usage: "keep what no verified archive set holds"},
		&cli.BoolFlag{Name: "prune", Usage: "give the space back at once, as 'snapfs prune' does"},
		&cli.BoolFlag{Name: "dry-run", Usage: "only say what would be done"})
}

// forgetOptions say what to forget: refs, or what rules do not keep, or everything.
type forgetOptions struct {
	refs     []string
	rules    retention.Rules
	all      bool
	datasets []string
	tag      string
	zone     *time.Location
	dryRun   bool
	prune    bool
	archived bool // forget only what a verified archive set holds
}

func (p *program) forgetOptions(c *cli.Context, args []string) (o forgetOptions, err error) {
	o = forgetOptions{
		refs: args, all: c.Bool("all"), datasets: c.StringSlice("dataset"), tag: c.String("tag"), zone: p.zone,
		dryRun: c.Bool("dry-run"), prune: c.Bool("prune"),
		archived: c.Bool("only-archived"),
	}
	if o.rules, err = keepRules(c); err != nil {
		return o, err
	}
	if z := c.String("timezone"); z != "" {
		if o.zone, err = time.LoadLocation(z); err != nil {
			return o, &usageError{msg: fmt.Sprintf("time zone %q is not known", z), hint: "zones are named as Europe/Berlin or UTC"}
		}
	}
	return o, o.check(c)
}

// keepRules reads the rules. 0 is a rule that is not there, as in scripts that fill in numbers.
func keepRules(c *cli.Context) (r retention.Rules, err error) {
	for _, k := range keepCounts {
		n := c.Int("keep-" + k.name)
		if n < 0 {
			return r, usagef("--keep-%s wants a number, 0 or more", k.name)
		}
		*k.field(&r) = n
	}
	if s := c.String("keep-within"); s != "" {
		if r.Within, err = snapshot.ParseDuration(s); err != nil {
			return r, err
		}
	}
	r.Tags = c.StringSlice("keep-tag")
	return r, checkTags(r.Tags)
}

// check refuses what is no rule, and everything that says two things at once.
func (o *forgetOptions) check(c *cli.Context) error {
	for _, d := range o.datasets {
		if err := snapshot.DatasetName(d); err != nil {
			return err
		}
	}
	ruled := !o.rules.Empty()
	switch {
	case len(o.refs) > 0 && (ruled || o.all || len(o.datasets) > 0 || o.tag != "" || c.IsSet("timezone")):
		return usagef("give either snapshots or rules, not both")
	case len(o.refs) > 0:
		return nil
	case o.all && (ruled || o.tag != "" || c.IsSet("timezone")):
		return usagef("--all removes all snapshots of a dataset: it goes without rules and --tag")
	case o.all && len(o.datasets) == 0:
		return &usageError{msg: "--all of which dataset?", hint: "use --dataset D"}
	case !o.all && !ruled:
		return &usageError{msg: "neither a snapshot to forget nor a rule that says what to keep", hint: "'snapfs help forget' shows the rules"}
	}
	return nil
}

// forgetChoice is a snapshot and what becomes of it.
type forgetChoice struct {
	snapshot.Listed
	keep    bool
	reasons []string
}

// forgetItem is a choice in JSON.
type forgetItem struct {
	Event   string   `json:"event"`
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Dataset string   `json:"dataset"`
	Time    string   `json:"time"`
	Action  string   `json:"action"`
	Reasons []string `json:"reasons"`
}

// forgetSummary is the last object of the JSON.
type forgetSummary struct {
	Event   string  `json:"event"`
	Kept    int     `json:"kept"`
	Removed int     `json:"removed"`
	DryRun  bool    `json:"dry_run,omitempty"`
	Seconds float64 `json:"seconds"`

	Prune *pruneSummary `json:"prune,omitempty"` // of --prune
}

func (p *program) runForget(ctx context.Context, o forgetOptions) error {
	return p.withStore(ctx, "forget", func(st *store.Store) error {
		started := p.now()
		choices, err := p.chooseForgotten(ctx, st, o)
		if err != nil {
			return err
		}
		if o.archived {
			if err := keepUnarchived(ctx, st, choices); err != nil {
				return err
			}
		}
		var ids []store.ID
		for _, c := range choices {
			if !c.keep {
				ids = append(ids, c.ID)
			}
		}
		if !o.dryRun && (len(ids) > 0 || o.prune) {
			if err := p.adminRights(ctx, st); err != nil {
				return err
			}
		}
		if !o.dryRun && len(ids) > 0 {
			if err := st.Forget(ctx, ids); err != nil {
				return err
			}
		}
		s := forgetSummary{Event: "summary", Kept: len(choices) - len(ids), Removed: len(ids), DryRun: o.dryRun}
		if err := p.printForgotten(choices, s, o); err != nil {
			return err
		}
		if o.prune {
			s.Prune, err = p.prune(ctx, st, pruneForgotten(ids, o.dryRun))
		}
		if p.global.json { // whatever became of the prune: the snapshots are forgotten
			s.Seconds = p.now().Sub(started).Seconds()
			err = errors.Join(p.out.object(s), err)
		}
		return err
	})
}

// pruneForgotten is the prune after forgetting, or the one that would follow.
func pruneForgotten(ids []store.ID, dryRun bool) store.PruneOptions {
	o := store.PruneOptions{MaxWaste: store.DefaultMaxWaste, DryRun: dryRun}
	if dryRun {
		o.Forget = ids
	}
	return o
}

// chooseForgotten decides about every snapshot that is asked about.
func (p *program) chooseForgotten(ctx context.Context, st *store.Store, o forgetOptions) ([]forgetChoice, error) {
	switch {
	case len(o.refs) > 0:
		return p.chooseNamed(ctx, st, o.refs)
	case o.all:
		return chooseAll(ctx, st, o.datasets, p.now())
	}
	return chooseRuled(ctx, st, o, p.now())
}

// chooseNamed takes the snapshots that refs name; one that is forgotten already is no mistake: a script may repeat itself.
func (p *program) chooseNamed(ctx context.Context, st *store.Store, refs []string) ([]forgetChoice, error) {
	list, err := snapshot.ResolveExact(ctx, st, refs...)
	if err != nil {
		return nil, err
	}
	var choices []forgetChoice
	met := map[store.ID]bool{}
	for _, l := range list {
		if l.Forgotten && !met[l.ID] && !p.global.quiet {
			p.say("%s is forgotten already", l.Ref())
		}
		if !met[l.ID] && !l.Forgotten {
			choices = append(choices, forgetChoice{l, false, []string{"named"}})
		}
		met[l.ID] = true
	}
	return choices, refuseHeld(ctx, st, choices, p.now())
}

// chooseAll takes all snapshots of datasets.
func chooseAll(ctx context.Context, st *store.Store, datasets []string, now time.Time) ([]forgetChoice, error) {
	var choices []forgetChoice
	slices.Sort(datasets)
	for _, d := range slices.Compact(datasets) {
		list, err := datasetSnapshots(ctx, st, d)
		if err != nil {
			return nil, err
		}
		for _, l := range list {
			choices = append(choices, forgetChoice{l, false, []string{"all of the dataset"}})
		}
	}
	return choices, refuseHeld(ctx, st, choices, now)
}

// keepUnarchived keeps the snapshots that could not be restored from sets all of which were verified.
func keepUnarchived(ctx context.Context, st *store.Store, choices []forgetChoice) error {
	sets, err := archiveSets(ctx, st)
	if err != nil {
		return err
	}
	for i := range choices {
		if c := &choices[i]; !c.keep && !sets.Verified(c.ID) {
			c.keep, c.reasons = true, []string{"not in a verified archive set"}
		}
	}
	return nil
}

// heldError says which snapshots that were to be forgotten are held.
type heldError struct{ refs []string }

func (e *heldError) Error() string {
	more := ""
	if n := len(e.refs) - 1; n > 0 {
		more = " and " + formatCount(int64(n)) + " more"
	}
	return "nothing was forgotten: " + e.refs[0] + more + ": " + store.ErrOnHold.Error()
}

func (e *heldError) Unwrap() error { return store.ErrOnHold }

// refuseHeld: when a snapshot to be forgotten is held, nothing is removed.
func refuseHeld(ctx context.Context, st *store.Store, choices []forgetChoice, now time.Time) error {
	state, err := st.State(ctx)
	if err != nil {
		return err
	}
	var held []string
	for _, c := range choices {
		if state.Held(c.Snapshot, now) {
			held = append(held, c.Ref())
		}
	}
	if len(held) > 0 {
		return &heldError{held}
	}
	return nil
}

// datasetSnapshots are the snapshots of a dataset that must exist.
func datasetSnapshots(ctx context.Context, st *store.Store, dataset string) ([]snapshot.Listed, error) {
	list, err := snapshot.List(ctx, st, snapshot.Filter{Dataset: dataset})
	if err != nil || len(list) > 0 {
		return list, err
	}
	state, err := st.State(ctx)
	if err != nil {
		return nil, err
	}
	for _, d := range state.Datasets {
		if d.Name == dataset {
			return nil, nil
		}
	}
	return nil, fmt.Errorf("dataset %s: %w", dataset, store.ErrNotFound)
}

// printForgotten writes the table of a dry run, and what was done otherwise; in JSON the summary comes later.
func (p *program) printForgotten(choices []forgetChoice, s forgetSummary, o forgetOptions) error {
	if p.global.json {
		for _, c := range choices {
			if err := p.out.object(newForgetItem(c)); err != nil {
				return err
			}
		}
		return nil
	}
	if p.global.quiet {
		return nil
	}
	all := o.dryRun || p.global.verbose || len(o.refs) > 0 // why one that was named stays
	if err := p.forgetTable(choices, all); err != nil {
		return err
	}
	forgot, kept := "forgot", "kept"
	if o.dryRun {
		forgot, kept = "would forget", "keep"
	}
	if err := p.out.printf("%s %s, %s %s\n", forgot, count(int64(s.Removed), "snapshot", "snapshots"), kept, formatCount(int64(s.Kept))); err != nil {
		return err
	}
	if s.Removed > 0 && !o.dryRun && !o.prune {
		if err := p.out.flush(); err != nil { // the hint is about what stands above
			return err
		}
		p.say("hint: 'snapfs prune' gives their space back; until then 'snapfs unforget' brings them back")
	}
	return nil
}

func newForgetItem(c forgetChoice) forgetItem {
	return forgetItem{"item", c.ID.String(), c.Name, c.Dataset, jsonTime(c.Start), c.action(), c.reasons}
}

func (c *forgetChoice) action() string {
	if c.keep {
		return "keep"
	}
	return "remove"
}

// forgetTable lists what is removed, and what is kept if that is wanted.
func (p *program) forgetTable(choices []forgetChoice, kept bool) error {
	t := newTable("ACTION", "ID", "SNAPSHOT", "TAGS", "REASONS")
	for _, c := range choices {
		if kept || !c.keep {
			t.add(c.action(), shortID(c.ID), c.Ref(), p.out.name(strings.Join(c.Tags, ",")), strings.Join(c.reasons, ", "))
		}
	}
	if len(t.rows) == 1 {
		return nil
	}
	return t.write(p.out)
}
