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
code is 4. The store stays in use meanwhile.

--repair reads everything (or what --data says) and mends what parity can bring back: each damaged volume is copied, healed,
read back and put in the place of the damaged one. What parity cannot bring back is taken with --from-source from what was
saved: contents of files wherever they hold the same bytes, and directories if they and all below them are as they were, with
owners, times, inodes and attributes. Snapshots that lack directories have their sources walked for that. A lost manifest wants
the directories above the source as they were, too. What cannot be had so is listed. Whatever else the source still has, the next
backup stores anew.

--no-key reads all volumes of the directory and checks what needs no password, also beside a process that uses the store: damage
is found, but not whom it hits, nor what is missing or forged.`,
			"snapfs verify", "snapfs verify --data", "snapfs verify --data=5%", "snapfs verify --repair", "snapfs verify --repair --from-source"),
		Flags: []cli.Flag{
			&optionalFlag{&cli.StringFlag{Name: "data", Usage: "read the data too, or `PERCENT` of it"}, "100%"},
			&cli.BoolFlag{Name: "no-key", Usage: "check what can be checked without a password"},
			&cli.BoolFlag{Name: "repair", Usage: "mend what can be mended"},
			&cli.BoolFlag{Name: "from-source", Usage: "mend from the source files and directories too, where they still match (with --repair)"},
			&cli.StringFlag{Name: "head", Usage: "the `ID` that a backup printed as head must be part of the chain of facts"},
		},
		Action: action(0, 0, func(c *cli.Context, _ []string) error {
			o, err := readVerify(c)
			if err != nil {
				return err
			}
			if o.noKey {
				return p.runVerifyFiles(c.Context)
			}
			return p.runVerify(c.Context, o)
		}),
	}
}

// verifyOptions are the options of verify.
type verifyOptions struct {
	store.VerifyOptions
	noKey      bool
	fromSource bool
}

func readVerify(c *cli.Context) (o verifyOptions, err error) {
	if o.Data = c.IsSet("data"); o.Data {
		if o.Percent, err = parsePercent(c.String("data")); err != nil {
			return o, err
		}
	}
	o.Repair, o.noKey, o.fromSource = c.Bool("repair"), c.Bool("no-key"), c.Bool("from-source")
	if o.fromSource && !o.Repair {
		return o, usagef("--from-source wants --repair")
	}
	if o.noKey && (o.Repair || o.Data && o.Percent < 100 || c.IsSet("head")) {
		return o, usagef("--no-key reads everything and changes nothing: it takes no --repair, --head or --data=PERCENT")
	}
	o.Data = o.Data || o.Repair
	if head := c.String("head"); c.IsSet("head") {
		id, err := hex.DecodeString(head)
		if err != nil || len(id) != len(o.Head) || store.ID(id).IsZero() {
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
	hit      []store.Snapshot      // that need such blobs, in the order of their commits
	files    bool                  // without a key
	repair   bool
	source   bool // from source files, too
	stored   bool // something anew from there
	barred   bool // an append-only store, without admin rights
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
		if o.Repair {
			if err := p.adminRights(ctx, st); err != nil {
				return err
			}
		}
		r := p.newReporter()
		defer r.clear()
		report := &verifyReport{repair: o.Repair, source: o.fromSource, barred: !st.MayRemove()}
		var err error
		report.summary, err = st.Verify(ctx, o.VerifyOptions, func(e store.VerifyEvent) error {
			report.take(e)
			r.progress(func() any { return p.verifyProgress(r, e.Progress) }, func() string { return verifyLine(r, e.Progress) })
			return nil
		})
		if err != nil {
			return err
		}
		if o.fromSource {
			if err := p.fromSource(ctx, st, r, report); err != nil {
				return err
			}
		}
		if err := report.findPaths(ctx, st); err != nil {
			return err
		}
		r.clear()
		return p.printVerify(r, report)
	})
}

// runVerifyFiles checks without a key.
func (p *program) runVerifyFiles(ctx context.Context) error {
	dir, err := p.storeDir()
	if err != nil {
		return err
	}
	r := p.newReporter()
	defer r.clear()
	report := &verifyReport{files: true}
	report.summary, err = store.VerifyFiles(ctx, dir, func(e store.VerifyEvent) error {
		report.take(e)
		r.progress(func() any { return p.verifyProgress(r, e.Progress) }, func() string { return verifyLine(r, e.Progress) })
		return nil
	})
	if err != nil {
		return err
	}
	r.clear()
	return p.printVerify(r, report)
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
	v.listBlobs()
	if len(v.blobs) == 0 {
		return nil
	}
	all := map[string]bool{}
	err := snapshot.FindAffected(ctx, st, func(id store.ID) bool { return v.blobs[id] != nil }, func(a snapshot.Affected) error {
		if b := v.blobs[a.Blob]; b != nil { // else it was not known to be damaged when this began
			b.add(a)
			all[a.Path] = true
			if n := len(v.hit); n == 0 || v.hit[n-1].ID != a.Snapshot.ID {
				v.hit = append(v.hit, *a.Snapshot)
			}
		}
		return nil
	})
	v.paths = len(all)
	return err
}

// listBlobs collects the blobs that cannot be had.
func (v *verifyReport) listBlobs() {
	v.blobs = map[store.ID]*hitBlob{}
	for _, f := range v.findings {
		for _, b := range f.Blobs {
			if !f.Healed && v.blobs[b.ID] == nil {
				v.blobs[b.ID] = &hitBlob{in: map[string]*hitPath{}}
			}
		}
	}
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
	} else if g.Bytes > 0 {
		line += ", " + formatSize(g.Bytes) + " read"
	}
	if g.Findings > 0 {
		line += ", " + count(g.Findings, "finding", "findings")
	}
	return line
}
