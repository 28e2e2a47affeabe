package volume

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

var errInjected = errors.New("injected")

// memFile is a File in memory whose operation number failAt fails.
type memFile struct {
	mu     sync.Mutex
	data   []byte
	synced int // bytes that a power cut would leave
	ops    int
	failAt int // counts from 1; 0: never
	closed bool
}

// op counts an operation that may fail.
func (m *memFile) op() error {
	m.ops++
	if m.ops == m.failAt {
		return errInjected
	}
	return nil
}

func (m *memFile) ReadAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if off >= int64(len(m.data)) {
		return 0, io.EOF
	}
	n := copy(p, m.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memFile) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.op()
	if err != nil {
		p = p[:len(p)/2] // a failing device writes what it likes
	}
	if grow := int(off) + len(p) - len(m.data); grow > 0 {
		m.data = append(m.data, make([]byte, grow)...)
	}
	return copy(m.data[off:], p), err
}

func (m *memFile) Sync() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.op(); err != nil {
		return err
	}
	m.synced = len(m.data)
	return nil
}

func (m *memFile) Truncate(size int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data = m.data[:size]
	return nil
}

func (m *memFile) Close() error {
	m.closed = true
	return nil
}

// testAEAD is a volume's key.
func testAEAD(t testing.TB, v ID) cipher.AEAD {
	t.Helper()
	key := sha256.Sum256(v[:])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return aead
}

// testRandom is the same for the same seed.
func testRandom(seed byte) io.Reader { return rand.NewChaCha8([32]byte{seed}) }

func randomBytes(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = testRandom(seed).Read(b)
	return b
}

// textBytes compress about as well as text does.
func textBytes(seed byte, n int) []byte {
	words := []string{"volume ", "frame ", "label ", "snapshot ", "of the ", "store ", "and a ", "table\n"}
	r := rand.New(rand.NewChaCha8([32]byte{seed}))
	b := make([]byte, 0, n+16)
	for len(b) < n {
		b = append(b, words[r.IntN(len(words))]...)
	}
	return b[:n]
}

func testLabel() Label {
	return Label{
		Version: Version,
		Store:   [16]byte{0xab, 1},
		Volume:  ID{0x11, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
		Kind:    Data,
		Created: time.Unix(1_790_000_000, 123).UTC(),
		Program: "snapfs test",
	}
}

func testBlob(b []byte) Blob {
	return Blob{Kind: 1, ID: BlobID(sha256.Sum256(b)), Length: uint32(len(b))}
}

// placed is a frame that a test has appended.
type placed struct {
	offset int64
	stored uint32
	blobs  []Blob
	plain  []byte
}

func newWriter(t testing.TB, f File) *Writer {
	t.Helper()
	l := testLabel()
	w, err := Create(f, l, Options{AEAD: testAEAD(t, l.Volume), Random: testRandom(1)})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// appendBlobs appends one frame that holds these blobs.
func appendBlobs(t testing.TB, w *Writer, contents ...[]byte) placed {
	t.Helper()
	var p placed
	var raw []byte
	for _, c := range contents {
		p.blobs = append(p.blobs, testBlob(c))
		raw = append(raw, c...)
	}
	p.plain = NewPacker(LevelFastest).Pack(nil, p.blobs, raw)
	var err error
	if p.offset, p.stored, err = w.Append(FrameBlobs, p.plain, p.blobs); err != nil {
		t.Fatal(err)
	}
	return p
}

// smallVolume is a sealed volume of a few frames.
func smallVolume(t testing.TB) (*memFile, []placed) {
	t.Helper()
	f := new(memFile)
	w := newWriter(t, f)
	frames := []placed{
		appendBlobs(t, w, []byte("one"), []byte("two"), nil),
		appendBlobs(t, w, textBytes(1, 900)),
		appendBlobs(t, w, randomBytes(2, 300)),
	}
	facts := []byte("a fact")
	offset, stored, err := w.Append(FrameFacts, facts, nil)
	if err != nil {
		t.Fatal(err)
	}
	frames = append(frames, placed{offset: offset, stored: stored, plain: facts})
	if err := w.Seal(); err != nil {
		t.Fatal(err)
	}
	return f, frames
}
