package volume

import (
	"bytes"
	"fmt"

	"github.com/zeebo/xxh3"
)

// healing is the work on one span.
type healing struct {
	*repair
	*paritySet
	copies [2][]byte // of the digests, each as it was found
	bad    map[int]bool
}

// heal restores the blocks of a span, then the set itself and the trailer behind it.
func (r *repair) heal(s *paritySet) error {
	h := healing{repair: r, paritySet: s}
	if s.at > r.fileSize {
		return nil // hostile: the frame that says so lies elsewhere
	}
	if err := h.readDigests(); err != nil {
		return err
	}
	if err := h.findBad(); err != nil {
		return err
	}
	if len(h.bad) > s.parityBlocks() {
		if err := h.believeFrames(); err != nil {
			return err
		}
	}
	if err := h.lookElsewhere(); err != nil {
		return err
	}
	if err := h.reconstruct(); err != nil || len(h.bad) > 0 {
		return err
	}
	return h.again()
}

func (h *healing) readDigests() error {
	for i, part := range []int{0, h.rows + 1} {
		h.copies[i] = make([]byte, 8*(h.blocks()+h.parityBlocks()))
		if err := readWhatIsThere(h.dst, h.copies[i], h.bodyAt(part)); err != nil {
			return err
		}
	}
	return nil
}

// good reports whether a block is what one of its digests says: where one is damaged the other hardly is.
func (h *healing) good(i int, b []byte) bool {
	sum := xxh3.HashSeed(b, h.v.seed())
	return sum == digest(h.copies[0], i) || sum == digest(h.copies[1], i)
}

func (h *healing) findBad() error {
	h.bad = map[int]bool{}
	return eachBlock(h.dst, &h.geometry, func(i int, _ int64, b []byte) {
		if !h.good(i, b) {
			h.bad[i] = true
		}
	})
}

// believeFrames is for digests of which both copies are lost: what lies in whole frames is good.
func (h *healing) believeFrames() error {
	if h.trusted == nil {
		h.trusted = []Range{}
		if _, n, err := ReadLabel(h.dst, h.fileSize); err == nil && h.from == 0 {
			h.trusted = append(h.trusted, Range{0, int64(n)})
		}
		_, _, err := ScanPayloads(h.dst, h.from, h.fileSize, h.v, func(offset int64, head Header, _ []byte, damage error) error {
			if damage == nil {
				h.trusted = append(h.trusted, Range{offset, int64(head.Stored())})
			}
			return nil
		})
		if err != nil {
			return err
		}
		h.trusted = merge(h.trusted)
	}
	for i := range h.bad {
		at := h.offset + int64(i)<<h.shift
		if h.trusts(Range{at, min(h.block(), h.end()-at)}) {
			delete(h.bad, i)
		}
	}
	return nil
}

func (h *healing) trusts(r Range) bool { return len(h.trusted) > 0 && len(without(r, h.trusted)) == 0 }

// lookElsewhere takes blocks from where they would lie if bytes had been inserted or removed at another place of the same
// frame.
func (h *healing) lookElsewhere() error {
	shifts := h.align.shifts()
	if len(shifts) < 2 {
		return nil
	}
	b := make([]byte, h.block())
	for i := range h.bad {
		at := h.offset + int64(i)<<h.shift
		n := min(h.block(), h.end()-at)
		for _, by := range shifts {
			if at+by < 0 {
				continue
			}
			clear(b)
			if err := readWhatIsThere(h.src, b[:n], at+by); err != nil {
				return err
			}
			if h.good(i, b) {
				if err := h.write(at, b[:n]); err != nil {
					return err
				}
				delete(h.bad, i)
				break
			}
		}
	}
	return nil
}

// reconstruct works out the bad blocks of each group that has enough good ones.
func (h *healing) reconstruct() error {
	groups := map[int][]int{}
	for i := range h.bad {
		groups[i%h.groups] = append(groups[i%h.groups], i)
	}
	if len(groups) == 0 {
		return nil
	}
	code := h.coder()
	memory := make([]byte, int64(h.data+h.rows)<<h.shift)
	shards := make([][]byte, h.data+h.rows)
	for group, bad := range groups {
		ok, err := h.readGroup(group, len(bad), memory, shards)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := code.ReconstructData(shards); err != nil {
			return fmt.Errorf("parity at %d: %w", h.at, err)
		}
		for _, i := range bad {
			at := h.offset + int64(i)<<h.shift
			if err := h.write(at, shards[i/h.groups][:min(h.block(), h.end()-at)]); err != nil {
				return err
			}
			delete(h.bad, i)
		}
	}
	return nil
}

// readGroup reads the good blocks of a group into shards and leaves the bad ones empty; ok if there are enough.
func (h *healing) readGroup(group, bad int, memory []byte, shards [][]byte) (ok bool, err error) {
	found := 0
	for row := range h.rows {
		b := memory[(h.data+row)<<h.shift:][:h.block()]
		at := h.bodyAt(1+row) + int64(group)<<h.shift
		if err := readWhatIsThere(h.dst, b, at); err != nil {
			return false, err
		}
		shards[h.data+row] = b[:0]
		if h.good(h.blocks()+row*h.groups+group, b) || h.trusts(Range{at, h.block()}) {
			shards[h.data+row] = b
			found++
		}
	}
	if found < bad {
		return false, nil
	}
	for n := range h.data {
		b := memory[n<<h.shift:][:h.block()]
		i := n*h.groups + group
		shards[n] = b
		clear(b)
		if h.bad[i] {
			shards[n] = b[:0]
		} else if at := h.offset + int64(i)<<h.shift; at < h.end() {
			if err := readWhatIsThere(h.dst, b[:min(h.block(), h.end()-at)], at); err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

// again makes the set anew where it is damaged, and puts the trailer behind it: the span is whole.
func (h *healing) again() error {
	if ok, err := h.whole(); ok || err != nil {
		return err
	}
	if h.trailer != nil && !h.wholeTrailer(h.v) {
		h.trailer = make([]byte, TrailerSize)
		if err := readWhatIsThere(h.dst, h.trailer, h.at+h.size()); err != nil || !h.wholeTrailer(h.v) {
			return err
		}
	}
	p := newSpanParity(h.geometry, h.v, h.coder())
	if err := p.encodeFrom(h.dst, nil); err != nil {
		return err
	}
	p.sumRows()
	for part := range h.frames() {
		body := p.digests
		if !h.digestsOnly(part) {
			body = p.rows[part-1]
		}
		if err := h.write(h.frameAt(part), h.frame(h.v, part, body)); err != nil {
			return err
		}
	}
	if h.trailer == nil {
		return nil
	}
	end := h.at + h.size()
	if err := h.write(end, h.trailer); err != nil {
		return err
	}
	h.fileSize = end + TrailerSize
	return nil
}

// whole reports whether all frames of the set are what was written, and the trailer.
func (h *healing) whole() (bool, error) {
	b := make([]byte, max(h.stored(0), h.stored(1)))
	for part := range h.frames() {
		b := b[:h.stored(part)]
		if err := readWhatIsThere(h.dst, b, h.frameAt(part)); err != nil {
			return false, err
		}
		if _, _, err := OpenFrame(b, h.v, nil); err != nil {
			return false, nil
		}
	}
	if h.trailer == nil {
		return true, nil
	}
	end := h.at + h.size()
	b = b[:TrailerSize]
	if err := readWhatIsThere(h.dst, b, end); err != nil {
		return false, err
	}
	return bytes.Equal(b, h.trailer) && h.fileSize == end+TrailerSize, nil
}
