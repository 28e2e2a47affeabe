package restore

import (
	"context"
	"errors"
	"io"
	"path"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"snapfs/snapshot"
	"snapfs/store"
)

const (
	dumpAhead  = 64 << 20 // bytes of content read before they are written
	dumpHeld   = 8 << 20  // bytes of a file that is read completely before its header is written
	dumpQueued = 512      // members
)

// DumpOptions says what to dump. The zero value of each field is the recommendation.
type DumpOptions struct {
	Path    string // below the snapshot's directory; "" or "/": everything
	Workers int    // 0: two per core
	OnError func(*snapshot.PathError)
	OnSkip  func(path string) // a socket, which tar cannot hold
}

// Dump writes the subtree at path as a PAX tar stream: DumpWith without callbacks.
func Dump(ctx context.Context, r Reader, tree *snapshot.Tree, path string, w io.Writer) (*Result, error) {
	return DumpWith(ctx, r, tree, w, DumpOptions{Path: path})
}

// DumpWith writes a subtree as a PAX tar stream: of a directory "./" and what is below it, else one member with the base
// name. A file of up to 8 MiB whose content is damaged is left out; in a larger one zeros stand for what is lost. Both
// are counted in Result.Errors and Result.Damaged and given to OnError, and the stream goes on; an error returned means
// that the stream is not complete.
func DumpWith(ctx context.Context, r Reader, tree *snapshot.Tree, w io.Writer, o DumpOptions) (*Result, error) {
	if o.Workers <= 0 {
		o.Workers = 2 * runtime.GOMAXPROCS(0)
	}
	start := time.Now()
	at := path.Clean("/" + o.Path)
	top, err := tree.Walk(ctx, at)
	if err != nil {
		return &Result{}, &snapshot.PathError{Op: "dump", Path: at, Err: err}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := &dump{DumpOptions: o, ctx: ctx, reader: r, tree: tree, top: at, tar: newTarWriter(w),
		ahead: semaphore.NewWeighted(dumpAhead), firsts: newFirsts(tree.Manifest().Links, ""),
		members: make(chan *member, dumpQueued), out: &Result{}}
	defer d.firsts.close()
	d.fetchers.SetLimit(o.Workers)
	var g errgroup.Group
	g.Go(func() error {
		defer close(d.members)
		return d.walk(top)
	})
	err = d.writeAll()
	if err != nil {
		cancel()
		for m := range d.members {
			d.drain(m)
		}
	}
	err = errors.Join(err, g.Wait())
	_ = d.fetchers.Wait()
	d.out.Elapsed = time.Since(start)
	return d.out, err
}

// dump is one run: walk finds members and reads their content ahead, writeAll writes them in order.
type dump struct {
	DumpOptions
	ctx      context.Context
	reader   Reader
	tree     *snapshot.Tree
	top      string
	tar      *tarWriter
	ahead    *semaphore.Weighted
	fetchers errgroup.Group
	firsts   *firsts
	members  chan *member
	out      *Result // written by writeAll only
}

// member is one entry on its way.
type member struct {
	path   string // in the snapshot
	name   string // in the archive
	entry  snapshot.Found
	link   string // the member it is linked to
	err    error  // reading its metadata
	pieces chan *piece
}

// piece is a stretch of content being read.
type piece struct {
	n     int64
	held  int64 // of dump.ahead
	ready chan struct{}
	data  []byte
	err   error
}

// drain waits for what is still being read and makes room for what comes next.
func (d *dump) drain(m *member) {
	if m.pieces != nil {
		for p := range m.pieces {
			<-p.ready
			d.ahead.Release(p.held)
		}
	}
}

// walk sends every entry, parents before children.
func (d *dump) walk(top snapshot.Found) error {
	if top.Type != snapshot.TypeDir {
		return d.send(top, path.Base(d.top), d.top)
	}
	if err := d.send(top, "./", d.top); err != nil {
		return err
	}
	type level struct {
		dir   snapshot.Found
		from  string
		batch []snapshot.Found
		last  bool
		size  int // of the path
	}
	rel := []byte("./")
	for stack := []*level{{dir: top, size: len(rel)}}; len(stack) > 0; {
		l := stack[len(stack)-1]
		rel = rel[:l.size]
		if len(l.batch) == 0 && !l.last {
			err := d.tree.ListFrom(d.ctx, l.dir, l.from, func(f snapshot.Found) bool {
				l.batch = append(l.batch, f)
				return len(l.batch) < batchSize
			})
			l.last = err != nil || len(l.batch) < batchSize
			if n := len(l.batch); n > 0 {
				l.from = l.batch[n-1].Name + "\x00"
			}
			if err != nil {
				if err := d.emit(&member{path: path.Join(d.top, string(rel)), err: err}); err != nil {
					return err
				}
			}
		}
		if len(l.batch) == 0 {
			stack = stack[:len(stack)-1]
			continue
		}
		f := l.batch[0]
		if l.batch = l.batch[1:]; len(l.batch) == 0 {
			l.batch = nil
		}
		name := string(rel) + f.Name
		if f.Type == snapshot.TypeDir {
			name += "/"
			rel = append(append(rel, f.Name...), '/')
			stack = append(stack, &level{dir: f, size: len(rel)})
		}
		if err := d.send(f, name, path.Join(d.top, name)); err != nil {
			return err
		}
	}
	return nil
}

func (d *dump) emit(m *member) error {
	select {
	case d.members <- m:
		return nil
	case <-d.ctx.Done():
		return d.ctx.Err()
	}
}

// send queues one entry and begins to read its content.
func (d *dump) send(f snapshot.Found, name, where string) error {
	m := &member{path: where, name: name}
	m.entry, m.err = d.tree.Follow(d.ctx, f)
	if m.err == nil && f.Linked {
		if rank := m.entry.Position &^ snapshot.LinkBit; !d.firsts.claim(rank, f.Position) {
			m.link, m.err = d.memberAt(d.firsts.of(rank))
		}
	}
	if m.err != nil || m.link != "" || m.entry.Type != snapshot.TypeFile || m.entry.Size == 0 {
		return d.emit(m)
	}
	m.pieces = make(chan *piece, piecesAhead(m.entry.Entry))
	defer close(m.pieces)
	if err := d.emit(m); err != nil {
		return err
	}
	var stopped error
	err := d.tree.Items(d.ctx, m.entry.Entry, 0, func(_ int64, it snapshot.Item) bool {
		if !it.ID.IsZero() {
			stopped = d.fetch(m, it)
		}
		return stopped == nil
	})
	if stopped == nil && err != nil {
		p := &piece{err: err, ready: make(chan struct{})}
		close(p.ready)
		stopped = m.push(d.ctx, p)
	}
	return stopped
}

func piecesAhead(e *snapshot.Entry) int {
	if e.Content.List.IsZero() {
		return len(e.Content.Items) + 1
	}
	return 64
}

// memberAt is the archive's name of what has a position in the snapshot; "" if it was lost.
func (d *dump) memberAt(position uint32) (string, error) {
	if position == lostFirst {
		return "", ErrFirstName
	}
	where, err := d.tree.PathAt(d.ctx, position)
	return "./" + strings.TrimPrefix(strings.TrimPrefix(where, d.top), "/"), err
}

// fetch begins to read a chunk; it waits while enough is being read.
func (d *dump) fetch(m *member, it snapshot.Item) error {
	p := &piece{n: it.Length, held: min(it.Length, dumpAhead), ready: make(chan struct{})}
	if err := d.ahead.Acquire(d.ctx, p.held); err != nil {
		return err
	}
	d.fetchers.Go(func() error {
		defer close(p.ready)
		p.data, p.err = d.reader.GetInto(d.ctx, store.KindChunk, it.ID, nil)
		if p.err == nil && int64(len(p.data)) != it.Length {
			p.err = errLength
		}
		return nil
	})
	return m.push(d.ctx, p)
}

func (m *member) push(ctx context.Context, p *piece) error {
	select {
	case m.pieces <- p:
		return nil
	case <-ctx.Done():
		<-p.ready
		return ctx.Err()
	}
}
