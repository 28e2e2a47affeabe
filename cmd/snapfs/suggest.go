package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"snapfs/store"
)

// otherWords are commands of other tools with the words snapfs has for them, and what to say where it has none.
var otherWords = map[string]struct{ words, note string }{
	"list":    {words: "snapshots ls"},
	"check":   {words: "verify"},
	"create":  {words: "backup init"},
	"extract": {words: "restore"},
	"delete":  {words: "forget"},
	"compact": {words: "prune"},
	"gc":      {words: "prune"},
	"unlock":  {note: "nothing needs unlocking: a store whose process was killed opens as if nothing had happened"},
}

// otherWord answers a word of another tool; ok is false if it is none.
func otherWord(commands []*cli.Command, word string) (hint string, ok bool) {
	other, ok := otherWords[word]
	if !ok || other.words == "" {
		return other.note, ok
	}
	var here, later []string
	for _, w := range strings.Fields(other.words) {
		if slices.ContainsFunc(commands, func(c *cli.Command) bool { return c.HasName(w) }) {
			here = append(here, "'snapfs "+w+"'")
		} else {
			later = append(later, "'"+w+"'")
		}
	}
	if len(here) == 0 {
		return fmt.Sprintf("snapfs calls that %s, which this version does not have", strings.Join(later, " or ")), true
	}
	return fmt.Sprintf("snapfs calls that %s", strings.Join(here, " or ")), true
}

// unknownCommand says what was probably meant. path names the command above, nil at the top.
func unknownCommand(path []string, commands []*cli.Command, word string) error {
	e := &usageError{
		msg:  fmt.Sprintf("unknown command %q", strings.Join(append(path[:len(path):len(path)], word), " ")),
		hint: "'" + strings.Join(append([]string{"snapfs help"}, path...), " ") + "' lists the commands",
	}
	if hint, ok := otherWord(commands, word); ok && len(path) == 0 {
		e.hint = hint
		return e
	}
	var names []string
	for _, c := range commands {
		if !c.Hidden {
			names = append(names, c.Name)
		}
	}
	if s := nearest(word, names); s != "" {
		e.hint = fmt.Sprintf("did you mean '%s'?", strings.Join(append(append([]string{"snapfs"}, path...), s), " "))
	}
	return e
}

// nearest returns the candidate that word is probably a misspelling of, "" if there is none: one edit, or one in
// three letters, away, or the only one that word begins.
func nearest(word string, candidates []string) string {
	best, bestDistance := "", max(len(word)/3, 1)+1
	for _, c := range candidates {
		if d := store.EditDistance(word, c); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	if best != "" {
		return best
	}
	for _, c := range candidates {
		if len(word) > 2 && strings.HasPrefix(c, word) {
			if best != "" {
				return ""
			}
			best = c
		}
	}
	return best
}
