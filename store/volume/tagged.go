package volume

import "encoding/binary"

// Tagged fields: uvarint(tag<<2 | critical<<1 | type), then a uvarint (type 0) or a uvarint length and bytes (type 1).
// Tags strictly increase, numbers are minimal. On disk; append only.
const (
	typeNumber   = 0
	typeBytes    = 1
	criticalFlag = 2
)

func appendNumber(dst []byte, tag uint32, v uint64) []byte {
	dst = binary.AppendUvarint(dst, uint64(tag)<<2|typeNumber)
	return binary.AppendUvarint(dst, v)
}

func appendBytes(dst []byte, tag uint32, v []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(tag)<<2|typeBytes)
	dst = binary.AppendUvarint(dst, uint64(len(v)))
	return append(dst, v...)
}

// field is one tagged field: number or bytes, as isBytes says.
type field struct {
	tag      uint32
	critical bool
	isBytes  bool
	number   uint64
	bytes    []byte
}

// is reports whether f has the type that its tag calls for; d fails if not.
func (f field) is(d *decoder, bytes bool) bool {
	if f.isBytes != bytes {
		d.fail()
	}
	return f.isBytes == bytes
}

// field takes the next field, whose tag must be greater than last.
func (d *decoder) field(last uint32) field {
	key := d.uvarint(1 << 34)
	f := field{tag: uint32(key >> 2), critical: key&criticalFlag != 0, isBytes: key&1 == typeBytes}
	if f.tag <= last {
		d.fail()
		return f
	}
	if f.isBytes {
		f.bytes = d.take(d.uvarint(uint64(len(d.b))))
	} else {
		f.number = d.uvarint(^uint64(0))
	}
	return f
}

// appendList encodes strings, each with its length before it.
func appendList(dst []byte, list []string) []byte {
	for _, s := range list {
		dst = binary.AppendUvarint(dst, uint64(len(s)))
		dst = append(dst, s...)
	}
	return dst
}

func (d *decoder) list(b []byte) (list []string) {
	in := decoder{b: b}
	for len(in.b) > 0 {
		list = append(list, string(in.take(in.uvarint(uint64(len(in.b))))))
	}
	if in.failed {
		d.fail()
	}
	return list
}
