package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"snapfs/store"
)

func (p *program) pruneCommand() *cli.Command {
	return &cli.Command{
		Name: "prune", Usage: "give back the space of forgotten snapshots",
		Description: about(`
Volumes in which nothing is needed any more are removed. Others are rewritten, those with most waste first, until no
more than --max-waste of the store is waste; small volumes are merged, and those that a crash left are finished. What is
forgotten cannot be brought back after that. Backups, mounts and everything else go on meanwhile. Interrupted, prune
loses nothing, and the next one goes on. What an interrupted backup has stored stays for a week.
--dry-run says which volumes would go, and how much space that gives: exactly for those removed, at most for those
rewritten.`,
			"snapfs prune", "snapfs prune --max-waste 0", "snapfs prune --max-rewrite 20G", "snapfs prune --dry-run"),
		Flags: pruneFlags(),
		Action: action(0, 0, func(c *cli.Context, _ []string) error {
			o, err := readPrune(c)
			if err != nil {
				return err
			}
			return p.runPrune(c.Context, o)
		}),
	}
}

func pruneFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "max-waste", Usage: "leave up to `PERCENT` of the store waste (default: 5%)"},
		&cli.StringFlag{Name: "max-rewrite", Usage: "rewrite volumes of at most `SIZE` together"},
		&cli.BoolFlag{Name: "dry-run", Usage: "only say what would be done"},
	}
}

func readPrune(c *cli.Context) (o store.PruneOptions, err error) {
	o = store.PruneOptions{MaxWaste: store.DefaultMaxWaste, DryRun: c.Bool("dry-run")}
	if c.IsSet("max-waste") {
		if o.MaxWaste, err = parseWaste(c.String("max-waste")); err != nil {
			return o, err
		}
	}
	if c.IsSet("max-rewrite") {
		o.MaxRewrite, err = parseSize(c.String("max-rewrite"))
		if err == nil && o.MaxRewrite == 0 {
			err = usagef("--max-rewrite wants a SIZE above 0")
		}
	}
	return o, err
}

// parseWaste reads PERCENT, with or without its sign.
func parseWaste(s string) (float64, error) {
	n, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
	if err != nil || !(n >= 0 && n <= 100) {
		return 0, usagef("%q is no percentage: want a number from 0 to 100, such as 5%%", s)
	}
	return n, nil
}

func (p *program) runPrune(ctx context.Context, o store.PruneOptions) error {
	return p.withStore(ctx, "prune", func(st *store.Store) error {
		if !o.DryRun {
			if err := p.adminRights(ctx, st); err != nil {
				return err
			}
		}
		s, err := p.prune(ctx, st, o)
		if s != nil && p.global.json {
			err = errors.Join(p.out.object(s), err)
		}
		return err
	})
}

// pruneProgress is progress in JSON.
type pruneProgress struct {
	Event string `json:"event"`
	Phase string `json:"phase"`
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
	Blobs int64  `json:"blobs"`
	Bytes int64  `json:"bytes"`
}

// pruneItem is a volume that is gone, or would go.
type pruneItem struct {
	Event  string `json:"event"`
	Volume string `json:"volume"`
	Kind   string `json:"kind"`
	Action string `json:"action"` // remove, rewrite
	Bytes  int64  `json:"bytes"`
}

// pruneFinding is a damaged frame that kept a volume from being rewritten.
type pruneFinding struct {
	Event  string `json:"event"`
	Volume string `json:"volume"`
	Offset int64  `json:"offset"`
	Blob   string `json:"blob"`
	Error  string `json:"error"`
}

// pruneSummary is the last object of a prune's JSON.
type pruneSummary struct {
	Event            string  `json:"event"`
	SnapshotsPurged  int     `json:"snapshots_purged"`
	VolumesRemoved   int     `json:"volumes_removed"`
	VolumesRewritten int     `json:"volumes_rewritten"`
	BytesFreed       int64   `json:"bytes_freed"`
	Bytes            int64   `json:"bytes"`
	Waste            int64   `json:"bytes_waste"`
	Missing          int64   `json:"missing"`
	Findings         int     `json:"findings"`
	Seconds          float64 `json:"seconds"`
	DryRun           bool    `json:"dry_run,omitempty"`
}

// prune runs a prune on an open store and reports it, but for the summary in JSON, which it returns; nil if there is none. The error may
// be that of a damaged volume which stays.
func (p *program) prune(ctx context.Context, st *store.Store, o store.PruneOptions) (*pruneSummary, error) {
	r := p.newReporter()
	defer r.clear()
	result, err := st.Prune(ctx, o, func(g store.PruneProgress) {
		r.progress(func() any { return pruneProgress{"progress", g.Phase, g.Done, g.Total, g.Blobs, g.Bytes} },
			func() string { return pruneLine(r, g) })
	})
	r.clear()
	if err != nil {
		return nil, err
	}
	p.printPruned(o, result)
	if !p.global.json && !p.global.quiet {
		err = p.out.print(pruneText(o, result))
	}
	if len(result.Damaged) > 0 {
		err = errors.Join(err, result.Damaged[0])
	}
	return &pruneSummary{
		"summary", result.Purged, len(result.Removed), len(result.Rewritten), result.BytesFreed, result.Bytes, result.Waste,
		result.Missing, len(result.Damaged), p.now().Sub(r.started).Seconds(), o.DryRun,
	}, err
}

func pruneLine(r *reporter, g store.PruneProgress) string {
	done := formatCount(g.Done) + " of "
	switch g.Phase {
	case store.PhaseMark:
		return "looking at what is needed: " + done + count(g.Total, "snapshot", "snapshots") + ", " + count(g.Blobs, "blob", "blobs")
	case store.PhaseDrop:
		return "removing: " + done + count(g.Total, "volume", "volumes")
	}
	return "rewriting: " + done + count(g.Total, "volume", "volumes") + ", " + r.pace(g.Bytes, 0)
}

// printPruned lists the volumes where that was asked for, and what kept others.
func (p *program) printPruned(o store.PruneOptions, r store.PruneResult) {
	if o.DryRun || p.global.json || p.global.verbose {
		p.printVolumes("remove", r.Removed)
		p.printVolumes("rewrite", r.Rewritten)
	}
	for _, d := range r.Damaged {
		if p.global.json {
			p.out.object(pruneFinding{"finding", d.Volume.String(), d.Offset, d.ID.String(), d.Err.Error()})
		} else {
			p.say("volume %s stays as it is: %v", d.Volume, d)
		}
	}
	if r.Missing > 0 && !p.global.quiet {
		p.say("%s that snapshots need are in no volume", count(r.Missing, "piece of content", "pieces of content"))
		p.say("hint: 'snapfs verify' names the paths; the next backup of files that still have them stores them again")
	}
}

func (p *program) printVolumes(action string, list []store.PrunedVolume) {
	for _, v := range list {
		if p.global.json {
			p.out.object(pruneItem{"item", v.ID.String(), v.Class(), action, v.Size})
		} else if !p.global.quiet {
			p.out.printf("%-7s  %-8s  %10s  %s\n", action, v.Class(), formatSize(v.Size), v.ID)
		}
	}
}

// pruneText is the summary for people.
func pruneText(o store.PruneOptions, r store.PruneResult) string {
	volumes := count(int64(len(r.Removed)), "volume", "volumes")
	if o.DryRun {
		most := ""
		if len(r.Rewritten) > 0 {
			most = "up to "
		}
		return fmt.Sprintf("nothing was done, this would remove %s, rewrite %d and give back %s%s\n", volumes, len(r.Rewritten), most, formatSize(r.BytesFreed))
	}
	freed := "gave back " + formatSize(r.BytesFreed)
	if r.BytesFreed < 0 { // small volumes became one that is better protected
		freed = "took " + formatSize(-r.BytesFreed)
	}
	return fmt.Sprintf("removed %s, rewrote %d, %s; the store has %s, about %s of it waste\n", volumes, len(r.Rewritten), freed,
		formatSize(r.Bytes), formatSize(r.Waste))
}
