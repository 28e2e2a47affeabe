package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

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
				c.release(ch)
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
		c.release(ch)
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
	if c.used != 512<<10 {
		t.Errorf("%d bytes in use", c.used)
	}
}
