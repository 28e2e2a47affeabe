package archive

import (
	"crypto/cipher"
	"runtime"

	"snapfs/snapshot"
	"snapfs/store"
	"snapfs/store/volume"
)

// checkedFrame is a whole frame whose contents are checked, beside others. What came of it is settled in the order of the volume.
type checkedFrame struct {
	header     volume.Header
	at, offset int64 // where it lies: in the volume, and in what is read
	volume     volume.ID
	aead       cipher.AEAD
	stored     []byte // opened in place
	copied     []byte // as it came; only of blobs in a pipe, where nobody can read them again
	raw        []byte // memory to decode into
	done       chan struct{}

	blobs    []volume.Blob
	good     []bool      // by blob: it is what its name says
	needs    []reference // of metadata
	findings []Finding
}

func (c *checker) newFrame(it volume.StreamItem) *checkedFrame {
	f := &checkedFrame{}
	if n := len(c.unused); n > 0 {
		f, c.unused = c.unused[n-1], c.unused[:n-1]
	}
	*f = checkedFrame{
		header: it.Header, at: it.At, offset: it.Offset, volume: it.Volume, stored: append(f.stored[:0], it.Stored...), copied: f.copied[:0], raw: f.raw,
		good: f.good[:0], needs: f.needs[:0],
	}
	if c.file == nil && it.Header.Kind == volume.FrameBlobs {
		f.copied = append(f.copied, it.Stored...)
	}
	var err error
	if f.aead, err = c.volume.set.aead(f.volume); err != nil {
		f.bad(err.Error(), store.ID{})
	}
	return f
}

// size is the memory for the frame as it came.
func (f *checkedFrame) size() int { return len(f.stored) + len(f.copied) }

func (f *checkedFrame) bad(what string, id store.ID) {
	f.findings = append(f.findings, Finding{Offset: f.at, Length: int64(f.header.Stored()), Blob: id, What: what})
}

// aheadMost is how many bytes of frames are held at once beside the next one: a frame may claim to be of 96 MiB, whoever made it.
const aheadMost = 64 << 20

// begun checks a frame of blobs in the background.
func (c *checker) begun(f *checkedFrame) {
	for len(c.ahead) > 0 && (len(c.ahead) >= 2*runtime.GOMAXPROCS(0) || c.held+f.size() > aheadMost) {
		c.settleFirst()
	}
	f.done = make(chan struct{})
	c.ahead = append(c.ahead, f)
	c.held += f.size()
	go func() {
		defer close(f.done)
		f.check(c.b)
	}()
}

// settleAll waits for all frames that are checked.
func (c *checker) settleAll() {
	for len(c.ahead) > 0 {
		c.settleFirst()
	}
}

func (c *checker) settleFirst() {
	f := c.ahead[0]
	c.ahead = c.ahead[1:]
	c.held -= f.size()
	<-f.done
	c.settle(f)
}

// settle notes what came of a frame of the volume at hand.
func (c *checker) settle(f *checkedFrame) {
	for _, finding := range f.findings {
		c.found(finding)
	}
	c.result.Blobs += int64(len(f.blobs))
	for i, b := range f.blobs {
		switch {
		case !f.good[i]:
		case store.Kind(b.Kind) == store.KindChunk:
			c.set.chunks.add(b.ID)
		default:
			c.set.metadata.add(b.ID)
		}
	}
	for _, r := range f.needs {
		if r.kind == store.KindChunk {
			c.set.uses.add(r.id)
		} else {
			c.set.needs.add(r.id)
		}
	}
	if len(f.blobs) > 0 && store.Kind(f.blobs[0].Kind) != store.KindChunk {
		c.keepMetadata(f)
	}
	if cap(f.stored)+cap(f.copied)+cap(f.raw) <= aheadMost/8 { // frames that are larger are rare
		c.unused = append(c.unused, f)
	}
}

// plain opens a frame.
func (f *checkedFrame) plain() ([]byte, bool) {
	if f.aead == nil {
		return nil, false
	}
	_, plain, err := volume.OpenFrame(f.stored, f.volume, f.aead)
	if err != nil {
		f.bad("a frame does not open: "+err.Error(), store.ID{})
	}
	return plain, err == nil
}

// check names every blob anew, and finds out what it needs.
func (f *checkedFrame) check(b *Bare) {
	plain, ok := f.plain()
	if !ok {
		return
	}
	pack, err := volume.ParsePack(plain)
	var body []byte
	if err == nil {
		body, err = pack.Body(f.raw[:0])
	}
	if err != nil {
		f.bad("a frame cannot be decoded: "+err.Error(), store.ID{})
		return
	}
	if pack.Codec != volume.CodecNone { // else it lies in the frame
		f.raw = body
	}
	f.blobs = pack.Blobs
	at := uint32(0)
	for _, blob := range pack.Blobs {
		data := body[at : at+blob.Length]
		at += blob.Length
		kind := store.Kind(blob.Kind)
		same := b.BlobID(kind, data) == blob.ID
		if f.good = append(f.good, same); !same {
			f.bad("a blob is not what its name says", blob.ID)
			continue
		}
		if kind == store.KindChunk {
			continue
		}
		err := snapshot.References(kind, data, func(kind store.Kind, id store.ID) { f.needs = append(f.needs, reference{kind, id}) })
		if err != nil {
			f.bad(err.Error(), blob.ID)
		}
	}
}
