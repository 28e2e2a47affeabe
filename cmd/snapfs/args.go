package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// commandLine is a command line put in order: options before arguments, global ones before the command.
type commandLine struct {
	argv []string // for cli.App.Run: program, global options, command, options, "--", arguments
	args int      // how many arguments stood before "--"
}

// optionalFlag is an option whose value may be left out: "--data" means "--data=BARE", "--data=10" gives another.
type optionalFlag struct {
	*cli.StringFlag
	bare string
}

// mayBeEmpty are the options that take "" for a value. To any other it is a mistake, most often of a script whose
// variable is not set; it must not mean that the option was not given.
var mayBeEmpty = map[string]bool{"label": true, "exclude": true}

// arrange reads the arguments as CONTRACT.md has them, which the flag package under urfave/cli does not: options
// after arguments, global options after the command, several short options in one word, options with an optional
// value. Everything wrong with options or the command is found here, so that cli never has a usage error to
// answer in its own way.
func arrange(app *cli.App, args []string) (*commandLine, error) {
	a := arranger{app: app, commands: app.Commands, args: -1}
	if err := a.read(args[1:]); err != nil {
		return nil, err
	}
	if a.help {
		a.path, a.local, a.rest = []string{"help"}, nil, a.path
	}
	if a.version && len(a.path) == 0 {
		a.path = []string{"version"}
	}
	if len(a.path) == 0 {
		return nil, &usageError{msg: "no command given", hint: "'snapfs help' lists the commands"}
	}
	argv := append([]string{args[0]}, a.global...)
	argv = append(append(argv, a.path...), a.local...)
	if len(a.rest) > 0 {
		argv = append(append(argv, "--"), a.rest...)
	}
	if a.args < 0 {
		a.args = len(a.rest)
	}
	return &commandLine{argv: argv, args: a.args}, nil
}

// arranger is the state of arrange.
type arranger struct {
	app      *cli.App
	command  *cli.Command   // the innermost met so far
	commands []*cli.Command // what the next argument may name

	path, global, local, rest []string
	early                     []string // options of a command that is not met yet, with their values
	args                      int      // arguments before "--"; -1: none met
	version                   bool     // --version was met before any command, as other programs have it
	help                      bool     // --help was met: it is as if "help COMMAND" had been typed
}

func (a *arranger) read(words []string) error {
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		var err error
		switch {
		case word == "--":
			a.args = len(a.rest)
			for _, w := range words {
				if err := a.argument(w); err != nil {
					return err
				}
			}
			return a.setLeft()
		case isOption(word):
			words, err = a.option(word, words)
		case word == "" && len(a.commands) == 0:
			err = usagef("an argument is empty")
		default:
			err = a.argument(word)
		}
		if err != nil {
			return err
		}
	}
	return a.setLeft()
}

func isOption(word string) bool { return len(word) > 1 && word[0] == '-' }

// option takes a word that is an option, and of those that follow its value.
func (a *arranger) option(word string, words []string) ([]string, error) {
	if rest, ok := a.setAside(word, words); ok {
		return rest, nil
	}
	if name, ok := strings.CutPrefix(word, "--"); ok {
		return a.long(name, words)
	}
	return a.short(word[1:], words)
}

// argument takes a word that is no option: a command as long as one may follow.
func (a *arranger) argument(word string) error {
	if len(a.commands) == 0 {
		a.rest = append(a.rest, word)
		return nil
	}
	for _, c := range a.commands {
		if c.HasName(word) {
			a.command, a.commands = c, c.Subcommands
			a.path = append(a.path, c.Name)
			if len(a.commands) == 0 {
				return a.setEarly()
			}
			return nil
		}
	}
	return unknownCommand(a.path, a.commands, word)
}

// long takes "name" or "name=value".
func (a *arranger) long(word string, words []string) ([]string, error) {
	name, value, hasValue := strings.Cut(word, "=")
	if len(name) == 1 {
		return nil, a.unknownOption("--" + name)
	}
	flag, list, err := a.flag("--" + name)
	if err != nil {
		return nil, err
	}
	switch f := flag.(type) {
	case *cli.BoolFlag:
		if hasValue {
			return nil, usagef("option --%s takes no value", name)
		}
		*list = append(*list, "--"+name)
		return words, nil
	case *optionalFlag:
		if !hasValue {
			value = f.bare
		}
	default:
		if !hasValue {
			if value, words, err = next("--"+name, words); err != nil {
				return nil, err
			}
		}
	}
	if value == "" && !mayBeEmpty[name] {
		return nil, usagef("option --%s needs a value", name)
	}
	*list = append(*list, "--"+name+"="+value)
	return words, nil
}

// short takes letters: options without a value, the last of which may have one ("-lR", "-d", "-n5").
func (a *arranger) short(letters string, words []string) ([]string, error) {
	for i, letter := range letters {
		name := "-" + string(letter)
		flag, list, err := a.flag(name)
		if err != nil {
			return nil, err
		}
		if _, ok := flag.(*cli.BoolFlag); ok {
			*list = append(*list, name)
			continue
		}
		value := strings.TrimPrefix(letters[i+len(string(letter)):], "=")
		if value == "" {
			if value, words, err = next(name, words); err != nil {
				return nil, err
			}
		}
		*list = append(*list, name+"="+value)
		return words, nil
	}
	return words, nil
}

// next takes the value of an option from the following word, whatever that begins with.
func next(name string, words []string) (value string, rest []string, err error) {
	if len(words) == 0 {
		return "", nil, usagef("option %s needs a value", name)
	}
	return words[0], words[1:], nil
}

// flag finds an option of the command met so far or a global one, and the list it belongs to.
func (a *arranger) flag(option string) (cli.Flag, *[]string, error) {
	name := strings.TrimLeft(option, "-")
	if a.command != nil {
		if f := findFlag(a.command.Flags, name); f != nil {
			return f, &a.local, nil
		}
	}
	if f := findFlag(a.app.Flags, name); f != nil {
		return f, &a.global, nil
	}
	if name == "help" || name == "h" {
		a.help = true
		return &cli.BoolFlag{}, &a.local, nil
	}
	if name == "version" && a.command == nil {
		a.version = true
		return &cli.BoolFlag{}, new([]string), nil
	}
	return nil, nil, a.unknownOption(option)
}

func findFlag(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		for _, n := range f.Names() {
			if n == name {
				return f
			}
		}
	}
	return nil
}

func (a *arranger) unknownOption(option string) error {
	var names []string
	flags := a.app.Flags
	where := "snapfs"
	if a.command != nil {
		flags = append(a.command.Flags[:len(a.command.Flags):len(a.command.Flags)], flags...)
		where += " " + strings.Join(a.path, " ")
	}
	for _, f := range flags {
		for _, n := range f.Names() {
			if len(n) > 1 {
				names = append(names, "--"+n)
			}
		}
	}
	err := &usageError{msg: fmt.Sprintf("unknown option %s", option), hint: fmt.Sprintf("'%s --help' lists the options", where)}
	if s := nearest(option, names); s != "" {
		err.hint = fmt.Sprintf("did you mean %s?", s)
	}
	return err
}

// usageError is wrong usage: exit code 2.
type usageError struct{ msg, hint string }

func (e *usageError) Error() string { return e.msg }

func usagef(format string, args ...any) error { return &usageError{msg: fmt.Sprintf(format, args...)} }

// asUsage makes wrong usage of an error about a word on the command line.
func asUsage(err error) error {
	var u *usageError
	if err == nil || errors.As(err, &u) {
		return err
	}
	return &usageError{msg: err.Error()}
}
