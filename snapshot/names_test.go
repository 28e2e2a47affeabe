package snapshot

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestDatasetName(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "home": true, "0": true, "A.b_c-9": true, "latest2": true, "Latest": true, "abcdef0": true, "root": true,
		"deadbeefg": true, "DEADBEEF": true, strings.Repeat("x", 100): true, strings.Repeat("a", 65): true, "a..b": true,
		"": false, ".a": false, "-a": false, "_a": false, "a b": false, "a/b": false, "a@b": false, "a:b": false, "ä": false,
		"latest": false, "deadbeef": false, "01234567": false, strings.Repeat("a", 64): false, strings.Repeat("x", 101): false,
		"a\x00": false, "a\n": false,
	} {
		err := DatasetName(name)
		if (err == nil) != want {
			t.Errorf("%q: %v", name, err)
		}
		if err != nil && !errors.Is(err, ErrSyntax) {
			t.Errorf("%q: not ErrSyntax: %v", name, err)
		}
	}
}

func TestDefaultDataset(t *testing.T) {
	for path, want := range map[string]string{
		"/":              "root",
		"/home":          "home",
		"/home/":         "home",
		"/srv/www/a.b":   "srv-www-a.b",
		"/home/me/My Ä!": "home-me-My____",
		"/a\xff\n":       "a__",
		"/.cache":        ".cache",
		"/a_b-c":         "a_b-c",
	} {
		if got := DefaultDataset(path); got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
}

func TestSnapshotName(t *testing.T) {
	start := time.Date(2026, 11, 22, 3, 15, 7, 999, time.FixedZone("", 3600))
	taken := map[string]bool{}
	for _, want := range []string{"2026-11-22_03-15-07", "2026-11-22_03-15-07-2", "2026-11-22_03-15-07-3"} {
		got := SnapshotName(start, func(s string) bool { return taken[s] })
		if got != want || !IsSnapshotName(got) {
			t.Errorf("got %s, want %s", got, want)
		}
		taken[got] = true
	}
}
