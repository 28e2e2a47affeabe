package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// about joins a command's description and its examples.
func about(text string, examples ...string) string {
	return strings.TrimSpace(text) + "\n\nExamples:\n  " + strings.Join(examples, "\n  ")
}

func (p *program) helpCommand(app *cli.App) *cli.Command {
	return &cli.Command{
		Name: "help", ArgsUsage: "[COMMAND]", HideHelp: true, Usage: "describe snapfs or a command",
		Description: about("Without COMMAND, lists the commands and the global options.", "snapfs help backup", "snapfs backup --help"),
		Action: func(c *cli.Context) error {
			return p.help(app, c.Args().Slice())
		},
	}
}

// help prints the description of what path names: nothing, a command, or a command and one below it.
func (p *program) help(app *cli.App, path []string) error {
	if len(path) == 0 {
		return p.out.print(appHelp(app))
	}
	commands, line := app.Commands, []string{app.Name}
	var c *cli.Command
	for i, word := range path {
		at := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(word) })
		if at < 0 {
			return unknownCommand(path[:i], commands, word)
		}
		c = commands[at]
		commands, line = c.Subcommands, append(line, c.Name)
	}
	return p.out.print(commandHelp(c, strings.Join(line, " ")))
}

func appHelp(app *cli.App) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\nUsage:\n  %s [global options] COMMAND [options] [arguments]\n", app.Name, app.Usage, app.Name)
	fmt.Fprintf(&b, "\nCommands:\n%s", commandList(app.Commands))
	fmt.Fprintf(&b, "\nGlobal options, before or after the command:\n%s", optionList(app.Flags))
	b.WriteString("\nSNAP is 'latest', a DATASET (its newest), DATASET@TIME or the beginning of an ID; SNAP:PATH is a path in it.\n" +
		"'snapfs help COMMAND' says more, with examples.\n")
	return b.String()
}

func commandHelp(c *cli.Command, line string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\nUsage:\n", line, c.Usage)
	for _, usage := range usages(c, line) {
		fmt.Fprintf(&b, "  %s\n", usage)
	}
	if len(c.Subcommands) > 0 {
		fmt.Fprintf(&b, "\nCommands:\n%s", commandList(c.Subcommands))
	}
	if len(c.Flags) > 0 {
		fmt.Fprintf(&b, "\nOptions:\n%s", optionList(c.Flags))
	}
	fmt.Fprintf(&b, "\n%s\n", c.Description)
	return b.String()
}

// usages are the ways to call a command; ArgsUsage has one a line.
func usages(c *cli.Command, line string) []string {
	if len(c.Subcommands) > 0 {
		return []string{line + " COMMAND"}
	}
	var list []string
	for _, args := range strings.Split(c.ArgsUsage, "\n") {
		if len(c.Flags) > 0 && !strings.Contains(args, "[options]") {
			args = "[options] " + args
		}
		list = append(list, strings.TrimSpace(line+" "+args))
	}
	return list
}

// usageLine is the first of them, for errors.
func usageLine(c *cli.Command) string { return usages(c, c.HelpName)[0] }

func commandList(commands []*cli.Command) string {
	var rows [][2]string
	for _, c := range commands {
		if !c.Hidden {
			rows = append(rows, [2]string{c.Name, c.Usage})
		}
	}
	return twoColumns(rows)
}

func optionList(flags []cli.Flag) string {
	var rows [][2]string
	for _, f := range flags {
		option, usage := describe(f)
		rows = append(rows, [2]string{option, usage})
	}
	return twoColumns(rows)
}

// describe gives "-l, --long VALUE" and what it does. The placeholder stands in backquotes in the flag's usage.
func describe(f cli.Flag) (option, usage string) {
	usage = f.(cli.DocGenerationFlag).GetUsage()
	value := ""
	if before, rest, ok := strings.Cut(usage, "`"); ok {
		word, after, _ := strings.Cut(rest, "`")
		value, usage = " "+word, before+word+after
	}
	var names []string
	for _, n := range f.Names() {
		names = append(names, strings.Repeat("-", min(len(n), 2))+n)
	}
	slices.SortStableFunc(names, func(a, b string) int { return min(len(a), 3) - min(len(b), 3) })
	return strings.Join(names, ", ") + value, usage
}

func twoColumns(rows [][2]string) string {
	width := 0
	for _, r := range rows {
		width = max(width, len(r[0]))
	}
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&b, "  %-*s  %s\n", width, r[0], r[1])
	}
	return b.String()
}
