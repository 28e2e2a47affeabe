package seal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Names in the directory of keys. On disk; append only.
const (
	slotPrefix   = "slot-"
	bundlePrefix = "bundle-"
	tempPrefix   = ".new-"
	lockName     = "lock"
)

var slotID = regexp.MustCompile(`^[0-9a-f]{8}$`)

// keyDir is a directory of slots and bundles. Readers need no lock: files appear whole, by rename.
type keyDir struct {
	path  string
	fault func(op string) error // asked before each write, sync, rename and remove: tests make it fail; nil: goes on
}

func (d keyDir) may(op string) error {
	if d.fault == nil {
		return nil
	}
	return d.fault(op)
}

// slots reads every slot file, by time of creation. Slots that cannot be used are among them.
func (d keyDir) slots() ([]*slotFile, error) {
	names, err := d.names()
	if err != nil {
		return nil, err
	}
	var out []*slotFile
	for _, name := range names {
		id, ok := strings.CutPrefix(name, slotPrefix)
		if !ok || !slotID.MatchString(id) {
			continue
		}
		s, err := d.slot(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since the directory was read
		}
		if err != nil {
			s = &slotFile{ID: id, problem: err.Error(), damaged: true}
		}
		out = append(out, s)
	}
	slices.SortStableFunc(out, func(a, b *slotFile) int { return a.Created.Compare(b.Created) })
	return out, d.markForeign(out)
}

// markForeign finds the slots of other stores among those of this one: their secrets open them, and then nothing here. Where no slot belongs
// to a bundle, it is the bundles that are wrong.
func (d keyDir) markForeign(slots []*slotFile) error {
	whole, _, err := d.bundles()
	if err != nil {
		return err
	}
	var foreign []*slotFile
	usable := 0
	for _, s := range slots {
		switch {
		case s.problem != "":
		case slices.ContainsFunc(whole, func(f *bundleFile) bool { return Set(f.Set) == Set(s.Set) }):
			usable++
		default:
			foreign = append(foreign, s)
		}
	}
	for _, s := range foreign {
		if usable > 0 {
			s.problem = "it belongs to another store"
		}
	}
	return nil
}

func (d keyDir) slot(id string) (*slotFile, error) {
	data, err := d.read(slotPrefix + id)
	if err != nil {
		return nil, err
	}
	return parseSlot(id, data), nil
}

// bundles reads the bundle files that are whole, newest first, and tells why others are not.
func (d keyDir) bundles() (whole []*bundleFile, damaged error, err error) {
	numbers, err := d.bundleNumbers()
	if err != nil {
		return nil, nil, err
	}
	for _, n := range slices.Backward(numbers) {
		name := bundlePrefix + strconv.FormatUint(uint64(n), 10)
		data, err := d.read(name)
		if err == nil {
			var f *bundleFile
			if f, err = parseBundle(data); err == nil && f.Number != n {
				err = fmt.Errorf("calls itself number %d", f.Number)
			}
			if err == nil {
				whole = append(whole, f)
				continue
			}
		}
		damaged = errors.Join(damaged, fmt.Errorf("%s: %w", name, err))
	}
	return whole, damaged, nil
}

// bundleNumbers lists the bundle files, ascending.
func (d keyDir) bundleNumbers() ([]uint32, error) {
	names, err := d.names()
	if err != nil {
		return nil, err
	}
	var out []uint32
	for _, name := range names {
		text, ok := strings.CutPrefix(name, bundlePrefix)
		n, err := strconv.ParseUint(text, 10, 32)
		if ok && err == nil && n > 0 && strconv.FormatUint(n, 10) == text {
			out = append(out, uint32(n))
		}
	}
	slices.Sort(out)
	return out, nil
}

func (d keyDir) names() ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("key slots: %w", err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// read returns a regular file of bounded size. A fifo or device planted in its place cannot block the caller.
func (d keyDir) read(name string) ([]byte, error) {
	f, err := os.OpenFile(filepath.Join(d.path, name), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// write makes a file appear whole and durable: written beside, synced, renamed, directory synced. Only under lock.
func (d keyDir) write(name string, data []byte) error {
	if err := d.replace(name, data); err != nil {
		return fmt.Errorf("key file %s: %w", filepath.Join(d.path, name), err)
	}
	return nil
}

func (d keyDir) replace(name string, data []byte) (err error) {
	temp := filepath.Join(d.path, tempPrefix+name)
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(temp)
		}
	}()
	if err = d.may("write"); err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		err = giveToOwner(f, d.path)
	}
	if err == nil {
		err = d.may("sync")
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = d.may("rename"); err == nil {
		err = os.Rename(temp, filepath.Join(d.path, name))
	}
	if err != nil {
		return err
	}
	return d.sync()
}

// remove deletes a slot for good.
func (d keyDir) remove(id string) error {
	err := d.may("remove")
	if err == nil {
		err = os.Remove(filepath.Join(d.path, slotPrefix+id))
	}
	if err == nil {
		err = d.sync()
	}
	if err != nil {
		return fmt.Errorf("key slot: %w", err)
	}
	return nil
}

func (d keyDir) sync() error {
	if err := d.may("sync of the directory"); err != nil {
		return err
	}
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// lock keeps other writers away until unlock, and clears away what a crashed one left.
func (d keyDir) lock() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(d.path, lockName), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("key slots: %w", err)
	}
	if err = giveToOwner(f, d.path); err == nil {
		err = flock(f)
	}
	if err == nil {
		err = d.clearTemps()
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("key slots: %w", err)
	}
	return func() { f.Close() }, nil
}

func flock(f *os.File) error {
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (d keyDir) clearTemps() error {
	names, err := d.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, tempPrefix) {
			if err := os.Remove(filepath.Join(d.path, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// giveToOwner gives a file root made to the owner of the directory: root may work in anybody's store, and
// must leave nothing in it that the owner cannot use.
func giveToOwner(f *os.File, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return err
	}
	return f.Chown(int(st.Uid), int(st.Gid))
}
