package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// Tag numbers a field of a record. Or-ed with Critical it is refused by readers that do not know it.
type Tag uint32

// Critical marks a field that a reader must know.
const Critical Tag = 1 << 31

// Number is the tag without its critical bit.
func (t Tag) Number() uint32 { return uint32(t &^ Critical) }

// Types of fields. On disk; append only.
const (
	fieldUint  = 0 // a uvarint
	fieldBytes = 1 // a uvarint length and so many bytes
)

const maxTag = 1<<28 - 1

// ErrFields says that bytes are not canonical tagged fields.
var ErrFields = errors.New("malformed fields")

// Fields writes a record of tagged fields. A field is a key, uvarint(tag<<2 | critical<<1 | type), and a
// value; tags grow strictly, zero values and empty bytes are left out: the same values give the same bytes.
// The zero Fields appends to nothing. Not safe for concurrent use.
type Fields struct {
	buf  []byte
	last uint32
}

// AppendFields returns a writer that appends a record to buf.
func AppendFields(buf []byte) Fields { return Fields{buf: buf} }

// Uint adds a number; 0 is left out.
func (f *Fields) Uint(tag Tag, v uint64) {
	if v != 0 {
		f.key(tag, fieldUint)
		f.buf = binary.AppendUvarint(f.buf, v)
	}
}

// Int adds a signed number (zigzag: 0, -1, 1, -2 ... become 0, 1, 2, 3 ...); 0 is left out.
func (f *Fields) Int(tag Tag, v int64) { f.Uint(tag, uint64(v)<<1^uint64(v>>63)) }

// Bool adds 1 for true; false is left out.
func (f *Fields) Bool(tag Tag, v bool) {
	if v {
		f.Uint(tag, 1)
	}
}

// Bytes adds bytes; empty ones are left out.
func (f *Fields) Bytes(tag Tag, v []byte) {
	if len(v) != 0 {
		f.key(tag, fieldBytes)
		f.buf = AppendBytes(f.buf, v)
	}
}

// String adds the bytes of a string; the empty one is left out.
func (f *Fields) String(tag Tag, v string) {
	if len(v) != 0 {
		f.key(tag, fieldBytes)
		f.buf = AppendString(f.buf, v)
	}
}

// ID adds an ID; the zero ID is left out.
func (f *Fields) ID(tag Tag, v ID) {
	if v != (ID{}) {
		f.Bytes(tag, v[:])
	}
}

// Strings adds a list of strings; an empty list is left out.
func (f *Fields) Strings(tag Tag, list []string) {
	if len(list) == 0 {
		return
	}
	n := 0
	for _, s := range list {
		n += uvarintLen(uint64(len(s))) + len(s)
	}
	f.key(tag, fieldBytes)
	f.buf = binary.AppendUvarint(f.buf, uint64(n))
	for _, s := range list {
		f.buf = AppendString(f.buf, s)
	}
}

// Encoded is what was appended to, with the record.
func (f *Fields) Encoded() []byte { return f.buf }

// key panics if tags do not grow: the order of fields is fixed in code, not by input.
func (f *Fields) key(tag Tag, typ uint64) {
	n := tag.Number()
	if n <= f.last || n > maxTag {
		panic("store: field tags out of order")
	}
	f.last = n
	f.buf = binary.AppendUvarint(f.buf, uint64(n)<<2|uint64(tag>>31)<<1|typ)
}

// AppendBytes appends a uvarint length and the bytes: an item of a list inside a field.
func AppendBytes(buf, v []byte) []byte {
	return append(binary.AppendUvarint(buf, uint64(len(v))), v...)
}

// AppendString is AppendBytes for a string.
func AppendString(buf []byte, v string) []byte {
	return append(binary.AppendUvarint(buf, uint64(len(v))), v...)
}

// CutBytes takes an item off a list: the inverse of AppendBytes. item shares memory with list.
func CutBytes(list []byte) (item, rest []byte, err error) {
	v, rest, err := CutUvarint(list)
	if err != nil {
		return nil, nil, err
	}
	if v > uint64(len(rest)) {
		return nil, nil, fmt.Errorf("%w: %d bytes announced, %d left", ErrFields, v, len(rest))
	}
	return rest[:v:v], rest[v:], nil
}

// CutUvarint takes a minimal uvarint off data.
func CutUvarint(data []byte) (v uint64, rest []byte, err error) {
	if len(data) > 0 && data[0] < 0x80 {
		return uint64(data[0]), data[1:], nil
	}
	v, n := binary.Uvarint(data)
	if n <= 0 || data[n-1] == 0 {
		return 0, nil, fmt.Errorf("%w: bad number", ErrFields)
	}
	return v, data[n:], nil
}

func uvarintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// FieldReader reads a record of tagged fields without allocating:
//
//	r := ReadFields(data)
//	for r.Next() {
//		switch r.Tag() {
//		case tagName:
//			name = r.String()
//		default:
//			r.Unknown()
//		}
//	}
//	return r.Err()
//
// Every field must be taken by a method of its type or declared Unknown.
type FieldReader struct {
	rest    []byte
	tag     Tag
	typ     uint8
	skipped bool
	num     uint64
	val     []byte
	err     error
}

// ReadFields returns a reader of a record that fills data.
func ReadFields(data []byte) FieldReader { return FieldReader{rest: data} }

// Next goes to the next field; false at the end or after an error.
func (r *FieldReader) Next() bool {
	if r.err != nil || len(r.rest) == 0 {
		return false
	}
	key, rest, err := CutUvarint(r.rest)
	if err != nil {
		return r.fail(err)
	}
	n := key >> 2
	if n <= uint64(r.tag.Number()) || n > maxTag {
		return r.fail(fmt.Errorf("%w: field %d after field %d", ErrFields, n, r.tag.Number()))
	}
	r.tag = Tag(n) | Tag(key>>1&1)<<31
	r.typ = uint8(key & 1)
	if r.typ == fieldUint {
		r.num, r.rest, err = CutUvarint(rest)
		if err == nil && r.num == 0 {
			err = ErrFields
		}
	} else {
		r.val, r.rest, err = CutBytes(rest)
		if err == nil && len(r.val) == 0 {
			err = ErrFields
		}
	}
	if err != nil {
		return r.fail(fmt.Errorf("field %d: %w", n, err))
	}
	return true
}

func (r *FieldReader) fail(err error) bool {
	if r.err == nil {
		r.err = err
	}
	return false
}

// Tag is the field's tag, with its critical bit.
func (r *FieldReader) Tag() Tag { return r.tag }

// Uint is the field's number.
func (r *FieldReader) Uint() uint64 {
	if r.typ != fieldUint {
		r.wrongType()
		return 0
	}
	return r.num
}

// Uint32 is the field's number, which must fit.
func (r *FieldReader) Uint32() uint32 {
	v := r.Uint()
	if v > 1<<32-1 {
		r.Refuse("number too large")
		return 0
	}
	return uint32(v)
}

// Int is the inverse of Fields.Int.
func (r *FieldReader) Int() int64 {
	v := r.Uint()
	return int64(v>>1) ^ -int64(v&1)
}

// Bool is the inverse of Fields.Bool.
func (r *FieldReader) Bool() bool {
	v := r.Uint()
	if v != 1 {
		r.Refuse("neither 0 nor 1")
	}
	return v == 1
}

// Bytes is the field's bytes; they share memory with the record.
func (r *FieldReader) Bytes() []byte {
	if r.typ != fieldBytes {
		r.wrongType()
		return nil
	}
	return r.val
}

// String is a copy of the field's bytes.
func (r *FieldReader) String() string { return string(r.Bytes()) }

// ID is the field's ID.
func (r *FieldReader) ID() (id ID) {
	b := r.Bytes()
	if len(b) != len(id) || ID(b) == id {
		r.Refuse("not an id")
		return id
	}
	return ID(b)
}

// Strings is the inverse of Fields.Strings.
func (r *FieldReader) Strings() []string {
	var list []string
	for rest := r.Bytes(); len(rest) > 0; {
		var item []byte
		var err error
		if item, rest, err = CutBytes(rest); err != nil {
			r.fail(fmt.Errorf("field %d: %w", r.tag.Number(), err))
			return nil
		}
		list = append(list, string(item))
	}
	return list
}

// Unknown skips the field, or refuses the record if the field is critical.
func (r *FieldReader) Unknown() {
	r.skipped = true
	if r.tag&Critical != 0 {
		r.fail(fmt.Errorf("field %d is not known: %w", r.tag.Number(), ErrNewerFormat))
	}
}

// Refuse makes the record malformed because of this field.
func (r *FieldReader) Refuse(why string) {
	r.fail(fmt.Errorf("%w: field %d: %s", ErrFields, r.tag.Number(), why))
}

func (r *FieldReader) wrongType() { r.Refuse("another type than expected") }

// Skipped reports whether some field was Unknown: such a record does not re-encode to the same bytes.
func (r *FieldReader) Skipped() bool { return r.skipped }

// Err is the first error met; reading has ended then.
func (r *FieldReader) Err() error { return r.err }
