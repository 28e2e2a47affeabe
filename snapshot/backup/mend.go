package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/store"
)

// Mender stores damaged chunks anew from the files they were read from, where these still hold the same bytes: a chunk's
// ID proves that, whatever else has changed about the file. One goroutine's.
type Mender struct {
	st     *store.Store
	w      *store.Writer
	buf    []byte
	mended map[store.ID]bool
	tried  map[string]bool // path and chunk
}

// NewMender returns a Mender for a store that knows which of its blobs are damaged.
func NewMender(st *store.Store) *Mender {
	return &Mender{st: st, w: st.NewWriter(), mended: map[store.ID]bool{}, tried: map[string]bool{}}
}

// Mended reports whether a blob was stored anew.
func (m *Mender) Mended(id store.ID) bool { return m.mended[id] }

// Try looks for the content of a.Blob in the source file of a.Path. That the file is not there, or other than it was, is no
// error.
func (m *Mender) Try(ctx context.Context, a snapshot.Affected) error {
	if m.mended[a.Blob] || a.Entry == nil || a.Entry.Type != snapshot.TypeFile || a.Tree == nil {
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
	if err != nil || offset < 0 || length > 1<<30 {
		return ctx.Err() // a page of the list is damaged: only a backup can make it again
	}
	return m.chunk(ctx, path, a.Blob, offset, length)
}

// chunk stores a stretch of a file if it is the chunk.
func (m *Mender) chunk(ctx context.Context, path string, id store.ID, offset, length int64) error {
	if int64(cap(m.buf)) < length {
		m.buf = make([]byte, length)
	}
	data := m.buf[:length]
	if !readSource(path, data, offset) || m.st.BlobID(store.KindChunk, data) != id {
		return ctx.Err()
	}
	if _, err := m.w.Put(ctx, store.KindChunk, data); err != nil {
		return fmt.Errorf("storing a part of %s anew: %w", path, err)
	}
	m.mended[id] = true
	return nil
}

// Finish hands on what was found; the blobs are in the store then.
func (m *Mender) Finish(ctx context.Context) error { return m.w.Flush(ctx) }

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
