package restore

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/store"
)

// TestExtract lets other programs extract a dump and compares with the source.
func TestExtract(t *testing.T) {
	needRoot(t)
	src := t.TempDir()
	everything(t, src)
	deep := src + "/" + strings.Repeat("long-directory-name/", 20)
	write(t, deep+"file", []byte("far away"), 0o644)
	ok(t, os.Link(deep+"file", src+"/near"))
	write(t, src+"/ümläut", []byte("utf-8"), 0o644)
	ok(t, os.Chown(src+"/ümläut", 3_000_000, 3_000_001))
	ok(t, os.Symlink("t\xfcrget", src+"/latin1 link"))
	blobs := newBlobs()
	m := &maker{t: t, sink: blobs, tweak: func(_ string, e *snapshot.Entry) {
		if e.UID == 0 {
			e.User = "root"
		}
	}}
	tree := open(t, blobs, m.take(src, nil))
	var skipped []string
	var out bytes.Buffer
	res, err := DumpWith(context.Background(), blobs, tree, &out, DumpOptions{
		OnError: func(e *snapshot.PathError) { t.Error(e) }, OnSkip: func(p string) { skipped = append(skipped, p) }})
	ok(t, err)
	if res.SkippedSockets != 1 || len(skipped) != 1 || skipped[0] != "/socket" || res.Entries != int64(tree.Manifest().Totals.Entries) {
		t.Errorf("%+v %v", res, skipped)
	}
	for _, c := range [][]string{
		{"tar", "--xattrs", "--xattrs-include=*", "--acls", "--same-owner", "--numeric-owner", "-xpf", "-", "-C"},
		{"bsdtar", "--numeric-owner", "-xpf", "-", "-C"},
	} {
		t.Run(c[0], func(t *testing.T) {
			if _, err := exec.LookPath(c[0]); err != nil {
				t.Skip(err)
			}
			dst := t.TempDir()
			cmd := exec.Command(c[0], append(c[1:], dst)...)
			cmd.Stdin = bytes.NewReader(out.Bytes())
			msg, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, msg)
			}
			if len(msg) > 0 {
				t.Logf("it says: %s", msg)
			}
			compareExtracted(t, c[0], src, dst)
		})
	}
}

// compareExtracted compares all that tar can hold.
func compareExtracted(t *testing.T, program, src, dst string) {
	t.Helper()
	flags := regexp.MustCompile(` flags=[0-9a-f]+`)
	clean := func(lines []string) (out []string) {
		for _, l := range lines {
			if strings.HasPrefix(l, `"/socket"`) {
				continue
			}
			l = flags.ReplaceAllString(l, "")
			if program == "bsdtar" {
				if strings.HasPrefix(l, `"" `) {
					continue // bsdtar leaves the directory it extracts into as it is
				}
				// It takes the fraction of a negative time for one after the second.
				l = strings.Replace(l, "-999999999.999999999", "-1000000000.000000001", 1)
			}
			out = append(out, l)
		}
		return out
	}
	a, b := clean(describe(t, src)), clean(describe(t, dst))
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			t.Fatalf("differs\nwant %s\ngot  %s", append(a, make([]string, len(b))...)[i], append(b, make([]string, len(a))...)[i])
		}
	}
}

// TestDumpParts: subtrees and single files, links that lead within them.
func TestDumpParts(t *testing.T) {
	src := t.TempDir()
	write(t, src+"/a/b/one", []byte("1"), 0o644)
	ok(t, os.Link(src+"/a/b/one", src+"/a/two"))
	ok(t, os.Link(src+"/a/b/one", src+"/three"))
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	for path, want := range map[string]string{
		"":         "./ ./a/ ./a/b/ ./a/b/one ./a/two>./a/b/one ./three>./a/b/one",
		"a":        "./ ./b/ ./b/one ./two>./b/one",
		"/a/b":     "./ ./one",
		"/a/two":   "two",
		"/a/b/one": "one",
	} {
		var out bytes.Buffer
		_, err := Dump(context.Background(), blobs, tree, path, &out)
		ok(t, err)
		if got := listTar(t, &out); got != want {
			t.Errorf("%q: %s, want %s", path, got, want)
		}
	}
	if _, err := Dump(context.Background(), blobs, tree, "/nowhere", io.Discard); err == nil {
		t.Error("no error for a path that is not there")
	}
}

// list reads an archive with another implementation.
func listTar(t *testing.T, r io.Reader) string {
	t.Helper()
	var out []string
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return strings.Join(out, " ")
		}
		ok(t, err)
		name := h.Name
		if h.Typeflag == tar.TypeLink {
			name += ">" + h.Linkname
		} else if n, err := io.Copy(io.Discard, tr); err != nil || n != h.Size {
			t.Errorf("%s: %d of %d bytes, %v", h.Name, n, h.Size, err)
		}
		out = append(out, name)
	}
}

// TestDumpDamage: small files are left out, large ones filled up, the stream stays whole.
func TestDumpDamage(t *testing.T) {
	src := t.TempDir()
	write(t, src+"/bad", []byte("bad"), 0o644)
	ok(t, os.Link(src+"/bad", src+"/bad2"))
	write(t, src+"/good", []byte("good"), 0o644)
	large := noise(1, 9<<20)
	write(t, src+"/large", large, 0o644)
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	ctx := context.Background()
	drop := func(name string, n int) {
		f, err := tree.Walk(ctx, name)
		ok(t, err)
		f, err = tree.Follow(ctx, f)
		ok(t, err)
		ok(t, tree.Items(ctx, f.Entry, int64(n)*testChunk, func(_ int64, it snapshot.Item) bool {
			blobs.Drop(it.ID)
			return false
		}))
	}
	drop("bad", 0)
	drop("large", 100)
	var out bytes.Buffer
	var failed []string
	res, err := DumpWith(ctx, blobs, tree, &out, DumpOptions{OnError: func(e *snapshot.PathError) { failed = append(failed, e.Path) }})
	ok(t, err)
	if fmt.Sprint(failed) != "[/bad /bad2 /large]" || res.Errors != 3 || res.Damaged != 2 {
		t.Errorf("%v %+v", failed, res)
	}
	clear(large[100*testChunk : 101*testChunk])
	tr := tar.NewReader(&out)
	for _, want := range []string{"./", "./good", "./large"} {
		h, err := tr.Next()
		ok(t, err)
		if h.Name != want {
			t.Fatal(h.Name)
		}
		if want == "./large" {
			if data, err := io.ReadAll(tr); err != nil || !bytes.Equal(data, large) {
				t.Errorf("the large file is not itself with zeros: %v", err)
			}
		}
	}
}

// TestDumpUnreadable: the attributes of a file cannot be read that is larger than what is read ahead.
func TestDumpUnreadable(t *testing.T) {
	src := t.TempDir()
	write(t, src+"/large", bytes.Repeat([]byte("large"), (dumpAhead+dumpHeld)/5), 0o644)
	write(t, src+"/next", []byte("next"), 0o644)
	blobs := newBlobs()
	m := &maker{t: t, sink: blobs, tweak: func(_ string, e *snapshot.Entry) {
		if e.Name == "large" {
			e.Xattrs, e.XattrsID = nil, store.ID{1}
		}
	}}
	tree := open(t, blobs, m.take(src, nil))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	res, err := DumpWith(ctx, blobs, tree, &out, DumpOptions{})
	ok(t, err)
	if names := listTar(t, &out); res.Errors != 1 || res.Damaged != 1 || !strings.Contains(names, "next") {
		t.Errorf("%+v %s", res, names)
	}
}

// stuck fails after some bytes, as a pipe that is closed.
type stuck struct{ left int }

func (s *stuck) Write(p []byte) (int, error) {
	if s.left -= len(p); s.left < 0 {
		return 0, unix.EPIPE
	}
	return len(p), nil
}

func TestDumpEnds(t *testing.T) {
	src := t.TempDir()
	for i := range 30 {
		write(t, fmt.Sprintf("%s/%d", src, i), noise(int64(i), 300_000), 0o644)
	}
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	for _, n := range []int{0, 512, 100_000, 5_000_000} {
		if _, err := Dump(context.Background(), blobs, tree, "", &stuck{n}); !errors.Is(err, unix.EPIPE) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &failing{Reader: blobs, cancel: cancel}
	r.left.Store(40)
	if _, err := Dump(ctx, r, tree, "", io.Discard); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestPaxRecord(t *testing.T) {
	for _, n := range []int{0, 1, 2, 80, 87, 88, 89, 90, 91, 92, 980, 985, 986, 987, 988, 9980, 9985, 9986, 9990} {
		s := paxRecord{"key", strings.Repeat("v", n)}.encode()
		var size int
		if _, err := fmt.Sscanf(s, "%d ", &size); err != nil || size != len(s) {
			t.Errorf("%d bytes say %q", len(s), s[:5])
		}
	}
	for want, at := range map[string]snapshot.Time{"0": {}, "1.5": {Sec: 1, Nsec: 5e8}, "-1.5": {Sec: -2, Nsec: 5e8}, "-0.25": {Sec: -1, Nsec: 75e7},
		"-7": {Sec: -7}, "12.000000001": {Sec: 12, Nsec: 1}} {
		if got := paxTime(at); got != want {
			t.Errorf("%+v is %s, want %s", at, got, want)
		}
	}
}

func FuzzACL(f *testing.F) {
	f.Add(aclBytes())
	f.Add([]byte{2, 0, 0, 0})
	f.Add([]byte{2, 0, 0, 0, 1})
	f.Add([]byte{2, 0, 0, 0, 3, 0, 7, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, value []byte) {
		if text, err := aclText(value); err == nil && strings.Count(text, ":") != (len(value)-4)/8*2 {
			t.Errorf("%x is %q", value, text)
		}
	})
	if got, err := aclText(aclBytes()); err != nil || got != "user::rwx,user:1234:r-x,group::r--,mask::rwx,other::---" {
		f.Errorf("%q %v", got, err)
	}
}

// tinyTree is a snapshot of n small files, in memory.
func tinyTree(b *testing.B, sink interface {
	snapshot.Sink
	snapshot.Source
}, n, size int) *snapshot.Tree {
	ctx := context.Background()
	uid, gid := uint32(os.Geteuid()), uint32(os.Getegid())
	top := snapshot.NewDirWriter(sink, [32]byte{}, 0)
	for d := 0; d*100 < n; d++ {
		w := snapshot.NewDirWriter(sink, [32]byte{}, 0)
		for i := range 100 {
			data := noise(int64(100*d+i), size)
			id, err := sink.Put(ctx, store.KindChunk, data)
			ok(b, err)
			ok(b, w.Add(ctx, &snapshot.Entry{Name: fmt.Sprintf("file%03d", i), Type: snapshot.TypeFile, Mode: 0o644, UID: uid, GID: gid,
				Size: int64(size), Mtime: snapshot.Time{Sec: 1e9}, Content: snapshot.Content{Items: []snapshot.Item{{ID: id, Length: int64(size)}}}}))
		}
		dir, totals, err := w.Finish(ctx)
		ok(b, err)
		ok(b, top.Add(ctx, &snapshot.Entry{Name: fmt.Sprintf("dir%05d", d), Type: snapshot.TypeDir, Mode: 0o755, UID: uid, GID: gid,
			Mtime: snapshot.Time{Sec: 1e9}, Dir: dir, Totals: totals}))
	}
	dir, totals, err := top.Finish(ctx)
	ok(b, err)
	root := snapshot.Entry{Type: snapshot.TypeDir, Mode: 0o755, UID: uid, GID: gid, Mtime: snapshot.Time{Sec: 1e9}, Dir: dir, Totals: totals}
	id, err := snapshot.WriteManifest(ctx, sink, &snapshot.Manifest{Dataset: "d", Name: "n", Paths: []string{"/x"}, Single: true, Root: root,
		Totals: totals, Start: time.Now()})
	ok(b, err)
	return open(b, sink, id)
}

func BenchmarkRestoreSmall(b *testing.B) {
	blobs := newBlobs()
	const n, size = 5000, 4096
	tree := tinyTree(b, blobs, n, size)
	b.SetBytes(n * size)
	b.ReportAllocs()
	for b.Loop() {
		dst := b.TempDir()
		mustRun(b, blobs, tree, Options{To: dst})
		b.StopTimer()
		ok(b, os.RemoveAll(dst))
		b.StartTimer()
	}
}

func BenchmarkRestoreEqual(b *testing.B) {
	blobs := newBlobs()
	const n, size = 5000, 4096
	tree := tinyTree(b, blobs, n, size)
	dst := b.TempDir()
	mustRun(b, blobs, tree, Options{To: dst})
	b.SetBytes(n * size)
	b.ReportAllocs()
	for b.Loop() {
		mustRun(b, blobs, tree, Options{To: dst})
	}
}

func BenchmarkRestoreLarge(b *testing.B) {
	blobs := newBlobs()
	src := b.TempDir()
	const size = 256 << 20
	write(b, src+"/large", noise(1, size), 0o644)
	tree := open(b, blobs, take(b, blobs, src, nil))
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		dst := b.TempDir()
		mustRun(b, blobs, tree, Options{To: dst})
		b.StopTimer()
		ok(b, os.RemoveAll(dst))
		b.StartTimer()
	}
}

func BenchmarkDump(b *testing.B) {
	blobs := newBlobs()
	const n, size = 5000, 4096
	tree := tinyTree(b, blobs, n, size)
	b.SetBytes(n * size)
	b.ReportAllocs()
	for b.Loop() {
		_, err := Dump(context.Background(), blobs, tree, "", io.Discard)
		ok(b, err)
	}
}
