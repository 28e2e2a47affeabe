package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// command runs a program and returns what it used.
func command(ctx context.Context, env []string, args ...string) (usage, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	start := time.Now()
	err := cmd.Run()
	u := usage{wall: time.Since(start)}
	if err != nil {
		return u, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	if r, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.peak = r.Maxrss << 10
	}
	return u, nil
}

type usage struct {
	wall time.Duration
	peak int64 // bytes of resident memory
}

// measure runs one tool over one corpus: backups, restore, mount.
func measure(ctx context.Context, s settings, c *corpus, t tool, res *results) error {
	repo := filepath.Join(s.work, "repo-"+t.name())
	defer removeAll(repo, repo+".cache", repo+".key", repo+".config")
	fmt.Fprintf(os.Stderr, "bench: %s on %s\n", t.name(), c.name)
	if err := t.init(ctx, repo); err != nil {
		return err
	}
	env := t.env(repo)
	timed := func(line string, cold bool, args []string) (usage, error) {
		if len(args) == 0 {
			return usage{}, nil
		}
		if cold {
			dropCaches()
		}
		u, err := command(ctx, env, args...)
		if err == nil {
			res.seconds(line, t.name(), u.wall)
		}
		return u, err
	}
	first, err := timed("first backup, cold", true, t.backup(repo, c.dir))
	if err != nil {
		return err
	}
	res.bytes("peak memory of the first backup", t.name(), first.peak)
	res.bytes("store size after the first backup, without parity", t.name(), treeSize(repo)-t.parity(ctx, repo))
	if _, err := timed("unchanged backup, warm", false, t.backup(repo, c.dir)); err != nil {
		return err
	}
	if err := c.change(); err != nil {
		return err
	}
	if _, err := timed("backup after 1 % changed", false, t.backup(repo, c.dir)); err != nil {
		return err
	}
	if err := measureRestore(s, c, t, repo, timed); err != nil {
		return err
	}
	if err := measureMount(ctx, s, c, t, repo, res); err != nil {
		return err
	}
	return c.restore(ctx)
}

func measureRestore(s settings, c *corpus, t tool, repo string, timed func(string, bool, []string) (usage, error)) error {
	to := filepath.Join(s.work, "restored")
	defer removeAll(to)
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	if _, err := timed("restore, cold", true, t.restore(repo, c.dir, to)); err != nil {
		return err
	}
	// Some programs end when everything is written, others when it would survive a power failure.
	_, err := timed("sync after the restore", false, []string{"sync", "-f", to})
	return err
}

// measureMount mounts and reads with programs of others.
func measureMount(ctx context.Context, s settings, c *corpus, t tool, repo string, res *results) (err error) {
	at := filepath.Join(s.work, "mnt")
	if err := os.Mkdir(at, 0o755); err != nil {
		return err
	}
	defer removeAll(at)
	dropCaches()
	m, err := mount(ctx, t, repo, at, c.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.end()) }()
	if m.cmd != nil {
		res.seconds("mount ready", t.name(), m.ready)
	}
	sh := func(line, script string, args ...string) error {
		u, err := command(ctx, nil, append([]string{"sh", "-c", script}, args...)...)
		if err == nil {
			res.seconds(line, t.name(), u.wall)
		}
		return err
	}
	steps := []struct{ line, script, arg string }{
		{"find -printf %s, cold", `find "$0" -printf '%s\n' >/dev/null`, m.view},
		{"find -printf %s, warm", `find "$0" -printf '%s\n' >/dev/null`, m.view},
		{"ls -lR after find", `ls -lR "$0" >/dev/null`, m.view},
		{"ls -lR, cold", `ls -lR "$0" >/dev/null`, m.view},
	}
	for _, dir := range c.tarDirs {
		for _, how := range []string{"cold", "warm"} {
			steps = append(steps, struct{ line, script, arg string }{
				"tar of " + dir + ", " + how, `tar -cf - -C "$0" . | cat >/dev/null`, filepath.Join(m.view, dir)})
		}
	}
	for _, st := range steps {
		if strings.HasSuffix(st.line, ", cold") {
			dropCaches()
		}
		if err := sh(st.line, st.script, st.arg); err != nil {
			return err
		}
	}
	if c.big != "" {
		if err := measureBig(ctx, filepath.Join(m.view, c.big), t, res); err != nil {
			return err
		}
	}
	if m.cmd != nil {
		res.bytes("peak memory of the mount", t.name(), peakOf(m.cmd.Process.Pid))
	}
	return nil
}

// measureBig reads a large file: at random places first, then whole, then whole again.
func measureBig(ctx context.Context, path string, t tool, res *results) error {
	dropCaches()
	for _, line := range []string{"read of a large file, cold", "read of a large file, second"} {
		u, err := command(ctx, nil, "dd", "if="+path, "of=/dev/null", "bs=1M")
		if err != nil {
			return err
		}
		res.seconds(line, t.name(), u.wall)
	}
	dropCaches()
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	for _, how := range []string{"cold", "warm"} {
		took, err := randomReads(f, info.Size())
		if err != nil {
			return err
		}
		res.seconds("300 random reads of 4 KiB, "+how, t.name(), took)
	}
	return nil
}

// randomReads reads at the same places whenever it is called.
func randomReads(f io.ReaderAt, size int64) (time.Duration, error) {
	rng := rand.New(rand.NewPCG(7, 8))
	buf := make([]byte, 4096)
	start := time.Now()
	for range 300 {
		if _, err := f.ReadAt(buf, rng.Int64N(size-4096)&^4095); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

// mounted is a running mount, or a tree that needs none: then cmd is nil.
type mounted struct {
	cmd   *exec.Cmd
	at    string
	view  string
	ready time.Duration
}

// mount starts a tool's mount and waits until the snapshot can be listed.
func mount(ctx context.Context, t tool, repo, at, source string) (*mounted, error) {
	args := t.mount(repo, at)
	if len(args) == 0 {
		view, err := t.view(at, source)
		return &mounted{view: view}, err
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), t.env(repo)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	m := &mounted{cmd: cmd, at: at}
	for time.Since(start) < 5*time.Minute {
		if view, err := t.view(at, source); err == nil {
			if _, err := os.Lstat(view); err == nil {
				m.ready, m.view = time.Since(start), view
				return m, nil
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
	return nil, errors.Join(fmt.Errorf("%s: mount not ready: %s", t.name(), &stderr), m.end())
}

func (m *mounted) end() error {
	if m.cmd == nil {
		return nil
	}
	err := exec.Command("umount", m.at).Run()
	if err != nil {
		err = exec.Command("umount", "-l", m.at).Run()
	}
	_ = m.cmd.Process.Signal(syscall.SIGINT) // a tool that outlives its mount
	_ = m.cmd.Wait()                         // its exit code says how it was stopped
	return err
}

// peakOf is the peak resident memory of a running process in bytes.
func peakOf(pid int) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmHWM:" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n << 10
		}
	}
	return 0
}

// dropCaches empties the page cache as far as root can; others measure warm.
func dropCaches() {
	syscall.Sync()
	_ = os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}

func treeSize(dir string) int64 {
	var sum int64
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			sum += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	})
	return sum
}

func removeAll(paths ...string) {
	for _, p := range paths {
		if err := os.RemoveAll(p); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	}
}
