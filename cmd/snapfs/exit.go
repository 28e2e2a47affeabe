package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"snapfs/fs"
	"snapfs/snapshot"
	"snapfs/snapshot/archive"
	"snapfs/snapshot/backup"
	"snapfs/snapshot/restore"
	"snapfs/store"
)

// Exit codes: CONTRACT.md. Never renumbered.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitIncomplete  = 3
	exitDamage      = 4
	exitNoStore     = 10
	exitHeld        = 11
	exitLocked      = 12
	exitInterrupted = 130
	exitPipe        = 141 // what a shell reports of a process that SIGPIPE ended
)

var (
	errInterrupted = errors.New("interrupted")
	// errPipe: who read our output has gone away, which is no news.
	errPipe = errors.New("output is closed")
)

// incompleteError: all was done but for some entries, each of which has been reported.
type incompleteError struct {
	count int64
	what  string // "source path could not be saved"
}

func (e *incompleteError) Error() string { return e.what }

// damagedError is incompleteError where stored data was damaged.
type damagedError struct{ incompleteError }

// exitError ends with a code that another process of ours has explained already.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// exitCodes says which errors give which code; the first that matches counts, so damage stands before incompleteness.
var exitCodes = []struct {
	code  int
	match func(error) bool
}{
	{exitPipe, is(errPipe)},
	{exitInterrupted, is(errInterrupted, context.Canceled)},
	{exitUsage, as[*usageError]},
	{exitUsage, is(snapshot.ErrSyntax, backup.ErrDatasetNeeded, backup.ErrDatasetName, restore.ErrOptions, fs.ErrOption)},
	{exitUsage, as[*snapshot.PatternError]},
	{exitUsage, is(archive.ErrName, archive.ErrParityVolumes)},
	{exitLocked, is(errNoSecret, store.ErrWrongSecret, store.ErrNoSlot, store.ErrIdentity)},
	{exitNoStore, is(store.ErrNoStore)},
	{exitHeld, is(store.ErrHeld, store.ErrNotOwner, store.ErrUnreachable)},
	{exitDamage, isDamage},
	{exitIncomplete, as[*incompleteError]},
}

// exitCode maps an error to the exit code.
func exitCode(err error) int {
	if err == nil {
		return exitDone
	}
	var e *exitError
	if errors.As(err, &e) {
		return e.code
	}
	for _, row := range exitCodes {
		if row.match(err) {
			return row.code
		}
	}
	return exitFailed
}

// isDamage reports whether an error means that what is stored is not what was written.
func isDamage(err error) bool {
	return as[*damagedError](err) || as[*remainsError](err) || as[*store.CorruptError](err) || as[*store.MissingError](err) || as[*store.LossError](err) ||
		as[*archive.UnreadError](err) ||
		is(store.ErrConfig, store.ErrDamagedSlot, store.ErrDamagedBundle, store.ErrNoKeys, snapshot.ErrMalformed)(err)
}

func is(targets ...error) func(error) bool {
	return func(err error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
}

func as[T error](err error) bool {
	var target T
	return errors.As(err, &target)
}

// messages are what to print of an error, none for nothing.
func messages(err error) []string {
	if err == nil || as[*exitError](err) || errors.Is(err, errPipe) {
		return nil
	}
	return texts(err)
}

// texts are one for each error that was joined, with what was wrapped around them. They are not parted at newlines: names may have those.
func texts(err error) []string {
	whole := err.Error()
	parts := unwrap(err)
	if len(parts) == 0 {
		return []string{whole}
	}
	var list []string
	for _, part := range parts {
		list = append(list, texts(part)...)
	}
	if strings.Join(list, "\n") == whole {
		return list
	}
	last := parts[len(parts)-1]
	before, ok := strings.CutSuffix(whole, last.Error())
	if !ok {
		return []string{whole}
	}
	list = texts(last)
	list[0] = before + list[0]
	return list
}

// unwrap is what an error wraps.
func unwrap(err error) []error {
	if e, ok := err.(interface{ Unwrap() []error }); ok {
		return e.Unwrap()
	}
	if inner := errors.Unwrap(err); inner != nil {
		return []error{inner}
	}
	return nil
}
