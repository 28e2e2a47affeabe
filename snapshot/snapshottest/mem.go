// Package snapshottest keeps blobs in memory for tests of what reads and writes snapshots.
package snapshottest

import (
	"context"
	"crypto/sha256"
	"sync"

	"snapfs/store"
)

// Blobs is a map of blobs: snapshot.Source, snapshot.Sink and restore.Reader. Safe for concurrent use.
type Blobs struct {
	mu   sync.Mutex
	m    map[store.ID][]byte
	Gets map[store.ID]int // how often each was read
	Puts int              // calls of Put
}

// New returns an empty set.
func New() *Blobs { return &Blobs{m: map[store.ID][]byte{}, Gets: map[store.ID]int{}} }

// Put stores data.
func (b *Blobs) Put(_ context.Context, kind store.Kind, data []byte) (store.ID, error) {
	id := b.IDOf(kind, data)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Puts++
	if _, ok := b.m[id]; !ok {
		b.m[id] = append([]byte(nil), data...)
	}
	return id, nil
}

// IDOf is the ID that data of that kind has.
func (b *Blobs) IDOf(kind store.Kind, data []byte) store.ID {
	return store.ID(sha256.Sum256(append([]byte{byte(kind)}, data...)))
}

// Has reports whether a blob is there.
func (b *Blobs) Has(id store.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.m[id]
	return ok
}

// Get returns a blob or *store.MissingError.
func (b *Blobs) Get(_ context.Context, kind store.Kind, id store.ID) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Gets[id]++
	data, ok := b.m[id]
	if !ok {
		return nil, &store.MissingError{Kind: kind, ID: id}
	}
	return data, nil
}

// GetInto is Get.
func (b *Blobs) GetInto(ctx context.Context, kind store.Kind, id store.ID, dst []byte) ([]byte, error) {
	data, err := b.Get(ctx, kind, id)
	return append(dst[:0], data...), err
}

// Locate gives no places.
func (b *Blobs) Locate(_ context.Context, ids []store.ID) ([]store.Place, error) {
	return make([]store.Place, len(ids)), nil
}

// Drop forgets a blob, as damage would.
func (b *Blobs) Drop(id store.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.m, id)
}
