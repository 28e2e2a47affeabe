package main

import (
	"runtime"

	"github.com/urfave/cli/v2"
)

func (p *program) versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "say which snapfs this is",
		Description: about("Prints the version of the program, and of Go and the system it was built for.", "snapfs version"),
		Action: action(0, 0, func(*cli.Context, []string) error {
			return p.version()
		}),
	}
}

func (p *program) version() error {
	if p.global.json {
		return p.out.object(map[string]string{
			"version": version, "go": runtime.Version(), "system": runtime.GOOS + "/" + runtime.GOARCH,
		})
	}
	return p.out.printf("snapfs %s (%s, %s/%s)\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
