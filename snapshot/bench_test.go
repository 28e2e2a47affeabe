package snapshot

import (
	"context"
	"fmt"
	"testing"

	"snapfs/snapshot/snapshottest"
	"snapfs/store"
)

// typical is an entry as they stand in a system's directories.
func typical(i int) Entry {
	return Entry{
		Name: fmt.Sprintf("libexample-%06d.so", i), Type: TypeFile, Mode: 0o644, Inode: uint64(1<<20 + i), Size: int64(i*37%100_000 + 1),
		User: "root", Group: "root", Mtime: Time{1_700_000_000 + int64(i), 123_456_789}, Ctime: Time{1_710_000_000, uint32(i * 13)},
		Btime:   Time{1_710_000_000, uint32(i * 11)},
		Content: Content{Items: []Item{{ID: store.ID{1, byte(i), byte(i >> 8)}, Length: int64(i*37%100_000 + 1)}}},
	}
}

func largeDir(b testing.TB, blobs *snapshottest.Blobs, n int) *Tree {
	w := NewDirWriter(blobs, testKey, 0)
	for i := range n {
		e := typical(i)
		if err := w.Add(context.Background(), &e); err != nil {
			b.Fatal(err)
		}
	}
	id, totals, err := w.Finish(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	return open(b, blobs, Manifest{Root: Entry{Type: TypeDir, Dir: id, Totals: totals}})
}

// nowhere gives IDs without keeping anything.
type nowhere struct{ bytes, puts int }

func (n *nowhere) Put(_ context.Context, _ store.Kind, data []byte) (store.ID, error) {
	n.bytes += len(data)
	n.puts++
	return store.ID{1, byte(n.puts), byte(n.puts >> 8), byte(n.puts >> 16)}, nil
}

func BenchmarkEncodeEntries(b *testing.B) {
	entries := make([]Entry, 10_000)
	for i := range entries {
		entries[i] = typical(i)
	}
	b.ReportAllocs()
	for b.Loop() {
		var sink nowhere
		w := NewDirWriter(&sink, testKey, 0)
		for i := range entries {
			if err := w.Add(context.Background(), &entries[i]); err != nil {
				b.Fatal(err)
			}
		}
		if _, _, err := w.Finish(context.Background()); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(sink.bytes))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(entries)), "ns/entry")
}

func BenchmarkDecodePage(b *testing.B) {
	blobs := snapshottest.New()
	tree := largeDir(b, blobs, 200)
	root := tree.Root()
	data, err := blobs.Get(context.Background(), store.KindNode, root.Dir)
	if err != nil {
		b.Fatal(err)
	}
	p, err := decodePage(data, pageDirectory, 0)
	for p != nil && p.level > 0 {
		data, _ = blobs.Get(context.Background(), store.KindNode, p.branches[0].id)
		p, err = decodePage(data, pageDirectory, 0)
	}
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodePage(data, pageDirectory, 0); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*p.len()), "ns/entry")
}

func BenchmarkLookup(b *testing.B) {
	tree := largeDir(b, snapshottest.New(), 100_000)
	tree.cache = NewCache(1 << 30)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i = (i + 7919) % 100_000
		if _, err := tree.Lookup(context.Background(), tree.Root(), typicalNames[i%len(typicalNames)]); err != nil {
			b.Fatal(err)
		}
	}
}

var typicalNames = func() []string {
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprintf("libexample-%06d.so", i*97)
	}
	return names
}()

func BenchmarkList(b *testing.B) {
	tree := largeDir(b, snapshottest.New(), 10_000)
	tree.cache = NewCache(1 << 30)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		if err := tree.List(context.Background(), tree.Root(), 0, func(Found) bool { n++; return true }); err != nil || n != 10_000 {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*10_000), "ns/entry")
}

func BenchmarkAt(b *testing.B) {
	tree := largeDir(b, snapshottest.New(), 100_000)
	tree.cache = NewCache(1 << 30)
	i := uint32(0)
	b.ReportAllocs()
	for b.Loop() {
		i = (i + 7919) % 100_000
		if _, err := tree.At(context.Background(), i+1); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadAt(b *testing.B) {
	blobs := snapshottest.New()
	ctx := context.Background()
	w := NewContentWriter(blobs, testKey)
	chunk := make([]byte, 512<<10)
	for i := range 64 {
		chunk[0] = byte(i)
		id, _ := blobs.Put(ctx, store.KindChunk, chunk)
		if err := w.Add(ctx, Item{id, int64(len(chunk))}); err != nil {
			b.Fatal(err)
		}
	}
	e := Entry{Type: TypeFile, Size: 64 * int64(len(chunk))}
	e.Content, _ = w.Finish(ctx)
	tree := open(b, blobs, Manifest{Root: build(b, blobs, dirModel{"f": e}, 0)})
	p := make([]byte, 128<<10)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	off := int64(0)
	for b.Loop() {
		if _, err := tree.ReadAt(ctx, &e, p, off); err != nil {
			b.Fatal(err)
		}
		off = (off + int64(len(p))) % e.Size
	}
}

func BenchmarkLinkNames(b *testing.B) {
	w := NewLinkWriter(testKey, b.TempDir())
	defer w.Close()
	i := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		w.Name(0, i*2654435761%5_000_000)
		i++
	}
}
