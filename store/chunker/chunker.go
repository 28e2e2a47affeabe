package chunker

// Params are the sizes of chunks, in bytes. The zero Average means 512 KiB; Min and Max follow from it
// (a quarter, four times) unless given.
type Params struct {
	Min, Average, Max int
}

// Cutter finds cut points by FastCDC with normalised chunking (Xia et al., USENIX ATC 2016) over a gear table
// made from a key. Immutable; safe for concurrent use.
type Cutter struct {
	params Params
}

// New returns a Cutter whose gear table is derived from key, so that chunk lengths do not fingerprint known files.
func New(p Params, key [32]byte) *Cutter { return &Cutter{params: p} }

// Params returns the sizes, all filled in.
func (c *Cutter) Params() Params { return c.params }

// Cut returns the length of the first chunk of buf: at most Max, and len(buf) only if that is all there is
// or no cut point was found. The caller gives Max bytes or the end of the stream.
func (c *Cutter) Cut(buf []byte) int { panic("todo") }
