package volume

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func archiveLabel() Label {
	l := testLabel()
	l.Kind = Archive
	l.Set = &Set{
		ID: [16]byte{7}, Sequence: 3, Level: Incremental, Parent: [16]byte{6}, Pool: "weekly",
		Datasets: []string{"etc", "", "home"}, Hosts: []string{"alpha"},
		KeySlots: []byte("slots"), Bundle: randomBytes(1, 5000), SetKeys: []byte("set keys"),
	}
	return l
}

func TestLabelRoundTrip(t *testing.T) {
	for name, l := range map[string]Label{"data": testLabel(), "archive": archiveLabel()} {
		b, err := EncodeLabel(l)
		if err != nil || len(b)%4096 != 0 {
			t.Fatalf("%s: %d bytes, %v", name, len(b), err)
		}
		got, length, err := ReadLabel(bytes.NewReader(append(b, "frames"...)), int64(len(b)+6))
		if err != nil || length != len(b) || !reflect.DeepEqual(got, l) {
			t.Errorf("%s: read back %+v of %d bytes, %v", name, got, length, err)
		}
	}
}

func TestLabelIsReadable(t *testing.T) {
	b, err := EncodeLabel(archiveLabel())
	if err != nil {
		t.Fatal(err)
	}
	text := string(b[:labelText])
	for _, line := range []string{
		"snapfs volume, format 1\n", "label 8192 bytes\n", "volume 1102030405060708090a0b0c0d0e0f10\n", "kind archive\n",
		"set 07000000000000000000000000000000 volume 3 level incremental\n", "created 2026-09-21T", "restore: snapfs archive restore",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("text lacks %q:\n%s", line, text)
		}
	}
	for _, c := range []byte(text) {
		if c != '\n' && (c < ' ' || c > '~') {
			t.Fatalf("byte %#x in the text", c)
		}
	}
}

func TestLabelRefusals(t *testing.T) {
	whole, err := EncodeLabel(testLabel())
	if err != nil {
		t.Fatal(err)
	}
	v := testLabel().Volume
	mended := func(change func(b []byte)) []byte {
		b := bytes.Clone(whole)
		change(b)
		putLabelSum(b, v)
		return b
	}
	withField := func(field []byte) []byte {
		return mended(func(b []byte) {
			fields := append(testLabel().appendFields(nil), field...)
			b[labelText+32] = byte(len(fields))
			copy(b[labelText+labelHead:], fields)
		})
	}
	for _, test := range []struct {
		name string
		b    []byte
		want error
	}{
		{"empty", nil, ErrTorn},
		{"text file", bytes.Repeat([]byte("text "), 2000), ErrNotVolume},
		{"short", whole[:4000], ErrTorn},
		{"flipped magic", func() []byte { b := bytes.Clone(whole); b[labelText] ^= 1; return b }(), ErrChecksum},
		{"newer", mended(func(b []byte) { b[labelText+8]++ }), ErrNewerVersion},
		{"format 0", mended(func(b []byte) { b[labelText+8] = 0 }), ErrMalformed},
		{"no fields", mended(func(b []byte) { b[labelText+32] = 0 }), ErrMalformed},
		{"too many fields", mended(func(b []byte) { b[labelText+35] = 9 }), ErrMalformed},
		{"unknown field", withField(appendBytes(nil, 1000, []byte("new"))), nil},
		{"unknown critical field", withField([]byte{0x80 | 1000<<2&0x7f | criticalFlag, 1000 << 2 >> 7, 5}), ErrNewerVersion},
		{"field repeated", withField(appendNumber(nil, tagKind, 1)), ErrMalformed},
		{"set field without set", withField(appendNumber(nil, tagSetLevel, 1)), ErrMalformed},
		{"wrong type", withField(appendNumber(nil, tagSetID, 1)), ErrMalformed},
	} {
		if _, _, err := ParseLabel(test.b); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
	if _, err := EncodeLabel(Label{Kind: Data}); !errors.Is(err, ErrMalformed) {
		t.Errorf("no volume: %v", err)
	}
	large := archiveLabel()
	large.Set.Bundle = make([]byte, MaxLabel)
	if _, err := EncodeLabel(large); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
}

func TestEveryFlippedByteOfALabel(t *testing.T) {
	whole, err := EncodeLabel(archiveLabel())
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 0x10
		if _, _, err := ParseLabel(b); err == nil {
			t.Fatalf("byte %d flipped and not noticed", i)
		}
	}
}

func FuzzLabel(f *testing.F) {
	for _, l := range []Label{testLabel(), archiveLabel()} {
		f.Add(l.appendFields(nil))
	}
	f.Add(appendBytes(nil, 99, []byte("unknown")))
	whole, err := EncodeLabel(archiveLabel())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, fields []byte) {
		_, _, _ = ParseLabel(fields)
		l := Label{Version: Version, Volume: testLabel().Volume}
		if l.parseFields(fields) != nil {
			return
		}
		b, err := EncodeLabel(l)
		if err != nil {
			t.Fatal(err)
		}
		if again, _, err := ParseLabel(b); err != nil || !reflect.DeepEqual(again, l) {
			t.Fatalf("%+v reads back as %+v, %v", l, again, err)
		}
	})
}
