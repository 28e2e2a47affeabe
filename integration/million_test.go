package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMillion takes a directory with a million entries through backup, mount and find. Memory stays bounded.
func TestMillion(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a million files")
	}
	needFUSE(t)
	const count, bound = 1_000_000, 400 << 20
	w := newWorld(t)
	source := w.path("source")
	attachTmpfs(t, source, "1G,nr_inodes=1100000")
	dir, err := unix.Open(source, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range count {
		if err := unix.Mknodat(dir, fmt.Sprintf("file-%07d", i), unix.S_IFREG|0o644, 0); err != nil {
			t.Fatal(err)
		}
	}
	unix.Close(dir)
	peak := func(what string, bytes int64) {
		t.Helper()
		t.Logf("%s: peak memory %d MiB", what, bytes>>20)
		if bytes > bound {
			t.Errorf("%s: peak memory %d MiB", what, bytes>>20)
		}
	}
	measured := func(args ...string) outcome {
		t.Helper()
		j := w.start(args...)
		peak(args[0], watchMemory(j))
		return j.want(0)
	}

	first := measured("backup", "--json", "--dataset", "d", source)
	s := first.summary(t)
	if s.Entries != count || s.New != count {
		t.Errorf("%d entries, %d new", s.Entries, s.New)
	}
	again := measured("backup", "--json", "--dataset", "d", source)
	if s := again.summary(t); s.Unchanged != count {
		t.Errorf("%d unchanged", s.Unchanged)
	}

	mnt, sub := w.mount("mnt"), filepath.Join("d", s.Name)
	if out := sh(t, mnt, `ls -l "$1/file-0654321" && ! ls "$1/file-1000000" 2>/dev/null`, sub); !strings.HasPrefix(out, "-rw-r--r-- 1 ") {
		t.Errorf("ls: %s", out)
	}
	if n := strings.TrimSpace(sh(t, mnt, `ls -f "$1" | grep -c file`, sub)); n != fmt.Sprint(count) {
		t.Errorf("ls in the mount sees %s names", n)
	}
	for _, pid := range w.running() {
		peak("mount", highWater(pid))
	}
	w.umount(mnt)

	found := measured("find", "file-0123456")
	if n := strings.Count(found.stdout, "\n"); n != 2 {
		t.Errorf("find: %d lines", n)
	}
	if out := w.do(0, "ls", "d:/file-0999999"); !strings.Contains(out.stdout, "file-0999999") {
		t.Errorf("ls: %s", out.stdout)
	}
	listed := measured("ls", "d")
	if n := strings.Count(listed.stdout, "\n"); n != count {
		t.Errorf("ls: %d lines", n)
	}
}

// watchMemory returns the peak memory of a job when it has ended. What wait tells of a process (ru_maxrss) is no use: it
// begins with the memory of the process that started it.
func watchMemory(j *job) int64 {
	var peak int64
	for !j.ended() {
		peak = max(peak, highWater(j.Process.Pid))
		time.Sleep(5 * time.Millisecond)
	}
	return peak
}

// highWater is the peak memory of a running process, 0 if it runs no more.
func highWater(pid int) int64 {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(data), "VmHWM:")
	kib, _ := strconv.ParseInt(strings.Fields(rest + " 0")[0], 10, 64)
	return kib << 10
}
