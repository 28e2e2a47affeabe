package chunker

import (
	"encoding/binary"
	"math/bits"

	"github.com/zeebo/blake3"
)

// On disk in effect: see the package comment. Append only.
const (
	defaultAverage = 512 << 10
	normalisation  = 2  // bits more before the centre, less behind it
	windowSize     = 64 // bytes that the hash depends on
	maxAverage     = 1 << 30
	gearText       = "snapfs chunker gear table 1"
)

// Params are the sizes of chunks, in bytes. The zero Average means 512 KiB; Min and Max follow from it (a quarter, four
// times) unless given. Averages that are no power of two are met within a quarter.
type Params struct {
	Min, Average, Max int
}

// filled replaces zeros by defaults and makes the sizes agree: 64 <= Min <= Average <= Max, Average <= 1 GiB.
func (p Params) filled() Params {
	if p.Average <= 0 {
		p.Average = defaultAverage
	}
	p.Average = min(max(p.Average, windowSize), maxAverage)
	if p.Min <= 0 {
		p.Min = p.Average / 4
	}
	if p.Max <= 0 {
		p.Max = p.Average * 4
	}
	p.Min = min(max(p.Min, windowSize), p.Average)
	p.Max = max(p.Max, p.Average)
	return p
}

// Cutter finds cut points by FastCDC with normalised chunking (Xia et al., USENIX ATC 2016) over a gear table
// made from a key. Immutable; safe for concurrent use.
type Cutter struct {
	params Params
	centre int
	strict uint64 // mask before the centre
	loose  uint64 // mask behind it
	gear   [256]uint64
	twice  [256]uint64 // gear, doubled
}

// New returns a Cutter whose gear table is derived from key, so that chunk lengths do not fingerprint known files.
func New(p Params, key [32]byte) *Cutter {
	c := &Cutter{params: p.filled()}
	average := c.params.Average
	c.centre = min(max(average/16*13, c.params.Min), c.params.Max)
	n := bits.Len(uint(average+average/2)) - 1 // log2, rounded up from 4/3 of a power on
	c.strict = mask(n + normalisation)
	c.loose = mask(n - normalisation)
	c.gear = gearTable(key)
	for i, g := range c.gear {
		c.twice[i] = g << 1
	}
	return c
}

// mask has n bits below the topmost, where most bytes have their say. The topmost is left out for the sake of the
// loop, which tests every other hash one bit further up.
func mask(n int) uint64 { return (1<<n - 1) << (63 - n) }

func gearTable(key [32]byte) (gear [256]uint64) {
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		panic(err) // the key's length is right by its type
	}
	_, _ = h.WriteString(gearText)
	var b [len(gear) * 8]byte
	_, _ = h.Digest().Read(b[:])
	for i := range gear {
		gear[i] = binary.LittleEndian.Uint64(b[i*8:])
	}
	return gear
}

// Params returns the sizes, all filled in.
func (c *Cutter) Params() Params { return c.params }

// Cut returns the length of the first chunk of buf: at most Max, and len(buf) only if that is all there is
// or no cut point was found. The caller gives Max bytes or the end of the stream.
func (c *Cutter) Cut(buf []byte) int {
	end := min(len(buf), c.params.Max)
	if end <= c.params.Min {
		return end
	}
	centre := min(c.centre, end)
	if n := c.search(buf[:centre], c.params.Min, c.strict); n > 0 {
		return n
	}
	if n := c.search(buf[:end], centre, c.loose); n > 0 {
		return n
	}
	return end
}
