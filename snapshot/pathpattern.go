package snapshot

import (
	"regexp"
	"strings"
)

// pathPattern matches base names or, when it has a slash, whole paths.
type pathPattern struct {
	whole bool
	re    *regexp.Regexp // nil: a shell pattern
	name  glob           // of a shell pattern for base names
	globs []glob         // of one for whole paths: one per name
}

func newPathPattern(s string, isRegexp bool) (*pathPattern, error) {
	p := &pathPattern{whole: strings.Contains(s, "/")}
	var err error
	switch {
	case s == "":
		return nil, &PatternError{Line: s, Reason: "is empty"}
	case isRegexp:
		p.re, err = regexp.Compile(s)
	case p.whole:
		err = p.compileNames(s)
	default:
		p.name, err = compileGlob(s)
	}
	if err != nil {
		return nil, &PatternError{Line: s, Reason: err.Error()}
	}
	return p, nil
}

func (p *pathPattern) compileNames(s string) error {
	for _, name := range splitNames(s) {
		if name == "" {
			continue
		}
		g, err := compileGlob(name)
		if err != nil {
			return err
		}
		p.globs = append(p.globs, g)
	}
	return nil
}

// match decides about a name in the directory at dir, which begins with "/".
func (p *pathPattern) match(dir, name string) bool {
	switch {
	case p.re != nil && p.whole:
		return p.re.MatchString(joinPath(dir, name))
	case p.re != nil:
		return p.re.MatchString(name)
	case p.whole:
		return matchPath(p.globs, joinPath(dir, name)[1:])
	}
	return p.name.match(name)
}

// enter reports whether something below the directory at path could match.
func (p *pathPattern) enter(path string) bool {
	if !p.whole || p.re != nil {
		return true
	}
	rest := path[1:]
	for i := range p.globs {
		var name string
		g := &p.globs[i]
		if rest == "" || g.kind == globDeep {
			return true
		}
		if name, rest, _ = strings.Cut(rest, "/"); !g.match(name) {
			return false
		}
	}
	return false
}
