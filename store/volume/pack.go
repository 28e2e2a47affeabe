package volume

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

// MaxRaw is the largest raw body of a frame in bytes.
const MaxRaw = 64 << 20

// Packer makes the plaintext of blob frames. Not safe for concurrent use: one for each goroutine.
type Packer struct {
	level Level
}

// NewPacker returns a Packer; its encoders are made when first needed.
func NewPacker(level Level) *Packer { return &Packer{level: level} }

// Pack appends to dst the plaintext of a frame that carries blobs, whose contents lie one after another in raw:
// codec, raw length, table, body. The body is compressed if that makes it smaller; a large single blob only if a
// sample of it compresses. raw must be as long as the blobs together and at most MaxRaw: anything else panics.
func (p *Packer) Pack(dst []byte, blobs []Blob, raw []byte) []byte { panic("soon") }

// Pack is the decoded plaintext of a blob frame.
type Pack struct {
	Blobs     []Blob
	Codec     Codec
	RawLength uint32 // of the body, bytes

	body []byte
}

// ParsePack decodes the head of a blob frame's plaintext; plain must stay unchanged while the Pack is in use.
// Errors: ErrMalformed, ErrNewerVersion (unknown codec).
func ParsePack(plain []byte) (Pack, error) { panic("soon") }

// Body returns the raw body: the blobs one after another. It uses dst's memory (from index 0) if that suffices; an
// uncompressed body is returned as it lies in the plaintext. Errors: ErrMalformed.
func (p Pack) Body(dst []byte) ([]byte, error) { panic("soon") }

// Find returns where the blob lies in the raw body.
func (p Pack) Find(kind uint8, id BlobID) (start, length uint32, ok bool) { panic("soon") }
