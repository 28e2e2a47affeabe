package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"snapfs/snapshot/archive"
	"snapfs/store"
)

type archiveVerifyOptions struct {
	volumes []string
	noKey   bool
	scratch string
	open    archive.OpenOptions
}

func (p *program) archiveVerifyCommand() *cli.Command {
	return &cli.Command{
		Name: "verify", ArgsUsage: "VOLUME...", Usage: "read archive volumes from end to end and check all that is in them",
		Description: about(`
With a password or key every frame is opened, every blob is compared with its name, each set is checked to be complete, and
the snapshots and paths that damage hits are named.
Without one (--no-key, which asks for nothing) sums, numbers and labels are checked. VOLUME is a file, a directory of volumes, a
device, a FIFO or -. Exit code 4: something is damaged or missing. A store that is given notes which sets were found whole or damaged.`,
			"snapfs archive verify /mnt/usb/archive",
			"snapfs archive verify --no-key a-0001.snapfs a-0002.snapfs",
			"dd if=/dev/nst0 bs=1M | snapfs archive verify -"),
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "no-key", Usage: "check without a password what can be checked without"},
			&cli.StringFlag{Name: "scratch", Usage: "`DIR` for healed bytes, to tell what 'archive repair' would restore, and for metadata out of pipes"},
		}, archiveSecretFlags()...),
		Action: action(1, -1, func(c *cli.Context, args []string) error {
			o := archiveVerifyOptions{args, c.Bool("no-key"), c.String("scratch"), p.bareOptions()}
			if err := p.withArchiveSecret(c, &o.open); err != nil {
				return err
			}
			return p.runArchiveVerify(c.Context, o)
		}),
	}
}

// archiveFinding is a finding in JSON.
type archiveFinding struct {
	Event  string `json:"event"`
	Volume string `json:"volume,omitempty"`
	ID     string `json:"volume_id,omitempty"`
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
	Set    string `json:"set,omitempty"`
	Blob   string `json:"blob,omitempty"`
	What   string `json:"what"`
	Heals  bool   `json:"heals"`

	Snapshots []string `json:"snapshots"`
	Paths     []string `json:"paths"`
	Base64    []string `json:"paths_base64,omitempty"`
}

// archiveVerifySummary ends the output.
type archiveVerifySummary struct {
	Event    string            `json:"event"`
	Volumes  int               `json:"volumes"`
	Frames   int64             `json:"frames"`
	Blobs    int64             `json:"blobs"`
	Bytes    int64             `json:"bytes"`
	Findings int64             `json:"findings"`
	Sets     []archiveSetState `json:"sets"`
	Seconds  float64           `json:"seconds"`
}

type archiveSetState struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Level    string `json:"level"`
	Volumes  int    `json:"volumes"`
	Complete bool   `json:"complete"`
	Whole    bool   `json:"whole"`
}

// archiveProgress is progress in JSON.
type archiveProgress struct {
	Event      string `json:"event"`
	Bytes      int64  `json:"bytes"`
	BytesTotal int64  `json:"bytes_total"`
}

func (p *program) runArchiveVerify(ctx context.Context, o archiveVerifyOptions) error {
	if err := p.outsideStore(o.scratch); err != nil {
		return err
	}
	r := p.newReporter()
	defer r.clear()
	co := archive.CheckOptions{OpenOptions: o.open, NoKey: o.noKey}
	co.Scratch = o.scratch
	co.Progress = func(g archive.CheckProgress) {
		r.progress(func() any { return archiveProgress{"progress", g.Bytes, g.Total} }, func() string {
			return formatSize(g.Bytes) + ", " + r.pace(g.Bytes, g.Total) + "  " + g.Current
		})
	}
	co.Found = func(f archive.Finding) { p.printArchiveFinding(r, f) }
	result, err := archive.Check(ctx, o.volumes, co)
	r.clear()
	if err != nil {
		return err
	}
	if err := p.noteVerified(ctx, result); err != nil {
		return err
	}
	return p.printArchiveVerify(result, p.now().Sub(r.started).Seconds(), o.noKey)
}

func (p *program) printArchiveFinding(r *reporter, f archive.Finding) {
	if p.global.json {
		e := archiveFinding{Event: "finding", Volume: f.Volume, Offset: f.Offset, Length: f.Length, Set: f.Set, What: f.What, Heals: f.Heals}
		if !f.ID.IsZero() {
			e.ID = f.ID.String()
		}
		if !f.Blob.IsZero() {
			e.Blob = f.Blob.String()
		}
		e.addHits(f.Hits)
		r.event(e)
		return
	}
	defer r.lines()()
	text := f.What
	if f.Volume != "" {
		text = f.Volume + ": " + text
	}
	if f.Offset >= 0 {
		text += fmt.Sprintf(" (at %d)", f.Offset)
	}
	if f.Heals {
		text += "; its parity heals it"
	}
	p.out.printf("%s\n", p.out.name(text))
	for i, h := range f.Hits {
		if i == pathsShown && !p.global.verbose {
			p.out.printf("  and %s more; --verbose shows all\n", count(int64(len(f.Hits)-i), "path", "paths"))
			break
		}
		p.out.printf("  %s%s\n", p.out.name(h.Ref+":"+h.Path), inAll(len(h.Snapshots)))
	}
}

// addHits names snapshots and paths, each once.
func (e *archiveFinding) addHits(hits []archive.Hit) {
	e.Snapshots, e.Paths = []string{}, []string{}
	seen := map[store.ID]bool{}
	for _, h := range hits {
		e.Paths = append(e.Paths, h.Path)
		for _, id := range h.Snapshots {
			if !seen[id] {
				seen[id] = true
				e.Snapshots = append(e.Snapshots, id.String())
			}
		}
	}
	e.Base64 = base64Paths(e.Paths)
}

func (p *program) printArchiveVerify(result *archive.CheckResult, seconds float64, noKey bool) error {
	sum := archiveVerifySummary{"summary", result.Volumes, result.Frames, result.Blobs, result.Bytes, result.Findings, []archiveSetState{}, seconds}
	for _, s := range result.Sets {
		sum.Sets = append(sum.Sets, archiveSetState{fmt.Sprintf("%x", s.ID), s.Name, s.Level.String(), s.Volumes, s.Complete, s.Whole})
	}
	switch {
	case p.global.json:
		p.out.object(sum)
	case !p.global.quiet:
		p.out.printf("read %s, %s, %s, %s\n", count(int64(result.Volumes), "volume", "volumes"), count(result.Frames, "frame", "frames"),
			count(result.Blobs, "blob", "blobs"), formatSize(result.Bytes))
		for _, s := range result.Sets {
			p.out.printf("set %s (%s): %s\n", s.Name, s.Level, setVerdict(s, noKey))
		}
	}
	if result.Findings > 0 {
		return &damagedError{incompleteError{result.Findings, count(result.Findings, "finding", "findings")}}
	}
	return nil
}

// noteVerified tells the store, if there is one, which of its sets were found whole, and which damaged.
func (p *program) noteVerified(ctx context.Context, result *archive.CheckResult) error {
	known := slices.ContainsFunc(result.Sets, func(s archive.CheckedSet) bool { return s.Whole || s.Damaged || len(s.Tails) > 0 }) || len(result.Strays) > 0
	if p.global.store == "" || !known {
		return nil
	}
	err := p.withStore(ctx, "archive verify", func(st *store.Store) error {
		sets, err := archiveSets(ctx, st)
		if err != nil {
			return err
		}
		for _, s := range checkedSets(sets, result) {
			i := slices.IndexFunc(sets, func(known store.ArchiveSet) bool { return known.ID == s.ID })
			if i < 0 || !s.Whole && !s.Damaged {
				continue
			}
			if err := st.MarkArchive(ctx, s.ID, p.verifiedMark(&sets[i], s)); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, store.ErrNoStore) {
		p.say("%s: no store is there to note the result in", p.global.store)
		return nil
	}
	return err
}

// checkedSets adds to what was found what only the store can tell: which set a damaged volume is of, and whether one that has no trailer had one.
func checkedSets(sets archive.Sets, result *archive.CheckResult) []archive.CheckedSet {
	list := slices.Clone(result.Sets)
	for i := range sets {
		at := slices.IndexFunc(list, func(s archive.CheckedSet) bool { return s.ID == sets[i].ID })
		if at >= 0 && list[at].Cut(&sets[i]) {
			list[at].Damaged = true
		}
		switch {
		case !slices.ContainsFunc(result.Strays, func(s archive.Stray) bool { return s.Of(&sets[i]) }):
		case at < 0:
			list = append(list, archive.CheckedSet{ID: sets[i].ID, Damaged: true})
		default:
			list[at].Damaged = true
		}
	}
	return list
}

// verifiedMark is what is known of a set after a verification.
func (p *program) verifiedMark(known *store.ArchiveSet, s archive.CheckedSet) store.ArchiveMark {
	m := store.ArchiveMark{State: known.State, Location: known.Location, Verified: known.Verified, Problem: known.Problem}
	switch {
	case !s.Whole:
		m.State, m.Problem, m.Verified = archive.StateDamaged, "found damaged by archive verify", time.Time{}
	case m.State == archive.StateDamaged && m.Problem != "": // it has been repaired since
		m.State, m.Problem, m.Verified = archive.StateOnsite, "", p.now()
	default:
		m.Problem, m.Verified = "", p.now()
	}
	return m
}

// setVerdict says in words how a set was found.
func setVerdict(s archive.CheckedSet, noKey bool) string {
	switch {
	case s.Whole && s.Parents:
		return "complete and whole; a part of its chunks is in its parents, which were not all given"
	case s.Whole:
		return "complete and whole"
	case noKey:
		return count(int64(s.Volumes), "volume", "volumes") + "; whether that is all cannot be told without a key"
	case s.Complete:
		return "complete, but damaged"
	}
	return "not complete"
}
