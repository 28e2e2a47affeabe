package backup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/store"
)

// selection is a tree of names that were asked for by the user: PATHs and what --files-from lists, with the
// directories above them. Immutable once built.
type selection struct {
	children map[string]*selection
	whole    bool // everything from here on is wanted
	named    bool // a PATH, or listed: never excluded, entered whatever file system it is
	path     bool // a PATH: it may be a symlink
	source   *source
}

// source is a PATH that lies in no other.
type source struct {
	path    string // absolute
	exclude *snapshot.Matcher
}

func (s *selection) child(name string) *selection {
	if s == nil {
		return nil
	}
	return s.children[name]
}

// follows reports whether the name may be a symlink to what is meant: a PATH, or a part of what was asked for. What is listed as
// a symlink is saved as one.
func (s *selection) follows() bool { return s != nil && (s.path || s.children != nil) }

// make returns the node for a path below s, made if missing.
func (s *selection) make(path string) *selection {
	for name := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if name == "" {
			continue
		}
		next := s.children[name]
		if next == nil {
			if s.children == nil {
				s.children = map[string]*selection{}
			}
			next = &selection{}
			s.children[name] = next
		}
		s = next
	}
	return s
}

// narrow wants only what is named explicitly later on.
func (s *selection) narrow() {
	s.whole = false
	for _, c := range s.children {
		c.narrow()
	}
}

// names returns the children's names in order.
func (s *selection) names() []string {
	out := make([]string, 0, len(s.children))
	for name := range s.children {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// plan is what a run walks.
type plan struct {
	paths  []string // for the manifest: absolute, sorted, none below another
	root   string   // directory the walk begins in
	single bool     // root is the one PATH and its contents are the snapshot's
	sel    *selection
	source *source // of the root, if it is a PATH

	missing  []*snapshot.PathError // PATHs that are not there
	outside  []*snapshot.PathError // files asked for that lie below no PATH
	excludes []string              // patterns as given
}

// newPlan resolves the paths. Errors: *snapshot.PatternError joined, and those of reading exclude files.
func newPlan(o *Options) (*plan, error) {
	lines, err := excludeLines(o)
	if err != nil {
		return nil, err
	}
	given, err := absolutePaths(o.Paths)
	if err != nil {
		return nil, err
	}
	p := &plan{root: "/", sel: &selection{}, excludes: lines}
	var isDir bool
	for _, path := range given {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			p.missing = append(p.missing, &snapshot.PathError{Op: "open", Path: path, Err: err})
			continue
		}
		isDir = st.Mode&unix.S_IFMT == unix.S_IFDIR
		at := p.sel.make(path)
		at.named, at.whole, at.path = true, true, true
	}
	p.paths = outermost(given)
	for _, path := range p.paths {
		exclude, err := matcherFor(path, given, lines)
		if err != nil {
			return nil, err
		}
		if !p.isMissing(path) {
			p.sel.make(path).source = &source{path: path, exclude: exclude}
		}
	}
	if o.UseFiles || len(o.Files) > 0 {
		p.restrict(o.Files)
	}
	if len(p.paths) == 1 && len(p.missing) == 0 {
		p.enter(p.paths[0], isDir)
	}
	return p, nil
}

func (p *plan) isMissing(path string) bool {
	return slices.ContainsFunc(p.missing, func(e *snapshot.PathError) bool { return e.Path == path })
}

// enter makes the single path the root of the walk; a file's root is the directory it is in.
func (p *plan) enter(path string, isDir bool) {
	at := p.sel.make(path)
	if isDir {
		p.root, p.single, p.sel, p.source = path, true, at, at.source
		return
	}
	p.root = filepath.Dir(path)
	p.sel = &selection{children: map[string]*selection{filepath.Base(path): at}}
}

// restrict wants only files, each absolute below a PATH or relative to every PATH.
func (p *plan) restrict(files []string) {
	paths := slices.DeleteFunc(slices.Clone(p.paths), p.isMissing)
	for _, path := range paths {
		p.sel.make(path).narrow()
	}
	for _, file := range files {
		found := false
		for _, path := range paths {
			full := filepath.Join(path, file)
			if filepath.IsAbs(file) {
				full = filepath.Clean(file)
			}
			if below(full, path) {
				at := p.sel.make(full)
				at.whole, at.named, found = true, true, true
			}
		}
		if !found {
			p.outside = append(p.outside, &snapshot.PathError{Op: "open", Path: file, Err: errOutside})
		}
	}
}

// errOutside: a listed file lies below no PATH.
var errOutside = errors.New("is below none of the paths")

// absolutePaths makes paths absolute, sorted, without duplicates.
func absolutePaths(paths []string) ([]string, error) {
	var out []string
	for _, path := range paths {
		if path == "" {
			return nil, &snapshot.PathError{Op: "open", Path: `""`, Err: unix.ENOENT}
		}
		abs, err := store.AbsolutePath(path)
		var at *fs.PathError
		if errors.As(err, &at) {
			err = &snapshot.PathError{Op: at.Op, Path: at.Path, Err: at.Err}
		}
		if err != nil {
			return nil, err
		}
		out = append(out, abs)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// outermost drops paths below others.
func outermost(sorted []string) []string {
	var out []string
	for _, path := range sorted {
		if !slices.ContainsFunc(out, func(o string) bool { return below(path, o) }) {
			out = append(out, path)
		}
	}
	return out
}

// excludeLines collects the patterns of the options.
func excludeLines(o *Options) ([]string, error) {
	lines := slices.Clone(o.Exclude)
	for _, file := range o.ExcludeFiles {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("exclude file: %w", err)
		}
		for _, p := range snapshot.ParsePatterns(data, "") {
			lines = append(lines, p.Line)
		}
	}
	return lines, nil
}

// matcherFor compiles the patterns for a source: relative to it and to every PATH inside; an absolute pattern that
// begins with a PATH is meant in full.
func matcherFor(path string, given, lines []string) (*snapshot.Matcher, error) {
	var patterns []snapshot.Pattern
	for _, line := range lines {
		if full, owner := fullPattern(line, given); owner != "" {
			if rest, ok := cutSource(full, path); ok {
				patterns = append(patterns, snapshot.Pattern{Line: negation(line) + rest})
			}
			continue
		}
		for _, g := range given {
			if base, ok := cutSource(g, path); ok {
				patterns = append(patterns, snapshot.Pattern{Line: line, Base: strings.Trim(base, "/")})
			}
		}
	}
	return snapshot.NewMatcher(patterns)
}

func negation(line string) string {
	if strings.HasPrefix(line, "!") {
		return "!"
	}
	return ""
}

// fullPattern returns an absolute pattern and the PATH it begins with, "" if none.
func fullPattern(line string, given []string) (pattern, owner string) {
	pattern = strings.TrimPrefix(line, "!")
	for _, g := range given {
		if g != "/" && below(strings.TrimRight(pattern, "/"), g) {
			return pattern, g
		}
	}
	return pattern, ""
}

// cutSource makes an absolute path relative to the source: it begins with "/" then.
func cutSource(full, source string) (string, bool) {
	if source == "/" {
		return full, strings.HasPrefix(full, "/")
	}
	rest, ok := strings.CutPrefix(full, source)
	if !ok || rest != "" && rest[0] != '/' {
		return "", false
	}
	if rest == "" {
		rest = "/"
	}
	return rest, true
}
