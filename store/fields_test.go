package store

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"testing"
)

type sample struct {
	u    uint64
	i    int64
	b    bool
	data []byte
	list []string
	id   ID
}

func (s sample) encode() []byte {
	f := AppendFields(nil)
	f.Uint(1, s.u)
	f.Int(2, s.i)
	f.Bool(3, s.b)
	f.Bytes(4, s.data)
	f.Strings(40|Critical, s.list)
	f.ID(41, s.id)
	return f.Encoded()
}

func decodeSample(data []byte) (s sample, skipped bool, err error) {
	r := ReadFields(data)
	for r.Next() {
		switch r.Tag() {
		case 1:
			s.u = r.Uint()
		case 2:
			s.i = r.Int()
		case 3:
			s.b = r.Bool()
		case 4:
			s.data = r.Bytes()
		case 40 | Critical:
			s.list = r.Strings()
		case 41:
			s.id = r.ID()
		default:
			r.Unknown()
		}
	}
	return s, r.Skipped(), r.Err()
}

func TestFieldsRoundTrip(t *testing.T) {
	for _, s := range []sample{
		{},
		{u: 1, i: -1, b: true, data: []byte{0}, list: []string{"", "a", "b"}, id: ID{9}},
		{u: math.MaxUint64, i: math.MinInt64},
		{i: math.MaxInt64, list: []string{""}},
	} {
		data := s.encode()
		got, skipped, err := decodeSample(data)
		if err != nil || skipped || !reflect.DeepEqual(got, s) {
			t.Errorf("%+v became %+v, %v, %v", s, got, skipped, err)
		}
	}
	if n := len(sample{}.encode()); n != 0 {
		t.Errorf("zero values take %d bytes", n)
	}
}

func TestFieldsGolden(t *testing.T) {
	s := sample{u: 300, i: -2, b: true, data: []byte("xy"), list: []string{"a", "bc"}}
	const want = "04ac0208030c0111027879a301050161026263"
	if got := hex.EncodeToString(s.encode()); got != want {
		t.Errorf("encoded %s, want %s", got, want)
	}
}

func TestFieldsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		hex  string
		want error
	}{
		"tags out of order":    {"0801" + "0401", ErrFields},
		"tag twice":            {"0401" + "0401", ErrFields},
		"tag zero":             {"0001", ErrFields},
		"zero value":           {"0400", ErrFields},
		"empty bytes":          {"1100", ErrFields},
		"long number":          {"04" + "8100", ErrFields},
		"number over 64 bits":  {"04" + "ffffffffffffffffff02", ErrFields},
		"cut number":           {"04" + "80", ErrFields},
		"cut bytes":            {"1105aa", ErrFields},
		"bytes for a number":   {"0501aa", ErrFields},
		"number for bytes":     {"1001", ErrFields},
		"bool of two":          {"0c02", ErrFields},
		"short id":             {"a50101aa", ErrFields},
		"list cut short":       {"a3010202ff", ErrFields},
		"unknown and critical": {"2601", ErrNewerFormat},
		"known, made critical": {"0601", ErrNewerFormat},
	} {
		data, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(name, err)
		}
		if _, _, err := decodeSample(data); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", name, err, c.want)
		}
	}
}

func TestFieldsUnknownSkipped(t *testing.T) {
	f := AppendFields(nil)
	f.Uint(1, 7)
	f.Bytes(9, []byte("later"))
	f.Uint(1000, 1)
	s, skipped, err := decodeSample(f.Encoded())
	if err != nil || !skipped || s.u != 7 {
		t.Fatalf("%+v, %v, %v", s, skipped, err)
	}
}

func FuzzFields(f *testing.F) {
	f.Add(sample{u: 1, i: -1, b: true, data: []byte{0}, list: []string{"", "a"}, id: ID{9}}.encode())
	f.Add([]byte{0x26, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		s, skipped, err := decodeSample(data)
		if err == nil && !skipped && !bytes.Equal(s.encode(), data) {
			t.Fatalf("%x decodes to %+v, which encodes to %x", data, s, s.encode())
		}
	})
}

func BenchmarkFieldsRead(b *testing.B) {
	data := sample{u: 1 << 40, i: -77, b: true, data: []byte("0123456789"), id: ID{9}}.encode()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		r := ReadFields(data)
		for r.Next() {
			_ = r.Tag()
		}
	}
}
