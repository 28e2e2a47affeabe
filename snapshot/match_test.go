package snapshot

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var matchTable = []struct {
	patterns string // one per line
	path     string // "/" at the end: a directory
	want     bool
}{
	{"*.o", "a.o", true},
	{"*.o", "x/y/a.o", true},
	{"*.o", "a.c", false},
	{"/a.o", "a.o", true},
	{"/a.o", "x/a.o", false},
	{"x/a", "x/a", true},
	{"x/a", "y/x/a", false},
	{"build/", "build/", true},
	{"build/", "x/build/", true},
	{"build/", "build", false},
	{"x/build/", "x/build/", true},
	{"x/build/", "y/x/build/", false},
	{"**/foo", "foo", true},
	{"**/foo", "a/b/foo", true},
	{"**/foo/bar", "a/foo/bar", true},
	{"**/foo/bar", "a/foo/x/bar", false},
	{"abc/**", "abc/", false},
	{"abc/**", "abc/x", true},
	{"abc/**", "abc/x/y", true},
	{"a/**/b", "a/b", true},
	{"a/**/b", "a/x/b", true},
	{"a/**/b", "a/x/y/b", true},
	{"a/**/b", "a/x/y/c", false},
	{"a/**/b/**/c", "a/1/b/2/b/3/c", true},
	{"a/**/b/*", "a/b/b/c", true},
	{"**", "a/b", true},
	{"/**", "a", true},
	{"a**b", "aXXb", true},
	{"a**b", "aX/Xb", false},
	{"foo*", "foobar", true},
	{"f*o*r", "foobar", true},
	{"f*o*z", "foobar", false},
	{"*a*b*", "xaxxbx", true},
	{"?oo", "foo", true},
	{"?oo", "oo", false},
	{"/*", "x", true},
	{"/*", "x/y", false},
	{"[abc]x", "bx", true},
	{"[abc]x", "dx", false},
	{"[a-c]x", "bx", true},
	{"[!a-c]x", "bx", false},
	{"[^a-c]x", "dx", true},
	{"[]x]y", "]y", true},
	{"[]-]y", "-y", true},
	{`[\]]y`, "]y", true},
	{`[a\-c]y`, "by", false},
	{`[a\-c]y`, "-y", true},
	{"[[:digit:]]*", "1abc", true},
	{"[[:digit:]]*", "abc", false},
	{"[[:alpha:]_]1", "_1", true},
	{"*[[:space:]]", "a ", true},
	{"# comment", "# comment", false},
	{`\#x`, "#x", true},
	{`\!x`, "!x", true},
	{`a\*b`, "a*b", true},
	{`a\/b`, "a/b", true},
	{`a\\/b`, `a\/b`, true},
	{`a\\/b`, "a/b", false},
	{`a\\/`, `a\/`, true},
	{"[z-a]", "z", true},
	{"[z-a]", "a", false},
	{`a\*b`, "axb", false},
	{"trail   ", "trail", true},
	{`trail\ `, "trail ", true},
	{`trail\  `, "trail ", true},
	{"*\n!keep", "keep", false},
	{"*\n!keep", "other", true},
	{"!keep\n*", "keep", true},
	{"*.log\n!important.log", "x/important.log", false},
	{"/foo/*\n!/foo/bar", "foo/bar", false},
	{"/foo/*\n!/foo/bar", "foo/baz", true},
	{"", "x", false},
	{"/", "x/", false},
	{"*/x", "a/x", true},
	{"*/x", "a/b/x", false},
	{"\xff*", "\xfe\xff", false},
	{"\xff*", "\xff\xfe", true},
	{"new\nline", "line", true},
	{"[a/b]x", "bx", true}, // a slash between brackets matches nothing, and ties the pattern to its place
	{"[a/b]x", "d/bx", false},
	{"d/[a/b]x", "d/ax", true},
	{"d/[a/b]x", "d/cx", false},
	{"**/[a/b]x", "d/ax", true},
	{"a[/]b", "a/b", false},
	{"a[!q]b", "a/b", false},
	{"[!/]x", "cx", true},
	{"[!/]x", "a/x", false},
	{"*[/]x", "a/x", false},
	{`[a\/b]x`, "ax", true},
	{"/[/a]", "a", true},
	{"[a/]/x", "a/x", true},
}

func TestMatch(t *testing.T) {
	for _, c := range matchTable {
		m, err := NewMatcher(ParsePatterns([]byte(c.patterns), ""))
		if err != nil {
			t.Errorf("%q: %v", c.patterns, err)
			continue
		}
		got, _ := m.Match(strings.TrimSuffix(c.path, "/"), strings.HasSuffix(c.path, "/"))
		if got != c.want {
			t.Errorf("%q on %q: %v", c.patterns, c.path, got)
		}
	}
}

// TestMatchGit asks git about the same table.
func TestMatchGit(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	for _, c := range matchTable {
		if c.patterns == "" {
			continue
		}
		dir := t.TempDir()
		if out, err := exec.Command("git", "init", "-q", dir).CombinedOutput(); err != nil {
			t.Fatalf("git init: %v: %s", err, out)
		}
		if err := os.WriteFile(filepath.Join(dir, ".git/info/exclude"), []byte(c.patterns+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		full := filepath.Join(dir, c.path)
		if strings.HasSuffix(c.path, "/") {
			if err := os.MkdirAll(full, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("git", "-C", dir, "check-ignore", "-q", "--no-index", "--", strings.TrimSuffix(c.path, "/"))
		err := cmd.Run()
		if got := err == nil; got != c.want && !parentIgnored(c.patterns, c.path) {
			t.Errorf("git on %q, %q: %v", c.patterns, c.path, got)
		}
	}
}

// parentIgnored: git also says yes for what lies below an ignored directory.
func parentIgnored(patterns, path string) bool {
	m, _ := NewMatcher(ParsePatterns([]byte(patterns), ""))
	path = strings.TrimSuffix(path, "/")
	for i := strings.LastIndexByte(path, '/'); i > 0; i = strings.LastIndexByte(path[:i], '/') {
		if got, _ := m.Match(path[:i], true); got {
			return true
		}
	}
	return false
}

func TestMatchBase(t *testing.T) {
	root, _ := NewMatcher([]Pattern{{Line: "*.o"}})
	m, err := root.With([]Pattern{{Line: "!keep.o", Base: "a/b"}, {Line: "/top", Base: "a/b"}})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		"keep.o": true, "a/keep.o": true, "a/b/keep.o": false, "a/b/c/keep.o": false, "a/bc/keep.o": true,
		"a/b/top": true, "a/b/x/top": false, "top": false, "a/b": false,
	} {
		if got, _ := m.Match(path, false); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
	if _, decided := m.Match("a/b/other", false); decided {
		t.Error("decided without a pattern")
	}
}

func TestMatchBad(t *testing.T) {
	for _, line := range []string{"[abc", "a[", `x\`, `\/x`, `x\/`, "[a-", `[\`, "[!", "[]", "[[:alpha:]"} {
		m, err := NewMatcher([]Pattern{{Line: line}, {Line: "good"}})
		var bad *PatternError
		if !errors.As(err, &bad) || bad.Line != line {
			t.Errorf("%q: %v", line, err)
		}
		if got, _ := m.Match("good", false); !got {
			t.Errorf("%q: good pattern beside it is lost", line)
		}
	}
}

func TestMatchEmpty(t *testing.T) {
	var none *Matcher
	comment, _ := NewMatcher([]Pattern{{Line: "# x"}})
	some, _ := comment.With([]Pattern{{Line: "x"}})
	if !none.Empty() || !comment.Empty() || some.Empty() {
		t.Error("Empty is wrong")
	}
	if m, d := none.Match("x", false); m || d {
		t.Error("nil matched")
	}
}

func FuzzMatch(f *testing.F) {
	for _, c := range matchTable {
		f.Add(c.patterns, c.path)
	}
	f.Add("[[:alpha:", "x")
	f.Fuzz(func(t *testing.T, patterns, path string) {
		m, _ := NewMatcher(ParsePatterns([]byte(patterns), ""))
		m.Match(path, true)
		m.Match(path, false)
	})
}

func BenchmarkMatch(b *testing.B) {
	m, err := NewMatcher(ParsePatterns([]byte("*.o\n*.pyc\n.cache/\n/proc\nnode_modules\n**/target/debug\n[Tt]humbs.db\n"), ""))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		m.Match("usr/share/doc/package/changelog.gz", false)
	}
}
