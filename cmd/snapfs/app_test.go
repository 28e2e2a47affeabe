package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// result is what a command line did.
type result struct {
	code           int
	stdout, stderr string
}

// runLine runs a command line in this process, without a terminal and with no secrets in the environment but those given
// with t.Setenv before.
func runLine(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(context.Background(), append([]string{"snapfs"}, args...), strings.NewReader(stdin), &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// succeed runs a command line that must end with exit code 0 and say nothing on stderr.
func succeed(t *testing.T, args ...string) string {
	t.Helper()
	r := runLine(t, "", args...)
	if r.code != exitDone || r.stderr != "" {
		t.Fatalf("snapfs %q: exit code %d, stderr %q", args, r.code, r.stderr)
	}
	return r.stdout
}

// refuse runs a command line that must fail with code, say so in one line and give the hint.
func refuse(t *testing.T, code int, message, hint string, args ...string) {
	t.Helper()
	r := runLine(t, "", args...)
	first, rest, _ := strings.Cut(r.stderr, "\n")
	switch {
	case r.code != code, !strings.HasPrefix(first, "snapfs: "), !strings.Contains(first, message):
		t.Errorf("snapfs %q: exit code %d, %q, want %d with %q", args, r.code, r.stderr, code, message)
	case hint != "" && (!strings.HasPrefix(rest, "snapfs: hint: ") || !strings.Contains(rest, hint)):
		t.Errorf("snapfs %q: hint %q, want %q", args, rest, hint)
	case strings.HasSuffix(first, "."):
		t.Errorf("snapfs %q: %q ends with a period", args, first)
	case r.stdout != "":
		t.Errorf("snapfs %q: fails with %q on stdout", args, r.stdout)
	}
}

// clearStore makes a store without encryption and points $SNAPFS_STORE to it.
func clearStore(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	t.Setenv("SNAPFS_STORE", dir)
	noSecrets(t)
	succeed(t, "init", "--no-encryption", "--quiet")
	return dir
}

func noSecrets(t *testing.T) {
	for _, name := range secretVariables {
		t.Setenv(name, "")
	}
}

func writeFile(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNoStore(t *testing.T) {
	noSecrets(t)
	t.Setenv("SNAPFS_STORE", "")
	dir := t.TempDir()
	refuse(t, exitUsage, "no store given", "--store DIR", "snapshots")
	refuse(t, exitNoStore, dir+": no snapfs store there", "snapfs init", "snapshots", "--store", dir)
	refuse(t, exitNoStore, "no snapfs store there", "snapfs init", "key", "list", "--store", filepath.Join(dir, "missing"))
}

func TestInitRefuses(t *testing.T) {
	noSecrets(t)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "full", "file"), "x")
	refuse(t, exitFailed, "directory is not empty", "missing or empty", "init", "--no-encryption", "--store", filepath.Join(dir, "full"))
	refuse(t, exitUsage, "unknown compression", "", "init", "--compression", "lzma", "--store", filepath.Join(dir, "a"))
	refuse(t, exitUsage, "is no size", "", "init", "--chunk-average", "1X", "--store", filepath.Join(dir, "a"))
	refuse(t, exitUsage, "exclude each other", "", "init", "--no-encryption", "--key-file", "k", "--store", filepath.Join(dir, "a"))
	refuse(t, exitUsage, "give only one of", "", "init", "--key-file", "k", "--password-file", "p", "--store", filepath.Join(dir, "a"))
	refuse(t, exitUsage, "unexpected argument", "usage: snapfs init", "init", dir)

	store := filepath.Join(dir, "store")
	succeed(t, "init", "--no-encryption", "--store", store)
	refuse(t, exitFailed, "a store is there already", "", "init", "--no-encryption", "--store", store)

	key := filepath.Join(dir, "full", "key")
	refuse(t, exitFailed, "directory is not empty", "", "init", "--new-key-file", key, "--store", filepath.Join(dir, "full"))
	if _, err := os.Stat(key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key file was left behind by an init that failed: %v", err)
	}
}

func TestKeyFileAlone(t *testing.T) {
	noSecrets(t)
	dir := t.TempDir()
	t.Setenv("SNAPFS_STORE", filepath.Join(dir, "store"))
	key := filepath.Join(dir, "key")
	succeed(t, "init", "--new-key-file", key)
	info, err := os.Stat(key)
	if err != nil || info.Size() != keyFileSize || info.Mode() != 0o600 {
		t.Fatalf("key file: %v, %v", info, err)
	}
	if r := runLine(t, "", "snapshots", "--key-file", key); r.code != exitDone {
		t.Errorf("with the key file: %+v", r)
	}
	short := writeFile(t, filepath.Join(dir, "short"), "not 32 bytes")
	refuse(t, exitLocked, "has 12 bytes and not 32", "", "snapshots", "--key-file", short)
	other := writeFile(t, filepath.Join(dir, "other"), strings.Repeat("k", keyFileSize))
	refuse(t, exitLocked, "secret opens no key slot", "key list", "snapshots", "--key-file", other)
	refuse(t, exitLocked, "no such file", "", "snapshots", "--key-file", filepath.Join(dir, "missing"))
	t.Setenv("SNAPFS_PASSWORD", "x")
	refuse(t, exitLocked, "no key slot of that kind", "key list", "snapshots")
}

func TestSecretsInOrder(t *testing.T) {
	noSecrets(t)
	dir := t.TempDir()
	t.Setenv("SNAPFS_STORE", filepath.Join(dir, "store"))
	right := writeFile(t, filepath.Join(dir, "right"), "secret\n")
	wrong := writeFile(t, filepath.Join(dir, "wrong"), "secret\n\n") // only one newline is stripped
	empty := writeFile(t, filepath.Join(dir, "empty"), "\n")
	succeed(t, "init", "--new-password-file", right)

	refuse(t, exitLocked, "the password is empty", "", "stats", "--password-file", empty)
	refuse(t, exitLocked, "opens no key slot", "", "stats", "--password-file", wrong)
	refuse(t, exitLocked, "password command", "", "stats", "--password-command", "false")
	refuse(t, exitUsage, "give only one of", "", "stats", "--password-file", right, "--password-command", "true")

	t.Setenv("SNAPFS_PASSWORD", "secret\n\n")
	refuse(t, exitLocked, "opens no key slot", "", "stats")
	t.Setenv("SNAPFS_PASSWORD", "\n")
	refuse(t, exitLocked, "$SNAPFS_PASSWORD: the password is empty", "", "stats")
	t.Setenv("SNAPFS_PASSWORD", "secret\n")
	succeed(t, "stats")
	t.Setenv("SNAPFS_NEW_PASSWORD", "\n")
	refuse(t, exitLocked, "$SNAPFS_NEW_PASSWORD: the password is empty", "SNAPFS_NEW_PASSWORD", "key", "add", "--password-file", right)
	t.Setenv("SNAPFS_NEW_PASSWORD", "new\n")
	succeed(t, "key", "add", "--password-file", right)
	t.Setenv("SNAPFS_PASSWORD", "new")
	succeed(t, "stats")
	t.Setenv("SNAPFS_PASSWORD", "wrong")
	succeed(t, "stats", "--password-file", right)
	t.Setenv("SNAPFS_PASSWORD_COMMAND", "printf 'secret\n'")
	succeed(t, "stats")
	t.Setenv("SNAPFS_PASSWORD_FILE", wrong)
	refuse(t, exitLocked, "opens no key slot", "", "stats")
	for _, name := range secretVariables {
		if value, ok := os.LookupEnv(name); ok {
			t.Errorf("%s=%s would reach children", name, value)
		}
	}
}

func TestKeys(t *testing.T) {
	clearStoreDir := clearStore(t)
	key := filepath.Join(filepath.Dir(clearStoreDir), "key")
	id := strings.TrimSpace(succeed(t, "key", "add", "--new-key-file", key, "--label", "büro"))
	var slots []keyObject
	if err := json.Unmarshal([]byte(succeed(t, "key", "list", "--json")), &slots); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(slots, func(a, b keyObject) int { return strings.Compare(a.Kind, b.Kind) })
	if len(slots) != 2 || slots[1].ID != id || slots[1].Kind != "key-file" || slots[1].Label != "büro" || !strings.HasSuffix(slots[1].Created, "Z") {
		t.Fatalf("slots: %+v", slots)
	}
	refuse(t, exitUsage, "give only one of", "", "key", "add", "--new-key-file", key, "--recipient", "age1x")
	refuse(t, exitFailed, "no such key slot", "key list", "key", "remove", "00000000")
	succeed(t, "key", "remove", id)
	refuse(t, exitFailed, "last key slot", "key add", "key", "remove", slots[0].ID)
}

// TestSpoiltSlotsAreNamed: a slot that unlocks nothing is no way in, on the list or on a sheet.
func TestSpoiltSlotsAreNamed(t *testing.T) {
	dir := clearStore(t)
	key := filepath.Join(filepath.Dir(dir), "key")
	id := strings.TrimSpace(succeed(t, "key", "add", "--new-key-file", key))
	if err := os.Truncate(filepath.Join(dir, "keys", "slot-"+id), 100); err != nil {
		t.Fatal(err)
	}
	list := runLine(t, "", "key", "list")
	if list.code != exitDone || !strings.Contains(list.stderr, "slot "+id+" cannot be used: checksum") {
		t.Errorf("key list: %+v", list)
	}
	var slots []keyObject
	if err := json.Unmarshal([]byte(succeed(t, "key", "list", "--json")), &slots); err != nil {
		t.Fatal(err)
	}
	for _, s := range slots {
		if (s.ID == id) != (s.Problem != "") {
			t.Errorf("slot %+v", s)
		}
	}
	sheet := runLine(t, "", "key", "export")
	if sheet.code != exitDone || strings.Contains(sheet.stdout, id) || !strings.Contains(sheet.stderr, id) {
		t.Errorf("key export: %s%s", sheet.stderr, sheet.stdout)
	}
}

func TestEmptyStore(t *testing.T) {
	clearStore(t)
	if out := succeed(t, "snapshots", "--json"); out != "[]\n" {
		t.Errorf("snapshots: %q", out)
	}
	if out := succeed(t, "dataset", "list", "--json"); out != "[]\n" {
		t.Errorf("datasets: %q", out)
	}
	refuse(t, exitFailed, "no such snapshot", "snapfs snapshots", "ls", "latest")
	refuse(t, exitUsage, `time "yesterday"`, "", "cat", "etc@yesterday:/x")
	refuse(t, exitFailed, "not found", "", "dataset", "rename", "a", "b")
	refuse(t, exitUsage, "dataset name", "", "dataset", "rename", "a", "latest")
	refuse(t, exitUsage, "wants either --to DIR or --in-place", "", "restore", "latest")
	refuse(t, exitUsage, "--overwrite wants", "", "restore", "latest", "--to", "x", "--overwrite", "maybe")
	refuse(t, exitUsage, "no PATH to back up", "backup --help", "backup")
	refuse(t, exitUsage, "--xattrs wants", "", "mount", "/nowhere", "--xattrs", "maybe")
	refuse(t, exitUsage, "--umask", "", "mount", "/nowhere", "--umask", "9")
	refuse(t, exitUsage, "is no tag", "", "tag", "latest", "--add", "a,b")
}

func TestStreamUsage(t *testing.T) {
	clearStore(t)
	for _, test := range []struct {
		msg  string
		args []string
	}{
		{"give only one of --stdin and --as", []string{"--stdin", "a", "--as", "b", "--command", "c"}},
		{"--command needs --as NAME", []string{"--command", "c"}},
		{"--as NAME needs --command CMD", []string{"--as", "a"}},
		{"--as NAME needs --command CMD", []string{"/etc", "--as", "a"}},
		{"cannot be in one snapshot", []string{"/etc", "--stdin", "a"}},
		{"cannot be in one snapshot", []string{"--command", "true", "--as", "a", "--", "x"}},
		{"is no file name", []string{"--stdin", "a/b"}},
		{"--exclude is not for streams", []string{"--stdin", "a", "--exclude", "b"}},
		{"--allow-empty is for streams", []string{"/etc", "--allow-empty"}},
	} {
		refuse(t, exitUsage, test.msg, "", append([]string{"backup"}, test.args...)...)
	}
}

// closedPipe is a stdout whose reader has gone.
type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestClosedPipeEndsQuietly(t *testing.T) {
	var stderr bytes.Buffer
	if code := run(context.Background(), []string{"snapfs", "help"}, nil, closedPipe{}, &stderr); code != exitPipe || stderr.Len() > 0 {
		t.Errorf("exit code %d, stderr %q", code, stderr.String())
	}
}

// Every command has a description with examples, and every option says what it does.
func TestHelpIsComplete(t *testing.T) {
	app := newApp(nil, nil, nil)
	for _, c := range completions(app)[1:] {
		text := succeed(t, append([]string{"help"}, strings.Fields(c.path)...)...)
		if !strings.HasPrefix(text, "snapfs "+c.path+": ") || !strings.Contains(text, "\nExamples:\n  ") {
			t.Errorf("help %s:\n%s", c.path, text)
		}
		for _, w := range c.words {
			if w.usage == "" {
				t.Errorf("%s %s has no description", c.path, w.word)
			}
		}
		for line := range strings.Lines(text) {
			if len(line) > 140 {
				t.Errorf("help %s has a line of %d characters: %s", c.path, len(line), line)
			}
		}
		if !strings.Contains(succeed(t, "man"), ".SS snapfs "+strings.ReplaceAll(c.path, "-", `\-`)+"\n") {
			t.Errorf("%s is not in the manual page", c.path)
		}
		for _, shell := range []string{"bash", "zsh", "fish"} {
			if !strings.Contains(succeed(t, "completion", shell), c.path) {
				t.Errorf("%s is not completed in %s", c.path, shell)
			}
		}
	}
	refuse(t, exitUsage, "no completion for", "", "completion", "tcsh")
}
