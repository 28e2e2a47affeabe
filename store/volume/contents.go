package volume

import (
	"crypto/cipher"
	"fmt"
	"io"
	"math"
)

// FrameInfo is a frame as the contents table lists it.
type FrameInfo struct {
	Offset int64
	Stored uint32 // with its header, bytes
	Kind   FrameKind
	Blobs  []Blob // of FrameBlobs, in the order of the raw body
}

// ReadContents calls fn for each frame that the contents table lists, by offset: all but the table's own, the repeated
// label and parity after the table. FrameInfo.Blobs is valid only during the call. An error of fn ends it and is
// returned as it is. Errors: the reader's, those of OpenFrame, ErrTorn, ErrMalformed.
func ReadContents(r io.ReaderAt, t Trailer, aead cipher.AEAD, fn func(FrameInfo) error) error {
	c := contentsReader{trailer: t, limit: uint64(t.Contents), fn: fn}
	for offset := t.Contents; !c.complete; {
		h, plain, err := c.frame(r, offset, aead)
		if err != nil {
			return fmt.Errorf("contents table at %d: %w", offset, err)
		}
		if h.Kind == FrameContents {
			if err := c.part(plain); err != nil {
				return err
			}
		}
		offset += int64(h.Stored())
	}
	return nil
}

// contentsReader puts the parts of a contents table together again.
type contentsReader struct {
	trailer Trailer
	limit   uint64 // where listed frames must end
	fn      func(FrameInfo) error

	buf      []byte
	rows     []Blob
	next     uint64 // part
	total    uint64 // parts
	end      uint64 // of the last frame listed
	blobs    uint64
	complete bool
}

// frame reads and opens the frame at an offset; frames of other kinds between the table's are only stepped over.
func (c *contentsReader) frame(r io.ReaderAt, offset int64, aead cipher.AEAD) (Header, []byte, error) {
	var head [HeaderSize]byte
	if offset > c.trailer.Label-HeaderSize {
		return Header{}, nil, ErrTorn
	}
	if err := readFull(r, head[:], offset); err != nil {
		return Header{}, nil, err
	}
	h, err := ParseHeader(head[:], c.trailer.Volume)
	if err != nil || h.Kind != FrameContents {
		return h, nil, err
	}
	if int64(h.Stored()) > c.trailer.Label-offset {
		return h, nil, ErrTorn
	}
	if cap(c.buf) < int(h.Stored()) {
		c.buf = make([]byte, h.Stored())
	}
	b := c.buf[:h.Stored()]
	if err := readFull(r, b, offset); err != nil {
		return h, nil, err
	}
	return OpenFrame(b, c.trailer.Volume, aead)
}

// part hands out the rows of one frame of the table.
func (c *contentsReader) part(plain []byte) error {
	d := decoder{b: plain}
	index, total := d.uvarint(1<<32), d.uvarint(1<<32)
	base := d.uvarint(c.limit)
	count := d.uvarint(uint64(len(plain)))
	if c.next == 0 {
		c.total, c.end = total, base
	}
	if d.failed || index != c.next || total != c.total || base != c.end {
		return fmt.Errorf("contents table: part %d: %w", c.next, ErrMalformed)
	}
	for ; count > 0; count-- {
		f := c.row(&d)
		if d.failed {
			return fmt.Errorf("contents table: part %d: row: %w", c.next, ErrMalformed)
		}
		if err := c.fn(f); err != nil {
			return err
		}
	}
	c.next++
	c.complete = c.next == c.total
	if len(d.b) > 0 || (c.complete && c.blobs != c.trailer.Blobs) {
		return fmt.Errorf("contents table: %w", ErrMalformed)
	}
	return nil
}

// ReadContentsPart calls fn for each frame that one frame of a contents table lists, given its plaintext: for those that read a volume from front to back.
// FrameInfo.Blobs is valid only during the call. Errors: ErrMalformed.
func ReadContentsPart(plain []byte, fn func(FrameInfo)) error {
	d := decoder{b: plain}
	c := contentsReader{limit: math.MaxInt64}
	d.uvarint(1 << 32)
	d.uvarint(1 << 32)
	c.end = d.uvarint(c.limit)
	for count := d.uvarint(uint64(len(plain))); count > 0 && !d.failed; count-- {
		if f := c.row(&d); !d.failed {
			fn(f)
		}
	}
	if d.failed || len(d.b) > 0 {
		return fmt.Errorf("contents table: %w", ErrMalformed)
	}
	return nil
}

func (c *contentsReader) row(d *decoder) FrameInfo {
	offset := c.end + d.uvarint(c.limit-c.end)
	kind := d.take(1)
	stored := d.uvarint(c.limit - min(offset, c.limit))
	c.rows = d.rows(d.uvarint(uint64(len(d.b)/minRow)), c.rows[:0])
	if d.failed || stored < HeaderSize || stored > HeaderSize+MaxPayload {
		d.fail()
		return FrameInfo{}
	}
	c.end = offset + stored
	c.blobs += uint64(len(c.rows))
	return FrameInfo{Offset: int64(offset), Stored: uint32(stored), Kind: FrameKind(kind[0]), Blobs: c.rows}
}
