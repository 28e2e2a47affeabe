package main

import (
	"context"
	"slices"
	"strconv"

	"github.com/urfave/cli/v2"

	"snapfs/fs"
	"snapfs/store"
)

type mountOptions struct {
	fs.Options
	dir        string
	snapshot   string // SNAP
	background bool
}

func (p *program) mountCommand() *cli.Command {
	return &cli.Command{
		Name: "mount", ArgsUsage: "MOUNTPOINT", Usage: "show all snapshots as a read-only file system",
		Description: about(`
Shows MOUNTPOINT/DATASET/NAME for every snapshot and MOUNTPOINT/DATASET/latest for the newest, until it is unmounted
or the process is told to end (SIGINT, SIGTERM). With -d the command returns when the mount is ready; the process that
serves it goes on in the background and writes what goes wrong to $XDG_STATE_HOME/snapfs/mount.log (by default
~/.local/state/snapfs/mount.log). Only the user who mounts may enter, unless --allow-other.`,
			"snapfs mount /mnt/snapshots -d",
			"ls /mnt/snapshots/etc/latest && snapfs umount /mnt/snapshots",
			"snapfs mount /mnt/snapshots --dataset etc --xattrs off",
			"snapfs mount /mnt/snapshots --snapshot etc@2026-11-22 --allow-other"),
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "d", Usage: "serve the mount in the background"},
			&cli.StringSliceFlag{Name: "dataset", Usage: "show only dataset `D`"},
			&cli.StringFlag{Name: "snapshot", Usage: "show only `SNAP`"},
			&cli.BoolFlag{Name: "allow-other", Usage: "let other users enter, with the permissions the files have"},
			&cli.StringFlag{Name: "xattrs", Usage: "`WHEN` to show extended attributes: on, off (faster) or auto", Value: "auto"},
			&cli.StringFlag{Name: "cache", Usage: "keep so many bytes in memory: `SIZE` (default: 28M)", Value: "28M"},
			&cli.StringFlag{Name: "uid", Usage: "show everything as owned by user `U` (a number)"},
			&cli.StringFlag{Name: "gid", Usage: "show everything as owned by group `G` (a number)"},
			&cli.StringFlag{Name: "umask", Usage: "take the permissions in `M` (octal) away from everything"},
			&cli.BoolFlag{Name: "nonempty", Usage: "mount over a directory that is not empty"},
		},
		Action: action(1, 1, func(c *cli.Context, args []string) error {
			o, err := readMountOptions(c, args[0])
			if err != nil {
				return err
			}
			return p.runMount(c.Context, o)
		}),
	}
}

func readMountOptions(c *cli.Context, dir string) (o mountOptions, err error) {
	o = mountOptions{dir: dir, snapshot: c.String("snapshot"), background: c.Bool("d")}
	o.Options = fs.Options{
		Datasets: c.StringSlice("dataset"), AllowOther: c.Bool("allow-other"), Xattrs: c.String("xattrs"), NonEmpty: c.Bool("nonempty"),
	}
	if !slices.Contains([]string{fs.XattrsOn, fs.XattrsOff, fs.XattrsAuto}, o.Xattrs) {
		return o, usagef("--xattrs wants on, off or auto, not %q", o.Xattrs)
	}
	if o.Cache, err = parseSize(c.String("cache")); err != nil {
		return o, err
	}
	for _, n := range []struct {
		name string
		base int
		dst  **uint32
	}{{"uid", 10, &o.UID}, {"gid", 10, &o.GID}, {"umask", 8, &o.Umask}} {
		if !c.IsSet(n.name) {
			continue
		}
		v, err := strconv.ParseUint(c.String(n.name), n.base, 32)
		if err != nil || n.base == 8 && v > 0o777 {
			return o, usagef("--%s: %q is no such number", n.name, c.String(n.name))
		}
		value := uint32(v)
		*n.dst = &value
	}
	return o, nil
}

func (p *program) runMount(ctx context.Context, o mountOptions) error {
	if _, err := p.storeDir(); err != nil {
		return err
	}
	if o.background && !p.isDaemon() {
		return p.startDaemon(ctx)
	}
	limitMemory(mountMemory + o.Cache)
	collectEarly(mountGC)
	dir, err := store.AbsolutePath(o.dir)
	if err != nil {
		return err
	}
	var d *daemon
	o.Log = p.logger()
	if o.background {
		d = p.newDaemon()
		o.Log = d.logger()
	}
	so := p.storeOptions("mount on " + dir)
	so.Cache = fs.StoreCache(o.Cache)
	return p.withStoreAs(ctx, so, func(st *store.Store) error { return p.serveMount(ctx, st, dir, o, d) })
}

// serveMount mounts and returns when the mount is gone. d is nil in the foreground.
func (p *program) serveMount(ctx context.Context, st *store.Store, dir string, o mountOptions, d *daemon) error {
	if o.snapshot != "" {
		t, err := p.resolveWhole(ctx, st, o.snapshot)
		if err != nil {
			return err
		}
		o.Snapshots = []store.ID{t.ID}
	}
	m, err := fs.New(ctx, st, dir, o.Options)
	if err != nil {
		return err
	}
	if o.Xattrs == fs.XattrsOff && !p.global.quiet {
		p.say("extended attributes are not shown, see --xattrs")
	}
	switch {
	case d != nil:
		if err := d.ready(); err != nil {
			m.Close()
			return err
		}
	case !p.global.quiet:
		p.say("mounted on %s, until 'snapfs umount %s' or Ctrl-C", dir, dir)
	}
	closed := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { closed <- m.Close() })
	err = m.Wait()
	if !stop() { // told to end: the mount is gone when Close says so
		err = <-closed
	}
	return err
}
