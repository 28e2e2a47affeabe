package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"snapfs/integration/moments"
)

// perPhase is how many kills a test wants in each phase of what it kills: few in short runs, 200 with $SNAPFS_TEST_LONG.
func perPhase() int {
	switch {
	case os.Getenv("SNAPFS_TEST_LONG") != "":
		return 200
	case testing.Short():
		return 1
	}
	return 2
}

// plan chooses moments of a run that takes about so long, until each of the phases was hit. In short runs it asks for none.
func plan(run time.Duration, phases ...string) *moments.Plan {
	p := &moments.Plan{Goal: perPhase(), Most: 6 * perPhase(), Run: run}
	if testing.Short() {
		return p
	}
	p.Phases = phases
	if os.Getenv("SNAPFS_TEST_LONG") != "" {
		p.Least = 200
	}
	return p
}

// ended logs what a plan did, and fails the test if that was not all.
func ended(t testing.TB, p *moments.Plan) {
	t.Helper()
	t.Log(p)
	if lacks := p.Lacks(); lacks != "" && !t.Failed() {
		t.Error(lacks)
	}
}

// startUntil starts a command and returns at the moment, or when the command has ended.
func (w *world) startUntil(m moments.Moment, args ...string) *job {
	w.t.Helper()
	watch, err := moments.NewWatch(w.store, m)
	if err != nil {
		w.t.Fatal(err)
	}
	defer watch.Close()
	j := w.start(args...)
	watch.Await(m, j.ended)
	return j
}

// killAt starts a command and kills it at the moment. It reports whether it was still running then.
func (w *world) killAt(m moments.Moment, args ...string) bool {
	w.t.Helper()
	j := w.startUntil(m, args...)
	j.Process.Kill()
	return j.wait().code == -1
}

// look sees what lies among the volumes.
func (w *world) look() moments.Files {
	w.t.Helper()
	files, err := moments.Look(w.store)
	if err != nil {
		w.t.Fatal(err)
	}
	return files
}

// sums lists a tree: type, mode, time and hash of each entry.
func sums(t testing.TB, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		sum := ""
		if info.Mode().IsRegular() {
			if sum, err = sumOf(path); err != nil {
				return err
			}
		}
		if rel != "." {
			fmt.Fprintf(&out, "%s %v %v %s\n", rel, info.Mode(), info.ModTime().UnixNano(), sum)
		}
		return nil
	})
	if err != nil {
		t.Errorf("walking %s: %v", dir, err)
	}
	return out.String()
}

func sumOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

// restored restores a snapshot and lists it.
func (w *world) restored(snap string) string {
	w.t.Helper()
	out := w.path("restored")
	defer os.RemoveAll(out)
	w.do(0, "restore", snap, "--to", out)
	return sums(w.t, out)
}

// churn is a source tree that changes.
type churn struct {
	t   testing.TB
	dir string
	rnd *rand.ChaCha8
}

func newChurn(t testing.TB, dir string) *churn {
	return &churn{t: t, dir: dir, rnd: rand.NewChaCha8([32]byte{1})}
}

// write makes or replaces a file with random bytes.
func (c *churn) write(name string, size int) {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	data := make([]byte, size)
	c.rnd.Read(data)
	os.MkdirAll(filepath.Dir(path), 0o755)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		c.t.Fatal(err)
	}
}

// files writes n small files below a directory.
func (c *churn) files(dir string, n int) {
	for i := range n {
		c.write(fmt.Sprintf("%s/%d/%d", dir, i%7, i), 100+i*13%5000)
	}
}

// killsPerStore: what killed backups leave is kept for a week, so that a store of many grows, and everything takes longer.
const killsPerStore = 60

// leastKills is how many backups TestKill kills at least, but in short runs.
const leastKills = 50

// backupPhases are those that TestKill must meet.
var backupPhases = []string{
	moments.BackupScan, moments.BackupData, moments.BackupNodes, moments.BackupFact, moments.BackupIndex, moments.BackupSealing, moments.BackupSealed,
}

// TestKill kills backups at moments of every phase. After each the store opens, snapshots are intact and the next
// backup completes.
func TestKill(t *testing.T) {
	var p *moments.Plan
	for more := true; more && !t.Failed(); {
		t.Run("store", func(t *testing.T) {
			p, more = killBackups(t, p)
			t.Log(p)
		})
	}
	ended(t, p)
}

// killBackups goes on with a plan, or begins one, in a store of its own. more is false when the plan is done.
func killBackups(t *testing.T, p *moments.Plan) (_ *moments.Plan, more bool) {
	w := newWorld(t)
	src := newChurn(t, w.mkdir("source"))
	src.files("first", 300)
	src.write("large", 4<<20)
	known := map[string]string{"d@" + w.backup(0, "d", src.dir).Name: sums(t, src.dir)}

	change := func(round int) {
		src.files(fmt.Sprintf("round%d", round%4), 120)
		src.write("large", 3<<20)
		src.write(fmt.Sprintf("also%d", round%3), 1<<20)
	}
	change(0)
	began := time.Now()
	known["d@"+w.backup(0, "d", src.dir).Name] = sums(t, src.dir)
	if p == nil {
		p = plan(time.Since(began), backupPhases...)
		p.Goal, p.Least = max(p.Goal, 4), max(p.Least, leastKills)
		p.Most = 100 * p.Goal
		if testing.Short() {
			p.Goal, p.Least, p.Most = 1, 0, 10
		}
	}
	before := p.Killed()
	for try := 0; p.Killed() < before+killsPerStore; try++ {
		m, left := p.Next()
		if !left {
			w.checkAfterKills(known)
			return p, false
		}
		change(try + 1)
		w.killBackup(p, m, src, known)
	}
	w.checkAfterKills(known)
	return p, true
}

// killBackup kills one backup and checks what is left. known are the snapshots with the sums of what they hold.
func (w *world) killBackup(p *moments.Plan, m moments.Moment, src *churn, known map[string]string) {
	w.t.Helper()
	before := w.look()
	running := w.killAt(m, "backup", "--quiet", "--dataset", "d", src.dir)
	change := w.look().Since(before)
	now := sums(w.t, src.dir)
	after := w.snapshots()
	for name := range known {
		if after[name] == "" {
			w.t.Fatalf("killed %v: %s is gone", m, name)
		}
	}
	committed := false
	for name := range after { // the commit fact was written: then the snapshot must be whole
		if known[name] == "" {
			committed = true
			known[name] = now
			differ(w.t, fmt.Sprintf("killed %v: %s", m, name), now, w.restored(name))
		}
	}
	if !running {
		p.Late(m)
		return
	}
	p.Hit(m, change.OfBackup(committed))
	killed := p.Killed()
	if killed%5 == 0 {
		name := anyKey(known)
		differ(w.t, fmt.Sprintf("killed %v: %s", m, name), known[name], w.restored(name))
	}
	if killed%3 == 0 {
		w.verified()
	}
	if killed%2 == 0 { // else the next killed run follows directly
		name := "d@" + w.backup(0, "d", src.dir).Name
		known[name] = now
		if killed%10 == 0 {
			differ(w.t, "the next backup", now, w.restored(name))
		}
	}
	if w.t.Failed() {
		w.t.FailNow()
	}
}

// checkAfterKills makes a new index and compares some of the snapshots.
func (w *world) checkAfterKills(known map[string]string) {
	w.t.Helper()
	w.do(0, "rebuild")
	w.verified()
	for name, want := range known {
		if sha256.Sum256([]byte(name))[0]%12 == 0 {
			differ(w.t, "after rebuild: "+name, want, w.restored(name))
		}
	}
}

func anyKey(m map[string]string) string {
	for k := range m {
		return k
	}
	return ""
}

// holder starts a foreground mount that holds the store, and waits until it is ready.
func (w *world) holder(name string, args ...string) (*job, string) {
	w.t.Helper()
	needFUSE(w.t)
	dir := w.mkdir(name)
	j := w.start(append([]string{"mount", dir}, args...)...)
	for deadline := time.Now().Add(time.Minute); !mounted(dir); time.Sleep(5 * time.Millisecond) {
		if j.ended() || time.Now().After(deadline) {
			w.t.Fatalf("no mount: %s", j.stderr.String())
		}
	}
	return j, dir
}

// TestKillHolder kills the process that holds the store while a backup and a mount work through it.
func TestKillHolder(t *testing.T) {
	needFUSE(t)
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			w := newWorld(t)
			src := newChurn(t, w.mkdir("source"))
			src.files("files", 300)
			src.write("large", 10<<20)
			first := w.backup(0, "d", src.dir)
			want := sums(t, src.dir)

			holder, held := w.holder("held")
			second := filepath.Join(w.mount("second"), "d", first.Name) // a client of the holder
			entered, err := os.Open(filepath.Join(second, "large"))
			if err != nil {
				t.Fatal(err)
			}
			defer entered.Close()
			src.write("larger", 60<<20)
			src.files("more", 1500)
			backup := w.start("backup", "--json", "--dataset", "d", src.dir)
			time.Sleep(150 * time.Millisecond)
			running := !backup.ended()
			holder.Process.Signal(signal)
			differ(t, "the mount after its holder ended", want, sums(t, second))
			if _, err := io.Copy(io.Discard, entered); err != nil {
				t.Errorf("reading an open file: %v", err)
			}
			entered.Close()
			done := backup.want(0).summary(t)
			t.Logf("the backup was running: %v", running)
			differ(t, "the backup", sums(t, src.dir), w.restored("d@"+done.Name))
			if code := holder.wait().code; signal == syscall.SIGTERM && code != 0 {
				t.Errorf("a mount that was told to end: exit code %d", code)
			}
			if signal == syscall.SIGKILL {
				w.umount(held)
			}
			w.umount(w.path("second"))
			w.backup(0, "d", src.dir)
		})
	}
}

// TestKillMount kills a mount's server: umount and a new mount on the same point work.
func TestKillMount(t *testing.T) {
	w := newWorld(t)
	src := newChurn(t, w.mkdir("source"))
	src.files("files", 20)
	s := w.backup(0, "d", src.dir)
	for _, options := range [][]string{nil, {"--lazy"}} {
		server, dir := w.holder("mnt")
		server.Process.Kill()
		server.wait()
		if o := w.do(1, "mount", "-d", dir); !strings.Contains(o.stderr, "hint: ") {
			t.Errorf("a mount over what is left: no hint: %s", o.stderr)
		}
		w.do(0, append([]string{"umount", dir}, options...)...)
		w.mount("mnt")
		differ(t, "the new mount", sums(t, src.dir), sums(t, filepath.Join(dir, "d", s.Name)))
		w.umount(dir)
	}
	w.verified()
}

// TestKillClient kills a backup that works through another process: its lock goes with it.
func TestKillClient(t *testing.T) {
	w := newWorld(t)
	src := newChurn(t, w.mkdir("source"))
	src.files("files", 50)
	first := w.backup(0, "d", src.dir)
	want := sums(t, src.dir)
	mnt := w.mount("mnt")
	for i := range 8 {
		src.files(fmt.Sprint("more", i), 300)
		src.write("large", 20<<20)
		j := w.start("backup", "--dataset", "d", src.dir)
		time.Sleep(time.Duration(5+25*i) * time.Millisecond)
		j.Process.Kill()
		j.wait()
		s := w.backup(0, "d", src.dir)
		differ(t, "the next backup", sums(t, src.dir), w.restored("d@"+s.Name))
		differ(t, "the mount", want, sums(t, filepath.Join(mnt, "d", first.Name)))
	}
	w.umount(mnt)
	w.verified()
}
