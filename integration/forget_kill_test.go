package integration

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
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

// TestKillForget kills forget and unforget of many snapshots at moments over their whole run: all are forgotten or none, and
// all can be read.
func TestKillForget(t *testing.T) {
	w := newWorld(t)
	src := newChurn(t, w.mkdir("source"))
	for range 8 {
		src.files("some", 10)
		w.backup(0, "d", src.dir)
	}
	all := w.names()
	some := all[1:6]
	forget, unforget := append([]string{"forget"}, some...), append([]string{"unforget"}, some...)
	run := w.runTime(forget...)
	for _, args := range [][]string{unforget, forget, unforget} {
		run = min(run, w.runTime(args...))
	}
	p := plan(run)
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
		if try%10 == 0 {
			w.restored(visible[try%len(visible)])
		}
	}
	t.Log(p)
	if len(w.names("--forgotten")) > 0 {
		w.do(0, unforget...)
	}
	w.do(0, "rebuild")
	for _, name := range all {
		w.restored(name)
	}
}

// TestKillKeys kills changes of key slots: what opened the store before opens it after, or what was to open it does.
func TestKillKeys(t *testing.T) {
	w := newWorld(t)
	src := newChurn(t, w.mkdir("source"))
	src.files("some", 3)
	s := w.backup(0, "d", src.dir)
	slot := func() string {
		lines := strings.Split(w.do(0, "key", "list").stdout, "\n")
		return strings.Fields(lines[1])[0]
	}
	sheet := w.do(0, "key", "export").stdout
	if err := os.WriteFile(w.path("sheet"), []byte(sheet), 0o600); err != nil {
		t.Fatal(err)
	}
	run := w.runTime("key", "add", "--new-key-file", w.path("key"))
	keys := filepath.Join(w.store, "keys")
	p := plan(run)
	for try := 0; ; try++ {
		args := [][]string{
			{"key", "add", "--new-key-file", w.path("key")}, {"key", "change", slot(), "--new-key-file", w.path("key")}, {"key", "import", w.path("sheet")},
			{"key", "remove", slot()},
		}[try%4]
		if len(strings.Split(w.do(0, "key", "list").stdout, "\n")) < 4 && args[1] == "remove" {
			continue
		}
		m, more := p.Next()
		if !more {
			break
		}
		m.Event = 0 // nothing happens to the volumes
		before := sums(t, keys)
		running := w.killAt(m, args...)
		after := sums(t, keys)
		switch {
		case !running:
			p.Late(m)
		case strings.Contains(after, ".new-"):
			p.Hit(m, "1 a file is written")
		case before == after:
			p.Hit(m, "0 before anything is written")
		default:
			p.Hit(m, "2 a slot came or went")
		}
		w.do(0, "ls", "d@"+s.Name)
	}
	t.Log(p)
}
