package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Matcher decides by gitignore rules. Immutable; safe for concurrent use; nil matches nothing.
//
// As in git, names are compared byte by byte, and Match looks at one path alone: that nothing below an excluded
// directory can be included again follows from walkers not entering it.
type Matcher struct {
	parent *Matcher // its rules come before these
	rules  []rule
}

// Pattern is a line of gitignore syntax.
type Pattern struct {
	Line string
	Base string // the directory it is relative to, below the root of the walk; "" for the root
}

// PatternError is a pattern that can never match: a bracket that is not closed, a backslash at the end.
type PatternError struct {
	Line   string
	Reason string
}

func (e *PatternError) Error() string { return fmt.Sprintf("pattern %q: %s", e.Line, e.Reason) }

// ParsePatterns reads an ignore file: one pattern per line, relative to base.
func ParsePatterns(data []byte, base string) []Pattern {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	var out []Pattern
	for line := range bytes.Lines(data) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(line) > 0 {
			out = append(out, Pattern{Line: string(line), Base: base})
		}
	}
	return out
}

// NewMatcher compiles patterns; the last match wins. Comments and empty lines are skipped. Beside an error, which
// joins a *PatternError for each bad pattern, stands a matcher of the good ones.
func NewMatcher(patterns []Pattern) (*Matcher, error) { return (*Matcher)(nil).With(patterns) }

// With returns a matcher with more patterns after those of m (an ignore file met on the way). Errors: as NewMatcher.
func (m *Matcher) With(patterns []Pattern) (*Matcher, error) {
	n := &Matcher{parent: m}
	var errs []error
	for _, p := range patterns {
		r, ok, err := compileRule(p)
		if err != nil {
			errs = append(errs, err)
		} else if ok {
			n.rules = append(n.rules, r)
		}
	}
	if len(n.rules) == 0 && m != nil {
		n = m
	}
	return n, errors.Join(errs...)
}

// Empty reports whether there is no pattern at all, so that Match need not be asked.
func (m *Matcher) Empty() bool {
	return m == nil || len(m.rules) == 0 && m.parent.Empty()
}

// Match reports whether a path (relative to the root of the walk, no leading slash) is matched, and whether by any pattern at all.
func (m *Matcher) Match(path string, isDir bool) (matched, decided bool) {
	for ; m != nil; m = m.parent {
		for i := len(m.rules) - 1; i >= 0; i-- {
			if r := &m.rules[i]; r.match(path, isDir) {
				return !r.negated, true
			}
		}
	}
	return false, false
}

// rule is a compiled line.
type rule struct {
	base     string // "" or without slashes at its ends
	negated  bool
	dirOnly  bool
	anchored bool   // the whole path below base must match, not just its last name
	globs    []glob // one per name of an anchored rule, else one
}

func compileRule(p Pattern) (r rule, ok bool, err error) {
	line := trimSpaces(p.Line)
	if strings.HasPrefix(line, "#") {
		return r, false, nil
	}
	r.base = strings.Trim(p.Base, "/")
	if rest, found := strings.CutPrefix(line, "!"); found {
		r.negated, line = true, rest
	}
	line, err = plainSlashes(line)
	if err != nil {
		return r, false, &PatternError{Line: p.Line, Reason: err.Error()}
	}
	if rest, found := strings.CutSuffix(line, "/"); found {
		r.dirOnly, line = true, rest
	}
	r.anchored = strings.Contains(line, "/")
	line = strings.TrimPrefix(line, "/")
	if line == "" {
		return r, false, nil
	}
	for _, name := range splitNames(line) {
		g, err := compileGlob(name)
		if err != nil {
			return r, false, &PatternError{Line: p.Line, Reason: err.Error()}
		}
		if !r.anchored && g.kind == globDeep {
			g = glob{kind: globPrefix} // "**" alone: any name
		}
		r.globs = append(r.globs, g)
	}
	return r, true, nil
}

// plainSlashes takes the backslash off every escaped slash. As in git, an escaped one at an end matches nothing.
func plainSlashes(line string) (string, error) {
	if !strings.Contains(line, `\/`) {
		return line, nil
	}
	var b strings.Builder
	for i := 0; i < len(line); i++ {
		if line[i] == '\\' && i+1 < len(line) {
			i++
			if line[i] != '/' {
				b.WriteByte('\\')
			} else if i == 1 || i == len(line)-1 {
				return "", errEscapedSlash
			}
		}
		b.WriteByte(line[i])
	}
	return b.String(), nil
}

// trimSpaces removes trailing spaces but an escaped one.
func trimSpaces(s string) string {
	for strings.HasSuffix(s, " ") {
		head := s[:len(s)-1]
		escapes := len(head) - len(strings.TrimRight(head, `\`))
		if escapes%2 == 1 {
			return s
		}
		s = head
	}
	return s
}

func (r *rule) match(path string, isDir bool) bool {
	if r.dirOnly && !isDir {
		return false
	}
	if r.base != "" {
		if len(path) <= len(r.base) || path[len(r.base)] != '/' || path[:len(r.base)] != r.base {
			return false
		}
		path = path[len(r.base)+1:]
	}
	if !r.anchored {
		return r.globs[0].match(path[strings.LastIndexByte(path, '/')+1:])
	}
	return matchPath(r.globs, path)
}

// matchPath matches name by name; "**" stands for any number of names, at the end for at least one.
// Going back to the last "**" alone is enough, as with "*" in a name, so the time is at most quadratic.
func matchPath(globs []glob, path string) bool {
	g := 0
	retry, retryPath := -1, ""
	for path != "" {
		if g < len(globs) && globs[g].kind == globDeep {
			if g == len(globs)-1 {
				return true
			}
			retry, retryPath = g, path
			g++
			continue
		}
		name, rest, _ := strings.Cut(path, "/")
		if g < len(globs) && globs[g].match(name) {
			g, path = g+1, rest
			continue
		}
		if retry < 0 {
			return false
		}
		_, retryPath, _ = strings.Cut(retryPath, "/")
		g, path = retry+1, retryPath
	}
	return g == len(globs)
}
