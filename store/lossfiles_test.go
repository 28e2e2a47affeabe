package store

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"snapfs/store/volume"
)

// lossFiles knows what of the volumes and of the index is on stable storage: the power goes before the k-th operation that counts,
// and everything after that fails. What is left then is one of several things: see leave.
type lossFiles struct {
	Files
	dir string // of the store
	tmp string // where copies of the index go

	fault func(op, path string, b []byte) error // what goes wrong besides; may be nil

	mu      sync.Mutex
	left    int
	off     bool
	op      string               // at which the power went
	durable map[string]*lossFile // names in volumes that are on stable storage
	names   map[string]*lossFile // and as they are now
	cut     []byte               // what a file held that has been cut short since it was synced, and which
	cutFile *lossFile
}

// lossFile is a file of which more may be written than is on stable storage.
type lossFile struct {
	synced []byte
	last   []byte // when it was removed
}

var errPower = errors.New("the power is off")

// loss says what a loss of power leaves.
type loss struct{ volumes, index string }

// losses are what may be left: of the volumes as little as possible; all that was written; the names and lengths but not the bytes;
// what was cut off again, too. Of the index what was synced, or all that was written, or nothing.
var losses = []loss{
	{"least", "synced"}, {"least", "written"}, {"all", "synced"}, {"lengths", "written"}, {"lengths", "synced"},
	{"uncut", "synced"}, {"least", "none"},
}

// newLossFiles looks after a store that nobody has open; the power goes before the k-th operation, with k < 0 never.
func newLossFiles(t testing.TB, dir string, k int) *lossFiles {
	t.Helper()
	own, err := filesFor(dir)
	must(t, err)
	f := &lossFiles{Files: own, dir: dir, tmp: t.TempDir(), left: k, durable: map[string]*lossFile{}, names: map[string]*lossFile{}}
	entries, err := os.ReadDir(volumesDir(dir))
	must(t, err)
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(volumesDir(dir), e.Name()))
		must(t, err)
		f.names[e.Name()] = &lossFile{synced: data}
	}
	f.durable = maps.Clone(f.names)
	f.copyIndex("synced")
	return f
}

// next counts an operation. Needs mu.
func (f *lossFiles) next(op, path string, b ...byte) error {
	if f.fault != nil && !f.off {
		if err := f.fault(op, path, b); err != nil {
			return err
		}
	}
	if !f.off {
		if f.left == 0 {
			f.powerOff(op + " " + filepath.Base(path))
		}
		f.left--
	}
	if f.off {
		return errPower
	}
	return nil
}

func (f *lossFiles) powerOff(op string) {
	f.off, f.op = true, op
	f.copyIndex("written")
}

// stop is the end of power between two operations.
func (f *lossFiles) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.off {
		f.powerOff("end")
	}
}

func (f *lossFiles) copyIndex(as string) {
	to := filepath.Join(f.tmp, as)
	_ = os.RemoveAll(to)
	if err := copySparse(filepath.Join(f.dir, indexName), to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		panic(err)
	}
}

// watch makes what the index syncs from now on count, and what it holds now.
func (f *lossFiles) watch(st *Store) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.copyIndex("synced")
	engineOf(st).idx.synced = func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if !f.off {
			f.copyIndex("synced")
		}
	}
}

// copySparse copies a directory in use, holes as holes.
func copySparse(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(from, path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // Badger removes files at any time
		}
		if err != nil || d.IsDir() {
			return errors.Join(err, os.MkdirAll(filepath.Join(to, rel), 0o700))
		}
		in, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer in.Close()
		info, err := in.Stat()
		if err != nil {
			return err
		}
		out, err := os.Create(filepath.Join(to, rel))
		if err != nil {
			return err
		}
		defer out.Close()
		for at := int64(0); at < info.Size(); {
			from, err := unix.Seek(int(in.Fd()), at, unix.SEEK_DATA)
			if err != nil {
				break
			}
			end, err := unix.Seek(int(in.Fd()), from, unix.SEEK_HOLE)
			if err != nil {
				return err
			}
			if _, err := io.Copy(io.NewOffsetWriter(out, from), io.NewSectionReader(in, from, end-from)); err != nil {
				return err
			}
			at = end
		}
		return out.Truncate(info.Size())
	})
}

// Space is that of a small disk, so that memory tables are small.
func (f *lossFiles) Space(string) (free, total int64, err error) { return 1 << 40, 64 << 20, nil }

func (f *lossFiles) Create(path string, keepCached bool) (volume.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.next("create", path); err != nil {
		return nil, err
	}
	file, err := f.Files.Create(path, keepCached)
	if err != nil {
		return nil, err
	}
	at := &lossFile{}
	f.names[filepath.Base(path)] = at
	return &lossHandle{file, f, at, path}, nil
}

func (f *lossFiles) Open(path string) (volume.File, error) {
	file, err := f.Files.Open(path)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return &lossHandle{file, f, f.names[filepath.Base(path)], path}, nil
}

func (f *lossFiles) SyncDir(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.next("syncdir", path); err != nil {
		return err
	}
	f.durable = maps.Clone(f.names)
	return nil
}

func (f *lossFiles) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.next("rename", from); err != nil {
		return err
	}
	f.keepLast(to)
	f.names[filepath.Base(to)] = f.names[filepath.Base(from)]
	delete(f.names, filepath.Base(from))
	return f.Files.Rename(from, to)
}

func (f *lossFiles) Remove(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.next("remove", path); err != nil {
		return err
	}
	f.keepLast(path)
	delete(f.names, filepath.Base(path))
	return f.Files.Remove(path)
}

// keepLast keeps what a file held that is about to lose its name. Needs mu.
func (f *lossFiles) keepLast(path string) {
	if at := f.names[filepath.Base(path)]; at != nil {
		at.last, _ = os.ReadFile(path)
	}
}

func (f *lossFiles) WriteFile(path string, data []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.next("writefile", path); err != nil {
		return err
	}
	return f.Files.WriteFile(path, data)
}

type lossHandle struct {
	volume.File
	f    *lossFiles
	at   *lossFile
	path string
}

func (h *lossHandle) WriteAt(b []byte, off int64) (int, error) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if err := h.f.next("write", h.path, b...); err != nil {
		return 0, err
	}
	return h.File.WriteAt(b, off)
}

func (h *lossHandle) Sync() error {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if err := h.f.next("sync", h.path); err != nil {
		return err
	}
	if h.at != nil {
		h.at.synced = h.all()
		if h.f.cutFile == h.at {
			h.f.cutFile = nil
		}
	}
	return nil
}

func (h *lossHandle) Truncate(size int64) error {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if err := h.f.next("truncate", h.path); err != nil {
		return err
	}
	if all := h.all(); h.at != nil && int64(len(all)) > size {
		h.f.cut, h.f.cutFile = all, h.at
	}
	return h.File.Truncate(size)
}

func (h *lossHandle) all() []byte {
	var b bytes.Buffer
	_, _ = io.Copy(&b, io.NewSectionReader(h.File, 0, 1<<40))
	return b.Bytes()
}

// leave is the store after the power has come back. Keys and snapfs.json are written by means that are durable when they return.
func (f *lossFiles) leave(t testing.TB, l loss) (dir string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	dir = filepath.Join(t.TempDir(), "store")
	unguardAtEnd(t, dir)
	must(t, os.MkdirAll(volumesDir(dir), 0o700))
	must(t, copySparse(filepath.Join(f.dir, keysName), filepath.Join(dir, keysName)))
	data, err := os.ReadFile(filepath.Join(f.dir, configName))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, configName), data, 0o600))
	names := f.names
	if l.volumes == "least" {
		names = f.durable
	}
	for name, at := range names {
		must(t, os.WriteFile(filepath.Join(volumesDir(dir), name), f.contents(t, name, at, l.volumes), 0o600))
	}
	if _, err := os.Stat(filepath.Join(f.tmp, l.index)); err == nil {
		must(t, copySparse(filepath.Join(f.tmp, l.index), filepath.Join(dir, indexName)))
	}
	return dir
}

// contents is what a file holds afterwards.
func (f *lossFiles) contents(t testing.TB, name string, at *lossFile, what string) []byte {
	if what == "least" {
		return at.synced
	}
	if what == "uncut" {
		if f.cutFile == at {
			return f.cut
		}
		return at.synced
	}
	now, err := os.ReadFile(filepath.Join(volumesDir(f.dir), name))
	must(t, err)
	if what == "lengths" {
		synced := at.synced[:min(len(at.synced), len(now))]
		now = append(bytes.Clone(synced), make([]byte, len(now)-len(synced))...)
	}
	return now
}
