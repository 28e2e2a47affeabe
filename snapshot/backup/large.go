package backup

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"snapfs/snapshot"
	"snapfs/store"
)

// A large file, or a stream, is read by one goroutine into blocks and cut there; the chunks are hashed, compressed
// and stored by all workers, and listed in order again. Blocks are few and recycled: they bound the memory.

// block is a piece of a stream that chunks point into.
type block struct {
	buf  []byte // begins with room for what is left of the block before; what follows is aligned for O_DIRECT
	uses atomic.Int32
	pool chan *block
}

func (b *block) release() {
	if b.uses.Add(-1) == 0 {
		b.pool <- b // has room for all blocks
	}
}

// newBlocks makes the pool of a run; their memory is taken when they are first used.
func newBlocks(n int) chan *block {
	pool := make(chan *block, n)
	for range n {
		pool <- &block{pool: pool}
	}
	return pool
}

// chunk is work: a piece of a block to be stored.
type chunk struct {
	block *block
	data  []byte
	id    store.ID
	done  chan struct{}
}

func (c *chunk) do(w *worker) (err error) {
	c.id, err = w.w.Put(w.ctx, store.KindChunk, c.data)
	c.block.release()
	if err == nil {
		close(c.done)
	}
	return err
}

func (c *chunk) discard() {}

// reader cuts large files and streams. One goroutine's.
type reader struct {
	r   *run
	ctx context.Context

	buffers
	cut     cutter
	list    *snapshot.ContentWriter
	waiting []*chunk // in order; on their way
	job     *fileJob // that the chunks are of; nil: a stream
}

func newReader(ctx context.Context, r *run) *reader {
	return &reader{r: r, ctx: ctx, cut: r.repo.newCutter(), list: snapshot.NewContentWriter(r.nodes, r.pageKey)}
}

// loop reads large files until there are no more.
func (d *reader) loop() error {
	for {
		j := d.r.large.take()
		if j == nil {
			return d.ctx.Err()
		}
		if err := d.file(j); err != nil {
			return err
		}
	}
}

func (d *reader) file(j *fileJob) error {
	err := d.r.readFile(d.ctx, j, &d.buffers, d.content)
	d.r.gate.enter() // what follows changes the tree
	defer d.r.gate.leave()
	if d.ctx.Err() != nil {
		return d.ctx.Err()
	}
	return d.r.finishFile(j, err)
}

// content reads an open file through the blocks. Pages that were not cached before are not left in the cache.
func (d *reader) content(fd int, j *fileJob, size int64) (s stored, err error) {
	pages := cachedPages(fd)
	drop, parts := pages == 0, pages > 0 && pages < size/directAlign
	d.job = j
	err = eachSegment(fd, size, j.holes, func(g segment) error {
		if g.hole {
			if err := d.settle(0); err != nil {
				return err
			}
			s.length += g.to - g.from
			return d.list.Add(d.ctx, snapshot.Item{Length: g.to - g.from})
		}
		src := &fileSource{fd: fd, at: g.from, end: g.to, drop: drop, parts: parts}
		src.open()
		defer src.close()
		n, err := d.stream(src, true)
		s.length += n
		s.read += n
		if err == nil && n < g.to-g.from {
			err = errShorter
		}
		return err
	})
	if err == nil || errors.Is(err, errShorter) {
		err = d.settle(0)
	}
	d.waiting = d.waiting[:0]
	content, finishErr := d.list.Finish(d.ctx)
	s.content = content
	return s, errors.Join(err, finishErr)
}

// byteSource fills a buffer; less than asked for means the end.
type byteSource interface {
	fill(p []byte) (int, error)
}

// readerSource is any stream.
type readerSource struct{ r io.Reader }

// fill does not use io.ReadFull: that cannot tell the end from a source that says io.ErrUnexpectedEOF because it broke off.
func (s readerSource) fill(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = s.r.Read(p[n:])
		n += m
	}
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// filled is a block with what was read into it; none if there is an error instead.
type filled struct {
	block *block
	n     int
	err   error
}

// fetch reads the next piece of a source into a free block, behind room for what is left of the block before.
func (d *reader) fetch(ctx context.Context, src byteSource, head int) filled {
	b, err := d.block(ctx)
	if err != nil {
		return filled{err: err}
	}
	n, err := src.fill(b.buf[head:])
	return filled{b, n, err}
}

// stream cuts a source to its end and sends the chunks on their way. It returns how many bytes there were. With ahead, the next
// block is read while one is cut: of a single large file the disk would rest half of the time. Not for a source that may keep a
// read waiting for ever.
func (d *reader) stream(src byteSource, ahead bool) (total int64, err error) {
	longest := d.cut.Params().Max
	head := alignUp(longest)
	ctx, cancel := context.WithCancel(d.ctx)
	next := make(chan filled, 1)
	fetch := func() { next <- d.fetch(ctx, src, head) }
	var rest []byte // of the block before, not yet cut
	var last *block
	fetching := false
	defer func() {
		cancel()
		if fetching {
			if f := <-next; f.block != nil {
				f.block.release()
			}
		}
		if last != nil {
			last.release()
		}
	}()
	for {
		if !fetching {
			fetch()
		}
		f := <-next
		fetching = false
		if f.block == nil {
			return total, f.err
		}
		b, n, err := f.block, f.n, f.err
		ended := n < len(b.buf)-head
		if fetching = ahead && err == nil && !ended; fetching {
			go fetch() // waited for above, or when this returns
		}
		d.r.gate.enter()
		pos := head - copy(b.buf[head-len(rest):], rest)
		if last != nil {
			last.release()
		}
		last = b
		total += int64(n)
		fill := head + n
		for err == nil && (fill-pos >= longest || ended && pos < fill) {
			c := d.cut.Cut(b.buf[pos:min(fill, pos+longest)])
			err = d.send(b, b.buf[pos:pos+c])
			pos += c
		}
		d.r.gate.leave()
		if err != nil || ended {
			return total, err
		}
		rest = b.buf[pos:fill]
		if err := d.settle(maxWaiting); err != nil {
			return total, err
		}
	}
}

// maxWaiting chunks of a file may be on their way before the first must have arrived; the blocks bound it as well.
const maxWaiting = 256

// block takes a free block, held once by the caller.
func (d *reader) block(ctx context.Context) (*block, error) {
	select {
	case b := <-d.r.blocks:
		if len(b.buf) == 0 {
			b.buf = alignedMemory(d.r.blockSize)
		}
		b.uses.Store(1)
		return b, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (d *reader) send(b *block, data []byte) error {
	if d.job != nil {
		if err := d.r.judge(d.ctx, d.job, data); err != nil {
			return err
		}
	}
	c := &chunk{block: b, data: data, done: make(chan struct{})}
	b.uses.Add(1)
	d.waiting = append(d.waiting, c)
	return d.r.send(d.ctx, c)
}

// settle lists the chunks that have arrived, in order; it waits until at most keep are on their way.
func (d *reader) settle(keep int) error {
	n := 0
	for ; n < len(d.waiting); n++ {
		c := d.waiting[n]
		if len(d.waiting)-n <= keep && !c.arrived() {
			break
		}
		select {
		case <-c.done:
		case <-d.ctx.Done():
			return d.ctx.Err()
		}
		if err := d.list.Add(d.ctx, snapshot.Item{ID: c.id, Length: int64(len(c.data))}); err != nil {
			return err
		}
	}
	d.waiting = append(d.waiting[:0], d.waiting[n:]...)
	return nil
}

func (c *chunk) arrived() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}
