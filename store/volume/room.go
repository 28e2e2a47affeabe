package volume

// SealedSize is how long the volume is at most when another frame with so much plaintext and so many blobs has been appended and
// it is then sealed; with plain < 0 when it is sealed as it is. For writers whose medium ends somewhere.
func (w *Writer) SealedSize(plain, blobs int) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := sealedSize{size: w.size, spans: w.spans, table: w.table.size()}
	if w.parity != nil {
		n.full = &w.parity.full
	}
	if plain >= 0 {
		n.add(HeaderSize + int64(plain) + gcmTagSize)
		n.table += rowRoom + int64(blobs)*(int64(minRow)+4)
	}
	n.add(n.table + (n.table/tablePart+1)*(HeaderSize+gcmTagSize+partRoom))
	n.add(HeaderSize + int64(len(w.label)))
	return n.size + n.last() + TrailerSize
}

const (
	rowRoom  = 24 // bytes of a contents table's row without its blobs, at most
	partRoom = 40 // bytes of the head of a part
)

// SpanLength is how many bytes of a volume have parity of their own, at so many percent; the last ones may be fewer. A writer reads
// back at most half of that, the newest.
func SpanLength(percent int) int64 {
	if rows := rowsFor(percent); rows > 0 {
		return fullGeometry(rows).length
	}
	return 0
}

// sealedSize adds up what a volume will hold.
type sealedSize struct {
	size, table, spans int64
	full               *geometry // of parity; nil: none
}

// add counts a frame and the parity of spans that it completes.
func (n *sealedSize) add(bytes int64) {
	n.size += bytes
	for n.full != nil && n.size >= (n.spans+1)*n.full.length {
		set := paritySet{geometry: *n.full}
		n.size += set.size()
		n.table += int64(set.frames()) * rowRoom
		n.spans++
	}
}

// last is what the parity of the last span takes at most. Shorter spans have other geometries: some bytes more are for those.
func (n *sealedSize) last() int64 {
	if n.full == nil || n.size == n.spans*n.full.length {
		return 0
	}
	start := n.spans * n.full.length
	set := paritySet{geometry: shortGeometry(start, n.size-start, n.size, *n.full), trailer: make([]byte, TrailerSize)}
	if half := n.full.length / readBackShare; n.size-start > half-half/64 || set.stripe() >= n.full.stripe() {
		set.geometry = *n.full
	}
	return set.size() + int64(n.full.rows)*(2<<fullShift) + 8*64
}
