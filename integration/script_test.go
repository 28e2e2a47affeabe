package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// TestScripts runs testdata/script: see the commands of https://pkg.go.dev/github.com/rogpeppe/go-internal/testscript
// and below. Each script begins with an encrypted store in $SNAPFS_STORE, unlocked by $SNAPFS_KEY_FILE, unless it
// has a file "no-store". Afterwards no mount, process or temporary file may be left.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Setup: setupScript,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":  exits,
			"fields": fields,
			"value":  value,
			"count":  countLines,
			"flip":   flip,
			"same":   same,
		},
		Condition: condition,
	})
}

func setupScript(env *testscript.Env) error {
	box := sandbox{env.WorkDir}
	if err := os.MkdirAll(box.tmp(), 0o700); err != nil {
		return err
	}
	vars := [][2]string{
		{"PATH", filepath.Dir(snapfs) + ":" + os.Getenv("PATH")}, {"TMPDIR", box.tmp()}, {"TZ", "Europe/Berlin"}, {"LC_ALL", "C.UTF-8"},
		{"SNAPFS_STORE", filepath.Join(env.WorkDir, "store")},
	}
	for _, v := range vars {
		env.Setenv(v[0], v[1])
	}
	env.Defer(func() { unguard(env.WorkDir) })
	env.Defer(func() {
		for _, left := range box.leftovers() {
			env.T().Log("left behind: " + left)
			defer env.T().FailNow()
		}
	})
	if _, err := os.Stat(filepath.Join(env.WorkDir, "no-store")); err == nil {
		return nil
	}
	key := filepath.Join(env.WorkDir, "key")
	init := exec.Command(snapfs, "init", "--new-key-file", key)
	init.Env = env.Vars
	env.Setenv("SNAPFS_KEY_FILE", key)
	if out, err := init.CombinedOutput(); err != nil {
		return fmt.Errorf("init: %w: %s", err, out)
	}
	return nil
}

// condition knows [root], [fuse] and [immutable].
func condition(cond string) (bool, error) {
	switch cond {
	case "root":
		return os.Geteuid() == 0, nil
	case "fuse":
		_, notFound := exec.LookPath("fusermount3")
		return unix.Access("/dev/fuse", unix.R_OK|unix.W_OK) == nil && (notFound == nil || os.Geteuid() == 0), nil
	case "immutable":
		return setsImmutable()
	}
	return false, fmt.Errorf("unknown condition %s", cond)
}

// setsImmutable reports whether files in the work directories of scripts can be made immutable.
func setsImmutable() (bool, error) {
	file, err := os.CreateTemp("", "immutable-*")
	if err != nil {
		return false, err
	}
	set := exec.Command("chattr", "+i", file.Name()).Run() == nil
	if set {
		err = exec.Command("chattr", "-i", file.Name()).Run()
	}
	return set, errors.Join(err, file.Close(), os.Remove(file.Name()))
}

// exits CODE PROGRAM ARGS...: the program must end with that code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d\n[stdout]\n%s[stderr]\n%s", code, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// objects reads the JSON in a file of a script.
func objects(ts *testscript.TestScript, file string) []map[string]any {
	list, err := decodeObjects(ts.ReadFile(file))
	if err != nil {
		ts.Fatalf("%s: %v", file, err)
	}
	return list
}

// decodeObjects reads JSON: objects one after the other, or an array of them.
func decodeObjects(text string) (list []map[string]any, err error) {
	for dec := json.NewDecoder(strings.NewReader(text)); ; {
		var raw json.RawMessage
		if err := dec.Decode(&raw); errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, err
		}
		if !bytes.HasPrefix(raw, []byte("[")) {
			raw = slices.Concat([]byte("["), raw, []byte("]"))
		}
		var array []map[string]any
		if err := json.Unmarshal(raw, &array); err != nil {
			return nil, err
		}
		list = append(list, array...)
	}
}

// selected are the objects whose field "event", "path", "name" or "change" is word; "*" stands for all.
func selected(ts *testscript.TestScript, file, word string) []map[string]any {
	var list []map[string]any
	for _, o := range objects(ts, file) {
		if word == "*" || o["event"] == word || o["path"] == word || o["name"] == word {
			list = append(list, o)
		}
	}
	if len(list) == 0 {
		ts.Fatalf("%s has no object %s", file, word)
	}
	return list
}

// fields FILE WORD NAME...: the objects in FILE that WORD selects have these fields.
func fields(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: fields FILE WORD NAME...")
	}
	for _, o := range selected(ts, args[0], args[1]) {
		for _, name := range args[2:] {
			if _, ok := o[name]; ok == neg {
				ts.Fatalf("field %s: there %v in %v", name, ok, o)
			}
		}
	}
}

// value FILE WORD NAME VALUE: the objects that WORD selects have that value, written as JSON or as a bare string.
func value(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 4 {
		ts.Fatalf("usage: value FILE WORD NAME VALUE")
	}
	for _, o := range selected(ts, args[0], args[1]) {
		text, err := json.Marshal(o[args[2]])
		ts.Check(err)
		bare, _ := o[args[2]].(string)
		if same := string(text) == args[3] || bare == args[3] && bare != ""; same == neg {
			ts.Fatalf("field %s is %s in %v", args[2], text, o)
		}
	}
}

// count FILE N: FILE has N lines.
func countLines(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: count FILE N")
	}
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	if n := strings.Count(ts.ReadFile(args[0]), "\n"); (n == want) == neg {
		ts.Fatalf("%s has %d lines", args[0], n)
	}
}

// flip GLOB OFFSET: inverts a byte of the one file that matches; a negative OFFSET counts from its end.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flip GLOB OFFSET")
	}
	files, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(files) != 1 {
		ts.Fatalf("%s matches %d files", args[0], len(files))
	}
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	data, err := os.ReadFile(files[0])
	ts.Check(err)
	if at < 0 {
		at += len(data)
	}
	data[at] ^= 0xff
	ts.Check(os.WriteFile(files[0], data, 0o600))
}

// same DIR DIR: the directories hold the same, attributes included, seen by rsync.
func same(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: same DIR DIR")
	}
	out, err := exec.Command("rsync", "-aHAXnci", "--delete", ts.MkAbs(args[0])+"/", ts.MkAbs(args[1])+"/").CombinedOutput()
	if err != nil {
		ts.Fatalf("rsync: %v: %s", err, out)
	}
	if (len(out) == 0) == neg {
		ts.Fatalf("rsync: %s", out)
	}
}

// unguard clears the immutable flags of held volumes, which would keep the work directory from being removed.
func unguard(dir string) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && filepath.Base(filepath.Dir(path)) == "volumes" {
			_ = exec.Command("chattr", "-i", path).Run()
		}
		return nil
	})
}
