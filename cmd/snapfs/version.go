package main

import (
	"runtime"
	"runtime/debug"

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
	system, revision := runtime.GOOS+"/"+runtime.GOARCH, sourceRevision()
	if p.global.json {
		return p.out.object(map[string]string{"version": version, "revision": revision, "go": runtime.Version(), "system": system})
	}
	if revision != "" {
		revision += ", "
	}
	return p.out.printf("snapfs %s (%s%s, %s)\n", version, revision, runtime.Version(), system)
}

// sourceRevision is the commit the program was built from, "" if the build does not say.
func sourceRevision() string {
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return ""
	}
	revision, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) > 12:
			revision = s.Value[:12]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = " with changes"
		}
	}
	return revision + dirty
}
