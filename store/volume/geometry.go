package volume

import (
	"math"

	"github.com/klauspost/reedsolomon"
	"github.com/zeebo/xxh3"
)

// maxSetBytes bounds the parity blocks of a set, and its digests, so that repair needs little memory whatever a volume
// says. On disk; append only.
const maxSetBytes = 64 << 20

// MaxParity is the most parity a volume can be given, in percent of what it stores.
const MaxParity = 25

// A full span at 3 %: 64 MiB in 4 KiB blocks. Not on disk: every set says its own geometry.
const (
	fullShift  = 12
	fullData   = 128
	fullGroups = 128
	fullBlocks = 512 // of parity, at most
	fullSpan   = fullData * fullGroups << fullShift

	// A last span of up to this part of a full one is read back, to be given a geometry that fits it; parity of a
	// longer one is at hand and at most 6 % of it.
	readBackShare = 2

	// volumeShare bounds what the last span of a volume may cost beyond its own share, as a part of the whole volume: so
	// that a burst heals behind the last full span of a large volume as well as within it.
	volumeShare = 32
)

// rowsFor is the number of parity blocks in each group of a full span.
func rowsFor(percent int) int {
	if percent <= 0 {
		return 0
	}
	return max(1, (min(percent, MaxParity)*fullData+50)/100)
}

// ParitySpace is how much room the parity of a span takes at most, at so many percent.
func ParitySpace(percent int) int64 {
	rows := rowsFor(percent)
	if rows == 0 {
		return 0
	}
	s := paritySet{geometry: fullGeometry(rows), trailer: make([]byte, TrailerSize)}
	return s.size()
}

// geometry is how a span is cut into blocks and groups. Block i is number i/groups of group i%groups, so the span is
// also a row of data stripes, each as long as one row of parity.
type geometry struct {
	shift  uint8 // blocks are 1<<shift bytes
	data   int   // blocks in a group
	rows   int   // parity blocks of a group
	groups int
	offset int64 // of the span in the volume
	length int64 // of the span
}

func (g *geometry) block() int64  { return 1 << g.shift }
func (g *geometry) stripe() int64 { return int64(g.groups) << g.shift }
func (g *geometry) end() int64    { return g.offset + g.length }

// blocks is the number of blocks in the span, the last one filled up with zeros.
func (g *geometry) blocks() int { return int((g.length + g.block() - 1) >> g.shift) }

// parityBlocks is their number in all rows.
func (g *geometry) parityBlocks() int { return g.rows * g.groups }

// sound reports whether a geometry keeps the format's rules; limits on memory follow from the lengths of its frames.
func (g *geometry) sound() bool {
	return g.shift >= 9 && g.shift <= 20 && g.data > 0 && g.rows > 0 && g.groups > 0 && g.data+g.rows <= 256 &&
		g.offset >= 0 && g.length > 0 && g.offset <= math.MaxInt64-g.length && g.length <= int64(g.data)*g.stripe() &&
		int64(g.rows)*g.stripe() <= maxSetBytes && 8*int64(g.blocks()+g.parityBlocks()) <= maxSetBytes
}

// coder is the code of a geometry. The Cauchy matrix needs no inversion: 0.04 ms instead of 18.
func (g *geometry) coder() reedsolomon.Encoder {
	c, err := reedsolomon.New(g.data, g.rows, reedsolomon.WithCauchyMatrix(), reedsolomon.WithMaxGoroutines(1))
	if err != nil {
		panic(err) // the geometry is sound
	}
	return c
}

// fullGeometry is that of every span but the last of a volume. More rows have fewer groups, so that a span's parity stays
// 2 MiB: it is made at half the speed once it leaves the processor's caches.
func fullGeometry(rows int) geometry {
	g := geometry{shift: fullShift, data: fullData, rows: rows, groups: min(fullGroups, fullBlocks/rows)}
	g.length = fullData * g.stripe()
	return g
}

// shortGeometry fits a span shorter than a full one: the groups are about twice as many blocks long as there are groups, so
// that what parity costs and the burst that heals both shrink with the root of the length, and small blocks below 1 MiB. A
// page of 4 KiB heals always. volume is how long the whole volume is, 0 if that does not matter.
func shortGeometry(offset, length, volume int64, full geometry) geometry {
	g := geometry{shift: full.shift, rows: full.rows, offset: offset, length: length}
	switch {
	case length < 256<<10:
		g.shift = 9
	case length < 1<<20:
		g.shift = 10
	}
	n := int64(g.blocks())
	data := min(int64(full.data), max(16, 2*int64(math.Sqrt(float64(n)))))
	pageRows := int64(max(1, g.rows-1)) << g.shift // a page over the end of the span reaches into a row as well
	page := (4096 + pageRows - 1) / pageRows
	groups := max((n+data-1)/data, page)
	if share := min(int64(full.groups), volume/volumeShare/int64(g.rows)>>full.shift); share<<full.shift > groups<<g.shift {
		g.shift = full.shift
		groups = min(share, int64(g.blocks()))
	}
	g.groups = int(groups)
	g.data = int((int64(g.blocks()) + groups - 1) / groups)
	return g
}

// spanParity is the parity of a span while it is made.
type spanParity struct {
	geometry
	seed    uint64
	code    reedsolomon.Encoder
	rows    [][]byte // each with setRoom bytes in front
	digests []byte   // likewise; first of the blocks, then of the parity blocks, row by row
}

func newSpanParity(g geometry, v ID, code reedsolomon.Encoder) *spanParity {
	p := &spanParity{geometry: g, seed: v.seed(), code: code}
	p.digests = make([]byte, setRoom+8*(g.blocks()+g.parityBlocks()))
	return p
}

// makeRows gives the rows their memory.
func (p *spanParity) makeRows() {
	p.rows = make([][]byte, p.geometry.rows)
	for i := range p.rows {
		p.rows[i] = make([]byte, setRoom+p.stripe())
	}
}

// encode adds bytes of one data stripe to the parity; at counts from the start of the span. Each byte is added once, in
// any order.
func (p *spanParity) encode(at int64, b []byte) {
	if p.rows == nil {
		p.makeRows()
	}
	parity := make([][]byte, len(p.rows))
	for len(b) > 0 {
		n := min(int64(len(b)), p.stripe()-at%p.stripe())
		for i, row := range p.rows {
			parity[i] = row[setRoom+at%p.stripe():][:n]
		}
		if err := p.code.EncodeIdx(b[:n], int(at/p.stripe()), parity); err != nil {
			panic(err) // lengths and number are right by construction
		}
		b, at = b[n:], at+n
	}
}

// sum notes the digests of whole blocks, the first of which is number i.
func (p *spanParity) sum(i int, b []byte) {
	for ; len(b) > 0; i++ {
		putDigest(p.digests[setRoom:], i, xxh3.HashSeed(b[:p.block()], p.seed))
		b = b[p.block():]
	}
}

// sumRows notes the digests of the parity blocks, which are complete, and gives those of the whole set.
func (p *spanParity) sumRows() {
	at := p.blocks()
	for _, row := range p.rows {
		p.sum(at, row[setRoom:])
		at += p.groups
	}
}
