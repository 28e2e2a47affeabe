package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"snapfs/integration/moments"
)

// TestKillRebuild kills a rebuild: the store goes on with the index it has, or makes a new one.
func TestKillRebuild(t *testing.T) {
	w := newWorld(t)
	src := newChurn(t, w.mkdir("source"))
	src.files("files", 1500)
	snap := "d@" + w.backup(0, "d", src.dir).Name
	want := sums(t, src.dir)
	p := plan(w.runTime("rebuild"), rebuildReads, rebuildMakes, rebuildTakes, rebuildEnds)
	p.Dirs = []string{"index"}
	p.Aims = map[string]moments.Moment{
		rebuildMakes: {Dir: "index", Event: unix.IN_CREATE, Nth: 1},
		rebuildTakes: {Dir: "index", Event: unix.IN_MOVED_TO, Nth: 1},
		rebuildEnds:  {Dir: "index", Event: unix.IN_DELETE, Nth: 1},
	}
	for try := 0; ; try++ {
		m, more := p.Next()
		if !more {
			break
		}
		before := w.indexes()
		if w.killAt(m, "rebuild") {
			p.Hit(m, rebuilding(before, w.indexes()))
		} else {
			p.Late(m)
		}
		if len(w.snapshots()) != 1 {
			t.Fatal("the snapshot is gone")
		}
		w.verified()
		if try%3 == 0 {
			if err := os.RemoveAll(w.path("store", "index")); err != nil { // at the worst time
				t.Fatal(err)
			}
		}
		differ(t, fmt.Sprintf("killed %v", m), want, w.restored(snap))
		if t.Failed() {
			t.FailNow()
		}
	}
	ended(t, p)
	w.do(0, "rebuild")
	differ(t, "at the end", want, w.restored(snap))
	if s := w.backup(0, "d", src.dir); s.Read != 0 || s.Unchanged == 0 {
		t.Errorf("the tree is no longer known: %+v", s)
	}
	w.verified()
}

// The phases of a rebuild.
const (
	rebuildReads = "0 before the new index"
	rebuildMakes = "1 the new index is made"
	rebuildTakes = "2 the new index is in place"
	rebuildEnds  = "3 the old index is gone"
)

// indexes lists those of the store, and which of them is in use.
func (w *world) indexes() (list []string) {
	w.t.Helper()
	entries, err := os.ReadDir(filepath.Join(w.store, "index"))
	if err != nil {
		w.t.Fatal(err)
	}
	current, err := os.ReadFile(filepath.Join(w.store, "index", "current"))
	if err != nil {
		w.t.Fatal(err)
	}
	list = append(list, strings.TrimSpace(string(current)))
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil {
			list = append(list, e.Name())
		}
	}
	return list
}

// rebuilding says what a rebuild was doing.
func rebuilding(before, now []string) string {
	switch {
	case now[0] != before[0] && !slices.Contains(now[1:], before[0]):
		return rebuildEnds
	case now[0] != before[0]:
		return rebuildTakes
	case !slices.Equal(before, now):
		return rebuildMakes
	}
	return rebuildReads
}

// TestInterruptRestore ends a restore by kill and by signals: run again it finishes, and leaves nothing but the tree.
func TestInterruptRestore(t *testing.T) {
	w := newWorld(t)
	src := newChurn(t, w.mkdir("source"))
	src.files("files", 2000)
	src.write("large", 30<<20)
	snap := "d@" + w.backup(0, "d", src.dir).Name
	want := sums(t, src.dir)
	for i, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT, syscall.SIGKILL, syscall.SIGTERM, syscall.SIGKILL} {
		out := w.path("out")
		j := w.start("restore", snap, "--to", out)
		for !j.ended() { // before its handlers stand a process ends of itself by a signal
			if _, err := os.Lstat(out); err == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(10*i) * time.Millisecond)
		j.Process.Signal(signal)
		code := j.wait().code
		if wanted := map[bool]int{true: -1, false: 130}[signal == syscall.SIGKILL]; code != wanted && code != 0 {
			t.Errorf("%v: exit code %d", signal, code)
		}
		t.Logf("%v after %d files: exit code %d", signal, strings.Count(sums(t, w.mkdir("out")), "\n"), code)
		w.do(0, "restore", snap, "--to", out)
		differ(t, signal.String(), want, sums(t, out))
		if err := os.RemoveAll(out); err != nil {
			t.Fatal(err)
		}
	}
}

// TestInterruptBackup ends a backup by signals: exit 130, no snapshot, and the next one completes.
func TestInterruptBackup(t *testing.T) {
	w := newWorld(t)
	src := newChurn(t, w.mkdir("source"))
	src.files("files", 2000)
	src.write("large", 60<<20)
	for i, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		m := moments.Moment{Event: unix.IN_CREATE, Nth: 1, Delay: time.Duration(10*i) * time.Millisecond}
		watch, err := moments.NewWatch(w.store, m)
		if err != nil {
			t.Fatal(err)
		}
		j := w.start("backup", "--quiet", "--dataset", "d", src.dir)
		watch.Await(m, j.ended)
		watch.Close()
		running := !j.ended()
		j.Process.Signal(signal)
		code := j.wait().code
		if found := len(w.snapshots()); running && code == 130 && found != 0 || code != 130 && code != 0 {
			t.Errorf("%v: exit code %d, %d snapshots", signal, code, found)
		}
		if code == 0 {
			t.Skip("the machine is too fast")
		}
	}
	s := w.backup(0, "d", src.dir)
	differ(t, "the next backup", sums(t, src.dir), w.restored("d@"+s.Name))
	w.verified()
}
