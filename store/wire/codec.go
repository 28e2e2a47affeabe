package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"
)

// Message is a typed request, event or response. All of them are in this package.
type Message interface {
	code(c *coder) // names every field once, for both directions
}

// Encode gives the parts of a message, to be sent one after another. The last may be a field's own memory.
func Encode(m Message) [][]byte {
	c := coder{}
	m.code(&c)
	if c.tail == nil {
		return [][]byte{c.buf}
	}
	return [][]byte{c.buf, c.tail}
}

// Decode fills m from the bytes of a message. Byte slices in m share memory with data. The form is
// canonical: whatever is accepted encodes to the same bytes again.
func Decode(data []byte, m Message) error {
	c := coder{buf: data, decoding: true}
	m.code(&c)
	if c.err == nil && len(c.buf) != 0 {
		c.err = fmt.Errorf("%w: %d bytes too many", ErrMessage, len(c.buf))
	}
	return c.err
}

// coder writes or reads fields: fixed-width little-endian numbers, and lists after their length in 4 bytes.
type coder struct {
	buf      []byte // written so far, or still to be read
	tail     []byte // when writing: the last field of a message, uncopied
	decoding bool
	err      error
}

// take returns the next n bytes, nil after an error.
func (c *coder) take(n int) []byte {
	if c.err != nil || n > len(c.buf) {
		c.refuse("it ends early")
		return nil
	}
	out := c.buf[:n:n]
	c.buf = c.buf[n:]
	return out
}

func (c *coder) refuse(why string) {
	if c.err == nil {
		c.err = fmt.Errorf("%w: %s", ErrMessage, why)
		c.buf = nil
	}
}

func (c *coder) u8(v *uint8) {
	if !c.decoding {
		c.buf = append(c.buf, *v)
	} else if b := c.take(1); b != nil {
		*v = b[0]
	}
}

func (c *coder) u16(v *uint16) {
	if !c.decoding {
		c.buf = binary.LittleEndian.AppendUint16(c.buf, *v)
	} else if b := c.take(2); b != nil {
		*v = binary.LittleEndian.Uint16(b)
	}
}

func (c *coder) u32(v *uint32) {
	if !c.decoding {
		c.buf = binary.LittleEndian.AppendUint32(c.buf, *v)
	} else if b := c.take(4); b != nil {
		*v = binary.LittleEndian.Uint32(b)
	}
}

func (c *coder) u64(v *uint64) {
	if !c.decoding {
		c.buf = binary.LittleEndian.AppendUint64(c.buf, *v)
	} else if b := c.take(8); b != nil {
		*v = binary.LittleEndian.Uint64(b)
	}
}

func (c *coder) i64(v *int64) {
	u := uint64(*v)
	c.u64(&u)
	*v = int64(u)
}

func (c *coder) int(v *int) {
	n := int64(*v)
	c.i64(&n)
	*v = int(n)
}

func (c *coder) bool(v *bool) {
	var b uint8
	if *v {
		b = 1
	}
	c.u8(&b)
	if b > 1 {
		c.refuse("a boolean that is neither")
	}
	*v = b == 1
}

// time keeps nanoseconds and the zero Time, not the zone.
func (c *coder) time(v *time.Time) {
	seconds, nanos := v.Unix(), uint32(v.Nanosecond())
	c.i64(&seconds)
	c.u32(&nanos)
	if !c.decoding || c.err != nil {
		return
	}
	if nanos >= 1e9 || seconds > math.MaxInt64/2 || seconds < math.MinInt64/2 {
		c.refuse("a time that is none")
		return
	}
	*v = time.Unix(seconds, int64(nanos)).UTC()
}

func (c *coder) array16(v *[16]byte) { c.fixed(v[:]) }
func (c *coder) array32(v *[32]byte) { c.fixed(v[:]) }

func (c *coder) fixed(v []byte) {
	if !c.decoding {
		c.buf = append(c.buf, v...)
		return
	}
	copy(v, c.take(len(v)))
}

// length codes the length of a list whose elements take at least size bytes each, so that a hostile length
// cannot make the reader allocate more than a multiple of what was sent.
func (c *coder) length(n, size int) int {
	u := uint32(n)
	c.u32(&u)
	if c.decoding && int64(u)*int64(size) > int64(len(c.buf)) {
		c.refuse("a list longer than the message")
	}
	if c.err != nil {
		return 0
	}
	return int(u)
}

func (c *coder) bytes(v *[]byte) {
	n := c.length(len(*v), 1)
	if !c.decoding {
		c.buf = append(c.buf, *v...)
		return
	}
	*v = nil
	if n > 0 {
		*v = c.take(n)
	}
}

func (c *coder) string(v *string) {
	n := c.length(len(*v), 1)
	if !c.decoding {
		c.buf = append(c.buf, *v...)
		return
	}
	*v = string(c.take(n))
}

// rest codes the last field of a message: bytes up to its end, which are not copied.
func (c *coder) rest(v *[]byte) {
	if !c.decoding {
		c.tail = *v
		return
	}
	*v = c.buf
	c.buf = nil
}

// list codes a slice whose elements take at least size bytes each.
func list[T any](c *coder, v *[]T, size int, element func(*T)) {
	n := c.length(len(*v), size)
	switch {
	case !c.decoding:
		c.buf = slices.Grow(c.buf, n*size)
	case n == 0:
		*v = nil
	default:
		*v = make([]T, n)
	}
	for i := range *v {
		element(&(*v)[i])
	}
}

func (c *coder) strings(v *[]string) { list(c, v, 4, c.string) }
func (c *coder) ids(v *[][32]byte)   { list(c, v, 32, c.array32) }
