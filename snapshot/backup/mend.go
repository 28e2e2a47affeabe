package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/store"
)

// Mender stores damaged blobs anew from the source, where that still gives the same bytes: a blob's ID proves that, whatever else
// has changed. A chunk is looked for in its file, anything else by walking the snapshot's source once more. One goroutine's.
type Mender struct {
	repo     repository
	w        blobWriter
	progress func(Progress) // of walks
	buf      []byte
	tried    map[string]bool       // path and chunk
	lacking  map[store.ID]*lacking // by snapshot

	mu     sync.Mutex // for the goroutines of a walk
	mended map[store.ID]bool
}

// NewMender returns a Mender for a store that knows which of its blobs are damaged. progress, which may be nil, is told of walks.
func NewMender(st *store.Store, progress func(Progress)) *Mender {
	return newMender(storeRepository{st}, progress)
}

func newMender(repo repository, progress func(Progress)) *Mender {
	return &Mender{
		repo: repo, w: repo.newWriter(), progress: progress,
		tried: map[string]bool{}, lacking: map[store.ID]*lacking{}, mended: map[store.ID]bool{},
	}
}

// Mended reports whether a blob was stored anew.
func (m *Mender) Mended(id store.ID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mended[id]
}

// Try looks for a chunk in the source file of a.Path; anything else it notes for Finish. That the file is not there, or other than
// it was, is no error.
func (m *Mender) Try(ctx context.Context, a snapshot.Affected) error {
	if m.Mended(a.Blob) {
		return nil
	}
	if a.Entry == nil || a.Entry.Type != snapshot.TypeFile {
		m.lacks(a.Snapshot, a.Blob)
		return nil
	}
	path := sourceOf(a.Tree.Manifest(), a.Path)
	key := path + "\x00" + string(a.Blob[:])
	if path == "" || m.tried[key] {
		return nil
	}
	m.tried[key] = true
	offset, length := int64(-1), int64(0)
	err := a.Tree.Items(ctx, a.Entry, 0, func(at int64, it snapshot.Item) bool {
		if it.ID == a.Blob {
			offset, length = at, it.Length
		}
		return offset < 0
	})
	if err != nil || offset < 0 { // a page of the list, or attributes
		m.lacks(a.Snapshot, a.Blob)
		return ctx.Err()
	}
	if length > 1<<30 {
		return nil
	}
	return m.chunk(ctx, path, a.Blob, offset, length)
}

// chunk stores a stretch of a file if it is the chunk.
func (m *Mender) chunk(ctx context.Context, path string, id store.ID, offset, length int64) error {
	if int64(cap(m.buf)) < length {
		m.buf = make([]byte, length)
	}
	data := m.buf[:length]
	if !readSource(path, data, offset) || m.repo.BlobID(store.KindChunk, data) != id {
		return ctx.Err()
	}
	if _, err := m.w.Put(ctx, store.KindChunk, data); err != nil {
		return fmt.Errorf("storing a part of %s anew: %w", path, err)
	}
	m.has(id)
	return nil
}

func (m *Mender) has(id store.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mended[id] = true
}

// Finish walks the sources of the snapshots that lack more than chunks, and hands on all that was found; the blobs are in the
// store then.
func (m *Mender) Finish(ctx context.Context) error {
	if err := m.walks(ctx); err != nil {
		return err
	}
	return m.w.Flush(ctx)
}

// readSource fills p from a regular file, whose last component may not be a symlink.
func readSource(path string, p []byte, offset int64) bool {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	n, err := f.ReadAt(p, offset)
	return n == len(p) && (err == nil || errors.Is(err, io.EOF))
}

// sourceOf is the absolute path that a path of a snapshot was read from; "" for a stream.
func sourceOf(m *snapshot.Manifest, path string) string {
	switch {
	case m.Found == snapshot.FoundByStream || len(m.Paths) == 0:
		return ""
	case m.Single:
		return filepath.Join(m.Paths[0], path)
	case len(m.Paths) == 1 && filepath.Base(m.Paths[0]) == filepath.Base(path) && filepath.Dir(path) == "/":
		return m.Paths[0] // a single file stands under its base name
	}
	return path
}
