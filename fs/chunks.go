package fs

import (
	"container/list"
	"context"
	"runtime"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"

	"snapfs/store"
)

// largeChunk is the size from which chunks are read here and not through the store's cache of frames: they are needed
// once, in sequence, and their memory is used again at once instead of being left to the collector (which, at 800 MB/s,
// doubled the memory of a mount).
const largeChunk = 128 << 10

// chunkCache reads large chunks into buffers of its own, ahead of who reads in sequence. A chunk stays valid while
// somebody holds it. Safe for concurrent use.
type chunkCache struct {
	ctx    context.Context
	src    source
	budget int64 // bytes of chunks kept that nobody holds

	workers chan struct{}  // places of chunks being fetched ahead
	running sync.WaitGroup // fetches ahead

	mu     sync.Mutex
	memory *arena // a quarter more than the budget, so that holes are found
	used   int64
	byID   map[store.ID]*chunk
	order  list.List // of *chunk, most recent first
	closed bool
}

// chunk is a chunk in memory or on its way there.
type chunk struct {
	id     store.ID
	place  *list.Element
	ready  chan struct{} // closed when data or err is set
	buf    []byte
	at     int   // of buf in the arena; heap: -1
	room   int64 // that it takes of the budget
	holds  int
	failed bool

	data []byte
	err  error
}

func newChunkCache(ctx context.Context, src source, budget int64) *chunkCache {
	return &chunkCache{
		ctx: ctx, src: src, budget: budget,
		workers: make(chan struct{}, max(runtime.GOMAXPROCS(0), 2)),
		byID:    map[store.ID]*chunk{},
		memory:  newArena(int(budget + budget/4)),
	}
}

// get returns a chunk of so many bytes, held for the caller, who must release it.
func (c *chunkCache) get(id store.ID, size int64) (*chunk, error) {
	ch, mine := c.hold(id, size, true)
	if mine {
		c.load(ch)
	}
	<-ch.ready
	if ch.err != nil {
		c.release(ch, false)
		return nil, ch.err
	}
	return ch, nil
}

// ahead starts to read a chunk unless it is there or on its way, or what is held already takes all room.
func (c *chunkCache) ahead(id store.ID, size int64) {
	ch, mine := c.hold(id, size, false)
	if !mine {
		return
	}
	go func() { // counted in running
		defer c.running.Done()
		c.workers <- struct{}{}
		c.load(ch)
		<-c.workers
		c.release(ch, false)
	}()
}

// close waits for what is read ahead.
func (c *chunkCache) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.running.Wait()
}

// hold returns the chunk, held, and whether the caller has to load it. For a read ahead (now is false) it holds only
// chunks that have to be loaded and for which there is room.
func (c *chunkCache) hold(id store.ID, size int64, now bool) (ch *chunk, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch := c.byID[id]; ch != nil {
		if now {
			ch.holds++
		}
		c.order.MoveToFront(ch.place)
		return ch, false
	}
	room := int64(roomFor(int(size) + slack))
	c.evict(room)
	if !now && (c.closed || c.used+room > c.budget) {
		return nil, false
	}
	ch = &chunk{id: id, ready: make(chan struct{}), holds: 1, room: room}
	if ch.buf, ch.at = c.buffer(int(size)); ch.buf == nil {
		if !now {
			return nil, false
		}
		ch.buf, ch.at = make([]byte, size, size+slack), -1
	}
	if !now {
		c.running.Add(1)
	}
	c.used += room
	ch.place = c.order.PushFront(ch)
	c.byID[id] = ch
	return ch, true
}

// load reads the chunk. Only its finder does.
func (c *chunkCache) load(ch *chunk) {
	ch.data, ch.err = c.src.GetInto(c.ctx, store.KindChunk, ch.id, ch.buf)
	if ch.err != nil {
		c.discard(ch)
	}
	close(ch.ready)
}

// discard forgets a chunk that could not be read: the next reader tries again.
func (c *chunkCache) discard(ch *chunk) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.byID, ch.id)
	c.order.Remove(ch.place)
	ch.failed = true
}

// release ends a hold. A chunk that was used up, read to its end, makes room first: before those that were read ahead
// earlier and are needed next.
func (c *chunkCache) release(ch *chunk, usedUp bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch.holds--
	switch {
	case ch.failed && ch.holds == 0:
		c.reuse(ch)
	case usedUp && !ch.failed:
		c.order.MoveToBack(ch.place)
	}
	c.evict(0)
}

// evict makes room for so many bytes, as far as chunks are not held. Needs mu.
func (c *chunkCache) evict(room int64) {
	for c.used+room > c.budget && c.evictOne() {
	}
}

// evictOne lets the chunk go that was not used for longest, of those that nobody holds; false if there is none. Needs mu.
func (c *chunkCache) evictOne() bool {
	for e := c.order.Back(); e != nil; e = e.Prev() {
		ch := e.Value.(*chunk)
		if ch.holds > 0 {
			continue
		}
		c.order.Remove(e)
		delete(c.byID, ch.id)
		c.reuse(ch)
		return true
	}
	return false
}

// reuse takes a chunk's memory back. Needs mu.
func (c *chunkCache) reuse(ch *chunk) {
	c.used -= ch.room
	if ch.at >= 0 {
		c.memory.give(ch.at, int(ch.room))
	}
	ch.buf, ch.data = nil, nil
}

// slack behind a buffer lets the decompressor copy 16 bytes at a time to the very end.
const slack = 16

// buffer returns memory for size bytes; none if chunks that are held leave no hole that is large enough. Needs mu.
func (c *chunkCache) buffer(size int) (buf []byte, at int) {
	for {
		if buf, at = c.memory.take(size + slack); buf != nil {
			return buf[:size], at
		}
		if !c.evictOne() {
			return nil, -1
		}
	}
}

// reply is the answer to a read: the chunks themselves, held until the kernel has them.
type reply struct {
	cache  *chunkCache
	chunks []*chunk
	usedUp []bool // which of them were read to the end
	data   [][]byte
	size   int
}

// Size is the number of bytes.
func (r *reply) Size() int { return r.size }

// Slices gives the pieces, which are written without being copied together.
func (r *reply) Slices() ([][]byte, fuse.Status) { return r.data, fuse.OK }

// Bytes copies the pieces together.
func (r *reply) Bytes(buf []byte) ([]byte, fuse.Status) {
	buf = buf[:0]
	for _, d := range r.data {
		buf = append(buf, d...)
	}
	return buf, fuse.OK
}

// Done lets the chunks go.
func (r *reply) Done() {
	for i, ch := range r.chunks {
		r.cache.release(ch, r.usedUp[i])
	}
	r.chunks = nil
}
