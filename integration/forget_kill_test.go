package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"snapfs/integration/moments"
)

// names lists snapshots as DATASET@NAME, sorted.
func (w *world) names(args ...string) (list []string) {
	w.t.Helper()
	for line := range strings.Lines(w.do(0, append([]string{"snapshots", "--quiet"}, args...)...).stdout) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.Contains(fields[1], "@") {
			list = append(list, fields[1])
		}
	}
	slices.Sort(list)
	return list
}

// runTimes is how long the command takes, a bit more than measured.
func (w *world) runTime(args ...string) time.Duration {
	began := time.Now()
	w.do(0, args...)
	return time.Since(began) * 5 / 4
}

// TestKillForget kills forget and unforget of many snapshots at moments over their whole run: all are forgotten or none, the
// store is whole, and all hold what they held.
func TestKillForget(t *testing.T) {
	w := newWorld(t)
	src := newChurn(t, w.mkdir("source"))
	known := map[string]string{}
	for range 8 {
		src.files("some", 10)
		known["d@"+w.backup(0, "d", src.dir).Name] = sums(t, src.dir)
	}
	all := w.names()
	some := all[1:6]
	forget, unforget := append([]string{"forget"}, some...), append([]string{"unforget"}, some...)
	run := w.runTime(forget...)
	for _, args := range [][]string{unforget, forget, unforget} {
		run = min(run, w.runTime(args...))
	}
	p := plan(run, moments.FactsBegin, moments.FactsBefore, moments.FactsAfter, moments.FactsSealed)
	p.Aims = map[string]moments.Moment{
		moments.FactsBefore: {Event: unix.IN_CREATE, Nth: 1},
		moments.FactsAfter:  {Event: unix.IN_MODIFY, Nth: 2},
	}
	for try := 0; ; try++ {
		m, more := p.Next()
		if !more {
			break
		}
		hidden := len(w.names("--forgotten")) > 0
		args := forget
		if hidden {
			args = unforget
		}
		before := w.look()
		running := w.killAt(m, args...)
		change := w.look().Since(before)
		visible, forgotten := w.names(), w.names("--forgotten")
		if both := slices.Sorted(slices.Values(slices.Concat(visible, forgotten))); !slices.Equal(both, all) {
			t.Fatalf("killed %v: %q and %q", m, visible, forgotten)
		}
		if len(forgotten) != 0 && !slices.Equal(forgotten, some) {
			t.Fatalf("killed %v: some are forgotten: %q", m, forgotten)
		}
		if running {
			p.Hit(m, change.OfFacts((len(forgotten) > 0) != hidden))
		} else {
			p.Late(m)
		}
		w.verified()
		name := visible[try%len(visible)]
		differ(t, fmt.Sprintf("killed %v: %s", m, name), known[name], w.restored(name))
		if t.Failed() {
			t.FailNow()
		}
	}
	ended(t, p)
	if len(w.names("--forgotten")) > 0 {
		w.do(0, unforget...)
	}
	w.do(0, "rebuild")
	w.verified()
	for _, name := range all {
		differ(t, name, known[name], w.restored(name))
	}
}

// secrets are what may unlock the store of TestKillKeys, with the options that give them.
var secrets = map[string]string{"key": "--key-file", "other": "--key-file", "word": "--password-file"}

// slot is a key slot as it is listed.
type slot struct{ ID, Kind string }

// slots lists the key slots without one.
func (w *world) slots(but string) (list []slot) {
	w.t.Helper()
	if err := json.Unmarshal([]byte(w.do(0, "key", "list", "--json").stdout), &list); err != nil {
		w.t.Fatal(err)
	}
	return slices.DeleteFunc(list, func(s slot) bool { return s.ID == but })
}

// opens demands that a snapshot can be read with the first secret, and with each of the others just if a slot for it is listed
// beside the first.
func (w *world) opens(first, snap, want string) (others string) {
	w.t.Helper()
	there := map[string]bool{"key": true}
	for _, s := range w.slots(first) {
		there[map[string]string{"key-file": "other", "password": "word"}[s.Kind]] = true
	}
	for name, option := range secrets {
		if code := map[bool]int{true: 0, false: 12}[there[name]]; code != 0 {
			w.do(code, "ls", snap, option, w.path(name))
			continue
		}
		out := w.path("restored")
		w.do(0, "restore", snap, "--to", out, option, w.path(name))
		differ(w.t, "opened by "+name, want, sums(w.t, out))
		os.RemoveAll(out)
	}
	return fmt.Sprint(there["other"], there["word"])
}

// TestKillKeys kills changes of key slots. After each just those secrets open the store whose slots are listed: the old one, until
// the new one does, never none. Done again, the change succeeds, and has its effect.
func TestKillKeys(t *testing.T) {
	w := newWorld(t)
	src := newChurn(t, w.mkdir("source"))
	src.files("some", 3)
	snap, want := "d@"+w.backup(0, "d", src.dir).Name, sums(t, src.dir)
	first := w.slots("")[0].ID
	for name, data := range map[string]string{"other": strings.Repeat("o", 32), "word": "horse battery\n"} {
		if err := os.WriteFile(w.path(name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const no, other, word, both = "false false", "true false", "false true", "true true"
	steps := []struct {
		args []string
		from string
		to   string
		also string // what may be there in the middle of it
	}{
		{[]string{"key", "add", "--new-key-file", w.path("other")}, no, other, ""},
		{[]string{"key", "change", "SLOT", "--new-password-file", w.path("word")}, other, word, both},
		{[]string{"key", "remove", "SLOT"}, word, no, ""},
		{[]string{"key", "import", w.path("sheet")}, no, word, ""},
		{[]string{"key", "change", "SLOT", "--new-key-file", w.path("other")}, word, other, both},
		{[]string{"key", "remove", "SLOT"}, other, no, ""},
	}
	var p *moments.Plan
	for try := 0; ; try++ {
		step := steps[try%len(steps)]
		args := slices.Clone(step.args)
		if i := slices.Index(args, "SLOT"); i >= 0 {
			args[i] = w.slots(first)[0].ID
		}
		if p == nil {
			w.opens(first, snap, want)
			began := time.Now()
			w.do(0, args...)
			p = plan(time.Since(began), "0 before anything is written", "1 a file is written", "2 a slot came or went")
			p.Dirs = []string{"keys"}
			p.Aims = map[string]moments.Moment{
				"1 a file is written":   {Dir: "keys", Event: unix.IN_CREATE, Nth: 1},
				"2 a slot came or went": {Dir: "keys", Event: unix.IN_MOVED_TO | unix.IN_DELETE, Nth: 1},
			}
			continue
		}
		if try == 2 { // the slot with the password is what it brings back
			w.exportKeys()
		}
		m, more := p.Next()
		if !more {
			break
		}
		before := sums(t, filepath.Join(w.store, "keys"))
		running := w.killAt(m, args...)
		after := sums(t, filepath.Join(w.store, "keys"))
		got := w.opens(first, snap, want)
		switch {
		case got != step.from && got != step.to && got != step.also:
			t.Fatalf("%q killed %v: it was %q, is to be %q, is %q", step.args, m, step.from, step.to, got)
		case !running && got != step.to:
			t.Fatalf("%q had no effect: %q", step.args, got)
		case !running:
			p.Late(m)
		case strings.Contains(after, ".new-"):
			p.Hit(m, "1 a file is written")
		case before == after:
			p.Hit(m, "0 before anything is written")
		default:
			p.Hit(m, "2 a slot came or went")
		}
		if got == both { // the new slot is there: the old one remains to be removed
			args = []string{"key", "remove", args[2]}
		}
		if got != step.to {
			w.do(0, args...)
			if got := w.opens(first, snap, want); got != step.to {
				t.Fatalf("%q had no effect: %q", args, got)
			}
		}
		w.verified()
	}
	ended(t, p)
}

func (w *world) exportKeys() {
	w.t.Helper()
	if err := os.WriteFile(w.path("sheet"), []byte(w.do(0, "key", "export").stdout), 0o600); err != nil {
		w.t.Fatal(err)
	}
}
