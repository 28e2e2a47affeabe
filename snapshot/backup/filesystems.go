package backup

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

// coarseTick is how far times move at once on file systems that keep them coarsely.
const coarseTick = 2 * time.Second

// pseudoTypes are file systems that hold no data: saved as empty directories unless named. The last ones refuse
// even root.
var pseudoTypes = map[string]bool{
	"proc": true, "sysfs": true, "devtmpfs": true, "devpts": true, "cgroup": true, "cgroup2": true, "tracefs": true,
	"debugfs": true, "securityfs": true, "pstore": true, "bpf": true, "configfs": true, "fusectl": true, "mqueue": true,
	"hugetlbfs": true, "rpc_pipefs": true, "binfmt_misc": true, "efivarfs": true, "autofs": true, "nsfs": true,
	"selinuxfs": true, "nfsd": true, "cpuset": true, "resctrl": true, "fuse.gvfsd-fuse": true, "fuse.portal": true,
}

// snapfsType is the type of our own mounts: showing backups, they are never backed up, and never touched.
const snapfsType = "fuse.snapfs"

// coarseTypes keep times by the second or worse, or show those of a server's clock.
var coarseTypes = map[string]bool{
	"vfat": true, "msdos": true, "exfat": true, "hfs": true, "hfsplus": true, "ext2": true, "ext3": true, "nfs": true,
	"nfs4": true, "cifs": true, "smb3": true, "9p": true, "virtiofs": true, "udf": true, "iso9660": true, "reiserfs": true,
}

// fileSystem is what a run knows of one st_dev.
type fileSystem struct {
	dev    uint64
	index  uint32
	tick   time.Duration
	pseudo bool
	snapfs bool

	noFlags atomic.Bool // it has no inode flags
}

// mount is a line of mountinfo.
type mount struct {
	path   string
	dev    uint64
	fsType string
}

// fileSystems is the table of a run. Safe for concurrent use.
type fileSystems struct {
	tick   time.Duration // of the clock
	mounts func() []mount

	mu    sync.Mutex
	byDev map[uint64]*fileSystem
	table []snapshot.FileSystem // by index; what earlier snapshots knew first
	used  map[string]bool       // mount paths that have an st_dev in this run

	layers int
}

func newFileSystems(known ...[]snapshot.FileSystem) *fileSystems {
	var res unix.Timespec
	tick := 4 * time.Millisecond
	if unix.ClockGetres(unix.CLOCK_REALTIME_COARSE, &res) == nil {
		tick = time.Duration(res.Nano())
	}
	f := &fileSystems{tick: tick, mounts: readMounts, byDev: map[uint64]*fileSystem{}, used: map[string]bool{}}
	for _, table := range known {
		for _, k := range table {
			if !slices.ContainsFunc(f.table, func(t snapshot.FileSystem) bool { return t.Index == k.Index }) {
				f.table = append(f.table, k)
			}
		}
	}
	return f
}

// of returns what is known of a device; path, asked only for an unknown one, is where it was met. What is not entered
// as a directory but has a device of its own is a layer of an overlay: it is named after the overlay's mount, for the
// first file met may be another one next time.
func (f *fileSystems) of(dev uint64, path func() string, entered bool) *fileSystem {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fs := f.byDev[dev]; fs != nil {
		return fs
	}
	at := path()
	m, ok := mountOf(f.mounts(), dev, at) // read for each new device: it may have been mounted since
	if !ok || f.used[m.path] {            // it has no mount of its own
		if entered {
			m.path = at // a subvolume
		} else {
			m.path = fmt.Sprintf("%s (layer %d)", m.path, f.layers)
			f.layers++
		}
		m.dev = dev
	}
	f.used[m.path] = true
	fs := &fileSystem{dev: dev, tick: f.tick, pseudo: pseudoTypes[m.fsType], snapfs: m.fsType == snapfsType}
	if coarseTypes[m.fsType] || strings.HasPrefix(m.fsType, "fuse") {
		fs.tick = max(f.tick, coarseTick)
	}
	fs.index = f.indexOf(m)
	f.byDev[dev] = fs
	return fs
}

// indexOf returns the index of a mount path: the one it had before, else the next never used.
func (f *fileSystems) indexOf(m mount) uint32 {
	next := uint32(0)
	for i := range f.table {
		t := &f.table[i]
		if t.MountPath == m.path {
			t.Type, t.UUID = m.fsType, uuidOf(m.dev)
			return t.Index
		}
		next = max(next, t.Index+1)
	}
	f.table = append(f.table, snapshot.FileSystem{Index: next, MountPath: m.path, Type: m.fsType, UUID: uuidOf(m.dev)})
	return next
}

// list returns the table for the manifest, by index.
func (f *fileSystems) list() []snapshot.FileSystem {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := slices.Clone(f.table)
	slices.SortFunc(out, func(a, b snapshot.FileSystem) int { return int(a.Index) - int(b.Index) })
	return out
}

// mountOf finds the mount of a device that a path lies in: the longest that is above it; else any of that device.
func mountOf(mounts []mount, dev uint64, path string) (best mount, ok bool) {
	for _, m := range mounts {
		if m.dev != dev {
			continue
		}
		above := below(path, m.path)
		if !ok || above && (len(m.path) >= len(best.path) || !below(path, best.path)) {
			best, ok = m, true
		}
	}
	if !ok {
		for _, m := range mounts {
			if below(path, m.path) && len(m.path) >= len(best.path) {
				best = m
			}
		}
	}
	return best, ok
}

// below reports whether path is dir or lies in it.
func below(path, dir string) bool {
	return dir == "/" || path == dir || strings.HasPrefix(path, dir) && path[len(dir)] == '/'
}

// readMounts parses /proc/self/mountinfo; without /proc there are none.
func readMounts() []mount {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	var out []mount
	for line := range bytes.Lines(data) {
		if m, ok := parseMount(string(line)); ok {
			out = append(out, m)
		}
	}
	return out
}

// parseMount reads one line: id, parent, major:minor, root, mount point, options, optional fields, "-", type ...
func parseMount(line string) (m mount, ok bool) {
	head, tail, found := strings.Cut(line, " - ")
	fields, rest := strings.Fields(head), strings.Fields(tail)
	if !found || len(fields) < 5 || len(rest) < 1 {
		return m, false
	}
	major, minor, _ := strings.Cut(fields[2], ":")
	x, err1 := strconv.ParseUint(major, 10, 32)
	y, err2 := strconv.ParseUint(minor, 10, 32)
	if err1 != nil || err2 != nil {
		return m, false
	}
	return mount{path: unescapeMount(fields[4]), dev: unix.Mkdev(uint32(x), uint32(y)), fsType: rest[0]}, true
}

// unescapeMount undoes the octal escapes of space, tab, newline and backslash.
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// uuidOf finds a block device's file-system UUID where udev left it.
func uuidOf(dev uint64) string {
	const dir = "/dev/disk/by-uuid"
	list, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	for _, d := range list {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(dir, d.Name()), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == dev {
			return d.Name()
		}
	}
	return ""
}
