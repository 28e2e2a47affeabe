package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"snapfs/integration/moments"
)

// archiveSource is a store with a snapshot of some MiB that do not compress.
func archiveSource(t *testing.T, mib int) *world {
	w := newWorld(t)
	sh(t, w.dir, `mkdir src && for i in $(seq 200); do echo "file $i" > src/small$i; done
		for i in $(seq "$1"); do head -c 1048576 /dev/urandom > src/big$i; done`, fmt.Sprint(mib))
	w.backup(0, "data", w.path("src"))
	return w
}

// restoredFrom restores the newest snapshot from volumes and compares it with the source.
func (w *world) restoredFrom(volumes ...string) {
	w.t.Helper()
	args := []string{"archive", "restore", "data", "--to", w.path("restored")}
	for _, v := range volumes {
		args = append(args, "--from", v)
	}
	w.do(0, args...)
	sh(w.t, w.dir, `diff -r src restored && rm -r restored`)
}

// setsByName are the sets that the store knows.
func (w *world) setsByName() map[string]struct {
	State   string
	Volumes []struct{ Where string }
} {
	w.t.Helper()
	var list []struct {
		Name    string
		State   string
		Volumes []struct{ Where string }
	}
	if err := json.Unmarshal([]byte(w.do(0, "archive", "sets", "--json").stdout), &list); err != nil {
		w.t.Fatal(err)
	}
	sets := map[string]struct {
		State   string
		Volumes []struct{ Where string }
	}{}
	for _, s := range list {
		sets[s.Name] = struct {
			State   string
			Volumes []struct{ Where string }
		}{s.State, s.Volumes}
	}
	return sets
}

// TestKillArchiveCreate kills the writer of a set at moments over its whole run, again and again: what was completed stays as it is, the
// store is whole, and so is the set when it has been gone on with to its end.
func TestKillArchiveCreate(t *testing.T) {
	w := archiveSource(t, 24)
	dir := w.path("set")
	create := func(name string) []string {
		return []string{"archive", "create", "--to", w.mkdir("set"), "--set", name, "--level", "full", "--volume-size", "4M", "--parity-volumes", "1", "--parity-dir", w.mkdir("sums")}
	}
	p := plan(w.runTime(create("first")...), archivePlans, archiveFirst, archiveBetween, archiveFurther, archiveParity)
	written, _ := filepath.Glob(filepath.Join(dir, "*.snapfs"))
	sh(t, w.dir, `rm -r set sums`)
	p.Dirs = []string{"../set", "../sums"}
	p.Aims = map[string]moments.Moment{
		archiveFirst:   {Dir: "../set", Event: unix.IN_CREATE, Nth: 1},
		archiveBetween: {Dir: "../set", Event: unix.IN_MOVED_TO, Nth: 1},
		archiveParity:  {Dir: "../set", Event: unix.IN_MOVED_TO, Nth: len(written)},
	}
	m, more := p.Next()
	for try := 0; more; try++ {
		name := fmt.Sprintf("set%d", try)
		args := create(name)
		for ; more; m, more = p.Next() {
			if !w.killAt(m, args...) {
				p.Late(m)
				m, more = p.Next()
				break
			}
			p.Hit(m, writing(dir))
			w.verified()
			s, known := w.setsByName()[name]
			if !known {
				continue // it was not begun yet
			}
			for _, v := range s.Volumes {
				w.do(0, "archive", "info", v.Where)
				if s.State == "unfinished" && !strings.Contains(filepath.Base(v.Where), "-parity-") {
					w.readable(v.Where)
				}
			}
			args = []string{"archive", "create", "--to", dir, "--resume", name, "--volume-size", "4M", "--parity-dir", w.path("sums")}
			if s.State != "unfinished" {
				if _, err := os.Stat(filepath.Join(dir, name+".txt")); err != nil {
					t.Errorf("a finished set without its text: %v", err)
				}
				m, more = p.Next()
				break
			}
		}
		if s := w.setsByName()[name]; s.State != "onsite" {
			w.do(0, args...)
		}
		w.checkSet(dir, try%4 == 0)
		if t.Failed() {
			t.FailNow()
		}
		sh(t, w.dir, `rm -r set sums`)
	}
	ended(t, p)
}

// checkSet: a set is whole, and if asked that its parity volume stands for one that is lost.
func (w *world) checkSet(dir string, lose bool) {
	w.t.Helper()
	w.do(0, "archive", "verify", dir)
	w.restoredFrom(dir)
	left, _ := filepath.Glob(filepath.Join(dir, "*.partial"))
	if len(left) > 0 {
		w.t.Errorf("left behind: %q", left)
	}
	if !lose {
		return
	}
	lost, _ := filepath.Glob(filepath.Join(dir, "*-0003.snapfs"))
	if err := os.Remove(lost[0]); err != nil {
		w.t.Fatal(err)
	}
	w.do(0, "archive", "repair", dir, "--to", w.mkdir("healed"))
	sh(w.t, w.dir, `for f in "$1"/*.snapfs; do [ -e "healed/${f##*/}" ] || cp "$f" healed/; done`, dir)
	w.restoredFrom(w.path("healed"))
	sh(w.t, w.dir, `rm -r healed`)
}

// The phases of writing a set.
const (
	archivePlans   = "0 planning"
	archiveFirst   = "1 writing the first volume"
	archiveBetween = "2 between volumes, facts"
	archiveFurther = "3 writing a further volume"
	archiveParity  = "4 parity volumes complete"
)

// readable reads a volume of an unfinished set by itself: it tells what the set holds, and all that is found is that others are missing.
func (w *world) readable(volume string) {
	w.t.Helper()
	if out := w.do(0, "archive", "ls", volume).stdout; !strings.Contains(out, "data@") {
		w.t.Errorf("%s: %s", volume, out)
	}
	out := w.do(4, "archive", "verify", volume, "--json").stdout
	if strings.Count(out, `"event":"finding"`) != strings.Count(out, `"event":"finding","offset":-1,`) || !strings.Contains(out, `"volumes":1,"frames":`) {
		w.t.Errorf("%s: %s", volume, out)
	}
}

// writing says what the writer of a set was doing.
func writing(dir string) string {
	count := func(pattern string) int {
		list, _ := filepath.Glob(filepath.Join(dir, pattern))
		return len(list)
	}
	switch partial := count("*.partial"); {
	case count("*-parity-*.snapfs") > 0:
		return archiveParity
	case partial > 0 && count("*.snapfs") > 0:
		return archiveFurther
	case partial > 0:
		return archiveFirst
	case count("*.snapfs") > 0:
		return archiveBetween
	}
	return archivePlans
}

// TestArchiveFullDisk fills a small disk: the volume on it is complete, and the set goes on on another one.
func TestArchiveFullDisk(t *testing.T) {
	needRoot(t)
	for _, disk := range []struct {
		name   string
		attach func(t testing.TB, dir string)
	}{
		{"tmpfs", func(t testing.TB, dir string) { attachTmpfs(t, dir, "9M") }},
		{"ext4", func(t testing.TB, dir string) { attachExt4(t, dir, "12M") }},
	} {
		t.Run(disk.name, func(t *testing.T) {
			w := archiveSource(t, 16)
			small, large := w.mkdir("small"), w.mkdir("large")
			disk.attach(t, small)
			out := w.do(1, "archive", "create", "--to", small, "--set", "one")
			if !strings.Contains(out.stderr, "the medium is full") {
				t.Errorf("%s", out.stderr)
			}
			info := w.do(0, "archive", "info", filepath.Join(small, "one-0001.snapfs")).stdout
			if !strings.Contains(info, "complete") {
				t.Errorf("%s", info)
			}
			w.do(0, "archive", "create", "--to", large, "--resume", "one")
			w.do(0, "archive", "verify", small, large)
			w.restoredFrom(small, large)
		})
	}
}

// TestArchiveBlockDevices writes a set over two block devices, and refuses to write over anything else.
func TestArchiveBlockDevices(t *testing.T) {
	needRoot(t)
	needTools(t, "losetup")
	w := archiveSource(t, 12)
	var devices []string
	for i := range 2 {
		image := w.path(fmt.Sprintf("disk%d", i))
		sh(t, w.dir, `truncate -s 10M "$1"`, image)
		out, err := exec.Command("losetup", "--find", "--show", image).Output()
		if err != nil {
			t.Skipf("no loop device: %v", err)
		}
		device := strings.TrimSpace(string(out))
		t.Cleanup(func() {
			if err := exec.Command("losetup", "-d", device).Run(); err != nil {
				t.Error(err)
			}
		})
		devices = append(devices, device)
	}
	link := w.path("drive")
	sh(t, w.dir, `ln -s "$1" "$2"`, devices[0], link)
	w.do(0, "archive", "create", "--to", link, "--set", "one", "--block", "64K", "--next-volume", "ln -sf "+devices[1]+" "+link)
	w.do(0, "archive", "verify", devices[0], devices[1])
	w.restoredFrom(devices...)
	out := w.do(1, "archive", "create", "--to", devices[0], "--set", "two", "--level", "full", "--overwrite")
	if !strings.Contains(out.stderr, "volume 1 of set one") {
		t.Errorf("%s", out.stderr)
	}
	sh(t, w.dir, `dd if=/dev/zero of="$1" bs=4096 count=1 conv=notrunc status=none`, devices[0])
	out = w.do(1, "archive", "create", "--to", devices[0], "--set", "three", "--level", "full", "--overwrite")
	if !strings.Contains(out.stderr, "holds something already") {
		t.Errorf("%s", out.stderr)
	}
}

// TestArchivePipeCloses: who reads the volumes goes away; that is an error, and the set is unfinished.
func TestArchivePipeCloses(t *testing.T) {
	w := archiveSource(t, 8)
	cmd := w.command("bash", "-c", `set -o pipefail; "$0" archive create --to - --set one 2>errors | head -c 100000 >/dev/null`, snapfs)
	if err := cmd.Run(); err == nil {
		t.Error("no error")
	}
	errors, err := os.ReadFile(w.path("errors"))
	if err != nil || !strings.Contains(string(errors), "nobody reads it any more") {
		t.Errorf("%v %s", err, errors)
	}
	if s := w.setsByName()["one"]; s.State != "unfinished" {
		t.Errorf("the set is %q", s.State)
	}
}

// TestArchiveWaitsForReader: a set for a FIFO that nobody reads is interrupted like any other command, and leaves nothing.
func TestArchiveWaitsForReader(t *testing.T) {
	w := archiveSource(t, 1)
	pipe := w.path("pipe")
	sh(t, w.dir, `mkfifo "$1"`, pipe)
	j := w.start("archive", "create", "--to", pipe, "--set", "one")
	time.Sleep(time.Second)
	if j.ended() {
		t.Fatalf("it did not wait: %s", j.wait().stderr)
	}
	if err := j.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	j.want(130)
	if _, known := w.setsByName()["one"]; known {
		t.Error("a set was begun")
	}
	j = w.start("archive", "create", "--to", pipe, "--set", "one")
	time.Sleep(200 * time.Millisecond)
	sh(t, w.dir, `cat "$1" > volume`, pipe)
	j.want(0)
	w.do(0, "archive", "verify", w.path("volume"))
}

// TestArchiveTwoAtOnce: a second set of a pool is refused while one is written, or waits for it.
func TestArchiveTwoAtOnce(t *testing.T) {
	w := archiveSource(t, 2)
	sh(t, w.dir, `mkfifo pipe`)
	first := w.start("archive", "create", "--to", w.path("pipe"), "--set", "one")
	reader, err := os.Open(w.path("pipe"))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if _, err := reader.Read(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	out := w.do(1, "archive", "create", "--to", w.mkdir("out"), "--set", "two")
	if !strings.Contains(out.stderr, "archive create") || !strings.Contains(out.stderr, "--wait") {
		t.Errorf("%s", out.stderr)
	}
	second := w.start("archive", "create", "--to", w.path("out"), "--set", "two", "--wait")
	other := w.do(0, "archive", "create", "--to", w.mkdir("other"), "--set", "three", "--pool", "other")
	if !strings.Contains(other.stdout, "three: full set") || second.ended() {
		t.Errorf("%s, ended %v", other.stdout, second.ended())
	}
	if _, err := io.Copy(io.Discard, reader); err != nil {
		t.Fatal(err)
	}
	first.want(0)
	if o := second.want(0); !strings.Contains(o.stdout, "two: incremental set") {
		t.Errorf("%s", o.stdout)
	}
}
