package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// sandbox is a directory that a test works in. Commands get TMPDIR inside it, by which their processes are known.
type sandbox struct{ dir string }

func (s sandbox) tmp() string { return filepath.Join(s.dir, ".tmp") }

// leftovers finds what commands left behind and takes it away: mounts, processes, temporary files.
func (s sandbox) leftovers() []string {
	var found []string
	for _, dir := range s.mounts() {
		found = append(found, "mount on "+dir)
		unix.Unmount(dir, unix.MNT_DETACH)
	}
	for _, pid := range s.processes(time.Minute) {
		found = append(found, fmt.Sprintf("process %d", pid))
		unix.Kill(pid, unix.SIGKILL)
	}
	if list, err := os.ReadDir(s.tmp()); err == nil {
		for _, e := range list {
			found = append(found, "temporary file "+e.Name())
		}
	}
	return found
}

// mounts are the mountpoints inside the sandbox, innermost first.
func (s sandbox) mounts() []string {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	var dirs []string
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], s.dir+"/") {
			dirs = append([]string{f[4]}, dirs...)
		}
	}
	return dirs
}

// processes are those that commands of the sandbox left running. One that is about to end has until patience is over.
func (s sandbox) processes(patience time.Duration) []int {
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		pids := s.running()
		if len(pids) == 0 || time.Now().After(deadline) {
			return pids
		}
	}
}

func (s sandbox) running() []int {
	mark := []byte("\x00TMPDIR=" + s.tmp() + "\x00")
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	var pids []int
	for _, file := range files {
		env, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(append([]byte{0}, env...), mark) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
