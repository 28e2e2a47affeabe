package archive

import (
	"bytes"
	"context"
	"errors"
	"io"

	"snapfs/snapshot"
	"snapfs/store"
)

// recoder encodes snapshots anew for a store with other keys. What did not change between snapshots is encoded once.
type recoder struct {
	i     *importer
	w     *store.Writer
	cache *snapshot.Cache
	dirs  map[dirKey]dirDone
	files map[string]snapshot.Content // by the content at the origin
	tree  *snapshot.Tree
}

// dirKey names a directory at the origin: pages are encoded relative to its file system.
type dirKey struct {
	id store.ID
	fs uint32
}

type dirDone struct {
	id     store.ID
	totals snapshot.Totals
}

// mostRemembered bounds what is remembered of directories and of files, about 150 bytes each.
const mostRemembered = 1 << 18

func newRecoder(i *importer) *recoder {
	return &recoder{i: i, cache: snapshot.NewCache(0), dirs: map[dirKey]dirDone{}, files: map[string]snapshot.Content{}}
}

// snapshot encodes one and returns the ID of its manifest.
func (r *recoder) snapshot(ctx context.Context, id store.ID, name string) (made store.ID, err error) {
	r.w = r.i.st.NewWriter()
	defer func() {
		err = errors.Join(err, r.w.Flush(context.WithoutCancel(ctx))) // also what a snapshot that failed left on its way
		r.i.addStored(r.w)
	}()
	if r.tree, err = snapshot.OpenTree(ctx, r.i.b, r.i.b.PageKey(), id, r.cache); err != nil {
		return id, err
	}
	m := *r.tree.Manifest()
	if err := r.links(ctx, &m); err != nil {
		return id, err
	}
	if m.Root.Dir, m.Root.Totals, err = r.dir(ctx, r.tree.Root()); err != nil {
		return id, err
	}
	if err := r.attributes(ctx, &m.Root); err != nil {
		return id, err
	}
	m.Above = append([]snapshot.Entry(nil), m.Above...)
	for n := range m.Above {
		if err := r.attributes(ctx, &m.Above[n]); err != nil {
			return id, err
		}
	}
	r.i.comesFrom(&m, id)
	m.Name, m.Parent = name, r.i.parent(m.Parent)
	return snapshot.WriteManifest(ctx, r.w, &m)
}

// links encodes the link tree.
func (r *recoder) links(ctx context.Context, m *snapshot.Manifest) (err error) {
	if m.LinkTree.IsZero() {
		return nil
	}
	w := snapshot.NewLinkWriter(r.i.st.PageKey(), r.i.o.Scratch)
	defer w.Close()
	var failed error
	err = r.tree.Links(ctx, func(f snapshot.Found) bool {
		e := *f.Entry
		for range e.Nlink {
			w.Name(e.FS, e.Inode)
		}
		if failed = r.entry(ctx, &e); failed == nil {
			failed = w.Set(&e)
		}
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	if err != nil {
		return err
	}
	m.LinkTree, m.Links, _, err = w.Finish(ctx, r.w)
	return err
}

// dir encodes a directory and all below it.
func (r *recoder) dir(ctx context.Context, d snapshot.Found) (id store.ID, totals snapshot.Totals, err error) {
	key := dirKey{d.Dir, d.FS}
	if done, ok := r.dirs[key]; ok {
		return done.id, done.totals, nil
	}
	w := snapshot.NewDirWriter(r.w, r.i.st.PageKey(), d.FS)
	it := r.tree.Entries(d)
	for {
		f, err := it.Next(ctx)
		if err == io.EOF {
			break
		}
		if err != nil {
			return id, totals, err
		}
		e := *f.Entry
		if e.Type == snapshot.TypeDir {
			if e.Dir, e.Totals, err = r.dir(ctx, f); err != nil {
				return id, totals, err
			}
		}
		if err := r.entry(ctx, &e); err != nil {
			return id, totals, err
		}
		if err := w.Add(ctx, &e); err != nil {
			return id, totals, err
		}
	}
	if id, totals, err = w.Finish(ctx); err != nil {
		return id, totals, err
	}
	if len(r.dirs) >= mostRemembered {
		clear(r.dirs)
	}
	r.dirs[key] = dirDone{id, totals}
	return id, totals, nil
}

// entry gives an entry the names its content and attributes have in the store.
func (r *recoder) entry(ctx context.Context, e *snapshot.Entry) (err error) {
	if e.Linked {
		return nil
	}
	if e.Type == snapshot.TypeFile {
		if e.Content, err = r.content(ctx, e); err != nil {
			return err
		}
	}
	return r.attributes(ctx, e)
}

// attributes stores a large set of extended attributes.
func (r *recoder) attributes(ctx context.Context, e *snapshot.Entry) error {
	if e.XattrsID.IsZero() {
		return nil
	}
	data, err := r.i.b.Get(ctx, store.KindXattrs, e.XattrsID)
	if err == nil {
		e.XattrsID, err = r.w.Put(ctx, store.KindXattrs, data)
	}
	return err
}

// content stores a file's content as a backup would have cut it.
func (r *recoder) content(ctx context.Context, e *snapshot.Entry) (c snapshot.Content, err error) {
	key := contentKey(e)
	if done, ok := r.files[key]; ok {
		return done, nil
	}
	list := snapshot.NewContentWriter(r.w, r.i.st.PageKey())
	cut := cutter{r: r, list: list}
	var failed error
	err = r.tree.Items(ctx, e, 0, func(_ int64, it snapshot.Item) bool {
		if it.ID.IsZero() {
			if failed = cut.end(ctx); failed == nil {
				failed = list.Add(ctx, it)
			}
			return failed == nil
		}
		failed = cut.add(ctx, it)
		return failed == nil
	})
	if failed != nil {
		return c, failed
	}
	if err != nil {
		return c, err
	}
	if err := cut.end(ctx); err != nil {
		return c, err
	}
	if c, err = list.Finish(ctx); err != nil {
		return c, err
	}
	if len(r.files) >= mostRemembered {
		clear(r.files)
	}
	r.files[key] = c
	return c, nil
}

// contentKey is the same for the same content at the origin.
func contentKey(e *snapshot.Entry) string {
	if !e.Content.List.IsZero() {
		return string(e.Content.List[:])
	}
	var b bytes.Buffer
	for _, it := range e.Content.Items {
		b.Write(it.ID[:])
		b.WriteByte(byte(it.Length))
		if it.ID.IsZero() {
			for n := it.Length; n > 0; n >>= 8 {
				b.WriteByte(byte(n))
			}
		}
	}
	return b.String()
}

// cutter cuts a run of data into the store's chunks.
type cutter struct {
	r    *recoder
	list *snapshot.ContentWriter
	buf  []byte // not yet cut
	got  []byte
}

// add takes a chunk of the origin.
func (c *cutter) add(ctx context.Context, it snapshot.Item) (err error) {
	if c.got, err = c.r.i.b.GetInto(ctx, store.KindChunk, it.ID, c.got); err != nil {
		return err
	}
	c.r.i.read(int64(len(c.got)))
	c.buf = append(c.buf, c.got...)
	return c.cut(ctx, c.r.i.st.Cutter().Params().Max)
}

// end cuts what is left.
func (c *cutter) end(ctx context.Context) error { return c.cut(ctx, 1) }

// cut stores chunks as long as there are at least so many bytes.
func (c *cutter) cut(ctx context.Context, least int) error {
	cut := c.r.i.st.Cutter()
	pos := 0
	for len(c.buf)-pos >= least {
		n := cut.Cut(c.buf[pos:min(len(c.buf), pos+cut.Params().Max)])
		id, err := c.r.w.Put(ctx, store.KindChunk, c.buf[pos:pos+n])
		if err != nil {
			return err
		}
		if err := c.list.Add(ctx, snapshot.Item{ID: id, Length: int64(n)}); err != nil {
			return err
		}
		pos += n
	}
	c.buf = append(c.buf[:0], c.buf[pos:]...)
	return nil
}
