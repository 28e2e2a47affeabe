package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"snapfs/snapshot"
	"snapfs/snapshot/snapshottest"
	"snapfs/store"
)

func putChunks(t testing.TB, blobs *snapshottest.Blobs, n, size int) ([]store.ID, [][]byte) {
	t.Helper()
	ids, data := make([]store.ID, n), make([][]byte, n)
	for i := range n {
		data[i] = bytes.Repeat([]byte(fmt.Sprintf("%08d", i)), size/8)
		id, err := blobs.Put(context.Background(), store.KindChunk, data[i])
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = id
	}
	return ids, data
}

func TestChunksAreRightAndBounded(t *testing.T) {
	const size, budget = 200 << 10, 2 << 20
	mem := newMemStore("")
	ids, data := putChunks(t, mem.Blobs, 40, size)
	c := newChunkCache(context.Background(), mem, budget)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 1))
			for range 300 {
				i := rnd.IntN(len(ids))
				c.ahead(ids[rnd.IntN(len(ids))], size)
				ch, err := c.get(ids[i], size)
				if err != nil || !bytes.Equal(ch.data, data[i]) {
					t.Errorf("chunk %d is wrong (%v)", i, err)
					return
				}
				c.release(ch, rnd.IntN(2) == 0)
			}
		})
	}
	wg.Wait()
	c.close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.used > budget {
		t.Errorf("%d bytes kept, budget %d", c.used, budget)
	}
	for e := c.order.Front(); e != nil; e = e.Next() {
		if ch := e.Value.(*chunk); ch.holds != 0 {
			t.Errorf("%d holds left", ch.holds)
		}
	}
}

func TestHeldChunksStay(t *testing.T) {
	const size = 1 << 20
	mem := newMemStore("")
	ids, data := putChunks(t, mem.Blobs, 8, size)
	c := newChunkCache(context.Background(), mem, 2*size)
	var held []*chunk
	for i := range ids { // more than the budget
		ch, err := c.get(ids[i], size)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, ch)
	}
	c.ahead(ids[0], size)
	for i, ch := range held {
		if !bytes.Equal(ch.data, data[i]) {
			t.Errorf("held chunk %d was overwritten", i)
		}
		c.release(ch, false)
	}
	c.close()
}

func TestMissingChunkIsAskedForAgain(t *testing.T) {
	const size = 300 << 10
	mem := newMemStore("")
	ids, data := putChunks(t, mem.Blobs, 1, size)
	mem.Drop(ids[0])
	c := newChunkCache(context.Background(), mem, 4<<20)
	defer c.close()
	var missing *store.MissingError
	for range 2 {
		if _, err := c.get(ids[0], size); !errors.As(err, &missing) {
			t.Fatalf("%v", err)
		}
	}
	if _, err := mem.Put(context.Background(), store.KindChunk, data[0]); err != nil {
		t.Fatal(err)
	}
	ch, err := c.get(ids[0], size)
	if err != nil || !bytes.Equal(ch.data, data[0]) {
		t.Errorf("healed chunk: %v", err)
	}
	if want := int64(roomFor(size + slack)); c.used != want {
		t.Errorf("%d bytes in use, want %d", c.used, want)
	}
}

// TestSequenceReadsEachChunkOnce has no room for more than is read ahead.
func TestSequenceReadsEachChunkOnce(t *testing.T) {
	const n, size = 64, 700 << 10
	ctx := context.Background()
	mem := newMemStore("")
	ids, data := putChunks(t, mem.Blobs, n, size)
	w := snapshot.NewContentWriter(mem, testPageKey)
	for _, id := range ids {
		if err := w.Add(ctx, snapshot.Item{ID: id, Length: size}); err != nil {
			t.Fatal(err)
		}
	}
	content, err := w.Finish(ctx)
	if err != nil {
		t.Fatal(err)
	}
	file := &snapshot.Entry{Name: "large", Type: snapshot.TypeFile, Size: n * size, Content: content}
	s := serverOf(t, mem, file)
	id := nodeID(1, 1)
	want := bytes.Join(data, nil)
	for off := 0; off < len(want); off += readSize {
		r, st := s.Read(nil, &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: id}, Offset: uint64(off), Size: readSize}, nil)
		if !st.Ok() {
			t.Fatal(st)
		}
		got, _ := r.Bytes(make([]byte, 0, readSize))
		r.Done()
		if !bytes.Equal(got, want[off:min(off+readSize, len(want))]) {
			t.Fatalf("wrong bytes at %d", off)
		}
	}
	s.close()
	for i, id := range ids {
		if got := mem.Gets[id]; got != 1 {
			t.Errorf("chunk %d was read %d times", i, got)
		}
	}
}

// serverOf serves a snapshot with one file.
func serverOf(t *testing.T, mem *memStore, file *snapshot.Entry) *server {
	t.Helper()
	ctx := context.Background()
	dir := snapshot.NewDirWriter(mem, testPageKey, 0)
	if err := dir.Add(ctx, file); err != nil {
		t.Fatal(err)
	}
	man := &snapshot.Manifest{Dataset: "d", Name: "n", Start: testStart, Single: true, FileSystems: []snapshot.FileSystem{{}},
		Root: snapshot.Entry{Name: "x", Type: snapshot.TypeDir, Mode: 0o755}}
	var err error
	if man.Root.Dir, man.Root.Totals, err = dir.Finish(ctx); err != nil {
		t.Fatal(err)
	}
	man.Totals = man.Root.Totals
	if _, err := mem.add(ctx, man, 0); err != nil {
		t.Fatal(err)
	}
	state, _ := mem.State(ctx)
	v := newView(state, filter{}, nil)
	how, err := settle(&Options{}, v)
	if err != nil {
		t.Fatal(err)
	}
	return newServer(ctx, mem, v, filter{}, how, slog.New(slog.DiscardHandler))
}
