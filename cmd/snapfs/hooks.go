package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"snapfs/snapshot/backup"
	"snapfs/store"
)

// hooks are commands run before and after a backup.
type hooks struct{ pre, post string }

// hooked runs a backup between its hooks. A failing --pre stops it; --post then is not run. A failing --post comes
// after the snapshot: it is reported, and the exit code is 1.
func (p *program) hooked(ctx context.Context, o backupOptions, dataset string, run func() (*backup.Result, error)) error {
	if o.DryRun {
		_, err := run()
		return err
	}
	settings := []string{"SNAPFS_DATASET=" + dataset, "SNAPFS_STORE=" + p.global.store}
	if err := p.runHook(ctx, "--pre", o.hooks.pre, settings); err != nil {
		return err
	}
	result, err := run()
	// --post puts right what --pre did, so an interruption must not keep it from being run.
	hookErr := p.runHook(context.WithoutCancel(ctx), "--post", o.hooks.post, append(settings, resultSettings(result, err)...))
	if err == nil {
		return hookErr
	}
	if hookErr != nil {
		p.say("%v", hookErr)
	}
	return err
}

// resultSettings tells --post how the backup went.
func resultSettings(r *backup.Result, err error) []string {
	var incomplete *incompleteError
	result := "ok"
	switch {
	case r == nil || err != nil && !errors.As(err, &incomplete):
		return []string{"SNAPFS_RESULT=failed"}
	case r.Skipped:
		result = "unchanged"
	case r.Errors > 0:
		result = "incomplete"
	}
	settings := []string{"SNAPFS_RESULT=" + result, "SNAPFS_ERRORS=" + strconv.FormatInt(r.Errors, 10)}
	id, name := r.Snapshot.ID, r.Snapshot.Name
	if r.Skipped {
		id, name = r.Parent, r.ParentName
	}
	if id != (store.ID{}) {
		settings = append(settings, "SNAPFS_SNAPSHOT="+id.String(), "SNAPFS_NAME="+name)
	}
	return settings
}

func (p *program) runHook(ctx context.Context, option, command string, settings []string) error {
	if command == "" {
		return nil
	}
	cmd := p.child(ctx, settings, "bash", "-c", command)
	cmd.Stdout = p.err.raw // stdout is data
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s command: %w", option, err)
	}
	return nil
}

// childGrace is how long a child has to end after SIGTERM.
const childGrace = 5 * time.Second

// child prepares a command with our environment but for the secrets, and no input. Cancelling ends it gently.
func (p *program) child(ctx context.Context, settings []string, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = p.env.child(settings...)
	cmd.Stderr = p.err.raw
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = childGrace
	return cmd
}
