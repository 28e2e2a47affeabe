package snapshot

import (
	"context"
	"errors"
	"sync"

	"snapfs/store"
)

const defaultCache = 16 << 20

// Cache keeps decoded pages for several Trees of one store, up to a byte budget, the least recently used
// leaving first. A page asked for by several at once is read and decoded once. Safe for concurrent use.
type Cache struct {
	budget int64

	mu    sync.Mutex
	pages map[cacheKey]*cached
	ring  cached // its next is the most recently used
	used  int64
}

// cacheKey names a decoded page: entries inherit a file system, so the same node can decode in two ways.
type cacheKey struct {
	id   store.ID
	kind pageKind
	fs   uint32
}

type cached struct {
	key        cacheKey
	page       *page
	err        error
	ready      chan struct{} // closed when page or err is set; nil in a list
	next, prev *cached
}

// NewCache returns a cache of about so many bytes; 0 means 16 MiB.
func NewCache(bytes int64) *Cache {
	if bytes <= 0 {
		bytes = defaultCache
	}
	c := &Cache{budget: bytes, pages: make(map[cacheKey]*cached)}
	c.ring.next, c.ring.prev = &c.ring, &c.ring
	return c
}

// get returns a page, from src if the cache does not have it.
func (c *Cache) get(ctx context.Context, src Source, k cacheKey) (*page, error) {
	for {
		c.mu.Lock()
		e, ok := c.pages[k]
		if ok && e.page != nil {
			c.unlink(e)
			c.pushFront(e)
			c.mu.Unlock()
			return e.page, nil
		}
		if !ok {
			e = &cached{key: k, ready: make(chan struct{})}
			c.pages[k] = e
			c.mu.Unlock()
			return c.fill(ctx, src, e)
		}
		c.mu.Unlock()
		select {
		case <-e.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		// Another caller's cancellation is not ours: try again.
		if e.err != nil && !errors.Is(e.err, context.Canceled) && !errors.Is(e.err, context.DeadlineExceeded) {
			return nil, e.err
		}
		if e.err == nil {
			return e.page, nil
		}
	}
}

// fill reads and decodes a page for all who wait for it. Errors are not kept.
func (c *Cache) fill(ctx context.Context, src Source, e *cached) (*page, error) {
	p, err := readPage(ctx, src, e.key)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(e.ready)
	if err != nil {
		e.err = err
		delete(c.pages, e.key)
		return nil, err
	}
	e.page = p
	c.used += p.size
	c.pushFront(e)
	for c.used > c.budget && c.ring.prev != c.ring.next {
		old := c.ring.prev
		c.unlink(old)
		delete(c.pages, old.key)
		c.used -= old.page.size
	}
	return p, nil
}

func (c *Cache) unlink(e *cached) { e.prev.next, e.next.prev = e.next, e.prev }

func (c *Cache) pushFront(e *cached) {
	e.prev, e.next = &c.ring, c.ring.next
	e.prev.next, e.next.prev = e, e
}

func readPage(ctx context.Context, src Source, k cacheKey) (*page, error) {
	data, err := src.Get(ctx, store.KindNode, k.id)
	if err != nil {
		return nil, &NodeError{store.KindNode, k.id, err}
	}
	p, err := decodePage(data, k.kind, k.fs)
	if err != nil {
		return nil, &NodeError{store.KindNode, k.id, err}
	}
	return p, nil
}
