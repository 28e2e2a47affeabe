package main

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"
)

// version is what 'snapfs version' says, and what snapshots and stores record.
const version = "0.1.0"

// program is what all commands share: where they read and write, and how the outside world looks.
type program struct {
	stdin  io.Reader
	out    *output // stdout: data
	err    *output // stderr: messages
	env    environment
	now    func() time.Time
	zone   *time.Location
	global globals

	plainArgs int  // how many arguments stood before "--"
	stretched bool // a password has been used
}

// globals are the options every command has.
type globals struct {
	store                                  string
	json, quiet, verbose, noProgress, wait bool
	unlock                                 secretFlags
	adminPasswordFile                      string
}

// newApp returns the command line, reading and writing as told. It never exits: errors come back from Run, and what
// to print about them and the exit code are run's business.
func newApp(stdin io.Reader, stdout, stderr io.Writer) *cli.App {
	return newProgram(stdin, stdout, stderr).app()
}

func newProgram(stdin io.Reader, stdout, stderr io.Writer) *program {
	return &program{
		stdin: stdin, out: newOutput(stdout), err: newOutput(stderr), env: takeEnvironment(),
		now: time.Now, zone: time.Local,
	}
}

func (p *program) app() *cli.App {
	app := &cli.App{
		Name:      "snapfs",
		Usage:     "every point in time of your data, in one read-only file system",
		Version:   version,
		Writer:    p.out,
		ErrWriter: p.err,
		Reader:    p.stdin,
		Flags:     globalFlags(),
		Before:    p.readGlobals,
		Commands:  p.commands(),

		HideHelp: true, HideVersion: true, // help.go has our own
		DisableSliceFlagSeparator: true, // a comma in a pattern is a comma
		Compiled:                  time.Unix(0, 0),
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              usageFailed,
	}
	for _, c := range app.Commands {
		prepare(c)
	}
	app.Commands = append(app.Commands, p.helpCommand(app), p.manCommand(app), p.completionCommand(app))
	return app
}

// commands are all but those that describe the others.
func (p *program) commands() []*cli.Command {
	return []*cli.Command{
		p.initCommand(), p.backupCommand(), p.snapshotsCommand(), p.datasetCommand(), p.tagCommand(), p.holdCommand(),
		p.lsCommand(), p.catCommand(), p.duCommand(), p.diffCommand(), p.findCommand(), p.versionsCommand(),
		p.mountCommand(), p.umountCommand(), p.restoreCommand(), p.dumpCommand(),
		p.forgetCommand(), p.unforgetCommand(), p.pruneCommand(), p.archiveCommand(), p.verifyCommand(), p.rebuildCommand(), p.statsCommand(),
		p.keyCommand(), p.versionCommand(),
	}
}

// prepare sets what all commands have in common.
func prepare(c *cli.Command) {
	c.HideHelp = true
	c.OnUsageError = usageFailed
	for _, sub := range c.Subcommands {
		prepare(sub)
	}
	if len(c.Subcommands) > 0 {
		c.Action = func(*cli.Context) error {
			return &usageError{msg: c.Name + ": which command?", hint: fmt.Sprintf("'snapfs help %s' lists them", c.Name)}
		}
	}
}

// badValue is how the flag package under urfave/cli says that an option cannot have a value.
const badValue = `(?s)^invalid (?:boolean )?value ("(?:[^"\\]|\\.)*") for (?:flag )?-([^:]+): (.*)$`

// usageFailed tells of an option under the name that was typed.
func usageFailed(_ *cli.Context, err error, _ bool) error {
	m := regexp.MustCompile(badValue).FindStringSubmatch(err.Error()) // here and not at the start of every command
	if m == nil {
		return asUsage(err)
	}
	name, value, reason := "--"+m[2], m[1], m[3]
	if len(m[2]) == 1 {
		name = "-" + m[2]
	}
	if text, err := strconv.Unquote(value); err == nil && text != "" {
		value = text
	}
	if reason == "parse error" { // of an option that takes a number: any text will do for the others
		reason = "not a whole number"
	}
	return usagef("%s %s: %s", name, value, reason)
}

func globalFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "store", Usage: "the store's `DIR` (default: $SNAPFS_STORE)"},
		&cli.BoolFlag{Name: "json", Usage: "write JSON"},
		&cli.BoolFlag{Name: "quiet", Usage: "say less"},
		&cli.BoolFlag{Name: "verbose", Usage: "say more"},
		&cli.BoolFlag{Name: "no-progress", Usage: "show no progress"},
		&cli.BoolFlag{Name: "wait", Usage: "wait for a job that is in the way"},
	}, append(unlockFlags(), adminFlags()...)...)
}

func (p *program) readGlobals(c *cli.Context) error {
	p.global = globals{
		store: c.String("store"), json: c.Bool("json"), quiet: c.Bool("quiet"), verbose: c.Bool("verbose"),
		noProgress: c.Bool("no-progress"), wait: c.Bool("wait"), unlock: readSecretFlags(c, ""),
		adminPasswordFile: c.String("admin-password-file"),
	}
	if p.global.store == "" {
		p.global.store = p.env.get("SNAPFS_STORE")
	}
	return p.global.unlock.check()
}

// action makes the Action of a command that takes between least and most arguments (most < 0: any number).
func action(least, most int, run func(c *cli.Context, args []string) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		args := c.Args().Slice()
		switch {
		case len(args) < least:
			return &usageError{msg: "too few arguments", hint: "usage: " + usageLine(c.Command)}
		case most >= 0 && len(args) > most:
			return &usageError{msg: fmt.Sprintf("unexpected argument %q", args[most]), hint: "usage: " + usageLine(c.Command)}
		}
		return run(c, args)
	}
}

// run executes a command line and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := newProgram(stdin, stdout, stderr)
	return p.finish(ctx, p.execute(ctx, args))
}

func (p *program) execute(ctx context.Context, args []string) error {
	app := p.app()
	line, err := arrange(app, args)
	if err != nil {
		return err
	}
	p.plainArgs = line.args
	return app.RunContext(ctx, line.argv)
}

// finish writes what is left to write, says what went wrong, and returns the exit code.
func (p *program) finish(ctx context.Context, err error) int {
	if flushed := p.out.flush(); err == nil {
		err = flushed
	}
	if ctx.Err() != nil && err != nil {
		err = errInterrupted
	}
	code := exitCode(err)
	if told := messages(err); len(told) > 0 {
		for _, text := range told {
			p.say("%s", text)
		}
		for _, h := range hints(err) {
			p.say("hint: %s", h)
		}
	}
	return code
}

// say writes a message for people. On a terminal it is one line, whatever the names in it are.
func (p *program) say(format string, args ...any) {
	p.err.print("snapfs: " + p.err.name(fmt.Sprintf(format, args...)) + "\n")
	p.err.flush()
}
