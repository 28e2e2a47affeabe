package restore

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// tempPrefix begins the names of unfinished files. Then follow the number and the start time of the process, so that a later
// run can tell the leftovers of one that was killed from the work of one that goes on.
const tempPrefix = ".snapfs-"

const madeMark = "made" // ends the name of the file that says "this directory was made by an unfinished restore"

// owner names a process for ever: numbers are used again, numbers with start times are not.
type owner string

func thisProcess() owner {
	pid := os.Getpid()
	start, _ := startTime(pid)
	return owner(fmt.Sprintf("%d-%x", pid, start))
}

func (o owner) temp() string { return o.tempOf(rand.Uint64()) }

func (o owner) tempOf(random uint64) string { return fmt.Sprintf("%s%s-%016x", tempPrefix, o, random) }

// randomOf is the number that a temporary name ends with.
func randomOf(temp string) uint64 {
	n, _ := strconv.ParseUint(temp[len(temp)-16:], 16, 64)
	return n
}

func (o owner) mark() string { return fmt.Sprintf("%s%s-%s", tempPrefix, o, madeMark) }

// leftover reports whether name is that of an unfinished file whose process has ended.
func leftover(name string) bool {
	rest, ok := strings.CutPrefix(name, tempPrefix)
	parts := strings.Split(rest, "-")
	if !ok || len(parts) != 3 || len(parts[2]) != 16 && parts[2] != madeMark {
		return false
	}
	pid, err1 := strconv.Atoi(parts[0])
	start, err2 := strconv.ParseUint(parts[1], 16, 64)
	if err1 != nil || err2 != nil || pid <= 0 {
		return false
	}
	now, err := startTime(pid)
	return errors.Is(err, os.ErrNotExist) && unix.Kill(pid, 0) == unix.ESRCH || err == nil && now != start
}

// startTime is field 22 of /proc/PID/stat, ticks since boot.
func startTime(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the command's name in parentheses, which may hold anything.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 {
		return 0, errors.New("short /proc/PID/stat")
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// keepsNoOwners reports whether a file made in a directory gets that owner although it is another's than this process's, or a mode of the file system's
// own: FAT does that, and network file systems. There neither says who made what.
func (r *run) keepsNoOwners(dir int, uid uint32) bool {
	temp := r.owner.temp()
	fd, err := openat(dir, temp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	st, err := fstat(fd)
	_ = unix.Unlinkat(dir, temp, 0)
	return err == nil && st.Uid == uid && (uid != r.euid || st.Mode&0o777 != 0o600)
}

// mark leaves the sign that a directory was made by this run, so that the next one, should this be interrupted, sets its attributes too.
func (r *run) mark(f *folder, dir int) {
	fd, err := openat(dir, r.owner.mark(), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err == nil {
		unix.Close(fd)
		f.marked = true
	}
}

// unmark removes the sign.
func (r *run) unmark(f *folder, dir int) {
	if f.marked {
		_ = unix.Unlinkat(dir, r.owner.mark(), 0)
	}
}

// tidy removes a leftover, or takes over the sign of a former run.
func (r *run) tidy(f *folder, dir int, name string) {
	if r.DryRun {
		return
	}
	if !strings.HasSuffix(name, "-"+madeMark) {
		r.openUp(f, dir)
		_ = r.unlink(dir, name, 0)
		return
	}
	if f.parent == nil && !r.knowsTop() || unix.Renameat(dir, name, dir, r.owner.mark()) != nil {
		return
	}
	if f.parent != nil && !f.chosen && !f.attrs {
		r.count.entries.Add(1) // as if it were made now
	}
	f.attrs, f.marked = true, true
}
