package volume

import "encoding/binary"

// decoder takes values off the front of b. After the first that is not there or not allowed it has failed and gives zeros.
type decoder struct {
	b      []byte
	failed bool
}

func (d *decoder) fail() {
	d.failed = true
	d.b = nil
}

// uvarint takes a minimally encoded number of at most limit.
func (d *decoder) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > limit || (n > 1 && d.b[n-1] == 0) {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// take takes n bytes.
func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

// rows takes n rows of a blob table and appends them to dst. The caller has checked n against the bytes there are.
func (d *decoder) rows(n uint64, dst []Blob) []Blob {
	if d.failed || n == 0 {
		return dst
	}
	if dst == nil {
		dst = make([]Blob, 0, n)
	}
	for ; n > 0 && !d.failed; n-- {
		head := d.take(1 + uint64(len(BlobID{})))
		length := d.uvarint(MaxRaw)
		if !d.failed {
			dst = append(dst, Blob{Kind: head[0], ID: BlobID(head[1:]), Length: uint32(length)})
		}
	}
	return dst
}
