package restore

import "snapfs/snapshot"

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
			return nil, err
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
