package fs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/snapshot/snapshottest"
	"snapfs/store"
)

// memStore is a store in memory: blobs and a list of snapshots.
type memStore struct {
	*snapshottest.Blobs
	dir string

	mu     sync.Mutex
	state  store.State
	pinned []store.ID
}

var testPageKey = [32]byte{1, 2, 3}

func newMemStore(dir string) *memStore { return &memStore{Blobs: snapshottest.New(), dir: dir} }

func (m *memStore) Dir() string       { return m.dir }
func (m *memStore) PageKey() [32]byte { return testPageKey }

func (m *memStore) State(context.Context) (*store.State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.state
	s.Snapshots = append([]store.Snapshot(nil), s.Snapshots...)
	return &s, nil
}

func (m *memStore) Pin(_ context.Context, ids ...store.ID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pinned = append(m.pinned, ids...)
	return nil
}

func (m *memStore) Unpin(_ context.Context, ids ...store.ID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pinned = slices.DeleteFunc(m.pinned, func(id store.ID) bool { return slices.Contains(ids, id) })
	return nil
}

// add commits a manifest.
func (m *memStore) add(ctx context.Context, man *snapshot.Manifest, kinds snapshot.XattrKinds) (store.Snapshot, error) {
	id, err := snapshot.WriteManifest(ctx, m.Blobs, man)
	if err != nil {
		return store.Snapshot{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	sum := snapshot.Summary{Entries: man.Totals.Entries, Bytes: man.Totals.Bytes, Single: man.Single, HasXattrs: kinds != 0, XattrKinds: kinds}
	s := store.Snapshot{
		ID:            id,
		Slot:          uint32(len(m.state.Snapshots) + 1),
		DatasetNumber: m.datasetNumber(man.Dataset),
		Dataset:       man.Dataset,
		Name:          man.Name,
		Start:         man.Start,
		Committed:     man.Start.Add(time.Second),
		Summary:       sum.Encode(),
	}
	m.state.Snapshots = append(m.state.Snapshots, s)
	m.state.Seq++
	return s, nil
}

func (m *memStore) datasetNumber(name string) uint32 {
	for _, d := range m.state.Datasets {
		if d.Name == name {
			return d.Number
		}
	}
	n := uint32(len(m.state.Datasets) + 1)
	m.state.Datasets = append(m.state.Datasets, store.Dataset{Number: n, Name: name})
	return n
}

// change edits a snapshot's facts.
func (m *memStore) change(slot uint32, edit func(*store.Snapshot)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	edit(&m.state.Snapshots[slot-1])
	m.state.Seq++
}

// importer writes a directory of this machine as a snapshot: a small backup.
type importer struct {
	ctx   context.Context
	sink  snapshot.Sink
	key   [32]byte
	links *snapshot.LinkWriter
	kinds snapshot.XattrKinds
}

// importDir takes a snapshot of path.
func (m *memStore) importDir(ctx context.Context, dataset, name, path string, start time.Time) (store.Snapshot, error) {
	man, kinds, err := importManifest(ctx, m.Blobs, testPageKey, path)
	if err != nil {
		return store.Snapshot{}, err
	}
	man.Dataset, man.Name, man.Start, man.End = dataset, name, start, start
	return m.add(ctx, man, kinds)
}

func importManifest(ctx context.Context, sink snapshot.Sink, key [32]byte, path string) (*snapshot.Manifest, snapshot.XattrKinds, error) {
	im := &importer{ctx: ctx, sink: sink, key: key, links: snapshot.NewLinkWriter(key, "")}
	defer im.links.Close()
	root, err := im.entry(path)
	if err != nil {
		return nil, 0, err
	}
	linkTree, records, linkBytes, err := im.links.Finish(ctx, sink)
	if err != nil {
		return nil, 0, err
	}
	man := &snapshot.Manifest{
		Paths: []string{path}, Root: *root, Single: true, LinkTree: linkTree, Links: records, Totals: root.Totals,
		FileSystems: []snapshot.FileSystem{{MountPath: "/"}}, Found: snapshot.FoundByScan,
	}
	man.Totals.Bytes += linkBytes
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		e, err := attributes(dir)
		if err != nil {
			return nil, 0, err
		}
		man.Above = append([]snapshot.Entry{*e}, man.Above...)
		if dir == "/" {
			return man, im.kinds, nil
		}
	}
}

func (im *importer) entry(path string) (*snapshot.Entry, error) {
	e, err := attributes(path)
	if err != nil {
		return nil, err
	}
	if err := im.xattrs(path, e); err != nil {
		return nil, err
	}
	switch e.Type {
	case snapshot.TypeDir:
		err = im.dir(path, e)
	case snapshot.TypeFile:
		err = im.content(path, e)
	}
	return e, err
}

func (im *importer) dir(path string, e *snapshot.Entry) error {
	names, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	sort.Slice(names, func(i, j int) bool { return names[i].Name() < names[j].Name() })
	w := snapshot.NewDirWriter(im.sink, im.key, 0)
	for _, n := range names {
		child, err := im.child(filepath.Join(path, n.Name()))
		if err != nil {
			return err
		}
		if err := w.Add(im.ctx, child); err != nil {
			return err
		}
	}
	e.Dir, e.Totals, err = w.Finish(im.ctx)
	return err
}

func (im *importer) child(path string) (*snapshot.Entry, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return nil, err
	}
	if st.Nlink == 1 || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return im.entry(path)
	}
	linked := &snapshot.Entry{Name: filepath.Base(path), Type: typeOf(st.Mode), Linked: true, Inode: st.Ino}
	if !im.links.Name(0, st.Ino) {
		return linked, nil
	}
	rec, err := im.entry(path)
	if err != nil {
		return nil, err
	}
	return linked, im.links.Set(rec)
}

func (im *importer) xattrs(path string, e *snapshot.Entry) error {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil || n == 0 {
		return nil
	}
	var set []snapshot.Xattr
	for _, name := range splitNames(buf[:n]) {
		value := make([]byte, 64<<10)
		k, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return err
		}
		set = append(set, snapshot.Xattr{Name: name, Value: value[:k]})
		im.kinds |= snapshot.KindOfXattr(name)
	}
	return snapshot.WriteXattrs(im.ctx, im.sink, e, set)
}

const testChunk = 256 << 10

func (im *importer) content(path string, e *snapshot.Entry) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := snapshot.NewContentWriter(im.sink, im.key)
	for off := int64(0); off < e.Size; {
		data, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if err != nil {
			data = e.Size
		}
		if data > off {
			if err := w.Add(im.ctx, snapshot.Item{Length: data - off}); err != nil {
				return err
			}
		}
		hole := e.Size
		if data < e.Size {
			if hole, err = unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE); err != nil {
				return err
			}
		}
		if err := im.chunks(w, f, data, hole); err != nil {
			return err
		}
		off = hole
	}
	e.Content, err = w.Finish(im.ctx)
	return err
}

func (im *importer) chunks(w *snapshot.ContentWriter, f *os.File, from, to int64) error {
	buf := make([]byte, testChunk)
	for from < to {
		n := min(to-from, testChunk)
		if _, err := f.ReadAt(buf[:n], from); err != nil {
			return err
		}
		id, err := im.sink.Put(im.ctx, store.KindChunk, buf[:n])
		if err != nil {
			return err
		}
		if err := w.Add(im.ctx, snapshot.Item{ID: id, Length: n}); err != nil {
			return err
		}
		from += n
	}
	return nil
}

func attributes(path string) (*snapshot.Entry, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	e := &snapshot.Entry{
		Name: filepath.Base(path), Type: typeOf(uint32(st.Mode)), Inode: st.Ino,
		Mode: uint32(st.Mode) & 0o7777, UID: st.Uid, GID: st.Gid,
		Rdev:  unix.Mkdev(st.Rdev_major, st.Rdev_minor),
		Mtime: snapshot.Time{Sec: st.Mtime.Sec, Nsec: st.Mtime.Nsec},
		Ctime: snapshot.Time{Sec: st.Ctime.Sec, Nsec: st.Ctime.Nsec},
		Btime: snapshot.Time{Sec: st.Btime.Sec, Nsec: st.Btime.Nsec},
	}
	e.Flags = inodeFlags(path, e.Type)
	var err error
	switch e.Type {
	case snapshot.TypeFile:
		e.Size = int64(st.Size)
	case snapshot.TypeSymlink:
		e.Target, err = os.Readlink(path)
		e.Size = int64(len(e.Target))
	}
	return e, err
}

func inodeFlags(path string, t snapshot.Type) uint32 {
	if t != snapshot.TypeFile && t != snapshot.TypeDir {
		return 0
	}
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	flags, _ := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	return uint32(flags)
}

func typeOf(mode uint32) snapshot.Type {
	for t := snapshot.TypeFile; t <= snapshot.TypeBlock; t++ {
		if typeBits(t) == mode&syscall.S_IFMT {
			return t
		}
	}
	return 0
}

func splitNames(buf []byte) []string {
	var names []string
	for len(buf) > 0 {
		n := 0
		for buf[n] != 0 {
			n++
		}
		names = append(names, string(buf[:n]))
		buf = buf[n+1:]
	}
	return names
}

// drop damages the first chunk of a file.
func (m *memStore) drop(ctx context.Context, snap store.ID, path string) error {
	t, err := snapshot.OpenTree(ctx, m, testPageKey, snap, nil)
	if err != nil {
		return err
	}
	f, err := t.Walk(ctx, path)
	if err != nil {
		return err
	}
	if f, err = t.Follow(ctx, f); err != nil {
		return err
	}
	return t.Items(ctx, f.Entry, 0, func(_ int64, it snapshot.Item) bool {
		m.Drop(it.ID)
		return false
	})
}

var testStart = time.Date(2026, 11, 22, 3, 15, 7, 0, time.UTC)

func mustImport(t testing.TB, m *memStore, dataset, name, path string, start time.Time) store.Snapshot {
	t.Helper()
	s, err := m.importDir(context.Background(), dataset, name, path, start)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
