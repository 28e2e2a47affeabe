package store

import (
	"context"
	"errors"
	"os/exec"
	"testing"
	"time"
)

// TestLockOfDeadProcess: whoever asks for a lock whose owner was killed waits the moment until it is given back.
func TestLockOfDeadProcess(t *testing.T) {
	st := openStore(t, newStore(t))
	defer closeStore(t, st)
	e := engineOf(st)
	cmd := exec.Command("sleep", "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killed, other := e.newSessionOf([16]byte{1}, "killed", cmd.Process.Pid), e.newSession("other")
	defer other.Close()
	if err := killed.Lock(t.Context(), "x", "job", false); err != nil {
		t.Fatal(err)
	}
	var locked *LockedError
	if err := other.Lock(t.Context(), "x", "job", false); !errors.As(err, &locked) {
		t.Fatalf("lock of a living process: %v", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	time.AfterFunc(50*time.Millisecond, func() { _ = killed.Close() }) // as when its connection has ended
	if err := other.Lock(t.Context(), "x", "job", false); err != nil {
		t.Fatalf("lock of a dead process: %v", err)
	}
}

// TestSilentClientKeepsItsLock: a client that asks for nothing, as while it waits for the command whose output it saves, comes back for its
// lock when the holder ends.
func TestSilentClientKeepsItsLock(t *testing.T) {
	for name, end := range map[string]func(*process){
		"killed": func(p *process) { p.kill(t) },
		"closed": func(p *process) { must(t, p.in.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := newStore(t)
			holder := startProcess(t, dir, "")
			silent := openStore(t, dir)
			defer closeStore(t, silent)
			unlock, err := silent.LockDataset(t.Context(), "d", false)
			must(t, err)
			end(holder)
			for deadline := time.Now().Add(time.Minute); !isHolder(silent); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("it did not come back")
				}
			}
			other := openStore(t, dir)
			defer closeStore(t, other)
			var locked *LockedError
			if _, err := other.LockDataset(t.Context(), "d", false); !errors.As(err, &locked) {
				t.Errorf("the lock of who was silent: %v", err)
			}
			unlock()
			unlock, err = other.LockDataset(t.Context(), "d", false)
			must(t, err)
			unlock()
		})
	}
}

// TestWhoComesTooLate: a client that could not come back in time does nothing without its lock, and goes on when that is free.
func TestWhoComesTooLate(t *testing.T) {
	dir := newStore(t)
	holder := startProcess(t, dir, "")
	late := openStore(t, dir)
	defer closeStore(t, late)
	_, err := late.LockDataset(t.Context(), "d", false)
	must(t, err)
	s := late.session.(*lastingSession)
	s.turn <- struct{}{} // as if it were stopped
	holder.kill(t)
	other := openStore(t, dir)
	defer closeStore(t, other)
	unlock, err := other.LockDataset(t.Context(), "d", false)
	must(t, err)
	<-s.turn
	var locked *LockedError
	if _, err := backupOnce(late, "d", "late", blobs(1, 10)); !errors.As(err, &locked) {
		t.Errorf("backup without its lock: %v", err)
	}
	_, snap := putAll(t, other, "d", "other", nil)
	unlock()
	_, err = backupOnce(late, "d", "late", blobs(1, 10))
	must(t, err)
	state, err := other.State(t.Context())
	must(t, err)
	if len(state.Snapshots) != 2 || state.Snapshots[0].ID != snap.ID {
		t.Errorf("snapshots %+v", state.Snapshots)
	}
}

func TestLocksEndWithTheirProcess(t *testing.T) {
	dir := newStore(t)
	st := openStore(t, dir)
	defer closeStore(t, st)
	other := startProcess(t, dir, "dataset/d")
	var locked *LockedError
	if err := st.session.Lock(t.Context(), "dataset/d", "mine", false); !errors.As(err, &locked) || locked.Job != "other process" {
		t.Fatalf("lock of another process: %v", err)
	}
	got := make(chan error, 1)
	go func() { got <- st.session.Lock(context.Background(), "dataset/d", "mine", true) }()
	other.kill(t)
	must(t, <-got)
}
