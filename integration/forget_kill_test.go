package integration

import (
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// kills is how many moments a kill test tries: few in short runs, 200 with $SNAPFS_TEST_LONG.
func kills() int {
	switch {
	case os.Getenv("SNAPFS_TEST_LONG") != "":
		return 200
	case testing.Short():
		return 8
	}
	return 25
}

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
	killed, done := 0, 0
	for try := 0; killed < kills() && try < 4*kills(); try++ {
		hidden := len(w.names("--forgotten")) > 0
		args := forget
		if hidden {
			args = unforget
		}
		delay := time.Duration(rand.Int64N(int64(run)))
		if w.killAt(moment{delay: delay}, args...) {
			killed++
		}
		visible, forgotten := w.names(), w.names("--forgotten")
		if both := slices.Sorted(slices.Values(slices.Concat(visible, forgotten))); !slices.Equal(both, all) {
			t.Fatalf("killed after %v: %q and %q", delay, visible, forgotten)
		}
		if len(forgotten) != 0 && !slices.Equal(forgotten, some) {
			t.Fatalf("killed after %v: some are forgotten: %q", delay, forgotten)
		}
		if (len(forgotten) > 0) != hidden {
			done++
		}
		if try%10 == 0 {
			w.restored(visible[try%len(visible)])
		}
	}
	t.Logf("killed %d runs of %v, %d of all had done their work", killed, run, done)
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
	killed := 0
	for try := 0; killed < kills() && try < 4*kills(); try++ {
		args := [][]string{
			{"key", "add", "--new-key-file", w.path("key")}, {"key", "change", slot(), "--new-key-file", w.path("key")}, {"key", "import", w.path("sheet")},
			{"key", "remove", slot()},
		}[try%4]
		if len(strings.Split(w.do(0, "key", "list").stdout, "\n")) < 4 && args[1] == "remove" {
			continue
		}
		delay := time.Duration(rand.Int64N(int64(run)))
		if w.killAt(moment{delay: delay}, args...) {
			killed++
		}
		w.do(0, "ls", "d@"+s.Name)
	}
	t.Logf("killed %d runs of %v", killed, run)
}
