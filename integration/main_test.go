package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// snapfs is the binary under test.
var snapfs string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

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
