package store

import (
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
