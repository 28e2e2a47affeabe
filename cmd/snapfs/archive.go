package main

import "github.com/urfave/cli/v2"

func (p *program) archiveCommand() *cli.Command {
	return &cli.Command{
		Name: "archive", Usage: "volumes for another medium, and restoring from them without the store",
		Description: about(`
An archive set is a series of volumes that carry all that is needed to read them, but for a password or key.`,
			"snapfs archive restore home --from /mnt/usb/archive --to /srv/home"),
		Subcommands: []*cli.Command{p.archiveRestoreCommand(), p.archiveVerifyCommand(), p.archiveImportCommand()},
	}
}
