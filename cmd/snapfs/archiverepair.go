package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"snapfs/snapshot/archive"
)

func (p *program) archiveRepairCommand() *cli.Command {
	return &cli.Command{
		Name: "repair", ArgsUsage: "VOLUME... --to DIR", Usage: "write damaged archive volumes anew, healed, and those that are lost",
		Description: about(`
Damaged volumes are healed from the parity in them; volumes that are missing or beyond that are made anew from the parity
volumes of their set, if all other volumes of the set are given. Only these are written to DIR; nothing is overwritten, and what was
given is only read. Needs no password. Exit code 4: something could not be restored; what could is there.`,
			"snapfs archive repair /mnt/usb/archive --to /srv/repaired",
			"snapfs archive repair set-0001.snapfs set-0003.snapfs set-parity-1.snapfs --to ."),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "to", Usage: "`DIR` for the volumes that are written"},
		},
		Action: action(1, -1, func(c *cli.Context, args []string) error {
			if c.String("to") == "" {
				return usagef("archive repair wants --to DIR")
			}
			return p.runArchiveRepair(c.Context, args, c.String("to"))
		}),
	}
}

// repairItem is a volume in JSON.
type repairItem struct {
	Event  string `json:"event"`
	Volume string `json:"volume"`
	ID     string `json:"volume_id,omitempty"`
	Path   string `json:"path,omitempty"`
	Action string `json:"action"`
	Healed int64  `json:"bytes_healed"`
	Lost   int64  `json:"bytes_lost"`
	Error  string `json:"error,omitempty"`
}

type repairSummary struct {
	Event      string  `json:"event"`
	Whole      int     `json:"whole"`
	Healed     int     `json:"healed"`
	Recomputed int     `json:"recomputed"`
	Partly     int     `json:"partly"`
	Lost       int     `json:"lost"`
	Seconds    float64 `json:"seconds"`
}

func (p *program) runArchiveRepair(ctx context.Context, volumes []string, to string) error {
	if err := p.outsideStore(to); err != nil {
		return err
	}
	r := p.newReporter()
	defer r.clear()
	result, err := archive.Repair(ctx, volumes, archive.RepairOptions{
		To: to, Done: func(d archive.Repaired) { p.printRepaired(r, d) },
		Working: func(name string) {
			r.progress(func() any { return archiveProgress{Event: "progress"} }, func() string { return name })
		},
	})
	r.clear()
	if err != nil {
		return err
	}
	switch {
	case p.global.json:
		p.out.object(repairSummary{"summary", result.Whole, result.Healed, result.Recomputed, result.Partly, result.Lost, p.now().Sub(r.started).Seconds()})
	case !p.global.quiet:
		p.out.printf("%d whole, %d healed, %d made anew, %d healed in part, %d lost\n", result.Whole, result.Healed, result.Recomputed, result.Partly, result.Lost)
	}
	if n := int64(result.Partly + result.Lost); n > 0 {
		return &damagedError{incompleteError{n, count(n, "volume", "volumes") + " could not be restored as a whole"}}
	}
	return nil
}

func (p *program) printRepaired(r *reporter, d archive.Repaired) {
	e := repairItem{Event: "item", Volume: d.Volume, Path: d.Path, Action: d.Action, Healed: d.Healed, Lost: d.Lost}
	if !d.ID.IsZero() {
		e.ID = d.ID.String()
	}
	if d.Err != nil {
		e.Error = d.Err.Error()
	}
	if p.global.json {
		r.event(e)
		return
	}
	if p.global.quiet {
		return
	}
	defer r.lines()()
	text := e.Action + "  " + e.Volume
	switch {
	case e.Error != "":
		text += ": " + e.Error
	case e.Path != "":
		text += ": " + formatSize(e.Healed) + " restored"
		if e.Lost > 0 {
			text += ", " + formatSize(e.Lost) + " lost"
		}
		text += ", written to " + e.Path
	}
	p.out.printf("%s\n", p.out.name(text))
}
