package restore

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

// chooser applies Include and Exclude. A directory that is included is so with all that is below it; one that is
// excluded is not entered.
type chooser struct {
	include, exclude *snapshot.Matcher // nil: no such patterns
}

func newChooser(include, exclude []string) (*chooser, error) {
	c := &chooser{}
	for _, part := range []struct {
		lines []string
		to    **snapshot.Matcher
	}{{include, &c.include}, {exclude, &c.exclude}} {
		if len(part.lines) == 0 {
			continue
		}
		m, err := snapshot.NewMatcher(patterns(part.lines))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrOptions, err)
		}
		*part.to = m
	}
	return c, nil
}

func patterns(lines []string) []snapshot.Pattern {
	out := make([]snapshot.Pattern, len(lines))
	for i, line := range lines {
		out[i] = snapshot.Pattern{Line: line}
	}
	return out
}

// all reports that nothing is filtered, so that paths need not be put together.
func (c *chooser) all() bool { return c.include == nil && c.exclude == nil }

// choose says whether a path is to be restored (chosen) and, for a directory, whether something below it may be (enter), given
// whether the directory it stands in was chosen.
func (c *chooser) choose(path string, isDir, above bool) (chosen, enter bool) {
	if excluded, _ := c.exclude.Match(path, isDir); excluded {
		return false, false
	}
	chosen = above
	if c.include != nil {
		if matched, decided := c.include.Match(path, isDir); decided {
			chosen = matched
		}
	}
	return chosen, isDir
}

// keeper knows what Delete must leave alone: what the backup left out, what it could not read, and what the caller protects.
type keeper struct {
	excludes   map[string]*snapshot.Matcher // by source path
	unreadable map[string]bool              // absolute source paths
	protect    []string
	inodes     map[inode]bool // of protect
}

type inode struct{ dev, ino uint64 }

func newKeeper(m *snapshot.Manifest, protect []string) (*keeper, error) {
	if m.ErrorCount > uint64(len(m.Errors)) {
		return nil, ErrDeleteErrors
	}
	k := &keeper{excludes: map[string]*snapshot.Matcher{}, unreadable: map[string]bool{}, inodes: map[inode]bool{}}
	for _, p := range m.Paths {
		matcher, err := snapshot.NewMatcher(relativePatterns(m.Excludes, p))
		if err != nil {
			return nil, fmt.Errorf("the snapshot's excludes: %w", err)
		}
		k.excludes[p] = matcher
	}
	for _, e := range m.Errors {
		k.unreadable[e.Path] = true
	}
	for _, p := range protect {
		k.protect = append(k.protect, strings.TrimSuffix(p, "/"))
		var st unix.Stat_t
		if unix.Stat(p, &st) == nil {
			k.inodes[inode{uint64(st.Dev), st.Ino}] = true
		}
	}
	return k, nil
}

// relativePatterns makes absolute patterns that begin with a source path relative to it.
func relativePatterns(lines []string, source string) []snapshot.Pattern {
	source = strings.TrimSuffix(source, "/") + "/"
	out := make([]snapshot.Pattern, len(lines))
	for i, line := range lines {
		bare, negated := strings.CutPrefix(line, "!")
		if rest, ok := strings.CutPrefix(bare, source); ok && rest != "" {
			line = "/" + rest
			if negated {
				line = "!" + line
			}
		}
		out[i] = snapshot.Pattern{Line: line}
	}
	return out
}

// keeps reports whether something that the snapshot does not hold must stay: source is its path at the source, dest
// the one here.
func (k *keeper) keeps(source, dest string, st *unix.Statx_t) bool {
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if k.unreadable[source] || k.excluded(source, isDir) {
		return true
	}
	for _, p := range k.protect {
		if dest == p || strings.HasPrefix(dest, p+"/") {
			return true
		}
	}
	return k.inodes[inode{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}]
}

func (k *keeper) excluded(source string, isDir bool) bool {
	for p, m := range k.excludes {
		if rest, ok := strings.CutPrefix(source, strings.TrimSuffix(p, "/")+"/"); ok && rest != "" {
			if matched, _ := m.Match(rest, isDir); matched {
				return true
			}
		}
	}
	return false
}

// mayDelete refuses what would be a disaster by mistake.
func (r *run) mayDelete(d *destination) error {
	if r.Force || d.only != nil {
		return nil
	}
	if d.dir.Totals.Entries == 0 {
		return ErrDeleteEmpty
	}
	if r.InPlace && d.upper("") {
		return nil // nothing is deleted in there
	}
	var root, dest unix.Stat_t
	if unix.Stat("/", &root) == nil && unix.Stat(d.root, &dest) == nil && root.Dev == dest.Dev && root.Ino == dest.Ino {
		return ErrDeleteRoot
	}
	return nil
}
