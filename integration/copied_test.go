package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"snapfs/integration/moments"
)

// TestCopiedWhileUsed copies the directory of a store, file by file, while a backup or a prune works on it. The copy opens; what was
// committed before is in it, or is named by verify where files were removed before they were copied; and backups go on in it.
func TestCopiedWhileUsed(t *testing.T) {
	for _, work := range []string{"backup", "prune"} {
		t.Run(work, func(t *testing.T) {
			w := newWorld(t)
			src := newChurn(t, w.mkdir("source"))
			for i := range 6 {
				src.write(fmt.Sprintf("large/%d", i), 2<<20)
				src.files(fmt.Sprintf("small/%d", i), 100)
			}
			first := "d@" + w.backup(0, "d", src.dir).Name
			known := map[string]string{first: sums(t, src.dir)}
			for i := range 3 { // half of every volume
				os.Remove(filepath.Join(src.dir, fmt.Sprintf("large/%d", 2*i)))
				os.RemoveAll(filepath.Join(src.dir, fmt.Sprintf("small/%d", 2*i)))
			}
			known["d@"+w.backup(0, "d", src.dir).Name] = sums(t, src.dir)
			src.write("new", 12<<20)
			src.files("more", 300)
			args := []string{"backup", "--quiet", "--dataset", "d", src.dir}
			if work == "prune" {
				w.do(0, "forget", first)
				delete(known, first)
				args = []string{"prune", "--max-waste", "0"}
			}
			now := sums(t, src.dir)
			whole := w.path("whole")
			sh(t, w.dir, `cp -a store whole`)
			during := 0
			for _, m := range copyMoments(w.runTime(args...)) {
				sh(t, w.dir, `rm -rf store copy; cp -a "$1" store`, whole)
				if w.copyDuring(m, args...) {
					during++
				}
				w.at(w.path("copy")).checkCopy(m, src.dir, now, known, work == "prune")
				if t.Failed() {
					t.FailNow()
				}
			}
			if during == 0 {
				t.Errorf("each %s had ended before it was copied", work)
			}
			w.verified()
		})
	}
}

// copyMoments are when to begin with copies, and many more in long runs.
func copyMoments(run time.Duration) []moments.Moment {
	list := []moments.Moment{
		{Event: unix.IN_CREATE, Nth: 1}, {Event: unix.IN_CREATE, Nth: 1, Delay: run / 8}, {Event: unix.IN_CREATE, Nth: 2}, {Event: unix.IN_MODIFY, Nth: 20},
	}
	if os.Getenv("SNAPFS_TEST_LONG") != "" {
		for i := range 50 {
			list = append(list, moments.Moment{Event: unix.IN_CREATE, Nth: 1 + i%2, Delay: run * time.Duration(i) / 100})
		}
	}
	return list
}

// copyDuring copies the store from that moment of a command on, and lets the command end. It reports whether it still ran then.
func (w *world) copyDuring(m moments.Moment, args ...string) bool {
	w.t.Helper()
	j := w.startUntil(m, args...)
	running := !j.ended()
	out, err := exec.Command("cp", "-a", w.store, w.path("copy")).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if !strings.Contains(line, "No such file") { // removed since cp listed it
			w.t.Fatalf("%v: %s", err, line)
		}
	}
	j.want(0)
	return running
}

// at is the same world with another store.
func (w *world) at(store string) *world {
	other := *w
	other.store = store
	other.env = append(other.env[:len(other.env):len(other.env)], "SNAPFS_STORE="+store)
	return &other
}

// checkCopy checks a copy of a store by itself: just what verify names is not to be had. Only where volumes were removed while it
// was made may something be missing that was committed before.
func (w *world) checkCopy(m moments.Moment, src, now string, known map[string]string, mayLack bool) {
	w.t.Helper()
	w.snapshots() // it opens as it is
	found := w.start("verify", "--data", "--json").wait()
	if found.code == 4 { // of the index, perhaps, which was written to
		w.rebuildCopy(m, known)
		found = w.start("verify", "--data", "--json").wait()
	}
	if found.code != 0 && found.code != 4 {
		w.t.Fatalf("%v: verify: exit code %d: %s", m, found.code, tail(found.stderr))
	}
	there := w.snapshots() // perhaps without one that only the index knew
	lacks := false
	for name := range there {
		want, before := known[name]
		if !before {
			want = now // the backup had just ended, by what was copied of it
		}
		lost := w.restoredBut(name, want)
		if before && !mayLack && len(lost) > 0 {
			w.t.Errorf("%v: %s lacks %d paths", m, name, len(lost))
		}
		named := verifiedPaths(w.t, found)
		for path := range lost {
			lacks = true
			if !under("/"+path, named) && !named["/"] {
				w.t.Errorf("%v: %s lacks %s, and verify does not say so", m, name, path)
			}
		}
	}
	for name := range known {
		if there[name] == "" {
			w.t.Errorf("%v: %s is gone", m, name)
		}
	}
	if found.code == 0 && lacks {
		w.t.Errorf("%v: verify finds nothing, and something is missing", m)
	}
	w.t.Logf("%v: %d snapshots, verify ends with %d", m, len(there), found.code)
	s := w.backup(0, "d", src)
	differ(w.t, "the next backup into the copy", now, w.restored("d@"+s.Name))
	if found.code == 0 {
		w.verified()
	}
}

// rebuildCopy makes the index of a copy anew. Where that was copied after the volumes, it knows more than they hold: that is said.
func (w *world) rebuildCopy(m moments.Moment, known map[string]string) {
	w.t.Helper()
	o := w.start("rebuild").wait()
	if o.code != 0 && (o.code != 4 || !strings.Contains(o.stderr, "gone") && !strings.Contains(o.stderr, "missing")) {
		w.t.Fatalf("%v: rebuild: exit code %d: %s", m, o.code, tail(o.stderr))
	}
	for name := range known {
		if strings.Contains(o.stderr, "snapshot gone: "+name+" ") {
			w.t.Errorf("%v: %s", m, tail(o.stderr))
		}
	}
}

// restoredBut restores a snapshot, compares what that brings, and returns what it does not.
func (w *world) restoredBut(snap, want string) (lost map[string]bool) {
	w.t.Helper()
	out := w.path("out")
	defer os.RemoveAll(out)
	o := w.start("restore", "--json", snap, "--to", out).wait()
	if o.code != 0 && o.code != 4 {
		w.t.Fatalf("restore: exit code %d: %s", o.code, tail(o.stderr))
	}
	lost = reported(w.t, o, out)
	if o.code == 4 && len(lost) == 0 {
		w.t.Errorf("restore: exit code 4, and nothing named: %s", tail(o.stderr))
	}
	keep := func(listing string) string {
		var kept strings.Builder
		for line := range strings.Lines(listing) {
			if name, _, _ := strings.Cut(line, " "); !under(name, lost) {
				kept.WriteString(line)
			}
		}
		return kept.String()
	}
	differ(w.t, snap, keep(want), keep(sums(w.t, w.mkdir("out"))))
	return lost
}
