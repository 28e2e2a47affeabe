package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestHookResults: what --post is told of backups that are neither whole nor failed, and of streams.
func TestHookResults(t *testing.T) {
	clearStore(t)
	dir := t.TempDir()
	file, log := writeFile(t, filepath.Join(dir, "file"), "x"), filepath.Join(dir, "log")
	post := []string{"--post", `echo "$SNAPFS_DATASET $SNAPFS_RESULT $SNAPFS_ERRORS $SNAPFS_NAME" > ` + log}
	told := func(want string) {
		t.Helper()
		if data, _ := os.ReadFile(log); string(data) != want+"\n" {
			t.Errorf("--post was told %q, want %q", data, want)
		}
	}
	at := []string{"--time", "2026-01-02T03:04:05Z"}
	name := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).In(time.Local).Format("2006-01-02_15-04-05")
	r := runLine(t, "", slices.Concat([]string{"backup", file, filepath.Join(dir, "missing"), "--dataset", "d"}, at, post)...)
	if told("d incomplete 1 " + name); r.code != exitIncomplete {
		t.Errorf("%+v", r)
	}
	succeed(t, slices.Concat([]string{"backup", file, "--dataset", "u"}, at)...)
	succeed(t, slices.Concat([]string{"backup", file, "--dataset", "u", "--skip-unchanged"}, post)...)
	told("u unchanged 0 " + name)
	r = runLine(t, "in", slices.Concat([]string{"backup", "--stdin", "s", "--pre", "cat > /dev/null; touch " + log + ".pre"}, at, post)...)
	if told("s ok 0 " + name); r.code != exitDone || succeed(t, "cat", "s:s") != "in" {
		t.Errorf("%+v", r)
	}
	if _, err := os.Stat(log + ".pre"); err != nil {
		t.Errorf("--pre before a stream: %v", err)
	}
}
