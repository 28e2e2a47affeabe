package fs

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// mountInfo is a line of /proc/self/mountinfo. It is read instead of asking the mount itself, which may be one's own,
// or dead.
type mountInfo struct {
	device string // MAJOR:MINOR
	path   string
	fsType string
	source string
	user   int // user_id of a FUSE mount; -1 if there is none
}

func readMountInfo() ([]mountInfo, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseMountInfo(f)
}

// parseMountInfo reads the format of proc_pid_mountinfo(5). Lines that are not of it are skipped.
func parseMountInfo(r io.Reader) ([]mountInfo, error) {
	var all []mountInfo
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), 1<<20)
	for lines.Scan() {
		if m, ok := parseMountLine(lines.Text()); ok {
			all = append(all, m)
		}
	}
	return all, lines.Err()
}

func parseMountLine(line string) (mountInfo, bool) {
	left, right, ok := strings.Cut(line, " - ")
	l, r := strings.Split(left, " "), strings.Split(right, " ") // not Fields: other kinds of space may be in a path
	if !ok || len(l) < 6 || len(r) < 3 {
		return mountInfo{}, false
	}
	m := mountInfo{device: l[2], path: unescape(l[4]), fsType: r[0], source: unescape(r[1]), user: -1}
	for _, opt := range strings.Split(r[2], ",") {
		if v, ok := strings.CutPrefix(opt, "user_id="); ok {
			if n, err := strconv.Atoi(v); err == nil {
				m.user = n
			}
		}
	}
	return m, true
}

// unescape undoes the kernel's \ooo.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// mountAt returns the snapfs mount that covers path, the topmost if there are several.
func mountAt(path string) (mountInfo, error) {
	all, err := readMountInfo()
	if err != nil {
		return mountInfo{}, err
	}
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].path == path {
			if all[i].fsType != fsType {
				break
			}
			return all[i], nil
		}
	}
	return mountInfo{}, ErrNotMounted
}

// Mounts lists the mountpoints of snapfs mounts on this machine, as this process sees it.
func Mounts() ([]string, error) {
	all, err := readMountInfo()
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, m := range all {
		if m.fsType == fsType {
			paths = append(paths, m.path)
		}
	}
	return paths, nil
}

// userAllowOther reports whether /etc/fuse.conf lets users open their mounts to others.
func userAllowOther() bool {
	conf, err := os.ReadFile("/etc/fuse.conf")
	if err != nil {
		return false
	}
	for line := range bytes.Lines(conf) {
		if string(bytes.TrimSpace(line)) == "user_allow_other" {
			return true
		}
	}
	return false
}

// containsError looks for a system error in the output of a program run with LC_ALL=C.
func containsError(out []byte, err error) bool {
	return bytes.Contains(bytes.ToLower(out), []byte(strings.ToLower(err.Error())))
}

// firstLine is what a program said, or its error if it said nothing.
func firstLine(out []byte, err error) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(out), []byte("\n"))
	if len(line) == 0 {
		return fmt.Sprint(err)
	}
	return string(bytes.TrimPrefix(line, []byte("fusermount3: ")))
}
