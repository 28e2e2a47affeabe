package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// setAside keeps an option of a command that comes later, with its value, until that is met.
func (a *arranger) setAside(word string, words []string) (rest []string, ok bool) {
	if len(a.commands) == 0 {
		return words, false
	}
	name, _, hasValue := strings.Cut(word, "=")
	if !strings.HasPrefix(name, "--") {
		ok = a.areLater(name[1:])
	} else if len(name) > 3 && !a.known(name) {
		flags := laterFlags(a.commands, name[2:])
		ok = len(flags) > 0 && alike(flags)
		hasValue = hasValue || ok && !takesWord(flags[0])
	}
	if !ok {
		return words, false
	}
	a.early = append(a.early, word)
	if strings.HasPrefix(name, "--") && !hasValue && len(words) > 0 {
		a.early = append(a.early, words[0])
		words = words[1:]
	}
	return words, true
}

// areLater reports whether a word of short options is for a command that comes later: those have no values.
func (a *arranger) areLater(letters string) bool {
	later := false
	for _, letter := range letters {
		if name := string(letter); !a.known("-" + name) {
			flags := laterFlags(a.commands, name)
			if len(flags) == 0 || slices.ContainsFunc(flags, takesWord) {
				return false
			}
			later = true
		}
	}
	return later
}

// known reports whether an option needs no other command than what is met.
func (a *arranger) known(name string) bool {
	_, _, err := (&arranger{app: a.app, command: a.command}).flag(name)
	return err == nil
}

// laterFlags are the options of this name of commands and those below.
func laterFlags(commands []*cli.Command, name string) (flags []cli.Flag) {
	for _, c := range commands {
		if f := findFlag(c.Flags, name); f != nil {
			flags = append(flags, f)
		}
		flags = append(flags, laterFlags(c.Subcommands, name)...)
	}
	return flags
}

// alike reports whether the next word is the value of all of them or of none; else it could be the command.
func alike(flags []cli.Flag) bool {
	return !slices.ContainsFunc(flags, func(f cli.Flag) bool { return takesWord(f) != takesWord(flags[0]) })
}

// takesWord reports whether the word after an option is its value.
func takesWord(f cli.Flag) bool {
	switch f.(type) {
	case *cli.BoolFlag, *optionalFlag:
		return false
	}
	return true
}

// setEarly takes the options that stood before their command.
func (a *arranger) setEarly() error {
	words := a.early
	a.early = nil
	for len(words) > 0 {
		var err error
		if words, err = a.option(words[0], words[1:]); err != nil {
			return err
		}
	}
	return nil
}

// setLeft refuses options whose command never came.
func (a *arranger) setLeft() error {
	if len(a.early) == 0 || a.help {
		return nil
	}
	name, _, _ := strings.Cut(a.early[0], "=")
	return a.unknownOption(name)
}
