package store

import (
	"container/list"
	"context"
	"errors"
	"sync"

	"snapfs/store/volume"
)

// frameKey names a frame.
type frameKey struct {
	volume volume.ID
	offset int64
}

// cachedFrame is a decoded frame. Immutable.
type cachedFrame struct {
	blobs []volume.Blob
	start []uint32
	body  []byte
}

func newCachedFrame(blobs []volume.Blob, body []byte) *cachedFrame {
	f := &cachedFrame{blobs: append([]volume.Blob(nil), blobs...), start: make([]uint32, len(blobs)), body: body}
	at := uint32(0)
	for i, b := range f.blobs {
		f.start[i] = at
		at += b.Length
	}
	return f
}

func (f *cachedFrame) at(i int) []byte {
	end := f.start[i] + f.blobs[i].Length
	return f.body[f.start[i]:end:end]
}

// blob returns the blob asked for: a wrong entry of the index gives an error, never other data.
func (f *cachedFrame) blob(kind Kind, id ID, p Place) ([]byte, error) {
	for i, b := range f.blobs {
		if b.ID == id && b.Kind == uint8(kind) {
			return f.at(i), nil
		}
	}
	return nil, corrupt(p, id, errors.New("the frame does not hold the blob"))
}

// size is roughly the memory it takes.
func (f *cachedFrame) size() int64 { return int64(len(f.body)+160*len(f.blobs)) + 256 }

// frameCache keeps decoded frames up to a byte budget, the least recently used go first. A load of a frame that is
// being loaded waits for that. Safe for concurrent use.
type frameCache struct {
	budget int64

	mu      sync.Mutex
	used    int64
	order   *list.List // of *cacheEntry, newest first
	frames  map[frameKey]*list.Element
	byBlob  map[ID]blobRef
	loading map[frameKey]*frameLoad
}

type cacheEntry struct {
	key   frameKey
	frame *cachedFrame
}

// blobRef says which blob of which cached frame.
type blobRef struct {
	entry *list.Element
	index int
}

type frameLoad struct {
	done  chan struct{}
	frame *cachedFrame
	err   error
}

func newFrameCache(budget int64) *frameCache {
	return &frameCache{
		budget: budget, order: list.New(), frames: map[frameKey]*list.Element{}, byBlob: map[ID]blobRef{},
		loading: map[frameKey]*frameLoad{},
	}
}

// find returns a blob of some cached frame.
func (c *frameCache) find(id ID) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ref, ok := c.byBlob[id]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(ref.entry)
	return ref.entry.Value.(*cacheEntry).frame.at(ref.index), true
}

// load returns a frame, reading it with fn unless it is there or on its way.
func (c *frameCache) load(ctx context.Context, key frameKey, fn func() (*cachedFrame, error)) (*cachedFrame, error) {
	for {
		c.mu.Lock()
		if e, ok := c.frames[key]; ok {
			c.order.MoveToFront(e)
			c.mu.Unlock()
			return e.Value.(*cacheEntry).frame, nil
		}
		l, ok := c.loading[key]
		if !ok {
			l = &frameLoad{done: make(chan struct{})}
			c.loading[key] = l
			c.mu.Unlock()
			return c.run(key, l, fn)
		}
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-l.done:
		}
		if l.err == nil {
			return l.frame, nil
		}
		if !errors.Is(l.err, context.Canceled) { // the other's cancellation is not ours
			return nil, l.err
		}
	}
}

func (c *frameCache) run(key frameKey, l *frameLoad, fn func() (*cachedFrame, error)) (*cachedFrame, error) {
	l.frame, l.err = fn()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.loading, key)
	if l.err == nil {
		c.insert(key, l.frame)
	}
	close(l.done)
	return l.frame, l.err
}

func (c *frameCache) insert(key frameKey, f *cachedFrame) {
	e := c.order.PushFront(&cacheEntry{key, f})
	c.frames[key] = e
	for i, b := range f.blobs {
		c.byBlob[b.ID] = blobRef{e, i}
	}
	c.used += f.size()
	for c.used > c.budget && c.order.Len() > 1 {
		c.evict(c.order.Back())
	}
}

func (c *frameCache) evict(e *list.Element) {
	old := c.order.Remove(e).(*cacheEntry)
	delete(c.frames, old.key)
	for _, b := range old.frame.blobs {
		if c.byBlob[b.ID].entry == e {
			delete(c.byBlob, b.ID)
		}
	}
	c.used -= old.frame.size()
}
