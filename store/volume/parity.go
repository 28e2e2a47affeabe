package volume

import (
	"sync"

	"github.com/klauspost/reedsolomon"
)

// parityMaker collects parity of what a Writer writes, span by span, in whatever order the bytes come. Spans that writers
// are still busy with are kept: with frames shorter than a span hardly ever more than two, 2.2 MiB each at 3 %.
type parityMaker struct {
	id   ID
	full geometry // of a full span; the offset is 0
	code reedsolomon.Encoder

	mu    sync.Mutex
	spans map[int64]*openSpan // by number
	free  []*openSpan

	waitingMu sync.Mutex
	waiting   []waitingPart
}

// waitingPart is what came while the parity of something else was being made.
type waitingPart struct {
	offset int64
	b      []byte
	done   func()
}

// maxWaiting is how many parts may wait; a writer with one more waits itself.
const maxWaiting = 4

// openSpan is a span that is not complete.
type openSpan struct {
	*spanParity

	early []byte         // the beginning, as far as it has come: most volumes are too short for rows of a full span
	edges map[int][]byte // blocks that more than one frame has a part in, as far as they have come
	have  map[int]int    // bytes of them
}

func newParityMaker(id ID, full geometry) *parityMaker {
	return &parityMaker{id: id, full: full, code: full.coder(), spans: map[int64]*openSpan{}}
}

// add takes what was written at an offset. Safe for concurrent use, each byte once.
func (m *parityMaker) add(offset int64, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.addLocked(offset, b)
}

// hand is add without waiting for others that are at it: one of them takes the part along. b belongs to the maker until
// it calls done. Parity is made at 8 GB/s, which outruns what a volume is fed with, but a writer that waits for one that
// the kernel has just put aside idles (measured: a tenth of the time of two writers on two cores).
func (m *parityMaker) hand(offset int64, b []byte, done func()) {
	m.waitingMu.Lock()
	m.waiting = append(m.waiting, waitingPart{offset, b, done})
	n := len(m.waiting)
	m.waitingMu.Unlock()
	if n > maxWaiting {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.drain()
		return
	}
	for n > 0 && m.mu.TryLock() {
		m.drain()
		m.mu.Unlock()
		n = m.waitingParts() // one that came since drain had looked found the lock taken
	}
}

func (m *parityMaker) waitingParts() int {
	m.waitingMu.Lock()
	defer m.waitingMu.Unlock()
	return len(m.waiting)
}

// drain takes what waits. The caller holds mu.
func (m *parityMaker) drain() {
	for {
		m.waitingMu.Lock()
		parts := m.waiting
		m.waiting = nil
		m.waitingMu.Unlock()
		if len(parts) == 0 {
			return
		}
		for _, p := range parts {
			m.addLocked(p.offset, p.b)
			p.done()
		}
	}
}

// addLocked divides what was written among the spans. The caller holds mu.
func (m *parityMaker) addLocked(offset int64, b []byte) {
	for len(b) > 0 {
		at := offset % m.full.length
		n := min(int64(len(b)), m.full.length-at)
		m.addToSpan(offset/m.full.length, at, b[:n])
		b, offset = b[n:], offset+n
	}
}

// addToSpan takes a part of a span. The caller holds mu.
func (m *parityMaker) addToSpan(number, at int64, b []byte) {
	s := m.span(number)
	s.encodeOrKeep(at, b)
	if lead := -at & (s.block() - 1); lead > 0 {
		lead = min(lead, int64(len(b)))
		s.edge(at, b[:lead])
		b, at = b[lead:], at+lead
	}
	whole := int64(len(b)) &^ (s.block() - 1)
	s.sum(int(at>>s.shift), b[:whole])
	if rest := b[whole:]; len(rest) > 0 {
		s.edge(at+whole, rest)
	}
}

// earlyBytes is how much of a span is kept before rows are made.
const earlyBytes = 256 << 10

func (s *openSpan) encodeOrKeep(at int64, b []byte) {
	end := at + int64(len(b))
	if s.rows == nil && end <= earlyBytes {
		if more := end - int64(len(s.early)); more > 0 {
			s.early = append(s.early, make([]byte, more)...)
		}
		copy(s.early[at:], b)
		return
	}
	s.encodeEarly()
	s.encode(at, b)
}

// encodeEarly makes rows of what was kept; what has not come yet is zero there and adds nothing.
func (s *openSpan) encodeEarly() {
	if s.rows == nil {
		s.encode(0, s.early)
		s.early = nil
	}
}

// edge takes a part of a block.
func (s *openSpan) edge(at int64, b []byte) {
	i := int(at >> s.shift)
	if s.edges[i] == nil {
		s.edges[i] = make([]byte, s.block())
	}
	copy(s.edges[i][at&(s.block()-1):], b)
	if s.have[i] += len(b); s.have[i] == int(s.block()) {
		s.closeEdge(i)
	}
}

func (s *openSpan) closeEdge(i int) {
	s.sum(i, s.edges[i])
	delete(s.edges, i)
	delete(s.have, i)
}

// span gives a span that is being written. The caller holds mu.
func (m *parityMaker) span(number int64) *openSpan {
	if s := m.spans[number]; s != nil {
		return s
	}
	g := m.full
	g.offset = number * g.length
	var s *openSpan
	if n := len(m.free); n > 0 {
		s, m.free = m.free[n-1], m.free[:n-1]
		s.reset(g)
	} else {
		s = &openSpan{spanParity: newSpanParity(g, m.id, m.code), edges: map[int][]byte{}, have: map[int]int{}}
	}
	m.spans[number] = s
	return s
}

func (s *openSpan) reset(g geometry) {
	s.geometry = g
	s.early = nil
	for _, row := range s.rows {
		clear(row)
	}
}

// take ends a span that is written up to an offset.
func (m *parityMaker) take(number, end int64) *openSpan {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drain()
	s := m.span(number)
	delete(m.spans, number)
	for i := range s.edges {
		s.closeEdge(i)
	}
	s.encodeEarly()
	s.length = end - s.offset
	s.digests = s.digests[:setRoom+8*(s.blocks()+s.parityBlocks())]
	return s
}

// giveBack lets a span's memory be used again.
func (m *parityMaker) giveBack(s *openSpan) {
	s.digests = s.digests[:cap(s.digests)]
	m.mu.Lock()
	defer m.mu.Unlock()
	m.free = append(m.free, s)
}

// release gives all memory back; nothing is added any more.
func (m *parityMaker) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drain()
	m.spans, m.free = nil, nil
}

// digestOf is the digest of a whole block of a span that is being written.
func (m *parityMaker) digestOf(number int64, block int) (sum uint64, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drain()
	s := m.spans[number]
	if s == nil {
		return 0, false
	}
	_, open := s.edges[block]
	return digest(s.digests[setRoom:], block), !open
}
