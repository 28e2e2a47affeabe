package backup

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/store"
)

// nullRepo takes everything and keeps only what is no file content: benchmarks are about the walk and the pipeline.
type nullRepo struct{ *fakeRepo }

type nullWriter struct{ blobWriter }

func (w nullWriter) Put(ctx context.Context, kind store.Kind, data []byte) (store.ID, error) {
	if kind == store.KindChunk {
		return store.ID{1}, nil
	}
	return w.blobWriter.Put(ctx, kind, data)
}

func (r nullRepo) newWriter() blobWriter { return nullWriter{r.fakeRepo.newWriter()} }

func benchTree(b *testing.B, dirs, files, size int) string {
	b.Helper()
	root := memoryDir(b)
	content := make([]byte, size)
	for d := range dirs {
		dir := filepath.Join(root, fmt.Sprintf("d%02d/e%03d", d%20, d))
		must(b, os.MkdirAll(dir, 0o755))
		for f := range files {
			must(b, os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%03d", f)), content, 0o644))
		}
	}
	age(b, root)
	return root
}

// BenchmarkUnchanged reports the time for each unchanged entry.
func BenchmarkUnchanged(b *testing.B) {
	root := benchTree(b, 1000, 20, 10)
	repo := newFakeRepo(b)
	n := repo.backup(b, Options{Paths: []string{root}}).Entries
	b.ReportAllocs()
	for b.Loop() {
		if res := repo.backup(b, Options{Paths: []string{root}}); res.Unchanged != 20_000 {
			b.Fatal(counts4(res))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/entry")
}

// BenchmarkSmallFiles reads files of 4 KiB without storing them.
func BenchmarkSmallFiles(b *testing.B) {
	root := benchTree(b, 200, 20, 4096)
	repo := nullRepo{newFakeRepo(b)}
	b.SetBytes(200 * 20 * 4096)
	b.ReportAllocs()
	for b.Loop() {
		o := Options{Paths: []string{root}, Dataset: "test", Reread: true}
		if _, err := backupTree(b.Context(), repo, &o, hooks{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/4000, "ns/file")
}

// BenchmarkLargeFile reads one file through the blocks without storing it.
func BenchmarkLargeFile(b *testing.B) {
	root := memoryDir(b)
	const size = 256 << 20
	must(b, os.WriteFile(filepath.Join(root, "large"), make([]byte, size), 0o644))
	repo := nullRepo{newFakeRepo(b)}
	repo.params = store.CutParams{Min: 128 << 10, Average: 512 << 10, Max: 2 << 20}
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		o := Options{Paths: []string{root}, Dataset: "test", Reread: true}
		if _, err := backupTree(b.Context(), repo, &o, hooks{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStatx(b *testing.B) {
	fd, err := openDirectory(unix.AT_FDCWD, appendName(nil, "/usr"), true)
	must(b, err)
	defer unix.Close(fd)
	name := appendName(nil, "bin")
	var st unix.Statx_t
	b.ReportAllocs()
	for b.Loop() {
		if err := statxAt(fd, name, unix.AT_SYMLINK_NOFOLLOW, &st); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNames(b *testing.B) {
	root := memoryDir(b)
	manyFiles(b, root, 10_000)
	fd, err := openDirectory(unix.AT_FDCWD, appendName(nil, root), true)
	must(b, err)
	defer unix.Close(fd)
	var l nameList
	buf := make([]byte, 64<<10)
	b.ReportAllocs()
	for b.Loop() {
		_, err := unix.Seek(fd, 0, 0)
		must(b, err)
		must(b, l.read(fd, buf))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10_000, "ns/name")
}

func BenchmarkUnchangedRule(b *testing.B) {
	e := snapshot.Entry{Type: snapshot.TypeFile, Size: 5, Inode: 7, Mode: 0o644}
	st := unix.Statx_t{Mode: unix.S_IFREG | 0o644, Size: 5, Ino: 7}
	r := &run{o: &Options{}}
	b.ReportAllocs()
	for b.Loop() {
		if !r.unchanged(&e, &st) {
			b.Fatal("changed")
		}
	}
}
