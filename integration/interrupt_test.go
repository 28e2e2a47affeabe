package integration

import (
	"os"
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
	killed := 0
	for i := range 10 {
		j := w.start("rebuild")
		time.Sleep(time.Duration(3+3*i) * time.Millisecond)
		j.Process.Kill()
		if j.wait().code == -1 {
			killed++
		}
		if len(w.snapshots()) != 1 {
			t.Fatal("the snapshot is gone")
		}
		if i%3 == 0 {
			if err := os.RemoveAll(w.path("store", "index")); err != nil { // at the worst time
				t.Fatal(err)
			}
			differ(t, "without an index", want, w.restored(snap))
		}
	}
	t.Logf("%d of 10 were killed while running", killed)
	differ(t, "at the end", want, w.restored(snap))
	if s := w.backup(0, "d", src.dir); s.Read != 0 || s.Unchanged == 0 {
		t.Errorf("the tree is no longer known: %+v", s)
	}
	w.verified()
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
