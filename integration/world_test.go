package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// world is a sandbox with an encrypted store, in which a Go test runs the command. When the test ends, nothing may be
// left in it.
type world struct {
	sandbox
	t     testing.TB
	store string
	env   []string
}

// newWorld makes a store in a temporary directory of the test.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := worldAt(t, t.TempDir())
	w.init()
	return w
}

// init makes the store, unlocked by a key file.
func (w *world) init(args ...string) {
	w.t.Helper()
	w.do(0, append([]string{"init", "--new-key-file", w.path("key")}, args...)...)
	w.env = append(w.env, "SNAPFS_KEY_FILE="+w.path("key"))
}

// with is the same world for a subtest.
func (w *world) with(t testing.TB) *world {
	sub := *w
	sub.t = t
	return &sub
}

// command is any other program with the environment of the world.
func (w *world) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Dir = w.env, w.dir
	return cmd
}

// worldAt is a world in dir without a store yet.
func worldAt(t testing.TB, dir string) *world {
	t.Helper()
	w := &world{sandbox: sandbox{dir}, t: t, store: filepath.Join(dir, "store")}
	if err := os.MkdirAll(w.tmp(), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "SNAPFS_") && !strings.HasPrefix(v, "TMPDIR=") && !strings.HasPrefix(v, "LC_ALL=") {
			w.env = append(w.env, v)
		}
	}
	w.env = append(w.env, "TMPDIR="+w.tmp(), "LC_ALL=C.UTF-8", "TZ=UTC", "XDG_STATE_HOME="+w.path("state"), "SNAPFS_STORE="+w.store)
	t.Cleanup(func() {
		for _, left := range w.leftovers() {
			t.Errorf("left behind: %s", left)
		}
	})
	return w
}

func (w *world) path(elem ...string) string {
	return filepath.Join(append([]string{w.dir}, elem...)...)
}

// mkdir makes a directory of the sandbox.
func (w *world) mkdir(name string) string {
	w.t.Helper()
	dir := w.path(name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	return dir
}

// outcome is what a command left.
type outcome struct {
	code           int // -1: ended by a signal
	stdout, stderr string
}

// job is a running snapfs command.
type job struct {
	*exec.Cmd
	t              testing.TB
	stdout, stderr bytes.Buffer
	done           chan struct{}
}

// start runs snapfs in the background. It is killed when the test ends, if nobody waited for it.
func (w *world) start(args ...string) *job {
	w.t.Helper()
	j := &job{Cmd: exec.Command(snapfs, args...), t: w.t, done: make(chan struct{})}
	j.Env, j.Dir, j.Stdout, j.Stderr = w.env, w.dir, &j.stdout, &j.stderr
	if err := j.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() { j.Cmd.Wait(); close(j.done) }()
	w.t.Cleanup(func() { j.Process.Kill(); <-j.done })
	return j
}

// wait waits for the end of the job.
func (j *job) wait() outcome {
	select {
	case <-j.done:
	case <-time.After(10 * time.Minute):
		j.Process.Signal(syscall.SIGQUIT)
		<-j.done
		j.t.Errorf("%s did not end:\n%s", strings.Join(j.Args, " "), j.stderr.String())
	}
	return outcome{code: j.ProcessState.ExitCode(), stdout: j.stdout.String(), stderr: j.stderr.String()}
}

// ended reports whether the job is over.
func (j *job) ended() bool {
	select {
	case <-j.done:
		return true
	default:
		return false
	}
}

// want waits for the end of the job, which must have this exit code.
func (j *job) want(code int) outcome {
	j.t.Helper()
	o := j.wait()
	if o.code != code {
		j.t.Fatalf("%s: exit code %d, want %d\n%s%s", strings.Join(j.Args, " "), o.code, code, tail(o.stdout), tail(o.stderr))
	}
	return o
}

// do runs snapfs, which must end with this exit code.
func (w *world) do(code int, args ...string) outcome {
	w.t.Helper()
	return w.start(args...).want(code)
}

// summary of a backup or restore, the fields that tests look at.
type summary struct {
	Event, Snapshot, Name, Dataset, Path, Error string
	Entries, New, Changed, Unchanged, Unstable  int64
	Bytes, Written, Errors                      int64
	Read                                        int64 `json:"bytes_read"`
}

// summary is the last object of a command's JSON output.
func (o outcome) summary(t testing.TB) summary {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(o.stdout), "\n")
	var s summary
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &s); err != nil {
		t.Fatalf("summary: %v in %s", err, tail(o.stdout))
	}
	return s
}

// backup takes a snapshot of dir, which must end with this exit code.
func (w *world) backup(code int, dataset, dir string, args ...string) summary {
	w.t.Helper()
	o := w.do(code, append([]string{"backup", "--json", "--dataset", dataset, dir}, args...)...)
	s := o.summary(w.t)
	if s.Event != "summary" || s.Snapshot == "" {
		w.t.Fatalf("no summary in %s%s", tail(o.stdout), tail(o.stderr))
	}
	return s
}

// verified makes sure that all of the store is whole.
func (w *world) verified() {
	w.t.Helper()
	w.do(0, "verify", "--data")
}

// snapshots lists the store: ID by DATASET@NAME.
func (w *world) snapshots() map[string]string {
	w.t.Helper()
	var list []struct{ ID, Name, Dataset string }
	if err := json.Unmarshal([]byte(w.do(0, "snapshots", "--json").stdout), &list); err != nil {
		w.t.Fatal(err)
	}
	found := map[string]string{}
	for _, s := range list {
		found[s.Dataset+"@"+s.Name] = s.ID
	}
	return found
}

// mount mounts the store on a directory of the sandbox until the test ends.
func (w *world) mount(name string, args ...string) string {
	w.t.Helper()
	needFUSE(w.t)
	dir := w.mkdir(name)
	w.do(0, append([]string{"mount", "-d", dir}, args...)...)
	w.t.Cleanup(func() {
		if mounted(dir) {
			w.do(0, "umount", dir)
		}
	})
	return dir
}

// umount ends a mount, which must work.
func (w *world) umount(dir string) {
	w.t.Helper()
	w.do(0, "umount", dir)
	if mounted(dir) {
		w.t.Fatalf("%s is still mounted", dir)
	}
}

func mounted(dir string) bool {
	for _, m := range (sandbox{filepath.Dir(dir)}).mounts() {
		if m == dir {
			return true
		}
	}
	return false
}

// needFUSE skips the test where nothing can be mounted.
func needFUSE(t testing.TB) {
	t.Helper()
	if ok, _ := condition("fuse"); !ok {
		t.Skip("no /dev/fuse or no fusermount3 here")
	}
}

// needRoot skips the test where it is not run by root.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// needTools skips the test where a program is missing.
func needTools(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("needs %s", name)
		}
	}
}

// sh runs a script of bash in a directory and returns its output. $1, $2 ... are args.
func sh(t testing.TB, dir, script string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", append([]string{"-euo", "pipefail", "-c", script, "bash"}, args...)...)
	cmd.WaitDelay = time.Minute // what the shell started may hold its output open
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC")
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", script, err, tail(stdout.String()), tail(stderr.String()))
	}
	return stdout.String()
}

// differ reports the first lines in which two listings differ.
func differ(t testing.TB, what, want, got string) {
	t.Helper()
	if want == got {
		return
	}
	count := map[string]int{}
	for line := range strings.Lines(want) {
		count[line]++
	}
	for line := range strings.Lines(got) {
		count[line]--
	}
	shown := 0
	for line, n := range count {
		if n == 0 {
			continue
		}
		if shown++; shown > 6 {
			break
		}
		side := "only in the source"
		if n < 0 {
			side = "only in the copy"
		}
		t.Errorf("%s, %s: %.300q", what, side, line)
	}
	if shown == 0 {
		t.Errorf("%s: another order", what)
	}
}

func tail(s string) string {
	if len(s) > 4000 {
		return "..." + s[len(s)-4000:]
	}
	return s
}

// attach mounts something with the mount program until the test ends; it skips the test where that is not allowed.
func attach(t testing.TB, dir string, args ...string) {
	t.Helper()
	needRoot(t)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", append(args, dir)...).CombinedOutput(); err != nil {
		t.Skipf("mount %s: %v: %s", strings.Join(args, " "), err, out)
	}
	t.Cleanup(func() {
		// A process that just ended may still be letting go of its files.
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			if unix.Unmount(dir, 0) == nil {
				return
			}
		}
		t.Errorf("%s cannot be unmounted", dir)
		unix.Unmount(dir, unix.MNT_DETACH)
	})
}

// attachTmpfs mounts a tmpfs of so many MiB.
func attachTmpfs(t testing.TB, dir, size string) {
	t.Helper()
	attach(t, dir, "-t", "tmpfs", "-o", "mode=0755,size="+size, "tmpfs")
}

// attachExt4 mounts a new ext4 file system in a sparse image beside dir.
func attachExt4(t testing.TB, dir, size string) {
	t.Helper()
	needRoot(t)
	needTools(t, "mkfs.ext4", "losetup")
	image := dir + ".img"
	sh(t, filepath.Dir(dir), `truncate -s "$2" "$1"; mkfs.ext4 -q -I 256 "$1"`, image, size)
	t.Cleanup(func() { // the kernel frees the device a moment after the unmount
		sh(t, filepath.Dir(dir), `for i in $(seq 600); do [ -n "$(losetup -j "$1")" ] || exit 0; sleep 0.1; done; losetup -j "$1"; exit 1`, image)
	})
	attach(t, dir, "-o", "loop", image)
}
