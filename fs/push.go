package fs

import (
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"

	"snapfs/snapshot"
	"snapfs/store"
)

// Who reads one small file after the other (tar, cp, grep -r) waits for an answer for each. Once that is seen, the files
// that stand next are written into the kernel's cache before they are asked for, by one goroutine beside him: the
// reader finds them there.
const (
	smallFile   = 64 << 10 // bytes of the largest file that is pushed
	nearby      = 32       // entries between two files that count as one after the other
	firstWindow = 8        // entries to look at the first time
	lastWindow  = 64       // and at most
	pushBytes   = 1 << 20  // at most at a time
	keptWalks   = 4        // readers at once
)

// cache is the kernel's; *fuse.Server is one.
type cache interface {
	InodeNotifyStoreCache(node uint64, offset int64, data []byte) fuse.Status
}

// pusher sees who reads in sequence. Safe for concurrent use.
type pusher struct {
	server *server
	kernel cache

	running sync.WaitGroup

	mu     sync.Mutex
	walks  [keptWalks]walk
	serial int
	busy   bool // one at a time: more would compete with the readers for the processor
	closed bool
}

// walk is a reader on his way.
type walk struct {
	serial   int    // tells it from another in the same place
	from, to uint64 // node ids where the last push began, and that were read or pushed last
	window   int
}

// read notes that a small file was read, and pushes what follows if that was to be expected.
func (p *pusher) read(id uint64, n *node) {
	if p.kernel == nil || n.Size > smallFile || n.Position&snapshot.LinkBit != 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.walk(id)
	if id <= w.to {
		return // it was on its way
	}
	w.to = id
	if p.busy || p.closed {
		return
	}
	if w.window = min(max(2*w.window, 1), lastWindow); w.window < firstWindow {
		return
	}
	w.from = id
	p.busy = true
	p.running.Add(1)
	go p.push(n.openTree, w, *w)
}

// walk finds the reader whose next file this can be, or begins a new one. Needs mu.
func (p *pusher) walk(id uint64) *walk {
	for i := range p.walks {
		if w := &p.walks[i]; id >= w.from && id <= w.to+nearby {
			return w
		}
	}
	p.serial++
	w := &p.walks[p.serial%keptWalks]
	*w = walk{serial: p.serial, from: id, to: id - 1}
	return w
}

// push writes the files that stand after the one being read.
func (p *pusher) push(t *openTree, w *walk, was walk) {
	defer p.running.Done()
	to, bytes := was.to, int64(0)
	for i := 0; i < was.window && bytes < pushBytes; i++ {
		to = p.beyond(w, was.serial, to)
		n, ok := p.pushOne(t, to+1)
		if !ok {
			break
		}
		to++
		bytes += n
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = false
	if w.serial == was.serial {
		w.to = max(w.to, to)
	}
}

// beyond skips what the reader has read meanwhile, and the next file: he is asking for it already.
func (p *pusher) beyond(w *walk, serial int, to uint64) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.serial == serial {
		to = max(to, w.to+1)
	}
	return to
}

// pushOne writes one file if it is small, and tells its size. It is not ok where the directory ends, or the kernel does
// not know what stands there.
func (p *pusher) pushOne(t *openTree, id uint64) (int64, bool) {
	s := p.server
	_, position := splitID(id)
	f, err := t.At(s.ctx, position)
	if err != nil || f.Type == snapshot.TypeDir {
		return 0, false
	}
	items := f.Content.Items
	if f.Type != snapshot.TypeFile || f.Position != position || f.Size > smallFile || len(items) != 1 || items[0].ID.IsZero() {
		return 0, true
	}
	data, err := s.src.Get(s.ctx, store.KindChunk, items[0].ID)
	if err != nil || int64(len(data)) != f.Size {
		return 0, true // the reader meets the error
	}
	return f.Size, p.kernel.InodeNotifyStoreCache(id, 0, data).Ok()
}

// close waits for what is being pushed.
func (p *pusher) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.running.Wait()
}
