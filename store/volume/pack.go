package volume

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/klauspost/compress"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// Level is how hard a Packer compresses.
type Level uint8

// Levels. Not on disk: frames name their codec.
const (
	LevelFastest Level = iota // zstd
	LevelNone
	LevelS2
	LevelDefault // zstd
	LevelBetter  // zstd
)

// MaxRaw is the largest raw body of a frame in bytes. On disk; append only.
const MaxRaw = 64 << 20

const (
	minRow = 1 + len(BlobID{}) + 1 // bytes of the shortest row of a blob table

	// Bodies at least this long that hold one blob are sampled before they are compressed.
	sampleFrom  = 64 << 10
	sampleSize  = 8 << 10
	sampleCount = 3

	// Measured on /usr/lib in pieces of up to 512 KiB: windows from 512 KiB to 4 MiB store the same to three digits, and
	// an encoder's memory is 1.2 windows.
	maxWindow = 1 << 20
)

// Packer makes the plaintext of blob frames. It keeps its encoders and buffers. Not safe for concurrent use: one for
// each goroutine.
type Packer struct {
	level   Level
	zstd    *zstd.Encoder
	samples []byte
}

// NewPacker returns a Packer; its encoders are made when first needed.
func NewPacker(level Level) *Packer { return &Packer{level: level} }

// Pack appends to dst the plaintext of a frame that carries blobs, whose contents lie one after another in raw:
// codec, raw length, table, body. The body is compressed if that makes it smaller; a large single blob only if a
// sample of it compresses. raw must be as long as the blobs together and at most MaxRaw: anything else panics.
func (p *Packer) Pack(dst []byte, blobs []Blob, raw []byte) []byte {
	checkPack(blobs, raw)
	codec := p.codec(blobs, raw)
	start := len(dst)
	dst = appendPackHead(dst, codec, blobs, len(raw))
	if codec == CodecNone {
		return append(dst, raw...)
	}
	body := len(dst)
	dst = p.compress(dst, codec, raw)
	if len(dst)-body < len(raw) {
		return dst
	}
	dst[start] = byte(CodecNone)
	return append(dst[:body], raw...)
}

func checkPack(blobs []Blob, raw []byte) {
	total := 0
	for _, b := range blobs {
		total += int(b.Length)
	}
	if total != len(raw) || len(raw) > MaxRaw {
		panic(fmt.Sprintf("volume: pack of %d bytes for blobs of %d", len(raw), total))
	}
}

func appendPackHead(dst []byte, codec Codec, blobs []Blob, rawLength int) []byte {
	dst = append(dst, byte(codec))
	dst = binary.AppendUvarint(dst, uint64(rawLength))
	dst = binary.AppendUvarint(dst, uint64(len(blobs)))
	return appendRows(dst, blobs)
}

func appendRows(dst []byte, blobs []Blob) []byte {
	for i := range blobs {
		dst = append(dst, blobs[i].Kind)
		dst = append(dst, blobs[i].ID[:]...)
		dst = binary.AppendUvarint(dst, uint64(blobs[i].Length))
	}
	return dst
}

// codec decides how a body is worth compressing.
func (p *Packer) codec(blobs []Blob, raw []byte) Codec {
	if p.level == LevelNone || len(raw) == 0 {
		return CodecNone
	}
	if len(blobs) == 1 && len(raw) >= sampleFrom && !p.compressible(raw) {
		return CodecNone
	}
	if p.level == LevelS2 {
		return CodecS2
	}
	return CodecZstd
}

// compressible tries s2 on three samples and, for codecs that code single bytes as well, looks at how evenly these are
// spread: encoded text (base64, hexadecimal) repeats nothing and still shrinks. Measured on the chunks of a real tree:
// 19 us a chunk for s2, 9 of 953 compressed in vain, 18 missed that would have saved 0.05 % together.
func (p *Packer) compressible(raw []byte) bool {
	if p.samples == nil {
		p.samples = make([]byte, s2.MaxEncodedLen(sampleSize))
	}
	saved := 0
	for i := range sampleCount {
		at := (len(raw) - sampleSize) / (sampleCount - 1) * i
		sample := raw[at : at+sampleSize]
		size := len(s2.Encode(p.samples, sample))
		if p.level != LevelS2 {
			size = min(size, compress.ShannonEntropyBits(sample)/8)
		}
		saved += sampleSize - size
	}
	return saved*50 >= sampleCount*sampleSize // 2 %
}

func (p *Packer) compress(dst []byte, codec Codec, raw []byte) []byte {
	if codec == CodecS2 {
		at := len(dst)
		dst = grow(dst, s2.MaxEncodedLen(len(raw)))
		return dst[:at+len(s2.Encode(dst[at:cap(dst)], raw))]
	}
	if p.zstd == nil {
		p.zstd = newZstd(p.level)
	}
	return p.zstd.EncodeAll(raw, dst)
}

// grow makes room for n more bytes after dst's length.
func grow(dst []byte, n int) []byte {
	if cap(dst)-len(dst) >= n {
		return dst
	}
	return append(make([]byte, 0, len(dst)+n), dst...)
}

func newZstd(level Level) *zstd.Encoder {
	speed := zstd.SpeedFastest
	switch level {
	case LevelDefault:
		speed = zstd.SpeedDefault
	case LevelBetter:
		speed = zstd.SpeedBetterCompression
	}
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(speed), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true), zstd.WithWindowSize(maxWindow),
		zstd.WithLowerEncoderMem(true), zstd.WithAllLitEntropyCompression(true)) // the last: 0.5 % smaller for nothing
	if err != nil {
		panic(err) // the options are constants
	}
	return e
}

// Pack is the decoded plaintext of a blob frame.
type Pack struct {
	Blobs     []Blob
	Codec     Codec
	RawLength uint32 // of the body, bytes

	body []byte
}

// ParsePack decodes the head of a blob frame's plaintext; plain must stay unchanged while the Pack is in use.
// Errors: ErrMalformed, ErrNewerVersion (unknown codec).
func ParsePack(plain []byte) (Pack, error) {
	if len(plain) == 0 {
		return Pack{}, fmt.Errorf("pack: %w", ErrMalformed)
	}
	d := decoder{b: plain[1:]}
	p := Pack{Codec: Codec(plain[0])}
	rawLength := d.uvarint(MaxRaw)
	p.RawLength = uint32(rawLength)
	p.Blobs = d.rows(d.uvarint(uint64(len(d.b)/minRow)), nil)
	p.body = d.b
	switch {
	case d.failed || rowsLength(p.Blobs) != rawLength:
		return Pack{}, fmt.Errorf("pack: blob table: %w", ErrMalformed)
	case p.Codec > CodecS2:
		return Pack{}, fmt.Errorf("pack: codec %d: %w", p.Codec, ErrNewerVersion)
	case p.Codec == CodecNone && uint64(len(p.body)) != rawLength:
		return Pack{}, fmt.Errorf("pack: body: %w", ErrMalformed)
	}
	return p, nil
}

func rowsLength(blobs []Blob) (n uint64) {
	for i := range blobs {
		n += uint64(blobs[i].Length)
	}
	return n
}

// BodySlack is how much more memory than the raw length makes decoding quicker: zstd's decoder then need not check each
// copy of a frame's last block against the end of the buffer (a fifth of its time for frames of 256 KiB).
const BodySlack = 16

// Body returns the raw body: the blobs one after another. It uses dst's memory (from index 0) if that suffices, better
// with BodySlack to spare; an uncompressed body is returned as it lies in the plaintext. Errors: ErrMalformed.
func (p Pack) Body(dst []byte) ([]byte, error) {
	if p.Codec == CodecNone {
		return p.body, nil
	}
	if !p.plausible() {
		return nil, fmt.Errorf("pack: body: %w", ErrMalformed)
	}
	raw := int(p.RawLength)
	if cap(dst) < raw {
		dst = make([]byte, raw+BodySlack)
	}
	out, err := decompress(dst[:0:min(cap(dst), raw+BodySlack)], p.Codec, p.body)
	if err != nil || len(out) != raw {
		return nil, fmt.Errorf("pack: body: %w", ErrMalformed)
	}
	return out, nil
}

// plausible refuses a body that cannot have the raw length before memory is taken for it.
func (p Pack) plausible() bool {
	if p.Codec == CodecS2 {
		n, err := s2.DecodedLen(p.body)
		return err == nil && n == int(p.RawLength)
	}
	var h zstd.Header
	return h.Decode(p.body) == nil && h.HasFCS && h.SingleSegment && h.FrameContentSize == uint64(p.RawLength)
}

// Find returns where a blob lies in the raw body.
func (p Pack) Find(kind uint8, id BlobID) (start, length uint32, ok bool) {
	for i := range p.Blobs {
		b := &p.Blobs[i]
		if b.ID == id && b.Kind == kind {
			return start, b.Length, true
		}
		start += b.Length
	}
	return 0, 0, false
}

// decoders are shared by all packs: each is large and serves one call at a time.
var decoders = sync.Pool{New: func() any {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(MaxRaw), zstd.WithDecoderMaxWindow(MaxRaw), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return d
}}

// decompress appends at most cap(dst) bytes to dst, which is empty.
func decompress(dst []byte, codec Codec, body []byte) ([]byte, error) {
	if codec == CodecS2 {
		return s2.Decode(dst[:cap(dst)], body)
	}
	d := decoders.Get().(*zstd.Decoder)
	defer decoders.Put(d)
	return d.DecodeAll(body, dst)
}
