package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestTogether runs two backups, a mount and a restore at the same time.
func TestTogether(t *testing.T) {
	needFUSE(t)
	w := newWorld(t)
	a, b := newChurn(t, w.mkdir("a")), newChurn(t, w.mkdir("b"))
	a.files("files", 500)
	b.files("files", 500)
	first := w.backup(0, "a", a.dir)
	want := sums(t, a.dir)
	mnt := w.mount("mnt") // holds the store
	a.write("large", 30<<20)
	b.write("large", 30<<20)
	a.files("more", 800)

	jobs := []*job{
		w.start("backup", "--json", "--dataset", "a", a.dir),
		w.start("backup", "--json", "--dataset", "b", b.dir),
		w.start("restore", "--json", "a@"+first.Name, "--to", w.path("out")),
	}
	differ(t, "the mount meanwhile", want, sums(t, filepath.Join(mnt, "a", first.Name)))
	doneA, doneB := jobs[0].want(0).summary(t), jobs[1].want(0).summary(t)
	jobs[2].want(0)
	differ(t, "the restore meanwhile", want, sums(t, w.path("out")))
	differ(t, "backup of a", sums(t, a.dir), w.restored("a@"+doneA.Name))
	differ(t, "backup of b", sums(t, b.dir), w.restored("b@"+doneB.Name))
	w.umount(mnt)
	w.do(0, "rebuild")
	differ(t, "backup of b after rebuild", sums(t, b.dir), w.restored("b@"+doneB.Name))
	w.verified()
}

// slowBackup starts a backup of a stream that lasts until the returned function is called.
func (w *world) slowBackup(dataset string) (*job, func()) {
	w.t.Helper()
	gate := w.path("gate-" + dataset)
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		w.t.Fatal(err)
	}
	began := w.path("began-" + dataset)
	j := w.start("backup", "--json", "--dataset", dataset, "--as", "stream", "--command", "echo begun; touch "+began+"; cat "+gate)
	open := func() {
		if err := os.WriteFile(gate, []byte("end\n"), 0); err != nil {
			w.t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(began); err == nil {
			return j, open
		}
		if j.ended() || time.Now().After(deadline) {
			w.t.Fatalf("no backup: %s", j.stderr.String())
		}
	}
}

// TestSameDataset starts a second backup of a dataset: it is refused, or waits.
func TestSameDataset(t *testing.T) {
	w := newWorld(t)
	first, open := w.slowBackup("busy")
	refused := w.do(1, "backup", "--dataset", "busy", "--as", "stream", "--command", "echo other")
	if !strings.Contains(refused.stderr, "busy") || !strings.Contains(refused.stderr, "hint: ") {
		t.Errorf("refused without naming the job or a hint: %s", refused.stderr)
	}
	waiting := w.start("backup", "--wait", "--dataset", "busy", "--as", "stream", "--command", "echo waited")
	time.Sleep(300 * time.Millisecond)
	if waiting.ended() {
		t.Errorf("--wait did not wait: %s", waiting.stderr.String())
	}
	w.do(0, "backup", "--quiet", "--dataset", "other", "--as", "stream", "--command", "echo other")
	open()
	first.want(0)
	waiting.want(0)
	if got := w.do(0, "cat", "busy:/stream").stdout; got != "waited\n" {
		t.Errorf("the stream holds %q", got)
	}
	if n := len(w.snapshots()); n != 3 {
		t.Errorf("%d snapshots, want 3", n)
	}
	w.verified()
}

// TestHolderEnds tells the holder to end while another backup works through it. An interrupted backup is no snapshot.
func TestHolderEnds(t *testing.T) {
	w := newWorld(t)
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		holder, openHolder := w.slowBackup("holder" + signal.String()[:1])
		client, openClient := w.slowBackup("client" + signal.String()[:1])
		holder.Process.Signal(signal)
		if signal == syscall.SIGTERM {
			holder.want(130)
		} else {
			openHolder() // its command goes on without it
			holder.want(-1)
		}
		w.do(0, "snapshots")
		openClient()
		client.want(0)
		if got := w.do(0, "cat", "client"+signal.String()[:1]+":/stream").stdout; got != "begun\nend\n" {
			t.Errorf("the stream holds %q", got)
		}
	}
	if n := len(w.snapshots()); n != 2 {
		t.Errorf("%d snapshots, want 2", n)
	}
	w.verified()
}

// TestStale leaves the socket and lock of a killed holder: the next command takes over without waiting.
func TestStale(t *testing.T) {
	w := newWorld(t)
	holder, open := w.slowBackup("d")
	holder.Process.Kill()
	open() // its command goes on without it
	holder.wait()
	socket := filepath.Join(w.store, "snapfs.sock")
	if _, err := os.Lstat(socket); err != nil {
		t.Fatalf("no socket is left to test with: %v", err)
	}
	began := time.Now()
	w.do(0, "snapshots")
	t.Logf("the next command took %v", time.Since(began))
	if _, err := os.Lstat(socket); err == nil {
		t.Error("the socket is still there after a clean end")
	}
	w.verified()
}

// TestRush starts many commands at once on a store that nobody holds: one becomes the holder, the others find it, also
// when it ends before them.
func TestRush(t *testing.T) {
	w := newWorld(t)
	src := newChurn(t, w.mkdir("source"))
	src.files("files", 60)
	w.backup(0, "d", src.dir)
	want := sums(t, src.dir)
	for round := range 4 {
		var jobs []*job
		for i := range 4 {
			jobs = append(jobs,
				w.start("backup", "--quiet", "--dataset", fmt.Sprintf("d%d-%d", round, i), src.dir),
				w.start("snapshots", "--json"), w.start("ls", "-R", "d"),
				w.start("restore", "d", "--to", w.path(fmt.Sprintf("out%d-%d", round, i))))
		}
		if round%2 == 1 { // whoever was first is likely to hold the store
			time.Sleep(time.Duration(10*round) * time.Millisecond)
			jobs[0].Process.Kill()
			jobs[0].wait()
			jobs = jobs[1:]
		}
		for _, j := range jobs {
			j.want(0)
		}
		for i := range 4 {
			differ(t, "restore", want, sums(t, w.path(fmt.Sprintf("out%d-%d", round, i))))
		}
	}
	for name := range w.snapshots() {
		differ(t, name, want, w.restored(name))
	}
	w.verified()
}
