package volume

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// frozen is what testdata/volume-1 holds: a volume of format 1 with every kind of frame and every codec, and one
// frame of a kind that did not exist. It is never made again: it proves that what was written stays readable.
var frozen = [][]byte{
	[]byte("short"), nil, textBytes(1, 3000), // zstd
	textBytes(2, 3000),   // s2
	randomBytes(3, 3000), // none
}

func frozenVolume(t *testing.T) []byte {
	f := new(memFile)
	l := archiveLabel()
	w, err := Create(f, l, Options{AEAD: testAEAD(t, l.Volume), Random: testRandom(1)})
	if err != nil {
		t.Fatal(err)
	}
	appendBlobs(t, w, frozen[:3]...)
	blobs := []Blob{testBlob(frozen[3])}
	for _, frame := range []struct {
		kind  FrameKind
		plain []byte
		blobs []Blob
	}{
		{FrameBlobs, NewPacker(LevelS2).Pack(nil, blobs, frozen[3]), blobs},
		{FrameParity, []byte("parity"), nil},
		{0x44, []byte("of later"), nil},
		{FrameFacts, []byte("facts"), nil},
	} {
		if _, _, err := w.Append(frame.kind, frame.plain, frame.blobs); err != nil {
			t.Fatal(err)
		}
	}
	appendBlobs(t, w, frozen[4])
	if err := w.Seal(); err != nil {
		t.Fatal(err)
	}
	return f.data
}

func TestFrozenVolume(t *testing.T) {
	path := filepath.Join("testdata", "volume-1")
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		t.Fatalf("%s is missing: take it from the repository", path)
	}
	f := &memFile{data: data}
	l, _, err := ReadLabel(f, int64(len(data)))
	if err != nil || !reflect.DeepEqual(l, archiveLabel()) {
		t.Fatalf("label %+v, %v", l, err)
	}
	infos, err := contents(t, f)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []FrameKind
	var got [][]byte
	for _, i := range infos {
		kinds = append(kinds, i.Kind)
		got = append(got, frameBlobs(t, data[i.Offset:][:i.Stored], i.Kind)...)
	}
	if want := []FrameKind{1, 1, 4, 0x44, 2, 1}; !reflect.DeepEqual(kinds, want) {
		t.Errorf("kinds %v, want %v", kinds, want)
	}
	for i, b := range got {
		if !bytes.Equal(b, frozen[i]) {
			t.Errorf("blob %d: %d bytes, want %d", i, len(b), len(frozen[i]))
		}
	}
	if s := scanAll(t, f, 0, int64(len(data))); len(s.offsets) != 8 || len(s.gaps)+len(s.damaged) > 0 || len(got) != 5 {
		t.Errorf("scan %+v, %d blobs", s, len(got))
	}
}

// frameBlobs opens a frame and gives its blobs, if it carries any.
func frameBlobs(t *testing.T, stored []byte, k FrameKind) (blobs [][]byte) {
	v := testLabel().Volume
	h, plain, err := OpenFrame(bytes.Clone(stored), v, testAEAD(t, v))
	if err != nil || h.Kind != k {
		t.Fatalf("frame of kind %d: %+v, %v", k, h, err)
	}
	if k != FrameBlobs {
		return nil
	}
	p, err := ParsePack(plain)
	if err != nil {
		t.Fatal(err)
	}
	body, err := p.Body(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range p.Blobs {
		start, length, ok := p.Find(b.Kind, b.ID)
		if !ok {
			t.Fatalf("blob %s not found", b.ID)
		}
		blobs = append(blobs, body[start:][:length])
	}
	return blobs
}

// A volume written today has the frozen one's shape.
func TestFrozenShape(t *testing.T) {
	now := &memFile{data: frozenVolume(t)}
	infos, err := contents(t, now)
	if err != nil || len(infos) != 6 {
		t.Fatalf("%d frames, %v", len(infos), err)
	}
}
