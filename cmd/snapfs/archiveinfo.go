package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"snapfs/snapshot/archive"
	"snapfs/store"
)

func (p *program) archiveInfoCommand() *cli.Command {
	return &cli.Command{
		Name: "info", Usage: "show the labels of volumes", ArgsUsage: "VOLUME...",
		Description: about(`
Needs no password and no store. VOLUME is a file, a device, a directory of volumes, or - for standard input.`,
			"snapfs archive info /media/disk", "snapfs archive info /dev/sdx --json"),
		Action: action(1, -1, func(_ *cli.Context, args []string) error { return p.runArchiveInfo(args) }),
	}
}

// labelObject is a label in JSON.
type labelObject struct {
	jsonPath
	Volume   string   `json:"volume"`
	Kind     string   `json:"kind"`
	Store    string   `json:"store"`
	Created  string   `json:"created"`
	Program  string   `json:"program"`
	Bytes    int64    `json:"bytes"`
	Sealed   bool     `json:"sealed"`
	Set      string   `json:"set"`
	Name     string   `json:"name"`
	Number   uint32   `json:"number"`
	Level    string   `json:"level"`
	Parent   string   `json:"parent"`
	Pool     string   `json:"pool"`
	Parity   bool     `json:"parity"`
	Datasets []string `json:"datasets"`
	Hosts    []string `json:"hosts"`
	Slots    []string `json:"slots"`
	Error    string   `json:"error,omitempty"`
}

func newLabelObject(l *archive.Labelled) labelObject {
	o := labelObject{jsonPath: newJSONPath(l.Path), Bytes: l.Size, Sealed: l.Sealed, Datasets: []string{}, Hosts: []string{}, Slots: []string{}}
	if l.Err != nil {
		o.Error = l.Err.Error()
		return o
	}
	o.Volume, o.Kind, o.Store = l.Label.Volume.String(), l.Label.Kind.String(), fmt.Sprintf("%x", l.Label.Store)
	o.Created, o.Program = jsonTime(l.Label.Created), l.Label.Program
	if s := l.Label.Set; s != nil {
		o.Set, o.Name, o.Number, o.Level, o.Pool = fmt.Sprintf("%x", s.ID), s.Name, s.Sequence, s.Level.String(), s.Pool
		o.Parity = len(s.Parity) > 0
		if s.Parent != [16]byte{} {
			o.Parent = fmt.Sprintf("%x", s.Parent)
		}
		o.Datasets, o.Hosts = append(o.Datasets, s.Datasets...), append(o.Hosts, s.Hosts...)
		o.Slots = slotTexts(archive.SlotsOf(s))
	}
	return o
}

// slotTexts says what opens a set.
func slotTexts(slots []store.KeySlot) []string {
	texts := []string{}
	for _, s := range slots {
		text := string(s.Kind)
		if s.Label != "" {
			text += " " + s.Label
		}
		if s.Problem != "" {
			text += " (" + s.Problem + ")"
		}
		texts = append(texts, text)
	}
	return texts
}

func (p *program) runArchiveInfo(paths []string) error {
	list, err := archive.ReadLabels(paths, p.stdin)
	if err != nil {
		return err
	}
	damaged := 0
	for i := range list {
		o := newLabelObject(&list[i])
		if o.Error != "" {
			damaged++
		}
		switch {
		case p.global.json:
			p.out.object(o)
		case o.Error != "":
			p.say("%s: %v", o.Path, list[i].Err)
		default:
			p.out.print(labelText(&o, p.out.name))
		}
	}
	if damaged > 0 {
		return &damagedError{incompleteError{int64(damaged), count(int64(damaged), "label", "labels") + " could not be read"}}
	}
	return nil
}

func labelText(o *labelObject, name func(string) string) string {
	var b strings.Builder
	row := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "  %-9s %s\n", key, value)
		}
	}
	fmt.Fprintf(&b, "%s\n", name(o.Path))
	row("volume", o.Volume)
	row("kind", o.Kind)
	if o.Set != "" {
		what := fmt.Sprintf("%d", o.Number)
		if o.Parity {
			what += ", parity over the others"
		}
		row("set", name(o.Name)+" "+o.Set)
		row("number", what)
		row("level", o.Level)
		row("parent", o.Parent)
		row("pool", name(o.Pool))
		row("datasets", name(strings.Join(o.Datasets, ", ")))
		row("hosts", name(strings.Join(o.Hosts, ", ")))
		row("opened by", name(strings.Join(o.Slots, ", ")))
	}
	row("store", o.Store)
	row("created", o.Created)
	row("program", name(o.Program))
	if o.Bytes > 0 {
		whole := "complete"
		if !o.Sealed {
			whole = "without trailer at the end"
		}
		row("size", formatSize(o.Bytes)+", "+whole)
	}
	return b.String()
}

func (p *program) archiveLsCommand() *cli.Command {
	return &cli.Command{
		Name: "ls", Usage: "list the snapshots in volumes", ArgsUsage: "VOLUME...",
		Description: about(`
Needs no store, but what unlocks the set. Every volume of a set says which snapshots the set holds, so any one of them will
do. -R lists their files as DATASET@NAME:/path; that needs the first volumes of the set, up to the end of its metadata, and
nothing of what it builds on.`,
			"snapfs archive ls /media/disk/default-2026-11-22_03-15-07-full-0001.snapfs", "snapfs archive ls -R /media/disk"),
		Flags: []cli.Flag{&cli.BoolFlag{Name: "R", Usage: "list the files of the snapshots"}, zeroFlag()},
		Action: action(1, -1, func(c *cli.Context, args []string) error {
			if c.Bool("R") {
				return p.runArchiveLsFiles(c.Context, args, c.Bool("0"))
			}
			return p.runArchiveLs(c.Context, args)
		}),
	}
}

// archivedObject is a snapshot in a set, in JSON.
type archivedObject struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Dataset string   `json:"dataset"`
	Time    string   `json:"time"`
	Tags    []string `json:"tags"`
	Set     string   `json:"set"`
	SetName string   `json:"set_name"`
	Level   string   `json:"level"`
	Needs   []string `json:"needs"`
}

func (p *program) runArchiveLs(ctx context.Context, paths []string) error {
	heads, err := p.archiveHeads(ctx, paths)
	if err != nil {
		return err
	}
	for _, h := range heads {
		if !p.global.json {
			p.out.printf("%s (%s)\n", p.out.name(h.Name), h.Level)
		}
		for _, s := range h.Snapshots {
			if p.global.json {
				p.out.object(newArchivedObject(h, &s))
				continue
			}
			p.out.printf("  %s  %s  %s\n", shortID(s.ID), p.localTime(s.Start), p.out.name(s.Dataset+"@"+s.Name))
		}
		for _, c := range h.Chain {
			if !p.global.json {
				p.out.printf("  needs %s (%s, %s)\n", p.out.name(c.Name), c.Level, count(int64(c.Volumes), "volume", "volumes"))
			}
		}
	}
	return nil
}

func newArchivedObject(h *archive.Head, s *archive.HeadSnapshot) archivedObject {
	o := archivedObject{
		ID: s.ID.String(), Name: s.Name, Dataset: s.Dataset, Time: jsonTime(s.Start), Tags: append([]string{}, s.Tags...),
		Set: fmt.Sprintf("%x", h.Set), SetName: h.Name, Level: h.Level.String(), Needs: []string{},
	}
	for _, c := range h.Chain {
		o.Needs = append(o.Needs, c.Name)
	}
	return o
}

// archiveHeads reads the head of each set that has a volume among those named.
func (p *program) archiveHeads(ctx context.Context, paths []string) (heads []*archive.Head, err error) {
	if slices.Contains(paths, "-") {
		if len(paths) > 1 {
			return nil, usagef("standard input goes alone")
		}
		h, err := archive.ReadHead(ctx, "-", p.stdin, p.archiveUnlocker)
		return []*archive.Head{h}, err
	}
	list, err := archive.ReadLabels(paths, nil)
	if err != nil {
		return nil, err
	}
	met := map[[16]byte]bool{}
	for _, l := range list {
		if l.Err != nil {
			return nil, fmt.Errorf("%s: %w", l.Path, l.Err)
		}
		if l.Label.Set == nil {
			return nil, fmt.Errorf("%s: %w", l.Path, archive.ErrNoSet)
		}
		if met[l.Label.Set.ID] || len(l.Label.Set.Parity) > 0 {
			continue
		}
		h, err := archive.ReadHead(ctx, l.Path, nil, p.archiveUnlocker)
		if err != nil {
			return nil, err
		}
		met[l.Label.Set.ID] = true
		heads = append(heads, h)
	}
	return heads, nil
}
