package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"snapfs/snapshot"
	"snapfs/snapshot/backup"
	"snapfs/store"
)

func TestExitCode(t *testing.T) {
	incomplete := &incompleteError{1, "1 path could not be saved"}
	damaged := &damagedError{incompleteError{1, "1 entry is damaged"}}
	for _, test := range []struct {
		err  error
		code int
	}{
		{nil, 0},
		{errors.New("anything"), 1},
		{&snapshot.UnknownError{Ref: "x", What: "snapshot"}, 1},
		{&snapshot.AmbiguousError{Ref: "ab"}, 1},
		{backup.ErrNewSource, 1},
		{&commandError{7, nil}, 1},
		{&store.LockedError{}, 1},
		{usagef("wrong"), 2},
		{snapshot.ErrSyntax, 2},
		{backup.ErrDatasetNeeded, 2},
		{incomplete, 3},
		{damaged, 4},
		{errors.Join(incomplete, damaged), 4},
		{&store.CorruptError{}, 4},
		{&store.MissingError{}, 4},
		{store.ErrConfig, 4},
		{store.ErrDamagedSlot, 4},
		{store.ErrNoStore, 10},
		{store.ErrHeld, 11},
		{store.ErrNotOwner, 11},
		{store.ErrUnreachable, 11},
		{store.ErrWrongSecret, 12},
		{store.ErrNoSlot, 12},
		{errNoSecret, 12},
		{errInterrupted, 130},
		{context.Canceled, 130},
		{errPipe, 141},
		{&exitError{12}, 12},
	} {
		wrapped := fmt.Errorf("snapshot x: %w", test.err)
		if test.err == nil {
			wrapped = nil
		}
		if got := exitCode(wrapped); got != test.code {
			t.Errorf("exit code of %v is %d, want %d", test.err, got, test.code)
		}
	}
}

func TestEndingQuietly(t *testing.T) {
	for _, err := range []error{errPipe, &exitError{3}, nil} {
		if list := messages(err); len(list) > 0 {
			t.Errorf("messages of %v are %q", err, list)
		}
	}
}

func TestMessages(t *testing.T) {
	a, b := errors.New("a"), errors.New("two\nlines")
	for want, err := range map[string]error{
		"a":                 a,
		"two\nlines":        b,
		"a|two\nlines":      errors.Join(a, b),
		"x: two\nlines|a":   fmt.Errorf("x: %w", errors.Join(b, a)),
		"a: a|two\nlines|a": fmt.Errorf("%w: %w", a, errors.Join(a, errors.Join(b, a))),
		"two\nlines, not a": fmt.Errorf("%w, not %w", b, a),
		"two\nlines inside": fmt.Errorf("%w inside", b),
	} {
		if got := strings.Join(messages(err), "|"); got != want {
			t.Errorf("messages of %q: %q, want %q", err, got, want)
		}
	}
}

func TestInterruptedBeatsWhatFollowsFromIt(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var stderr strings.Builder
	p := newProgram(nil, io.Discard, &stderr)
	if code := p.finish(ctx, store.ErrClosed); code != exitInterrupted || stderr.String() != "snapfs: interrupted\n" {
		t.Errorf("exit code %d, %q", code, stderr.String())
	}
	if code := p.finish(ctx, nil); code != exitDone {
		t.Errorf("what was done all the same has exit code %d", code)
	}
}

// TestAmbiguousID: the hint says what an ID's beginning could mean.
func TestAmbiguousID(t *testing.T) {
	first := snapshot.Listed{Snapshot: store.Snapshot{ID: store.ID{0xab, 1}, Dataset: "d", Name: "one"}}
	second := snapshot.Listed{Snapshot: store.Snapshot{ID: store.ID{0xab, 2}, Dataset: "d", Name: "two"}}
	got := hints(&snapshot.AmbiguousError{Ref: "ab", Candidates: []snapshot.Listed{first, second}})
	want := []string{first.ID.String() + " is d@one", second.ID.String() + " is d@two"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
