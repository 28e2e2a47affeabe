package restore

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/snapshot/snapshottest"
	"snapfs/store"
)

const testChunk = 64 << 10

// maker takes a snapshot of a real directory in the plainest way.
type maker struct {
	t     testing.TB
	sink  snapshot.Sink
	key   [32]byte
	links *snapshot.LinkWriter
	tweak func(path string, e *snapshot.Entry)
}

// take makes a snapshot of one directory; change may bend the manifest.
func take(t testing.TB, sink snapshot.Sink, dir string, change func(*snapshot.Manifest)) store.ID {
	t.Helper()
	return (&maker{t: t, sink: sink}).take(dir, change)
}

func (m *maker) take(dir string, change func(*snapshot.Manifest)) store.ID {
	m.t.Helper()
	ctx := context.Background()
	m.links = snapshot.NewLinkWriter(m.key, m.t.TempDir())
	defer m.links.Close()
	root := m.entry(dir)
	root.Name = ""
	man := &snapshot.Manifest{Dataset: "test", Name: "2026-11-22_03-15-07", Host: "here", Paths: []string{dir}, Single: true,
		Root: *root, Start: time.Now(), End: time.Now(), Found: snapshot.FoundByScan, FileSystems: []snapshot.FileSystem{{MountPath: "/"}}}
	tree, n, bytes, err := m.links.Finish(ctx, m.sink)
	m.check(err)
	man.LinkTree, man.Links = tree, n
	man.Totals = root.Totals
	man.Totals.Bytes += bytes
	if change != nil {
		change(man)
	}
	id, err := snapshot.WriteManifest(ctx, m.sink, man)
	m.check(err)
	return id
}

func (m *maker) check(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *maker) entry(path string) *snapshot.Entry {
	ctx := context.Background()
	var st unix.Statx_t
	m.check(unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st))
	e := &snapshot.Entry{Name: filepath.Base(path), Inode: st.Ino, Mode: uint32(st.Mode) & 0o7777, UID: st.Uid, GID: st.Gid,
		Mtime: snapshot.Time{Sec: st.Mtime.Sec, Nsec: st.Mtime.Nsec}, Ctime: snapshot.Time{Sec: st.Ctime.Sec, Nsec: st.Ctime.Nsec}}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		e.Type = snapshot.TypeDir
	case unix.S_IFREG:
		e.Type, e.Size = snapshot.TypeFile, int64(st.Size)
	case unix.S_IFLNK:
		e.Type, e.Size = snapshot.TypeSymlink, int64(st.Size)
		target, err := os.Readlink(path)
		m.check(err)
		e.Target = target
	case unix.S_IFIFO:
		e.Type = snapshot.TypeFIFO
	case unix.S_IFSOCK:
		e.Type = snapshot.TypeSocket
	case unix.S_IFCHR:
		e.Type, e.Rdev = snapshot.TypeChar, unix.Mkdev(st.Rdev_major, st.Rdev_minor)
	case unix.S_IFBLK:
		e.Type, e.Rdev = snapshot.TypeBlock, unix.Mkdev(st.Rdev_major, st.Rdev_minor)
	}
	m.check(snapshot.WriteXattrs(ctx, m.sink, e, xattrsOf(path)))
	if e.Type == snapshot.TypeDir || e.Type == snapshot.TypeFile {
		e.Flags = flagsOf(path)
	}
	if e.Type == snapshot.TypeDir {
		m.dir(path, e)
	}
	if m.tweak != nil {
		m.tweak(path, e)
	}
	if e.Type != snapshot.TypeDir && st.Nlink > 1 {
		if m.links.Name(0, e.Inode) {
			m.file(path, e)
			m.check(m.links.Set(e))
		}
		return &snapshot.Entry{Name: e.Name, Type: e.Type, Linked: true, Inode: e.Inode}
	}
	m.file(path, e)
	return e
}

func (m *maker) dir(path string, e *snapshot.Entry) {
	ctx := context.Background()
	w := snapshot.NewDirWriter(m.sink, m.key, 0)
	names, err := os.ReadDir(path)
	m.check(err)
	sort.Slice(names, func(i, j int) bool { return names[i].Name() < names[j].Name() })
	for _, n := range names {
		m.check(w.Add(ctx, m.entry(path+"/"+n.Name())))
	}
	e.Dir, e.Totals, err = w.Finish(ctx)
	m.check(err)
}

// file stores content: holes as holes, the rest in chunks of testChunk.
func (m *maker) file(path string, e *snapshot.Entry) {
	if e.Type != snapshot.TypeFile || e.Size == 0 || e.Content.Items != nil {
		return
	}
	ctx := context.Background()
	f, err := os.Open(path)
	m.check(err)
	defer f.Close()
	w := snapshot.NewContentWriter(m.sink, m.key)
	for off := int64(0); off < e.Size; {
		data, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if err == unix.ENXIO {
			data = e.Size
		} else {
			m.check(err)
		}
		if data > off {
			m.check(w.Add(ctx, snapshot.Item{Length: data - off}))
			off = data
			continue
		}
		hole, err := unix.Seek(int(f.Fd()), off, unix.SEEK_HOLE)
		m.check(err)
		buf := make([]byte, min(testChunk, hole-off))
		_, err = f.ReadAt(buf, off)
		m.check(err)
		id, err := m.sink.Put(ctx, store.KindChunk, buf)
		m.check(err)
		m.check(w.Add(ctx, snapshot.Item{ID: id, Length: int64(len(buf))}))
		off += int64(len(buf))
	}
	e.Content, err = w.Finish(ctx)
	m.check(err)
}

func xattrsOf(path string) []snapshot.Xattr {
	var out []snapshot.Xattr
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil || n == 0 {
		return nil
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		v := make([]byte, 64<<10)
		if n, err := unix.Lgetxattr(path, name, v); err == nil {
			out = append(out, snapshot.Xattr{Name: name, Value: v[:n]})
		}
	}
	return out
}

func flagsOf(path string) uint32 {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	return handle{fd: fd}.flags()
}

func open(t testing.TB, src snapshot.Source, id store.ID) *snapshot.Tree {
	t.Helper()
	tree, err := snapshot.OpenTree(context.Background(), src, [32]byte{}, id, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// run restores and fails the test on any error.
func mustRun(t testing.TB, r Reader, tree *snapshot.Tree, o Options) *Result {
	t.Helper()
	res, err := runThrough(t, context.Background(), r, tree, withErrors(t, o))
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func withErrors(t testing.TB, o Options) Options {
	if o.OnError == nil {
		o.OnError = func(e *snapshot.PathError) { t.Error(e) }
	}
	return o
}

// describe lists everything below dir that a restore has to bring back, one line per entry.
func describe(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	first := map[uint64]string{}
	var walk func(rel string)
	walk = func(rel string) {
		path := filepath.Join(dir, rel)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf("%q %o %d:%d %d.%09d", rel, st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			line += fmt.Sprintf(" size=%d %s", st.Size, contentOf(t, path))
		case unix.S_IFLNK:
			target, _ := os.Readlink(path)
			line += " -> " + target
		case unix.S_IFCHR, unix.S_IFBLK:
			line += fmt.Sprintf(" dev=%x", st.Rdev)
		}
		if m := st.Mode & unix.S_IFMT; m == unix.S_IFREG || m == unix.S_IFDIR {
			line += fmt.Sprintf(" flags=%x", flagsOf(path)&flagsKept)
		}
		xattrs := xattrsOf(path)
		slices.SortFunc(xattrs, func(a, b snapshot.Xattr) int { return strings.Compare(a.Name, b.Name) })
		for _, x := range xattrs {
			line += fmt.Sprintf(" %s=%s", x.Name, hex.EncodeToString(x.Value))
		}
		if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if f, ok := first[st.Ino]; ok {
				line += " same as " + f
			} else {
				first[st.Ino] = rel
				line += fmt.Sprintf(" links=%d", st.Nlink)
			}
		}
		out = append(out, line)
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			names, err := os.ReadDir(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range names {
				walk(rel + "/" + n.Name())
			}
		}
	}
	walk("")
	return out
}

// contentOf is a digest of data and where the holes are.
func contentOf(t testing.TB, path string) string {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := newHash()
	st, _ := f.Stat()
	for off := int64(0); off < st.Size(); {
		data, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break
		}
		hole, _ := unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE)
		fmt.Fprintf(h, "%d-%d:", data, hole)
		_, _ = io.Copy(h, io.NewSectionReader(f, data, hole-data))
		off = hole
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// same fails the test unless two directories are alike.
func same(t testing.TB, want, got string) {
	t.Helper()
	a, b := describe(t, want), describe(t, got)
	for i := range max(len(a), len(b)) {
		switch {
		case i >= len(a):
			t.Errorf("too many: %s", b[i])
		case i >= len(b):
			t.Errorf("missing: %s", a[i])
		case a[i] != b[i]:
			t.Errorf("differs\nwant %s\ngot  %s", a[i], b[i])
		}
		if t.Failed() {
			t.FailNow()
		}
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

func newBlobs() *snapshottest.Blobs { return snapshottest.New() }
