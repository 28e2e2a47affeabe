package integration

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
)

// snapfs is the binary under test.
var snapfs string

func TestMain(m *testing.M) {
	for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT} {
		if signal.Ignored(sig) { // by nohup, or a shell's "&": the commands under test would ignore it too, as they should
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
	os.Exit(buildAndRun(m))
}

// buildAndRun tests what it builds or, so that a released binary can be tested, the one that $SNAPFS_BINARY names.
func buildAndRun(m *testing.M) int {
	if snapfs = os.Getenv("SNAPFS_BINARY"); snapfs != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "snapfs-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // some scripts run it as another user
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	snapfs = filepath.Join(dir, "snapfs")
	build := exec.Command("go", "build", "-o", snapfs, "./cmd/snapfs")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building snapfs: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}
