package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"snapfs/snapshot"
	"snapfs/snapshot/archive"
	"snapfs/store"
)

func (p *program) archiveCreateCommand() *cli.Command {
	return &cli.Command{
		Name: "create", Usage: "write an archive set", ArgsUsage: "[SNAP...] --to DIR|FILE|DEVICE|-",
		Description: about(`
Without SNAP: the newest snapshot of each dataset, and all that no set of the pool holds yet. The volumes go into a directory, a
file, a FIFO, a block or character device, or to standard output (-), one after another. A new volume begins when --volume-size
is reached or the medium is full; --next-volume is run to change the medium, else somebody is asked on the terminal.
The level auto is incremental if the pool has a set to build on, else full.

By default what unlocks the store unlocks the volumes as well. --recipient and the archive password make keys for this
set alone. A set that was interrupted goes on with --resume. Parity volumes are as large as the largest of the others;
--parity-dir needs room for them twice, and volumes in a directory must stay there until the set is finished. Exit code
4: something could not be read from the store; what could is in the set.`,
			"snapfs archive create --to /media/disk", "snapfs archive create etc --to /dev/sdx --level full --keep-for 7y",
			"snapfs archive create --to - --recipient age1... | ssh host 'cat > etc.snapfs'",
			"snapfs archive create --to /media/disk --volume-size 100G --parity-volumes 1 --parity-dir /var/tmp",
			"snapfs archive create --to /dev/nst0 --next-volume 'mtx next && mt rewind'",
			"snapfs archive create --resume default-2026-11-22_03-15-07-full --to /media/disk"),
		Flags: archiveCreateFlags(),
		Action: action(0, -1, func(c *cli.Context, args []string) error {
			o, err := readArchiveCreate(c, args)
			if err != nil {
				return err
			}
			return p.runArchiveCreate(c.Context, o)
		}),
	}
}

func archiveCreateFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "to", Usage: "write to `TARGET`: a directory, a file, a device, or - for standard output"},
		&cli.StringFlag{Name: "pool", Usage: "`NAME` of the series of sets (default: default)"},
		&cli.StringFlag{Name: "set", Usage: "`NAME` of the set (default: pool, time and level)"},
		&cli.StringFlag{Name: "level", Usage: "`LEVEL`: auto, full, incremental or differential (default: auto)"},
		&cli.StringSliceFlag{Name: "dataset", Usage: "only snapshots of dataset `D`"},
		&cli.StringFlag{Name: "volume-size", Usage: "begin a new volume before one is larger than `SIZE`"},
		&cli.StringFlag{Name: "parity", Usage: "protect volumes with so much `PERCENT` parity, 0 to 25 (default: 6)"},
		&cli.IntFlag{Name: "parity-volumes", Usage: "write `M` more volumes: any M lost ones are recomputed"},
		&cli.StringFlag{Name: "parity-dir", Usage: "collect the parity volumes in `DIR` until they are written"},
		&cli.StringFlag{Name: "block", Usage: "write blocks of `SIZE` to a device or pipe"},
		&cli.StringFlag{Name: "next-volume", Usage: "run `CMD` to change the medium before each volume but the first"},
		&cli.StringSliceFlag{Name: "recipient", Usage: "only the owner of `R`, an age or SSH public key, can read the set"},
		&cli.StringFlag{Name: "archive-password-file", Usage: "only the password in `FILE` opens the set"},
		&cli.StringFlag{Name: "archive-password-command", Usage: "only the password that `COMMAND` prints opens the set"},
		&cli.StringFlag{Name: "keep-for", Usage: "the set may expire after `DURATION`"},
		&cli.StringFlag{Name: "resume", Usage: "go on with `SET`, which was interrupted"},
		&cli.BoolFlag{Name: "overwrite", Usage: "write over volumes of sets that have expired"},
	}
}

// archiveCreateOptions are the options as they were given.
type archiveCreateOptions struct {
	archive.Options
	refs, datasets, recipients []string
	to, nextVolume, resume     string
	block                      int64
	keepFor                    string
	password                   secretFlags
}

func readArchiveCreate(c *cli.Context, args []string) (o archiveCreateOptions, err error) {
	o = archiveCreateOptions{
		refs: args, datasets: c.StringSlice("dataset"), recipients: c.StringSlice("recipient"), to: c.String("to"),
		nextVolume: c.String("next-volume"), resume: c.String("resume"), keepFor: c.String("keep-for"),
		password: secretFlags{passwordFile: c.String("archive-password-file"), passwordCommand: c.String("archive-password-command")},
	}
	o.Pool, o.Name, o.Level = c.String("pool"), c.String("set"), archive.Level(c.String("level"))
	o.ParityVolumes, o.ParityDir, o.Overwrite = c.Int("parity-volumes"), c.String("parity-dir"), c.Bool("overwrite")
	if s := c.String("volume-size"); s != "" {
		if o.VolumeSize, err = parseSize(s); err != nil {
			return o, err
		}
	}
	if s := c.String("block"); s != "" {
		if o.block, err = parseSize(s); err != nil {
			return o, err
		}
	}
	if s := c.String("parity"); s != "" {
		if o.Parity, err = parseArchiveParity(s); err != nil {
			return o, err
		}
		if o.Parity == 0 {
			o.Parity = archive.NoParity
		}
	}
	return o, o.check(c)
}

// parseArchiveParity reads --parity: 0 to 25, with or without its sign.
func parseArchiveParity(s string) (int, error) {
	n := 0
	digits := strings.TrimSuffix(s, "%")
	for _, r := range digits {
		if r < '0' || r > '9' || n > 100 {
			n = 1000
			break
		}
		n = n*10 + int(r-'0')
	}
	if digits == "" || n > store.MaxParity {
		return 0, usagef("%q is no parity: want a percentage from 0 to %d", s, store.MaxParity)
	}
	return n, nil
}

func (o *archiveCreateOptions) check(c *cli.Context) error {
	levels := []archive.Level{"", archive.LevelAuto, archive.LevelFull, archive.LevelIncremental, archive.LevelDifferential}
	known := false
	for _, l := range levels {
		known = known || o.Level == l
	}
	switch {
	case o.to == "":
		return usagef("where to? use --to DIR, FILE, DEVICE or -")
	case !known:
		return usagef("--level wants auto, full, incremental or differential, not %q", o.Level)
	case len(o.refs) > 0 && len(o.datasets) > 0:
		return usagef("give either snapshots or --dataset, not both")
	case o.password.passwordFile != "" && o.password.passwordCommand != "":
		return usagef("give only one of --archive-password-file and --archive-password-command")
	case o.ParityVolumes != 0 && o.ParityDir == "":
		return &usageError{msg: "--parity-volumes needs --parity-dir", hint: "a directory with room for the parity volumes twice"}
	case c.IsSet("parity-volumes") && (o.ParityVolumes < 1 || o.ParityVolumes > 16):
		return usagef("--parity-volumes wants a number from 1 to 16")
	case o.VolumeSize == 0 && c.IsSet("volume-size"), o.block == 0 && c.IsSet("block"):
		return usagef("a SIZE must be above 0")
	case o.block > 64<<20:
		return usagef("--block wants at most 64M")
	case o.resume != "" && (len(o.refs) > 0 || len(o.datasets) > 0 || c.IsSet("level") || c.IsSet("set") || c.IsSet("pool") || c.IsSet("keep-for") ||
		c.IsSet("parity") || c.IsSet("parity-volumes") || len(o.recipients) > 0 || o.password.any()):
		return &usageError{msg: "--resume goes on with a set as it was begun", hint: "give only where and how to write: --to, --volume-size, --parity-dir, --block, --next-volume, --overwrite"}
	}
	if o.keepFor != "" {
		if _, err := snapshot.ParseDuration(o.keepFor); err != nil {
			return err
		}
	}
	for _, name := range []string{o.Pool, o.Name} {
		if name != "" {
			if err := archive.CheckName(name); err != nil {
				return usagef("%s", err)
			}
		}
	}
	return nil
}

func (p *program) runArchiveCreate(ctx context.Context, o archiveCreateOptions) error {
	if o.to == "-" && (p.global.json || p.out.terminal) {
		return usagef("--to - writes volumes to standard output: it goes neither to a terminal nor together with --json")
	}
	places := []string{o.ParityDir}
	if o.to != "-" {
		places = append(places, o.to)
	}
	if err := p.outsideStore(places...); err != nil {
		return err
	}
	return p.withStore(ctx, "archive create", func(st *store.Store) error {
		r := p.newReporter()
		defer r.clear()
		if err := p.prepareArchive(ctx, st, &o, r); err != nil {
			return err
		}
		var res archive.Result
		var err error
		if o.resume != "" {
			res, err = archive.Resume(ctx, st, o.resume, o.Options)
		} else {
			res, err = archive.Create(ctx, st, o.Options)
		}
		r.clear()
		if err != nil {
			return err
		}
		return p.printArchived(r, &o, &res)
	})
}

// prepareArchive completes the options with what depends on the store.
func (p *program) prepareArchive(ctx context.Context, st *store.Store, o *archiveCreateOptions, r *reporter) (err error) {
	o.Now, o.Zone, o.Program, o.Wait = p.now, p.zone, programName(), p.global.wait
	if o.keepFor != "" {
		d, err := snapshot.ParseDuration(o.keepFor)
		if err != nil {
			return err
		}
		o.KeepUntil = d.After(p.now())
		if err := snapshot.Keepable("+"+o.keepFor, o.KeepUntil); err != nil {
			return err
		}
	}
	o.Target = func(permit archive.Permit) (archive.Target, error) {
		return archive.OpenTarget(ctx, o.to, archive.TargetOptions{Block: o.block, Permit: permit, Stdout: stdoutVolumes{p.out.raw}})
	}
	o.ChangeAlways = o.nextVolume != ""
	o.Change = p.mediumChanger(o, r)
	o.Progress = createProgress(r)
	if o.resume == "" {
		if o.Snapshots, err = p.archivedSnapshots(ctx, st, o); err != nil {
			return err
		}
	}
	o.Slots, err = p.archiveSlots(ctx, o)
	return err
}

// stdoutVolumes says what happened when who reads the volumes has gone away: unlike other output, that is an error.
type stdoutVolumes struct {
	w interface{ Write([]byte) (int, error) }
}

func (s stdoutVolumes) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		err = fmt.Errorf("standard output: nobody reads it any more: %w", syscall.EPIPE)
	}
	return n, err
}

// archivedSnapshots are those named, or those that should be archived.
func (p *program) archivedSnapshots(ctx context.Context, st *store.Store, o *archiveCreateOptions) (ids []store.ID, err error) {
	if len(o.refs) == 0 {
		state, err := st.State(ctx)
		if err != nil {
			return nil, err
		}
		for _, d := range o.datasets {
			if _, err := datasetSnapshots(ctx, st, d); err != nil {
				return nil, err
			}
		}
		pool := o.Pool
		if pool == "" {
			pool = archive.DefaultPool
		}
		return archive.Choose(state, pool, o.datasets), nil
	}
	met := map[store.ID]bool{}
	for _, ref := range o.refs {
		t, err := p.resolveWhole(ctx, st, ref)
		if err != nil {
			return nil, err
		}
		if t.Path != "" && t.Path != "/" {
			return nil, usagef("%s: an archive holds whole snapshots", ref)
		}
		if !met[t.ID] {
			met[t.ID] = true
			ids = append(ids, t.ID)
		}
	}
	return ids, nil
}

// archiveSlots are the slots made for the set; none: those of the store.
func (p *program) archiveSlots(ctx context.Context, o *archiveCreateOptions) (slots []store.NewKeySlot, err error) {
	for _, r := range o.recipients {
		slots = append(slots, store.NewKeySlot{Recipient: r})
	}
	var password []byte
	switch {
	case o.password.passwordFile != "":
		password, err = readPasswordFile(o.password.passwordFile)
	case o.password.passwordCommand != "":
		password, err = p.passwordFromCommand(ctx, o.password.passwordCommand)
	}
	if password != nil {
		slots = append(slots, store.NewKeySlot{Password: password})
	}
	return slots, err
}

// mediumChanger runs the command for the next medium, or asks on the terminal. Without either there is nobody to change it.
func (p *program) mediumChanger(o *archiveCreateOptions, r *reporter) func(context.Context, archive.Change) error {
	if o.nextVolume != "" {
		return func(ctx context.Context, c archive.Change) error {
			r.clear()
			full := "0"
			if c.Full {
				full = "1"
			}
			return p.runHook(ctx, "--next-volume", o.nextVolume, []string{
				"SNAPFS_SET=" + c.Set, fmt.Sprintf("SNAPFS_VOLUME=%d", c.Number), "SNAPFS_TARGET=" + o.to, "SNAPFS_FULL=" + full, "SNAPFS_LAST=" + c.Last,
			})
		}
	}
	if !p.err.terminal {
		return nil
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	tty.Close()
	return func(ctx context.Context, c archive.Change) error {
		r.clear()
		return askEnter(ctx, fmt.Sprintf("volume %d of set %s goes to %s: change the medium and press Enter ", c.Number, c.Set, o.to))
	}
}

// createEvent is progress in JSON.
type createEvent struct {
	Event string `json:"event"`
	Phase string `json:"phase"`
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
}

func createProgress(r *reporter) func(archive.Progress) {
	return func(g archive.Progress) {
		r.progress(func() any { return createEvent{"progress", g.Phase, g.Done, g.Total} }, func() string { return createLine(r, g) })
	}
}

func createLine(r *reporter, g archive.Progress) string {
	switch g.Phase {
	case archive.PhasePlan:
		return "looking at what is needed: " + count(g.Done, "blob", "blobs")
	case archive.PhaseVolume:
		return fmt.Sprintf("volume %d", g.Done)
	}
	line := g.Phase + ": " + formatSize(g.Done)
	if g.Total > 0 {
		line += " of " + formatSize(g.Total)
	}
	return line + ", " + r.pace(g.Done, g.Total)
}

// archiveItem is a volume in JSON.
type archiveItem struct {
	Event  string `json:"event"`
	Volume string `json:"volume"`
	Number uint32 `json:"number"`
	Bytes  int64  `json:"bytes"`
	Where  string `json:"where"`
	Parity bool   `json:"parity"`
}

// archiveSummary is the last object.
type archiveSummary struct {
	Event       string  `json:"event"`
	Set         string  `json:"set"`
	Name        string  `json:"name"`
	Pool        string  `json:"pool"`
	Level       string  `json:"level"`
	Parent      string  `json:"parent"`
	Snapshots   int     `json:"snapshots"`
	Volumes     int     `json:"volumes"`
	Chunks      int64   `json:"chunks"`
	Bytes       int64   `json:"bytes"`
	BytesStored int64   `json:"bytes_stored"`
	Lost        int     `json:"lost"`
	Sheet       string  `json:"sheet"`
	Seconds     float64 `json:"seconds"`
}

func (p *program) printArchived(r *reporter, o *archiveCreateOptions, res *archive.Result) error {
	s := &res.Set
	for _, l := range res.Lost {
		r.warn(fmt.Sprintf("not in the set: %v", l.Err))
	}
	if res.SheetErr != nil {
		r.warn(fmt.Sprintf("the text about the set could not be written: %v", res.SheetErr))
	}
	var err error
	text := fmt.Sprintf("%s: %s set of %s, %s in %s\n", s.Name, s.Level, count(int64(len(s.Snapshots)), "snapshot", "snapshots"), formatSize(res.Stored),
		count(int64(len(s.Volumes)), "volume", "volumes"))
	switch {
	case p.global.json:
		for _, v := range s.Volumes {
			p.out.object(archiveItem{"item", v.ID.String(), v.Number, v.Size, v.Where, v.Parity})
		}
		err = p.out.object(archiveSummary{
			"summary", fmt.Sprintf("%x", s.ID), s.Name, s.Pool, s.Level.String(), parentText(s), len(s.Snapshots), len(s.Volumes), res.Written.Chunks,
			s.Plain, res.Stored, len(res.Lost), res.Sheet, p.now().Sub(r.started).Seconds(),
		})
	case p.global.quiet:
	case o.to == "-":
		p.err.print(text)
	default:
		err = p.out.print(text)
	}
	if len(res.Lost) > 0 {
		err = errors.Join(err, &damagedError{incompleteError{int64(len(res.Lost)), count(int64(len(res.Lost)), "blob", "blobs") + " could not be read from the store"}})
	}
	return err
}

// parentText is a parent's ID, "" if there is none.
func parentText(s *store.ArchiveSet) string {
	if s.Parent == [16]byte{} {
		return ""
	}
	return fmt.Sprintf("%x", s.Parent)
}
