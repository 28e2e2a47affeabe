package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mainVariable makes this test binary behave as snapfs, for tests that need a process of its own.
const mainVariable = "SNAPFS_TEST_MAIN"

// lateVariable makes it a background process that is told to end just before it is ready; it names a file that is made when it waits for that.
const lateVariable = "SNAPFS_TEST_LATE"

func TestMain(m *testing.M) {
	if os.Getenv(mainVariable) != "" {
		main()
	}
	if begun := os.Getenv(lateVariable); begun != "" {
		told := make(chan os.Signal, 1)
		signal.Notify(told, syscall.SIGTERM)
		os.WriteFile(begun, nil, 0o600)
		<-told
		os.NewFile(daemonPipe, "ready").Write([]byte{1})
		os.Exit(exitDone)
	}
	os.Exit(m.Run())
}

// process prepares snapfs as a process of its own.
func process(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), mainVariable+"=1", "HOME="+t.TempDir())
	return cmd
}

// finishes runs a process and returns its exit code and everything it wrote.
func finishes(t *testing.T, cmd *exec.Cmd) (code int, output string) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func needFUSE(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no FUSE here: ", err)
	}
	f.Close()
	if _, err := exec.LookPath("fusermount3"); err != nil && os.Geteuid() != 0 {
		t.Skip("neither root nor fusermount3")
	}
}

// mountpoint makes a directory that is not mounted any more when the test ends.
func mountpoint(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if isMounted(t, dir) {
			finishes(t, process(t, "umount", "--lazy", dir))
		}
	})
	return dir
}

func isMounted(t *testing.T, dir string) bool {
	t.Helper()
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(mounts), " "+dir+" ")
}

func TestBackgroundMount(t *testing.T) {
	needFUSE(t)
	twoSnapshots(t)
	dir := mountpoint(t)
	start := process(t, "mount", "-d", dir)
	code, out := finishes(t, start) // ends only when the background process has let go of the pipe
	if code != exitDone || out != "" || !isMounted(t, dir) {
		t.Fatalf("exit code %d, output %q", code, out)
	}
	if got, err := exec.Command("cat", filepath.Join(dir, "d", "latest", "sub", "changed")).CombinedOutput(); err != nil || string(got) != "after it" {
		t.Errorf("read %q, %v", got, err)
	}
	if code, out := finishes(t, process(t, "mount", "-d", dir)); code != exitFailed || !strings.Contains(out, "mounted there already") {
		t.Errorf("mounting twice: exit code %d, %q", code, out)
	}
	succeed(t, "backup", os.Args[0], "--dataset", "e", "--quiet") // while the mount holds the store
	if code, out := finishes(t, process(t, "umount", dir)); code != exitDone || out != "" || isMounted(t, dir) {
		t.Errorf("umount: exit code %d, %q", code, out)
	}
	refuse(t, exitFailed, "no snapfs is mounted there", "", "umount", dir)
}

func TestBackgroundMountFails(t *testing.T) {
	twoSnapshots(t)
	for _, test := range []struct {
		code int
		msg  string
		args []string
	}{
		{exitFailed, "does not exist", []string{filepath.Join(t.TempDir(), "missing")}},
		{exitFailed, "inside the store", []string{filepath.Join(os.Getenv("SNAPFS_STORE"), "volumes"), "--nonempty"}},
		{exitFailed, "no such", []string{t.TempDir(), "--snapshot", "nothing"}},
		{exitNoStore, "no snapfs store", []string{t.TempDir(), "--store", t.TempDir()}},
	} {
		code, out := finishes(t, process(t, append([]string{"mount", "-d"}, test.args...)...))
		if code != test.code || strings.Count(out, test.msg) != 1 {
			t.Errorf("mount -d %q: exit code %d, %q, want %d, %q once", test.args, code, out, test.code, test.msg)
		}
	}
}

// TestBackgroundMountInterruptedWhenReady: who interrupts is not told that the mount is there, which ends in that moment.
func TestBackgroundMountInterruptedWhenReady(t *testing.T) {
	begun := filepath.Join(t.TempDir(), "begun")
	t.Setenv(lateVariable, begun)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := newProgram(strings.NewReader(""), io.Discard, io.Discard)
	ended := make(chan int)
	go func() { ended <- p.finish(ctx, p.startDaemon(ctx)) }()
	waitUntil(t, "the background process", func() bool { return exists(begun) })
	cancel()
	if code := <-ended; code != exitInterrupted {
		t.Errorf("exit code %d", code)
	}
}

func TestForegroundMountEndsOnSignal(t *testing.T) {
	needFUSE(t)
	twoSnapshots(t)
	dir := mountpoint(t)
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		cmd := process(t, "mount", dir, "--quiet")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, "the mount", func() bool { return isMounted(t, dir) })
		cmd.Process.Signal(sig)
		if err := cmd.Wait(); err != nil || isMounted(t, dir) || stderr.Len() > 0 {
			t.Errorf("%v: %v, stderr %q, mounted %v", sig, err, stderr.String(), isMounted(t, dir))
		}
	}
}

func TestInterruptedStdin(t *testing.T) {
	clearStore(t)
	cmd := process(t, "backup", "--stdin", "s", "--no-progress")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(stdin, "more to come")
	time.Sleep(300 * time.Millisecond)
	cmd.Process.Signal(syscall.SIGINT)
	cmd.Process.Wait() // with the pipe still open
	stdin.Close()
	if out := succeed(t, "snapshots", "--json"); out != "[]\n" {
		t.Errorf("an interrupted backup left %s", out)
	}
}

func TestInterruptedBackup(t *testing.T) {
	clearStore(t)
	begun := filepath.Join(t.TempDir(), "begun")
	cmd := process(t, "backup", "--command", "echo $$; touch '"+begun+"'; exec sleep 1000", "--as", "s", "--post", "echo post >&2")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the command", func() bool { return exists(begun) })
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted || stderr.String() != "post\nsnapfs: interrupted\n" {
		t.Errorf("exit code %d, stderr %q", code, stderr.String())
	}
	if out := succeed(t, "snapshots", "--json"); out != "[]\n" {
		t.Errorf("an interrupted backup left %s", out)
	}
}

// waitUntil waits for what another process is to do, however busy the machine is.
func waitUntil(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: waited for in vain", what)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// leader runs a program on a terminal, says how it ended, and stays until the terminal goes: the kernel throws away what
// was not read of a terminal when the leader of its session ends.
const leader = `trap : INT; "$@"; printf '[ended with %d]' $?; read -r _`

// terminal starts a process with a terminal of its own; it returns our end.
func terminal(t *testing.T, cmd *exec.Cmd) *os.File {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no pseudo terminals here: ", err)
	}
	if err := unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", leader, "sh", cmd.Path}, cmd.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return ours
}

// converse answers each prompt that ends with ": ", and returns all the terminal showed.
func converse(t *testing.T, cmd *exec.Cmd, answers ...string) (code int, shown string) {
	t.Helper()
	return watch(t, cmd, func(seen string, tty *os.File) {
		if len(answers) > 0 && strings.HasSuffix(seen, ": ") {
			io.WriteString(tty, answers[0])
			answers = answers[1:]
		}
	})
}

// watch hands all that the terminal showed to step, each time there is more.
func watch(t *testing.T, cmd *exec.Cmd, step func(seen string, tty *os.File)) (code int, shown string) {
	t.Helper()
	tty := terminal(t, cmd)
	defer cmd.Wait()
	defer tty.Close()
	defer time.AfterFunc(5*time.Minute, func() { _ = cmd.Process.Kill() }).Stop() // the terminal ends with its leader
	var seen strings.Builder
	buf := make([]byte, 1024)
	for {
		n, err := tty.Read(buf)
		if err != nil {
			t.Fatalf("the terminal: %v after %q", err, seen.String())
		}
		seen.Write(buf[:n])
		if shown, rest, over := strings.Cut(seen.String(), "[ended with "); over && strings.HasSuffix(rest, "]") {
			fmt.Sscanf(rest, "%d]", &code)
			return code, shown
		}
		step(seen.String(), tty)
	}
}

func TestPasswordOnTerminal(t *testing.T) {
	noSecrets(t)
	t.Setenv("SNAPFS_STORE", filepath.Join(t.TempDir(), "store"))
	const ctrlC, ctrlD = "\x03", "\x04"
	for _, test := range []struct {
		args    string
		answers []string
		code    int
		shown   string
	}{
		{"init", []string{"one\n", "two\n"}, exitLocked, "the two passwords differ"},
		{"init", []string{"\n"}, exitLocked, "the password is empty"},
		{"init", []string{"half" + ctrlC}, exitInterrupted, "interrupted"},
		{"init", []string{ctrlD}, exitLocked, "none was typed"},
		{"init", []string{"sesame\n", "sesame\n"}, exitDone, "again: "},
		{"stats", []string{"open\n"}, exitLocked, "opens no key slot"},
		{"stats", []string{"sesame\n"}, exitDone, "snapshots of"},
	} {
		code, shown := converse(t, process(t, test.args), test.answers...)
		if code != test.code || !strings.Contains(shown, test.shown) {
			t.Errorf("%s with %q: exit code %d, shown %q", test.args, test.answers, code, shown)
		}
		if strings.Contains(shown, "sesame") || strings.Contains(shown, "half") {
			t.Errorf("the password was shown: %q", shown)
		}
	}
	cmd := process(t, "stats")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if code, out := finishes(t, cmd); code != exitLocked || !strings.Contains(out, "no terminal to ask on") {
		t.Errorf("without a terminal: exit code %d, %q", code, out)
	}
}

// TestPasswordCommands: one that does not end, or leaves somebody behind who keeps its output open, costs neither all memory nor for ever.
func TestPasswordCommands(t *testing.T) {
	noSecrets(t)
	t.Setenv("SNAPFS_STORE", filepath.Join(t.TempDir(), "store"))
	t.Setenv("SNAPFS_NEW_PASSWORD", "secret")
	succeed(t, "init", "--quiet")
	cmd := process(t, "stats", "--password-command", "head -c 100M /dev/zero")
	if code, out := finishes(t, cmd); code != exitLocked || !strings.Contains(out, "password command: it does not end") {
		t.Errorf("endless: exit code %d, %q", code, out)
	}
	cmd = process(t, "stats", "--password-command", "echo secret; sleep 1000 2>/dev/null &")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	code, out := finishes(t, cmd)
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the sleep
	if code != exitDone {
		t.Errorf("an agent stays: exit code %d, %q", code, out)
	}
	begun := filepath.Join(t.TempDir(), "begun")
	cmd = process(t, "stats", "--password-command", "echo secret; touch '"+begun+"'; sleep 1000; true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	defer func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }() // the sleep
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.WaitDelay = time.Millisecond // for the sleep, which has it as well
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the command", func() bool { return exists(begun) })
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted || stderr.String() != "snapfs: interrupted\n" {
		t.Errorf("interrupted: exit code %d, stderr %q", code, stderr.String())
	}
}

// TestMediumOnTerminal: somebody is asked for the next medium, changes it and presses Enter; or gives up, and goes on with the set later.
func TestMediumOnTerminal(t *testing.T) {
	dir := filepath.Dir(clearStore(t))
	source := filepath.Join(dir, "data")
	if err := os.Mkdir(source, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 12 { // no chunk is larger, so that three or four fit into each volume
		data := make([]byte, 256<<10)
		rand.Read(data)
		if err := os.WriteFile(filepath.Join(source, fmt.Sprint(i)), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if code, out := finishes(t, process(t, "backup", source, "--dataset", "d")); code != exitDone {
		t.Fatalf("exit code %d: %s", code, out)
	}
	medium := filepath.Join(dir, "medium")
	const prompt = "change the medium and press Enter "
	// answer waits for prompts; at each the medium is taken out, and Enter pressed or what else is to be.
	answer := func(cmd *exec.Cmd, keys ...string) (code int, shown string) {
		taken := 0
		return watch(t, cmd, func(seen string, tty *os.File) {
			if !strings.HasSuffix(seen, prompt) || len(keys) == 0 {
				return
			}
			taken++
			full, _ := filepath.Glob(filepath.Join(dir, "full-*"))
			if err := os.Rename(medium, filepath.Join(dir, fmt.Sprintf("full-%d", len(full)+1))); err != nil {
				t.Errorf("change %d: %v", taken, err)
			}
			io.WriteString(tty, keys[0])
			keys = keys[1:]
		})
	}
	code, shown := answer(process(t, "archive", "create", "--to", medium, "--set", "one", "--volume-size", "1M"), "\n", "\x03")
	if code != exitInterrupted || !strings.Contains(shown, "volume 2 of set one goes to "+medium) || !strings.Contains(shown, "volume 3 of set one") {
		t.Fatalf("exit code %d, shown %q", code, shown)
	}
	code, shown = answer(process(t, "archive", "create", "--to", medium, "--resume", "one", "--volume-size", "1M"), "some words\n", "\n", "\n", "\n", "\n", "\n")
	if code != exitDone || strings.Contains(shown, "volume 3 of set one goes") || !strings.Contains(shown, "volume 4 of set one goes") {
		t.Fatalf("resumed: exit code %d, shown %q", code, shown)
	}
	volumes, err := filepath.Glob(filepath.Join(dir, "full-*"))
	if err != nil || len(volumes) < 3 {
		t.Fatalf("%q %v", volumes, err)
	}
	if code, out := finishes(t, process(t, append([]string{"archive", "verify", medium}, volumes...)...)); code != exitDone || !strings.Contains(out, "complete and whole") {
		t.Errorf("verify: exit code %d: %s", code, out)
	}
	cmd := process(t, "archive", "create", "--to", filepath.Join(dir, "other"), "--level", "full", "--volume-size", "1M")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if code, out := finishes(t, cmd); code != exitFailed || !strings.Contains(out, "volume 2") || !strings.Contains(out, "hint: ") {
		t.Errorf("nobody to ask: exit code %d: %s", code, out)
	}
}

func TestProgressOnTerminal(t *testing.T) {
	clearStore(t)
	gate := filepath.Join(t.TempDir(), "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	open, late := false, time.Now().Add(time.Minute)
	code, shown := watch(t, process(t, "backup", "--command", "head -c 3M /dev/urandom; cat '"+gate+"'; head -c 1M /dev/urandom", "--as", "s"),
		func(seen string, _ *os.File) { // goes on when a rate was shown, which may take a while
			if !open && (strings.Contains(seen, "MiB/s") || time.Now().After(late)) {
				open = os.WriteFile(gate, nil, 0) == nil
			}
		})
	if code != exitDone || !strings.Contains(shown, "MiB/s") || !strings.Contains(shown, "\r\x1b[K") {
		t.Errorf("exit code %d, shown %q", code, shown)
	}
	if _, shown := converse(t, process(t, "backup", "--command", "echo; sleep 0.5; echo", "--as", "s", "--no-progress")); strings.Contains(shown, "\x1b") {
		t.Errorf("--no-progress shows %q", shown)
	}
}

// A name must not look like another message.
func TestMessagesOnTerminal(t *testing.T) {
	clearStore(t)
	name := filepath.Join(t.TempDir(), "a\nsnapfs: all is well")
	if code, shown := converse(t, process(t, "backup", name)); code != exitFailed || strings.Count(shown, `a\nsnapfs: all is well: no such file`) != 2 {
		t.Errorf("exit code %d, shown %q", code, shown)
	}
	if code, out := finishes(t, process(t, "backup", name)); code != exitFailed || strings.Count(out, name+": no such file") != 2 {
		t.Errorf("without a terminal: exit code %d, %q", code, out)
	}
}

// damage flips a byte in the middle of each large volume.
func damage(t *testing.T, store string) {
	t.Helper()
	volumes, err := filepath.Glob(filepath.Join(store, "volumes", "*"))
	if err != nil || len(volumes) == 0 {
		t.Fatalf("no volumes: %v", err)
	}
	for _, v := range volumes {
		data, err := os.ReadFile(v)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) < 1<<20 {
			continue
		}
		data[len(data)/2] ^= 1
		if err := os.WriteFile(v, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDamage(t *testing.T) {
	store := clearStore(t)
	tree := t.TempDir()
	random := make([]byte, 2<<20)
	rand.Read(random)
	writeFile(t, filepath.Join(tree, "large"), string(random))
	writeFile(t, filepath.Join(tree, "whole"), "whole")
	succeed(t, "backup", tree, "--dataset", "d", "--quiet")
	damage(t, store)

	if r := runLine(t, "", "cat", "d:large"); r.code != exitDamage || !strings.Contains(r.stderr, "d@") || !strings.Contains(r.stderr, ":/large: ") {
		t.Errorf("cat: %d, %s", r.code, r.stderr)
	}
	to := t.TempDir()
	r := runLine(t, "", "restore", "d", "--to", to, "--json")
	if summary := object(t, r.stdout); r.code != exitDamage || summary["damaged"] != 1.0 || summary["errors"] != 1.0 {
		t.Errorf("restore: %d, %v, %s", r.code, summary, r.stderr)
	}
	if data, err := os.ReadFile(filepath.Join(to, "whole")); string(data) != "whole" {
		t.Errorf("what is not damaged: %q, %v", data, err)
	}
	if r := runLine(t, "", "dump", "d"); r.code != exitDamage || !strings.Contains(r.stderr, "large") {
		t.Errorf("dump: %d, %s", r.code, r.stderr)
	}
	if got := succeed(t, "ls", "d"); got != "large\nwhole\n" {
		t.Errorf("ls: %q", got)
	}
}

func TestBackgroundMountLogsDamage(t *testing.T) {
	needFUSE(t)
	store := clearStore(t)
	tree := t.TempDir()
	random := make([]byte, 2<<20)
	rand.Read(random)
	writeFile(t, filepath.Join(tree, "large"), string(random))
	succeed(t, "backup", tree, "--dataset", "d", "--quiet")
	damage(t, store)

	dir, state := mountpoint(t), t.TempDir()
	start := process(t, "mount", "-d", dir)
	start.Env = append(start.Env, "XDG_STATE_HOME="+state)
	if code, out := finishes(t, start); code != exitDone {
		t.Fatalf("exit code %d, %q", code, out)
	}
	if out, err := exec.Command("cmp", filepath.Join(dir, "d", "latest", "large"), filepath.Join(tree, "large")).CombinedOutput(); err == nil {
		t.Errorf("the damaged file can be read: %s", out)
	}
	log, err := os.ReadFile(filepath.Join(state, "snapfs", "mount.log"))
	if err != nil || strings.Count(string(log), "\n") != 1 || !strings.Contains(string(log), "large") {
		t.Errorf("log %q, %v", log, err)
	}
	if code, out := finishes(t, process(t, "umount", dir)); code != exitDone {
		t.Errorf("umount: exit code %d, %q", code, out)
	}
}
