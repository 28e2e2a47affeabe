package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A background mount is this program started again with the same arguments. It asks for the password on the same
// terminal if need be, mounts, leaves the terminal, says so over a pipe, and only then does the first process return.

// daemonVariable tells a process that it is to serve in the background, and daemonPipe is where it says it is ready.
const (
	daemonVariable = "SNAPFS_READY_FD"
	daemonPipe     = 3 // the first of exec.Cmd.ExtraFiles
)

func (p *program) isDaemon() bool { return p.env.get(daemonVariable) != "" }

// startDaemon starts the background process and returns when it is ready, or has ended with an error it has printed.
func (p *program) startDaemon(ctx context.Context) error {
	// What others left open in this process is not the daemon's to keep open.
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("closing inherited files: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(p.env.whole(), fmt.Sprintf("%s=%d", daemonVariable, daemonPipe))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.stdin, p.out.raw, p.err.raw
	cmd.ExtraFiles = []*os.File{w}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("starting the background process: %w", err)
	}
	// Interrupted while waiting: so is the background process, which says what there is to say.
	stop := context.AfterFunc(ctx, func() { cmd.Process.Signal(unix.SIGTERM) })
	defer stop()
	if n, _ := r.Read(make([]byte, 1)); n == 1 && stop() { // else it has been told to end, ready or not
		return cmd.Process.Release()
	}
	if err := cmd.Wait(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() > 0 {
			return &exitError{exit.ExitCode()}
		}
		return fmt.Errorf("background process: %w", err)
	}
	return errors.New("background process: ended before the mount was ready")
}

// daemon is the background side.
type daemon struct {
	p   *program
	log logFile

	mu       sync.Mutex
	detached bool
}

func (p *program) newDaemon() *daemon {
	os.Unsetenv(daemonVariable)
	unix.CloseOnExec(daemonPipe)
	_ = os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0) // else ps and pgrep know it as "exe"
	return &daemon{p: p, log: logFile{path: logPath(p.env), now: p.now}}
}

// ready leaves the terminal and the standard streams of the first process, then lets it return.
func (d *daemon) ready() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := detach(); err != nil {
		return err
	}
	d.p.err.Reset(&d.log)
	d.detached = true
	pipe := os.NewFile(daemonPipe, "ready")
	defer pipe.Close()
	if _, err := pipe.Write([]byte{1}); err != nil {
		return fmt.Errorf("saying that the mount is ready: %w", err)
	}
	return nil
}

// detach begins a session of its own without a terminal, in no directory anybody may want to unmount.
func detach() error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	for fd := range 3 {
		if err := unix.Dup3(int(null.Fd()), fd, 0); err != nil {
			return fmt.Errorf("leaving the terminal: %w", err)
		}
	}
	if _, err := unix.Setsid(); err != nil && !errors.Is(err, unix.EPERM) { // EPERM: it leads a session already
		return fmt.Errorf("leaving the terminal: %w", err)
	}
	return os.Chdir("/")
}

// logger writes to stderr before the process detaches and to the log file after.
func (d *daemon) logger() *slog.Logger {
	level := slog.LevelWarn
	if d.p.global.verbose {
		level = slog.LevelDebug
	}
	return slog.New(&logHandler{level: level, write: func(line string) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.p.say("%s", line)
	}})
}

// logPath is where background mounts write what goes wrong; "" if there is no such place.
func logPath(env environment) string {
	state := env.get("XDG_STATE_HOME")
	if state == "" && env.get("HOME") != "" {
		state = filepath.Join(env.get("HOME"), ".local", "state")
	}
	if !filepath.IsAbs(state) {
		return ""
	}
	return filepath.Join(state, "snapfs", "mount.log")
}

// logFile appends lines with the time to a file that is made by the first of them. What cannot be written is lost:
// there is nobody left to tell.
type logFile struct {
	path string
	now  func() time.Time
}

func (l *logFile) Write(line []byte) (int, error) {
	if l.path == "" {
		return len(line), nil
	}
	if err := os.MkdirAll(filepath.Dir(l.path), 0o700); err != nil {
		return len(line), nil
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return len(line), nil
	}
	defer f.Close()
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s pid %d: %s", l.now().Format(time.RFC3339), os.Getpid(), line)
	io.Copy(f, &b)
	return len(line), nil
}
