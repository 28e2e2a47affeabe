package snapshot

// Matcher decides by gitignore rules. Immutable; safe for concurrent use.
type Matcher struct{}

// Pattern is a line of gitignore syntax.
type Pattern struct {
	Line string
	Base string // the directory it is relative to, below the root of the walk; "" for the root
}

// NewMatcher compiles patterns; the last match wins. Comments and empty lines are skipped.
func NewMatcher(patterns []Pattern) (*Matcher, error) { panic("todo") }

// With returns a matcher with more patterns after those of m (an ignore file met on the way).
func (m *Matcher) With(patterns []Pattern) (*Matcher, error) { panic("todo") }

// Match reports whether a path (relative to the root of the walk, no leading slash) is matched, and whether by any pattern at all.
func (m *Matcher) Match(path string, isDir bool) (matched, decided bool) { panic("todo") }
