package archive

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"snapfs/store/volume"
)

// sums is what has been added up over the volumes of a set, in files of a directory, one for each parity volume of a group, named after the
// last volume that is in them. A step adds further volumes in files beside those, which get their names when they are complete and synced; the old ones
// go when the catalogue has the volumes. So a run that is killed leaves the sums up to the last complete volume or an earlier one.
type sums struct {
	dir  string
	name string // of the set, and the beginning of its ID
	m    int
	code *volume.SetCode
}

func newSums(dir, name string, m int) (*sums, error) {
	code, err := volume.NewSetCode(m)
	if err != nil {
		return nil, err
	}
	if dir == "" {
		return nil, ErrParityDir
	}
	if err := writable(dir); err != nil {
		return nil, err
	}
	return &sums{dir: dir, name: name, m: m, code: code}, nil
}

// writable finds out beforehand whether files can be made in a directory.
func writable(dir string) error {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = &os.PathError{Op: "open", Path: dir, Err: unix.ENOTDIR}
	}
	if err != nil {
		return err
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return &os.PathError{Op: "write to", Path: dir, Err: err}
	}
	return nil
}

// groupOf is the group of a volume, from 0, and its number there.
func groupOf(number uint32) (group, n int) {
	return int(number-1) / volume.SetData, int(number-1) % volume.SetData
}

// spareSum ends the name of a file that is being written, or whose blocks will be used for the next one.
const spareSum = "next"

func (s *sums) prefix() string { return s.name + ".sum-" }

// file is that with parity j over the volumes of a group up to one.
func (s *sums) file(number uint32, j int) string {
	group, _ := groupOf(number)
	return s.path(group, j, strconv.FormatUint(uint64(number), 10))
}

func (s *sums) path(group, j int, last string) string {
	return filepath.Join(s.dir, fmt.Sprintf("%s%d-%d.%s", s.prefix(), group+1, j+1, last))
}

// sumName is the name of a file taken apart.
type sumName struct {
	name     string
	group, j int
	number   uint32 // 0: spare
}

// names lists the files there are.
func (s *sums) names() (list []sumName, err error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), s.prefix())
		place, last, dot := strings.Cut(rest, ".")
		group, j, dash := strings.Cut(place, "-")
		if !ours || !dot || !dash {
			continue
		}
		n := sumName{name: e.Name()}
		var errs [3]error
		n.group, errs[0] = strconv.Atoi(group)
		n.j, errs[1] = strconv.Atoi(j)
		if last != spareSum {
			var number uint64
			number, errs[2] = strconv.ParseUint(last, 10, 32)
			n.number = uint32(number)
		}
		if errors.Join(errs[:]...) != nil {
			continue
		}
		n.group, n.j = n.group-1, n.j-1
		list = append(list, n)
	}
	return list, nil
}

// last is the newest volume of a group, not above a number, over which there are sums; 0: there are none.
func (s *sums) last(group int, upTo uint32) (uint32, error) {
	names, err := s.names()
	if err != nil {
		return 0, err
	}
	count := map[uint32]int{}
	last := uint32(0)
	for _, n := range names {
		if n.group != group || n.number == 0 || n.number > upTo || n.j >= s.m {
			continue
		}
		if count[n.number]++; count[n.number] == s.m {
			last = max(last, n.number)
		}
	}
	return last, nil
}

// remove removes the files that are chosen.
func (s *sums) remove(chosen func(sumName) bool) error {
	names, err := s.names()
	for _, n := range names {
		if chosen(n) {
			err = errors.Join(err, os.Remove(filepath.Join(s.dir, n.name)))
		}
	}
	return err
}

// settled lets go of older sums than those over the volumes of a group up to one. Their blocks are used for the next ones if there will be some:
// writing over what is there takes half the time that new blocks take.
func (s *sums) settled(number uint32, more bool) error {
	group, _ := groupOf(number)
	names, err := s.names()
	for _, n := range names {
		if n.group != group || n.number == 0 || n.number >= number {
			continue
		}
		path := filepath.Join(s.dir, n.name)
		if more {
			err = errors.Join(err, os.Rename(path, s.path(group, n.j, spareSum)))
		} else {
			err = errors.Join(err, os.Remove(path))
		}
	}
	return err
}

// step adds volumes to the sums. Not safe for concurrent use.
type step struct {
	s   *sums
	to  uint32     // the last volume that is added
	old []*os.File // nil: nothing has been added up in this group
	new []*os.File

	bufs    [][]byte
	at      int64 // of bufs, which hold n bytes
	n       int
	started int64 // up to here the device has been told to write
	done    bool
}

// step begins to add volumes up to one to the sums over those of its group up to another, 0: none.
func (s *sums) step(from, to uint32, block int) (_ *step, err error) {
	a := &step{s: s, to: to}
	defer func() {
		if err != nil {
			a.stop()
		}
	}()
	group, _ := groupOf(to)
	for j := range s.m {
		if from > 0 {
			f, err := os.Open(s.file(from, j))
			if errors.Is(err, os.ErrNotExist) {
				err = fmt.Errorf("%w: %w", ErrParityLost, err)
			}
			if err != nil {
				return nil, err
			}
			a.old = append(a.old, f)
		}
		// Others may write to the directory, /var/tmp for instance: what they put there to be followed is refused.
		f, err := os.OpenFile(s.path(group, j, spareSum), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		a.new = append(a.new, f)
		a.bufs = append(a.bufs, make([]byte, block))
	}
	return a, nil
}

// load makes what has been added up at the next n bytes ready for add.
func (a *step) load(n int) error {
	a.n = n
	for j, buf := range a.bufs {
		got := 0
		if a.old != nil {
			var err error
			if got, err = a.old[j].ReadAt(buf[:n], a.at); err != nil && err != io.EOF {
				return err
			}
		}
		clear(buf[got:n])
	}
	return nil
}

// add adds bytes of a volume, not more than were loaded.
func (a *step) add(number uint32, data []byte) error {
	_, n := groupOf(number)
	rows := make([][]byte, len(a.bufs))
	for j, buf := range a.bufs {
		rows[j] = buf[:len(data)]
	}
	return a.s.code.Add(n, data, rows)
}

// startEvery is how much is collected before the device is told to write it: the sync at the end then finds little to do.
const startEvery = 8 << 20

// store writes what was loaded and added to, and goes on behind it.
func (a *step) store() error {
	for j, f := range a.new {
		if _, err := f.WriteAt(a.bufs[j][:a.n], a.at); err != nil {
			return err
		}
	}
	a.at += int64(a.n)
	if a.at-a.started < startEvery {
		return nil
	}
	for _, f := range a.new {
		// Only a hint: the sync at the end is what counts, and it tells of errors.
		_ = unix.SyncFileRange(int(f.Fd()), a.started, a.at-a.started, unix.SYNC_FILE_RANGE_WRITE)
	}
	a.started = a.at
	return nil
}

// complete copies what lies behind the volumes that were added, and gives the files their names.
func (a *step) complete() error {
	longest := a.at
	for _, f := range a.old {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		longest = max(longest, info.Size())
	}
	for a.at < longest {
		if err := a.load(int(min(int64(len(a.bufs[0])), longest-a.at))); err != nil {
			return err
		}
		if err := a.store(); err != nil {
			return err
		}
	}
	for _, f := range a.new {
		if err := errors.Join(f.Truncate(longest), f.Sync()); err != nil {
			return err
		}
	}
	for j, f := range a.new {
		if err := os.Rename(f.Name(), a.s.file(a.to, j)); err != nil {
			return err
		}
	}
	a.done = true
	return syncDir(a.s.dir)
}

// stop closes the files. What was not completed goes: its room may be what was missing.
func (a *step) stop() {
	for _, f := range slices.Concat(a.old, a.new) {
		f.Close() // synced, or of no use
	}
	for _, f := range a.new {
		if !a.done {
			_ = os.Remove(f.Name()) // else it is written over
		}
	}
	a.old, a.new = nil, nil
}
