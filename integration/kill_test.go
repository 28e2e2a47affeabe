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

	"golang.org/x/sys/unix"
)

// moment is when to kill a backup: after the n-th change below a directory of the store, and then a while later. The
// store's own files tell the phases apart: volumes begin with data and nodes, the journal's with the commit fact,
// the index changes after it.
type moment struct {
	event uint32 // inotify events to count; 0: from the start of the process
	dir   string // below the store
	nth   int
	delay time.Duration
}

func (m moment) String() string {
	return fmt.Sprintf("%s event %#x number %d + %v", m.dir, m.event, m.nth, m.delay)
}

// moments spreads n of them over a run that takes about so long.
func moments(n int, run time.Duration) []moment {
	var all []moment
	for i := range n {
		switch i % 5 {
		case 0, 1: // anywhere: the scan, reading, writing, the end
			all = append(all, moment{delay: run * time.Duration(i+1) / time.Duration(n)})
		case 2: // a volume has begun: data, nodes, and shortly before the end the journal's
			all = append(all, moment{event: unix.IN_CREATE, dir: "volumes", nth: 1 + i/5%3, delay: time.Duration(i%3) * time.Millisecond})
		case 3: // somewhere among the writes, the last of which are the nodes, the commit fact and the sealing
			all = append(all, moment{event: unix.IN_MODIFY, dir: "volumes", nth: 1 + i*i/12})
		case 4: // commit fact and index batch
			all = append(all, moment{event: unix.IN_CREATE, dir: "volumes", nth: 3, delay: time.Duration(i) * 200 * time.Microsecond})
		}
	}
	return all
}

// killAt starts a backup and kills it at the moment. It reports whether the backup was still running then.
func (w *world) killAt(m moment, args ...string) bool {
	w.t.Helper()
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		w.t.Fatal(err)
	}
	defer unix.Close(watch)
	if m.event != 0 {
		if _, err := unix.InotifyAddWatch(watch, filepath.Join(w.store, m.dir), m.event); err != nil {
			w.t.Fatal(err)
		}
	}
	j := w.start(args...)
	if m.event != 0 {
		awaitEvents(j, watch, m.nth)
	}
	time.Sleep(m.delay)
	j.Process.Kill()
	return j.wait().code == -1
}

// awaitEvents returns after so many inotify events, or when the job has ended.
func awaitEvents(j *job, watch, count int) {
	buf := make([]byte, 4096)
	poll := []unix.PollFd{{Fd: int32(watch), Events: unix.POLLIN}}
	for !j.ended() {
		if n, _ := unix.Poll(poll, 10); n <= 0 {
			continue
		}
		n, err := unix.Read(watch, buf)
		if err != nil {
			return
		}
		for at := 0; at+unix.SizeofInotifyEvent <= n; {
			if count--; count <= 0 {
				return
			}
			// struct inotify_event: wd, mask, cookie, len (4 bytes each), name
			length := int(buf[at+12]) | int(buf[at+13])<<8
			at += unix.SizeofInotifyEvent + length
		}
	}
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

// TestKill kills backups at moments of every phase. After each the store opens, snapshots are intact and the next
// backup completes.
func TestKill(t *testing.T) {
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
	run := time.Since(began)

	rounds := max(50, kills())
	if testing.Short() {
		rounds = 10
	}
	killed, committed := 0, 0
	plan := moments(rounds, run)
	for try := 0; killed < rounds && try < 4*rounds; try++ {
		change(try + 1)
		m := plan[try%len(plan)]
		if try >= len(plan) { // one that came too late: earlier this time
			m = moment{delay: time.Duration(rand.Int64N(int64(run)))}
		}
		running := w.killAt(m, "backup", "--quiet", "--dataset", "d", src.dir)
		now := sums(t, src.dir)
		after := w.snapshots()
		if !running {
			for name := range after {
				if known[name] == "" {
					known[name] = now
				}
			}
			continue
		}
		killed++
		for name := range known {
			if after[name] == "" {
				t.Fatalf("killed at %v: %s is gone", m, name)
			}
		}
		for name := range after { // the commit fact was written: then the snapshot must be whole
			if known[name] == "" {
				committed++
				known[name] = now
				differ(t, fmt.Sprintf("killed at %v: %s", m, name), now, w.restored(name))
			}
		}
		if killed%5 == 0 {
			name := anyKey(known)
			differ(t, fmt.Sprintf("killed at %v: %s", m, name), known[name], w.restored(name))
		}
		if killed%3 == 0 {
			w.verified()
		}
		if killed%2 == 0 { // else the next killed run follows directly
			name := "d@" + w.backup(0, "d", src.dir).Name
			known[name] = now
			if killed%10 == 0 {
				differ(t, "the next backup", now, w.restored(name))
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d runs of %v killed, %d after their commit", killed, run, committed)
	if killed < rounds {
		t.Errorf("only %d of %d runs were killed while running", killed, rounds)
	}
	w.do(0, "rebuild")
	w.verified()
	for name, want := range known {
		if sha256.Sum256([]byte(name))[0]%12 == 0 {
			differ(t, "after rebuild: "+name, want, w.restored(name))
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
