package snapshot

import (
	"errors"
	"strings"
)

// glob matches one name: the part of a gitignore pattern between two slashes.
type glob struct {
	kind globKind
	text string // literal text; for globGeneral the pattern
}

type globKind uint8

const (
	globLiteral globKind = iota // text
	globSuffix                  // *text
	globPrefix                  // text*
	globGeneral
	globDeep // ** alone
)

var (
	errOpenBracket  = errors.New("bracket is not closed")
	errLastEscape   = errors.New("backslash at the end")
	errEscapedSlash = errors.New("backslash before the slash at an end")
)

func compileGlob(s string) (glob, error) {
	if s == "**" {
		return glob{kind: globDeep}, nil
	}
	if err := checkGlob(s); err != nil {
		return glob{}, err
	}
	if !strings.ContainsAny(s, `*?[\`) {
		return glob{kind: globLiteral, text: s}, nil
	}
	if rest := strings.TrimLeft(s, "*"); rest != s && !strings.ContainsAny(rest, `*?[\`) {
		return glob{kind: globSuffix, text: rest}, nil
	}
	if rest := strings.TrimRight(s, "*"); rest != s && !strings.ContainsAny(rest, `*?[\`) {
		return glob{kind: globPrefix, text: rest}, nil
	}
	return glob{kind: globGeneral, text: s}, nil
}

// splitNames cuts a pattern at its slashes, but not at those between brackets: as in git these match nothing, and the bracket is
// one of a name. A bracket that is not closed is left for compileGlob to refuse.
func splitNames(s string) (names []string) {
	from := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '[':
			if _, n := matchClass(s[i:], 0); n > 0 {
				i += n - 1
			}
		case '/':
			names = append(names, s[from:i])
			from = i + 1
		}
	}
	return append(names, s[from:])
}

// checkGlob finds what can never match.
func checkGlob(s string) error {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if i++; i == len(s) {
				return errLastEscape
			}
		case '[':
			_, n := matchClass(s[i:], 0)
			if n == 0 {
				return errOpenBracket
			}
			i += n - 1
		}
	}
	return nil
}

func (g *glob) match(name string) bool {
	switch g.kind {
	case globLiteral:
		return name == g.text
	case globSuffix:
		return strings.HasSuffix(name, g.text)
	case globPrefix:
		return strings.HasPrefix(name, g.text)
	case globDeep:
		return true
	}
	return matchName(g.text, name)
}

// matchName is wildcard matching without slashes. Going back to the last star alone is enough.
func matchName(pattern, name string) bool {
	retry, retryName := "", ""
	starred := false
	for {
		if pattern != "" && pattern[0] == '*' {
			pattern = strings.TrimLeft(pattern, "*")
			if pattern == "" {
				return true
			}
			starred, retry, retryName = true, pattern, name
			continue
		}
		if pattern == "" && name == "" {
			return true
		}
		if pattern != "" && name != "" {
			if ok, n := matchByte(pattern, name[0]); ok {
				pattern, name = pattern[n:], name[1:]
				continue
			}
		}
		if !starred || retryName == "" {
			return false
		}
		retryName = retryName[1:]
		pattern, name = retry, retryName
	}
}

// matchByte matches the first element of a pattern, which is not a star, and returns that element's length.
func matchByte(pattern string, c byte) (ok bool, n int) {
	switch pattern[0] {
	case '?':
		return true, 1
	case '\\':
		return pattern[1] == c, 2
	case '[':
		return matchClass(pattern, c)
	}
	return pattern[0] == c, 1
}

// matchClass matches a bracket expression and returns its length, 0 if it is not closed.
func matchClass(s string, c byte) (ok bool, n int) {
	i := 1
	negated := i < len(s) && (s[i] == '!' || s[i] == '^')
	if negated {
		i++
	}
	for first := true; ; first = false {
		if i >= len(s) {
			return false, 0
		}
		if s[i] == ']' && !first {
			return ok != negated, i + 1
		}
		if strings.HasPrefix(s[i:], "[:") {
			if end := strings.Index(s[i:], ":]"); end > 0 {
				ok = ok || inClass(s[i+2:i+end], c)
				i += end + 2
				continue
			}
		}
		lo, size := classByte(s[i:])
		i += size
		hi := lo
		if i+1 < len(s) && s[i] == '-' && s[i+1] != ']' {
			hi, size = classByte(s[i+1:])
			i += 1 + size
		}
		if size == 0 {
			return false, 0
		}
		ok = ok || c == lo || lo <= c && c <= hi // git: [z-a] holds z
	}
}

// classByte reads one byte of a bracket expression, escaped or not.
func classByte(s string) (c byte, n int) {
	if s[0] != '\\' {
		return s[0], 1
	}
	if len(s) < 2 {
		return 0, 0
	}
	return s[1], 2
}

// inClass reports whether c is in a named class of POSIX; unknown names hold nothing.
func inClass(name string, c byte) bool {
	upper, lower, digit := 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9'
	graph := '!' <= c && c <= '~'
	switch name {
	case "alnum":
		return upper || lower || digit
	case "alpha":
		return upper || lower
	case "blank":
		return c == ' ' || c == '\t'
	case "cntrl":
		return c < ' ' || c == 0x7f
	case "digit":
		return digit
	case "graph":
		return graph
	case "lower":
		return lower
	case "print":
		return graph || c == ' '
	case "punct":
		return graph && !upper && !lower && !digit
	case "space":
		return c == ' ' || '\t' <= c && c <= '\r'
	case "upper":
		return upper
	case "xdigit":
		return digit || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
	}
	return false
}
