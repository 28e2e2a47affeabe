package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"snapfs/fs"
	"snapfs/store"
)

func (p *program) umountCommand() *cli.Command {
	return &cli.Command{
		Name: "umount", ArgsUsage: "MOUNTPOINT", Usage: "end a mount",
		Description: about(`
Returns when the mount is gone and the process that served it has ended. A mount with open files or with somebody's
working directory in it is busy; --lazy takes it out of sight at once, and the process ends when the last of them is gone.`,
			"snapfs umount /mnt/snapshots", "snapfs umount --lazy /mnt/snapshots"),
		Flags: []cli.Flag{&cli.BoolFlag{Name: "lazy", Usage: "take a busy mount out of sight"}},
		Action: action(1, 1, func(c *cli.Context, args []string) error {
			return p.runUmount(c.Context, args[0], c.Bool("lazy"))
		}),
	}
}

func (p *program) runUmount(ctx context.Context, dir string, lazy bool) error {
	dir, err := store.AbsolutePath(dir)
	if err != nil {
		return err
	}
	return fs.Unmount(ctx, dir, lazy)
}
