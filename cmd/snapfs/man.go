package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

func (p *program) manCommand(app *cli.App) *cli.Command {
	return &cli.Command{
		Name: "man", Hidden: true, HideHelp: true, Usage: "print the manual page",
		Description: about("Writes snapfs(1) for man(1).", "snapfs man > /usr/local/share/man/man1/snapfs.1", "snapfs man | man -l -"),
		Action: action(0, 0, func(*cli.Context, []string) error {
			return p.out.print(manPage(app))
		}),
	}
}

// manPage writes the help texts of all commands in the language of man(7).
func manPage(app *cli.App) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH SNAPFS 1 \"\" \"snapfs %s\"\n.SH NAME\nsnapfs \\- %s\n", app.Version, roff(app.Usage))
	b.WriteString(".SH SYNOPSIS\n.B snapfs\n[global options] COMMAND [options] [arguments]\n")
	b.WriteString(".SH DESCRIPTION\nOptions, global ones too, may stand before or after the command and its arguments; \\-\\- ends options.\n")
	b.WriteString(".SH GLOBAL OPTIONS\n")
	manOptions(&b, app.Flags)
	b.WriteString(".SH COMMANDS\n")
	manCommands(&b, app.Commands, "snapfs")
	b.WriteString(".SH EXIT STATUS\n")
	for _, row := range exitMeanings {
		fmt.Fprintf(&b, ".TP\n.B %d\n%s\n", row.code, roff(row.meaning))
	}
	b.WriteString(".SH ENVIRONMENT\n.B SNAPFS_STORE, ")
	b.WriteString(strings.Join(secretVariables, ", ") + "\nstand for the options of these names, which beat them.\n")
	return b.String()
}

// exitMeanings explains the exit codes.
var exitMeanings = []struct {
	code    int
	meaning string
}{
	{exitDone, "done"},
	{exitFailed, "failed"},
	{exitUsage, "wrong usage"},
	{exitIncomplete, "done, but some source files could not be saved or some destination entries not written"},
	{exitDamage, "damage found"},
	{exitNoStore, "no store there"},
	{exitHeld, "the store is held by another user or not reachable"},
	{exitLocked, "wrong password, or none to be had"},
	{exitInterrupted, "interrupted"},
}

func manCommands(b *strings.Builder, commands []*cli.Command, prefix string) {
	for _, c := range commands {
		if c.Hidden {
			continue
		}
		line := prefix + " " + c.Name
		fmt.Fprintf(b, ".SS %s\n%s.\n", roff(line), roff(c.Usage))
		for _, usage := range usages(c, line) {
			fmt.Fprintf(b, ".PP\n.B %s\n", roff(usage))
		}
		b.WriteString(".PP\n")
		manText(b, c.Description)
		manOptions(b, c.Flags)
		manCommands(b, c.Subcommands, line)
	}
}

// manText writes a description; lines that begin with spaces, which examples do, are kept as they are.
func manText(b *strings.Builder, text string) {
	verbatim := false
	for _, line := range strings.Split(text, "\n") {
		indented := strings.HasPrefix(line, "  ")
		switch {
		case indented && !verbatim:
			b.WriteString(".nf\n")
		case !indented && verbatim:
			b.WriteString(".fi\n")
		}
		verbatim = indented
		if line == "" {
			b.WriteString(".PP\n")
			continue
		}
		b.WriteString(roff(line) + "\n")
	}
	if verbatim {
		b.WriteString(".fi\n")
	}
}

func manOptions(b *strings.Builder, flags []cli.Flag) {
	for _, f := range flags {
		option, usage := describe(f)
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(option), roff(usage))
	}
}

// roff escapes a line of text.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
