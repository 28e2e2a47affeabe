package volume

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/zeebo/xxh3"
)

func testTrailer() Trailer {
	return Trailer{Volume: testLabel().Volume, Size: 20_000, Contents: 9000, Label: 12_000, Frames: 9, Blobs: 70}
}

func putTrailerSum(b []byte) {
	binary.LittleEndian.PutUint64(b[72:], xxh3.HashSeed(b[:72], ID(b[16:32]).seed()))
}

func TestTrailerRefusals(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(b []byte)
		want   error
	}{
		{"whole", func([]byte) {}, nil},
		{"no magic", func(b []byte) { b[0]++ }, ErrTorn},
		{"newer", func(b []byte) { b[8]++ }, ErrNewerVersion},
		{"format 0", func(b []byte) { b[8] = 0 }, ErrMalformed},
		{"reserved", func(b []byte) { b[64] = 1 }, ErrMalformed},
		{"contents before frames", func(b []byte) { b[41] = 0 }, ErrMalformed},
		{"negative size", func(b []byte) { b[39] = 0x80 }, ErrMalformed},
		{"label before contents", func(b []byte) { b[49] = 1 }, ErrMalformed},
	} {
		b := testTrailer().encode()
		test.change(b)
		putTrailerSum(b)
		got, err := parseTrailer(b)
		if !errors.Is(err, test.want) || (err == nil && got != testTrailer()) {
			t.Errorf("%s: %+v, %v", test.name, got, err)
		}
	}
	b := testTrailer().encode()
	if _, err := ReadTrailer(bytes.NewReader(b), TrailerSize); !errors.Is(err, ErrMalformed) {
		t.Errorf("size differs: %v", err)
	}
	b[40] ^= 1
	if _, err := ReadTrailer(bytes.NewReader(b), TrailerSize); !errors.Is(err, ErrChecksum) {
		t.Errorf("flipped: %v", err)
	}
}

func TestContentsRefusals(t *testing.T) {
	f, _ := smallVolume(t)
	whole, err := ReadTrailer(f, int64(len(f.data)))
	if err != nil {
		t.Fatal(err)
	}
	ignore := func(FrameInfo) error { return nil }
	for name, change := range map[string]func(tr *Trailer){
		"blobs miscounted":   func(tr *Trailer) { tr.Blobs++ },
		"starts at label":    func(tr *Trailer) { tr.Contents = tr.Label },
		"starts past frames": func(tr *Trailer) { tr.Contents += 4 },
		"other volume":       func(tr *Trailer) { tr.Volume[0]++ },
		"rows beyond":        func(tr *Trailer) { tr.Label = tr.Contents + 10 },
	} {
		tr := whole
		change(&tr)
		if err := ReadContents(f, tr, testAEAD(t, whole.Volume), ignore); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := ReadContents(f, whole, testAEAD(t, ID{1}), ignore); !errors.Is(err, ErrForged) {
		t.Errorf("wrong key: %v", err)
	}
	enough := errors.New("enough")
	if err := ReadContents(f, whole, testAEAD(t, whole.Volume), func(FrameInfo) error { return enough }); err != enough {
		t.Errorf("callback's error: %v", err)
	}
}

// Parity may stand between the frames of a table.
func TestContentsStepsOverParity(t *testing.T) {
	f := new(memFile)
	w := newWriter(t, f)
	p := appendBlobs(t, w, []byte("blob"))
	tr := Trailer{Volume: w.id, Contents: w.Size(), Blobs: 1}
	part := onlyPart(t, &w.table)
	for _, k := range []FrameKind{FrameParity, FrameContents} {
		if err := w.appendLast(k, part); err != nil {
			t.Fatal(err)
		}
	}
	tr.Label = w.Size()
	n := 0
	err := ReadContents(f, tr, testAEAD(t, w.id), func(i FrameInfo) error { n++; return nil })
	if err != nil || n != 1 {
		t.Errorf("%d frames, the first of which is at %d: %v", n, p.offset, err)
	}
}

func FuzzTrailer(f *testing.F) {
	f.Add(testTrailer().encode())
	f.Add(make([]byte, TrailerSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < TrailerSize {
			return
		}
		b = b[:TrailerSize]
		copy(b, trailerMagic)
		putTrailerSum(b)
		tr, err := parseTrailer(b)
		if err == nil && !bytes.Equal(tr.encode(), b) {
			t.Fatalf("%x encodes again as %x", b, tr.encode())
		}
		_ = ReadContents(bytes.NewReader(b), tr, testAEAD(t, tr.Volume), func(FrameInfo) error { return nil })
	})
}

func FuzzContents(f *testing.F) {
	var tab table
	tab.end = 4096
	tab.add(4096, Header{Kind: FrameBlobs, Length: 500}, []Blob{testBlob([]byte("a")), testBlob(nil)})
	tab.add(4096+556, Header{Kind: FrameFacts, Length: 40}, nil)
	f.Add(onlyPart(f, &tab))
	f.Add(onlyPart(f, &table{}))
	f.Fuzz(func(t *testing.T, plain []byte) {
		again := table{}
		c := contentsReader{limit: 1 << 30}
		c.fn = func(i FrameInfo) error {
			again.add(i.Offset, Header{Kind: i.Kind, Length: i.Stored - HeaderSize}, i.Blobs)
			return nil
		}
		d := decoder{b: plain}
		index, total, base := d.uvarint(1<<32), d.uvarint(1<<32), d.uvarint(1<<30)
		again.end = int64(base)
		c.trailer.Blobs = countBlobs(plain)
		if err := c.part(plain); err != nil || len(again.done) > 0 || d.failed || index != 0 || total != 1 {
			return
		}
		if got := onlyPart(t, &again); !bytes.Equal(got, plain) {
			t.Fatalf("%x encodes again as %x", plain, got)
		}
	})
}

// countBlobs is the number of rows in a part, if it is one.
func countBlobs(plain []byte) uint64 {
	c := contentsReader{limit: 1 << 30, fn: func(FrameInfo) error { return nil }}
	_ = c.part(plain)
	return c.blobs
}
