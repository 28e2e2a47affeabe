package fs

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"snapfs/snapshot"
	"snapfs/store"
)

// benchServer answers without a kernel: a snapshot of 100 directories with 200 small files each, and a large file.
func benchServer(b *testing.B) (s *server, large uint64) {
	b.Helper()
	ctx := context.Background()
	mem := newMemStore("")
	root := snapshot.NewDirWriter(mem, testPageKey, 0)
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	small, err := mem.Put(ctx, store.KindChunk, pattern(3000))
	must(err)
	for d := range 100 {
		w := snapshot.NewDirWriter(mem, testPageKey, 0)
		for f := range 200 {
			must(w.Add(ctx, &snapshot.Entry{Name: fmt.Sprintf("file-%03d", f), Type: snapshot.TypeFile, Mode: 0o644, Size: 3000,
				Inode: uint64(f + 1), Content: snapshot.Content{Items: []snapshot.Item{{ID: small, Length: 3000}}}}))
		}
		e := &snapshot.Entry{Name: fmt.Sprintf("dir-%03d", d), Type: snapshot.TypeDir, Mode: 0o755, Inode: uint64(d + 1)}
		e.Dir, e.Totals, err = w.Finish(ctx)
		must(err)
		must(root.Add(ctx, e))
	}
	content := snapshot.NewContentWriter(mem, testPageKey)
	ids, _ := putChunks(b, mem.Blobs, 64, 512<<10)
	for _, id := range ids {
		must(content.Add(ctx, snapshot.Item{ID: id, Length: 512 << 10}))
	}
	e := &snapshot.Entry{Name: "large", Type: snapshot.TypeFile, Size: 32 << 20, Inode: 1000}
	e.Content, err = content.Finish(ctx)
	must(err)
	must(root.Add(ctx, e))
	man := &snapshot.Manifest{Dataset: "d", Name: "n", Start: testStart, Single: true, FileSystems: []snapshot.FileSystem{{}},
		Root: snapshot.Entry{Name: "x", Type: snapshot.TypeDir, Mode: 0o755}}
	man.Root.Dir, man.Root.Totals, err = root.Finish(ctx)
	must(err)
	man.Totals = man.Root.Totals
	_, err = mem.add(ctx, man, 0)
	must(err)

	state, err := mem.State(ctx)
	must(err)
	var o Options
	v := newView(state, filter{}, nil)
	how, err := settle(&o, v)
	must(err)
	s = newServer(ctx, mem, v, filter{}, how, slog.New(slog.DiscardHandler))
	b.Cleanup(s.close)
	return s, lookup(b, s, nodeID(1, 0), "large")
}

func lookup(b *testing.B, s *server, dir uint64, name string) uint64 {
	b.Helper()
	var out fuse.EntryOut
	if st := s.Lookup(nil, &fuse.InHeader{NodeId: dir}, name, &out); !st.Ok() || out.NodeId == 0 {
		b.Fatalf("%s: %v", name, st)
	}
	return out.NodeId
}

func BenchmarkLookup(b *testing.B) {
	s, _ := benchServer(b)
	dirs := make([]uint64, 100)
	for i := range dirs {
		dirs[i] = lookup(b, s, nodeID(1, 0), fmt.Sprintf("dir-%03d", i))
	}
	names := make([]string, 200)
	for i := range names {
		names[i] = fmt.Sprintf("file-%03d", i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		lookup(b, s, dirs[i%len(dirs)], names[i*7%len(names)])
	}
}

func BenchmarkGetAttr(b *testing.B) {
	s, _ := benchServer(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		in := fuse.GetAttrIn{InHeader: fuse.InHeader{NodeId: nodeID(1, uint32(1+i*7%20000))}}
		var out fuse.AttrOut
		if st := s.GetAttr(nil, &in, &out); !st.Ok() {
			b.Fatal(st)
		}
	}
}

func BenchmarkReadDirPlus(b *testing.B) {
	s, _ := benchServer(b)
	dirs := make([]uint64, 100)
	for i := range dirs {
		dirs[i] = lookup(b, s, nodeID(1, 0), fmt.Sprintf("dir-%03d", i))
	}
	buf := make([]byte, 32<<10)
	entries := 0
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		in := fuse.ReadIn{InHeader: fuse.InHeader{NodeId: dirs[i%len(dirs)]}}
		list := fuse.NewDirEntryList(buf, 0)
		if st := s.ReadDirPlus(nil, &in, list); !st.Ok() {
			b.Fatal(st)
		}
		entries += len(list.Bytes()) / 168
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(entries), "ns/entry")
}

func BenchmarkReadSmall(b *testing.B) {
	s, _ := benchServer(b)
	b.SetBytes(3000)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		d, f := i/200%100, i%200
		readOne(b, s, nodeID(1, uint32(1+d*201+1+f)), 0, 4096)
	}
}

func BenchmarkReadSequential(b *testing.B) {
	s, large := benchServer(b)
	b.SetBytes(readSize)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		readOne(b, s, large, uint64(i%32)<<20, readSize)
	}
}

func readOne(b *testing.B, s *server, id, off uint64, size uint32) {
	b.Helper()
	r, st := s.Read(nil, &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: id}, Offset: off, Size: size}, nil)
	if !st.Ok() {
		b.Fatal(st)
	}
	r.Done()
}
