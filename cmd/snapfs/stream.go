package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"snapfs/snapshot/backup"
	"snapfs/store"
)

// streamOptions says where a stream comes from.
type streamOptions struct {
	name       string
	argv       []string // nil: stdin
	allowEmpty bool
}

// longestName is what a directory of Linux takes, bytes: a longer one could be neither mounted nor restored.
const longestName = 255

// hasCommand reports whether a command makes the stream; s may be nil.
func (s *streamOptions) hasCommand() bool { return s != nil && s.argv != nil }

// streamOptions reads the options of streams; nil if the backup is of paths.
func (p *program) streamOptions(c *cli.Context, args []string) (*streamOptions, error) {
	stdin, command, as := c.String("stdin"), c.String("command"), c.String("as")
	s := &streamOptions{allowEmpty: c.Bool("allow-empty")}
	switch {
	case stdin == "" && command == "" && as == "":
		if s.allowEmpty {
			return nil, usagef("--allow-empty is for streams")
		}
		return nil, nil
	case stdin != "" && (command != "" || as != ""):
		return nil, usagef("give only one of --stdin and --as")
	case stdin != "":
		s.name = stdin
	case as == "":
		return nil, usagef("--command needs --as NAME")
	case command != "":
		s.name, s.argv = as, []string{"bash", "-o", "pipefail", "-c", command}
	case p.plainArgs > 0 || len(args) == 0:
		return nil, usagef("--as NAME needs --command CMD or '-- PROGRAM [ARGUMENT]...'")
	default:
		s.name, s.argv, args = as, args, nil
	}
	if len(args) > 0 {
		return nil, usagef("a stream and the path %s cannot be in one snapshot", args[0])
	}
	if strings.ContainsAny(s.name, "/\x00") || s.name == "." || s.name == ".." || len(s.name) > longestName {
		return nil, usagef("%q is no file name for a stream", s.name)
	}
	return s, checkStreamOnly(c)
}

// checkStreamOnly refuses options that mean nothing for a stream.
func checkStreamOnly(c *cli.Context) error {
	for _, name := range []string{
		"exclude", "exclude-file", "ignore-files", "exclude-caches", "exclude-larger-than", "one-file-system",
		"files-from", "files-from0", "reread", "ignore-inode", "ignore-ctime", "dry-run",
	} {
		if c.IsSet(name) {
			return usagef("--%s is not for streams", name)
		}
	}
	return nil
}

// commandError is a stream's command that failed: nothing has been committed.
type commandError struct {
	status int
	err    error
}

func (e *commandError) Error() string {
	return fmt.Sprintf("the command failed with status %d, nothing was saved", e.status)
}

func (e *commandError) Unwrap() error { return e.err }

func (p *program) runStream(ctx context.Context, st *store.Store, r *reporter, o backupOptions) (*backup.Result, error) {
	so := backup.StreamOptions{
		Name: o.stream.name, Dataset: o.Dataset, Tags: o.Tags, Host: o.Host, Time: o.Time, Program: o.Program,
		NewSource: o.NewSource, AllowEmpty: o.stream.allowEmpty, SkipUnchanged: o.SkipUnchanged, Wait: o.Wait,
		Progress: o.Progress, Warn: o.Warn,
	}
	if !o.stream.hasCommand() {
		in, release := interruptible(ctx, p.stdin)
		defer release()
		return backup.RunStream(ctx, st, in, nil, so)
	}
	cmd := p.child(ctx, nil, o.stream.argv[0], o.stream.argv[1:]...)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the command: %w", err)
	}
	waited := false
	finish := func() error {
		waited = true
		return commandResult(cmd.Wait())
	}
	result, err := backup.RunStream(ctx, st, pipe, finish, so)
	if !waited { // the backup gave up: the command learns it from its closed pipe
		pipe.Close()
		cmd.Wait()
	}
	var failed *commandError
	if errors.As(err, &failed) {
		p.printFailedCommand(r, o, failed)
	}
	return result, err
}

func commandResult(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	status := exit.ExitCode()
	if status < 0 {
		status = 128 + int(exitSignal(exit))
	}
	return &commandError{status, err}
}

// printFailedCommand writes the JSON of a stream that was not saved; people read it in the error.
func (p *program) printFailedCommand(r *reporter, o backupOptions, e *commandError) {
	if !p.global.json {
		return
	}
	dataset, _ := o.dataset()
	r.event(struct {
		errorEvent
		CommandStatus int `json:"command_status"`
	}{errorEvent{"error", newJSONPath("/" + o.stream.name), e.Error()}, e.status})
	s := newBackupSummary(&backup.Result{Dataset: dataset, Errors: 1}, o)
	s.CommandStatus = &e.status
	r.event(s)
}

// exitSignal is the signal that ended a process.
func exitSignal(e *exec.ExitError) syscall.Signal {
	status, _ := e.Sys().(syscall.WaitStatus)
	return status.Signal()
}

// interruptible returns a reader of the same stream that gives up when ctx ends. A read of a pipe can only be given up
// if the pipe has been opened without blocking; opening it anew leaves those who share ours alone.
func interruptible(ctx context.Context, r io.Reader) (in io.Reader, release func()) {
	f, ok := r.(*os.File)
	if !ok {
		return r, func() {}
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return r, func() {}
	}
	pipe, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return r, func() {}
	}
	f.Close() // else the writer would not notice that we have gone
	stop := context.AfterFunc(ctx, func() { pipe.SetReadDeadline(time.Now()) })
	return pipe, func() {
		stop()
		pipe.Close()
	}
}
