package main

import (
	"context"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"snapfs/snapshot"
	"snapfs/store"
)

func (p *program) verifyCommand() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "check that everything stored is there and whole",
		Description: about(`
Without options the structure is checked: facts, volumes, index, and that every snapshot reaches everything it names. With
--data every byte is read as well, every piece opened and compared with its hash; --data=5% reads the volumes verified longest
ago, so that repeated runs come round to all. What is damaged is listed with the snapshots and paths that need it, and the exit
code is 4. The store stays in use meanwhile.`,
			"snapfs verify", "snapfs verify --data", "snapfs verify --data=5%"),
		Flags: []cli.Flag{
			&optionalFlag{&cli.StringFlag{Name: "data", Usage: "read the data too, or `PERCENT` of it"}, "100%"},
			&cli.StringFlag{Name: "head", Usage: "the `ID` that a backup printed must be part of the chain of facts"},
		},
		Action: action(0, 0, func(c *cli.Context, _ []string) error {
			o, err := readVerify(c)
			if err != nil {
				return err
			}
			return p.runVerify(c.Context, o)
		}),
	}
}

// verifyOptions are the options of verify.
type verifyOptions struct {
	store.VerifyOptions
}

func readVerify(c *cli.Context) (o verifyOptions, err error) {
	if o.Data = c.IsSet("data"); o.Data {
		if o.Percent, err = parsePercent(c.String("data")); err != nil {
			return o, err
		}
	}
	if head := c.String("head"); c.IsSet("head") {
		id, err := hex.DecodeString(head)
		if err != nil || len(id) != len(o.Head) {
			return o, usagef("--head wants the 64 hexadecimal digits of a head, not %q", head)
		}
		o.Head = store.ID(id)
	}
	return o, nil
}

// parsePercent reads PERCENT, with or without its sign.
func parsePercent(s string) (float64, error) {
	n, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
	if err != nil || !(n > 0 && n <= 100) {
		return 0, usagef("%q is no percentage: want a number above 0 and up to 100, such as 5%%", s)
	}
	return n, nil
}

// verifyReport is what a verification found, with the paths that are hit.
type verifyReport struct {
	summary  store.VerifySummary
	findings []store.Finding
	blobs    map[store.ID]*hitBlob // that cannot be had
	paths    int                   // different ones
}

// hitBlob is where a blob that cannot be had is needed.
type hitBlob struct {
	snapshots []string // IDs, in the order of their commits
	paths     []string // different ones, in the order met
	in        map[string]*hitPath
}

// hitPath is a path that needs a damaged blob.
type hitPath struct {
	ref       string // of the newest snapshot where it does
	snapshots int    // how many there are
}

func (p *program) runVerify(ctx context.Context, o verifyOptions) error {
	return p.withStore(ctx, "verify", func(st *store.Store) error {
		r := p.newReporter()
		defer r.clear()
		report := &verifyReport{}
		var err error
		report.summary, err = st.Verify(ctx, o.VerifyOptions, func(e store.VerifyEvent) error {
			report.take(e)
			r.progress(func() any { return p.verifyProgress(r, e.Progress) }, func() string { return verifyLine(r, e.Progress) })
			return nil
		})
		if err != nil {
			return err
		}
		if err := report.findPaths(ctx, st); err != nil {
			return err
		}
		r.clear()
		return p.printVerify(r, report)
	})
}

// take collects findings. When another process has begun anew, those before are void.
func (v *verifyReport) take(e store.VerifyEvent) {
	if e.Begin {
		v.findings = nil
	}
	if e.Finding != nil {
		v.findings = append(v.findings, *e.Finding)
	}
}

// findPaths walks the snapshots for what is damaged and not healed.
func (v *verifyReport) findPaths(ctx context.Context, st *store.Store) error {
	v.blobs = map[store.ID]*hitBlob{}
	for _, f := range v.findings {
		for _, b := range f.Blobs {
			if !f.Healed && v.blobs[b.ID] == nil {
				v.blobs[b.ID] = &hitBlob{in: map[string]*hitPath{}}
			}
		}
	}
	if len(v.blobs) == 0 {
		return nil
	}
	all := map[string]bool{}
	err := snapshot.FindAffected(ctx, st, func(id store.ID) bool { return v.blobs[id] != nil }, func(a snapshot.Affected) error {
		if b := v.blobs[a.Blob]; b != nil { // else it was not known to be damaged when this began
			b.add(a)
			all[a.Path] = true
		}
		return nil
	})
	v.paths = len(all)
	return err
}

func (b *hitBlob) add(a snapshot.Affected) {
	id := a.Snapshot.ID.String()
	if n := len(b.snapshots); n == 0 || b.snapshots[n-1] != id {
		b.snapshots = append(b.snapshots, id)
	}
	p := b.in[a.Path]
	if p == nil {
		p = &hitPath{}
		b.in[a.Path] = p
		b.paths = append(b.paths, a.Path)
	}
	p.ref = a.Snapshot.Dataset + "@" + a.Snapshot.Name
	p.snapshots++
}

func verifyLine(r *reporter, g store.VerifyProgress) string {
	line := g.Phase
	if g.Phase == "volumes" {
		line = formatCount(int64(g.Volumes)) + " of " + count(int64(g.VolumesTotal), "volume", "volumes")
	}
	if g.BytesTotal > 0 {
		line += ", " + formatSize(g.Bytes) + " of " + formatSize(g.BytesTotal) + ", " + r.pace(g.Bytes, g.BytesTotal)
	}
	if g.Findings > 0 {
		line += ", " + count(g.Findings, "finding", "findings")
	}
	return line
}
