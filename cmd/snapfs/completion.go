package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

func (p *program) completionCommand(app *cli.App) *cli.Command {
	return &cli.Command{
		Name: "completion", ArgsUsage: "bash|zsh|fish", HideHelp: true, Usage: "print a script that lets a shell complete command lines",
		Description: about("The script knows the commands and their options.",
			"snapfs completion bash > /etc/bash_completion.d/snapfs",
			"snapfs completion zsh > /usr/local/share/zsh/site-functions/_snapfs",
			"snapfs completion fish > ~/.config/fish/completions/snapfs.fish"),
		Action: action(1, 1, func(_ *cli.Context, args []string) error {
			scripts := map[string]func([]completed) string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}
			script, ok := scripts[args[0]]
			if !ok {
				return usagef("no completion for %q: want bash, zsh or fish", args[0])
			}
			return p.out.print(script(completions(app)))
		}),
	}
}

// completed is what may follow a command: "" for the program itself, "key add" for one below another.
type completed struct {
	path  string
	words []completedWord
}

type completedWord struct{ word, usage string }

// completions lists all commands with what may follow them.
func completions(app *cli.App) []completed {
	list := []completed{{"", append(commandWords(app.Commands), optionWords(app.Flags)...)}}
	var add func(prefix string, commands []*cli.Command)
	add = func(prefix string, commands []*cli.Command) {
		for _, c := range commands {
			if c.Hidden {
				continue
			}
			path := strings.TrimSpace(prefix + " " + c.Name)
			words := append(commandWords(c.Subcommands), optionWords(c.Flags)...)
			list = append(list, completed{path, append(words, optionWords(app.Flags)...)})
			add(path, c.Subcommands)
		}
	}
	add("", app.Commands)
	return list
}

func commandWords(commands []*cli.Command) (words []completedWord) {
	for _, c := range commands {
		if !c.Hidden {
			words = append(words, completedWord{c.Name, c.Usage})
		}
	}
	return words
}

func optionWords(flags []cli.Flag) (words []completedWord) {
	for _, f := range flags {
		_, usage := describe(f)
		for _, n := range f.Names() {
			words = append(words, completedWord{strings.Repeat("-", min(len(n), 2)) + n, usage})
		}
	}
	return words
}

func joinWords(words []completedWord) string {
	var list []string
	for _, w := range words {
		list = append(list, w.word)
	}
	return strings.Join(list, " ")
}

// bashCompletion offers the words for the longest command that stands on the line, else files.
func bashCompletion(list []completed) string {
	var b strings.Builder
	b.WriteString(`# bash completion for snapfs
_snapfs() {
    local word path="" words="" current="${COMP_WORDS[COMP_CWORD]}"
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case "$word" in -*) continue ;; esac
        case "${path:+$path }$word" in
`)
	for _, c := range list[1:] {
		fmt.Fprintf(&b, "        %q) path=%q ;;\n", c.path, c.path)
	}
	b.WriteString("        esac\n    done\n    case \"$path\" in\n")
	for _, c := range list {
		fmt.Fprintf(&b, "    %q) words=%q ;;\n", c.path, joinWords(c.words))
	}
	b.WriteString(`    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _snapfs snapfs
`)
	return b.String()
}

// zshCompletion does the same in zsh, with descriptions. The script stands in $fpath or is sourced.
func zshCompletion(list []completed) string {
	var b strings.Builder
	b.WriteString("#compdef snapfs\n# zsh completion for snapfs\n_snapfs() {\nlocal word line=\"\"\nfor word in ${words[2,CURRENT-1]}; do\n" +
		"    [[ $word = -* ]] && continue\n    case \"${line:+$line }$word\" in\n")
	for _, c := range list[1:] {
		fmt.Fprintf(&b, "    %q) line=%q ;;\n", c.path, c.path)
	}
	b.WriteString("    esac\ndone\nlocal -a choices\ncase \"$line\" in\n")
	for _, c := range list {
		fmt.Fprintf(&b, "%q) choices=(", c.path)
		for _, w := range c.words {
			fmt.Fprintf(&b, " %s", shellQuote(strings.ReplaceAll(w.word, ":", `\:`)+":"+w.usage))
		}
		b.WriteString(" ) ;;\n")
	}
	b.WriteString("esac\n_describe snapfs choices || _files\n}\n" +
		"if [[ ${funcstack[1]} = _snapfs ]]; then _snapfs \"$@\"; else compdef _snapfs snapfs; fi\n")
	return b.String()
}

func fishCompletion(list []completed) string {
	var b strings.Builder
	b.WriteString(`# fish completion for snapfs
function __snapfs_at
    set -l line
    for word in (commandline -opc)[2..]
        string match -q -- '-*' $word; and continue
        set -l longer (string trim -- "$line $word")
        switch $longer
            case `)
	for _, c := range list[1:] {
		b.WriteString(shellQuote(c.path) + " ")
	}
	b.WriteString("\n                set line $longer\n        end\n    end\n    test \"$line\" = \"$argv[1]\"\nend\n")
	for _, c := range list {
		for _, w := range c.words {
			option := "-a " + w.word
			switch name := strings.TrimLeft(w.word, "-"); {
			case name == w.word:
			case len(name) == 1:
				option = "-s " + name
			default:
				option = "-l " + name
			}
			fmt.Fprintf(&b, "complete -c snapfs -n %s %s -d %s\n", shellQuote("__snapfs_at '"+c.path+"'"), option, shellQuote(w.usage))
		}
	}
	return b.String()
}

// shellQuote makes one word of s for sh, zsh and fish.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
