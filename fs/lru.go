package fs

import (
	"container/list"
	"sync"
)

// lru keeps the most recently used values, up to a number of them. Safe for concurrent use.
type lru[K comparable, V any] struct {
	limit int

	mu    sync.Mutex
	order list.List // of pair, most recent first
	byKey map[K]*list.Element
}

type pair[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](limit int) *lru[K, V] {
	return &lru[K, V]{limit: limit, byKey: make(map[K]*list.Element, limit)}
}

// get returns the value kept under k.
func (c *lru[K, V]) get(k K) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[k]
	if !ok {
		return v, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*pair[K, V]).value, true
}

// put keeps v under k, and drops the value that was not used for longest.
func (c *lru[K, V]) put(k K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byKey[k]; ok {
		e.Value.(*pair[K, V]).value = v
		c.order.MoveToFront(e)
		return
	}
	if c.order.Len() < c.limit {
		c.byKey[k] = c.order.PushFront(&pair[K, V]{k, v})
		return
	}
	e := c.order.Back() // its memory is used again
	p := e.Value.(*pair[K, V])
	delete(c.byKey, p.key)
	p.key, p.value = k, v
	c.byKey[k] = e
	c.order.MoveToFront(e)
}
