package volume

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/zeebo/xxh3"
)

const (
	labelMagic = "snapfsVL" // after the text; on disk; append only
	labelText  = 512        // bytes that people read
	labelHead  = 36         // bytes of magic, version, length, volume id and length of the fields after the text
	labelSum   = 8          // bytes of the checksum that ends the label
	labelUnit  = 4096       // labels are a multiple of it

	// firstLine begins every volume. On disk; append only.
	firstLine = "snapfs volume, format "

	// MaxLabel is the largest label in bytes. On disk; append only.
	MaxLabel = 16 << 20
)

// Tags of the label's fields. On disk; append only.
const (
	tagStore       = 1
	tagKind        = 2
	tagCreated     = 3 // Unix time in nanoseconds, two's complement
	tagProgram     = 4
	tagSetID       = 10
	tagSetSequence = 11
	tagSetLevel    = 12
	tagSetParent   = 13
	tagSetPool     = 14
	tagSetDatasets = 15
	tagSetHosts    = 16
	tagSetKeySlots = 17
	tagSetBundle   = 18
	tagSetKeys     = 19
	tagSetName     = 20
	tagSetParity   = 21
)

// Label is the head of a volume: which it is, and all that is needed to begin reading it. It is protected by a
// checksum, not by a key.
type Label struct {
	Version uint16   // of the format; ignored when encoding
	Store   [16]byte // id of the store
	Volume  ID
	Kind    Kind
	Created time.Time
	Program string // that made it, with its version
	Set     *Set   // of archive volumes; nil for others
}

// Set is the part of a label that only volumes of archive sets have.
type Set struct {
	ID       [16]byte
	Sequence uint32 // of the volume in the set, from 1
	Level    SetLevel
	Parent   [16]byte // the set this one builds on; zero for a full one
	Pool     string
	Datasets []string
	Hosts    []string
	KeySlots []byte // slots that unlock the bundle, as package seal writes them
	Bundle   []byte // the sealed bundle
	SetKeys  []byte // the set's own bundle, sealed under a key of the store's bundle
	Name     string // of the set, for people
	Parity   []byte // in volumes with parity over the others of the set: what it covers (package archive)
}

// SetLevel says how much an archive set holds.
type SetLevel uint8

// Levels of archive sets. On disk; append only.
const (
	Full         SetLevel = 1 // everything
	Incremental  SetLevel = 2 // what is new since the parent
	Differential SetLevel = 3 // what is new since the last full set
)

// String is the level's name.
func (l SetLevel) String() string {
	switch l {
	case Full:
		return "full"
	case Incremental:
		return "incremental"
	case Differential:
		return "differential"
	}
	return fmt.Sprintf("level %d", uint8(l))
}

// String is the kind's name.
func (k Kind) String() string {
	switch k {
	case Data:
		return "data"
	case Metadata:
		return "metadata"
	case Journal:
		return "journal"
	case Archive:
		return "archive"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// EncodeLabel gives the bytes of l: a multiple of 4 KiB. Errors: ErrTooLarge, ErrMalformed (no volume id).
func EncodeLabel(l Label) ([]byte, error) {
	if l.Volume.IsZero() || l.Kind == 0 {
		return nil, fmt.Errorf("label without volume or kind: %w", ErrMalformed)
	}
	fields := l.appendFields(nil)
	length := labelText + labelHead + len(fields) + labelSum
	length = (length + labelUnit - 1) / labelUnit * labelUnit
	if length > MaxLabel {
		return nil, fmt.Errorf("label of %d bytes: %w", length, ErrTooLarge)
	}
	b := make([]byte, length)
	copy(b, l.text(length))
	h := b[labelText:]
	copy(h, labelMagic)
	binary.LittleEndian.PutUint16(h[8:], Version)
	binary.LittleEndian.PutUint32(h[12:], uint32(length))
	copy(h[16:], l.Volume[:])
	binary.LittleEndian.PutUint32(h[32:], uint32(len(fields)))
	copy(h[labelHead:], fields)
	putLabelSum(b, l.Volume)
	return b, nil
}

func putLabelSum(b []byte, v ID) {
	end := len(b) - labelSum
	binary.LittleEndian.PutUint64(b[end:], xxh3.HashSeed(b[:end], v.seed()))
}

func (l Label) appendFields(b []byte) []byte {
	b = appendBytes(b, tagStore, l.Store[:])
	b = appendNumber(b, tagKind, uint64(l.Kind))
	if !l.Created.IsZero() {
		b = appendNumber(b, tagCreated, uint64(l.Created.UnixNano()))
	}
	if l.Program != "" {
		b = appendBytes(b, tagProgram, []byte(l.Program))
	}
	if l.Set != nil {
		b = l.Set.appendFields(b)
	}
	return b
}

func (s *Set) appendFields(b []byte) []byte {
	b = appendBytes(b, tagSetID, s.ID[:])
	b = appendNumber(b, tagSetSequence, uint64(s.Sequence))
	b = appendNumber(b, tagSetLevel, uint64(s.Level))
	if s.Parent != [16]byte{} {
		b = appendBytes(b, tagSetParent, s.Parent[:])
	}
	for _, f := range []struct {
		tag   uint32
		bytes []byte
	}{
		{tagSetPool, []byte(s.Pool)},
		{tagSetDatasets, appendList(nil, s.Datasets)},
		{tagSetHosts, appendList(nil, s.Hosts)},
		{tagSetKeySlots, s.KeySlots},
		{tagSetBundle, s.Bundle},
		{tagSetKeys, s.SetKeys},
		{tagSetName, []byte(s.Name)},
		{tagSetParity, s.Parity},
	} {
		if len(f.bytes) > 0 {
			b = appendBytes(b, f.tag, f.bytes)
		}
	}
	return b
}

// text is what `head` shows, exactly labelText bytes. Readers trust the fields, not the text.
func (l Label) text(length int) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s%d\nlabel %d bytes\nstore %x\nvolume %s\nkind %s\ncreated %s\n",
		firstLine, Version, length, l.Store, l.Volume, l.Kind, l.Created.UTC().Format(time.RFC3339))
	if s := l.Set; s != nil {
		s.describe(&b)
	} else {
		b.WriteString("restore: put all volumes into volumes/ and the key slots into keys/ of a directory,\n" +
			"then run: snapfs --store DIR rebuild\n")
	}
	text := bytes.Repeat([]byte{' '}, labelText)
	copy(text[:labelText-1], b.String())
	text[labelText-1] = '\n'
	return text
}

// describe says which volume of a set this is and how to restore from it.
func (s *Set) describe(b *strings.Builder) {
	what := "volume"
	if len(s.Parity) > 0 {
		what = "parity volume"
	}
	name := s.Name
	if len(name) > 110 || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' }) {
		name = ""
	}
	fmt.Fprintf(b, "set %s %s %d level %s\n", hex.EncodeToString(s.ID[:]), what, s.Sequence, s.Level)
	if name != "" {
		fmt.Fprintf(b, "name %s\n", name)
	}
	b.WriteString("snapshots in it: snapfs archive ls FILE\n" +
		"restore: snapfs archive restore SNAP --from FILE --to DIR\n")
}

// labelLength reads a label's length from its first bytes, of which at least labelText+labelHead must be there.
func labelLength(b []byte) (int, error) {
	if len(b) < labelText+labelHead {
		return 0, fmt.Errorf("label: %w", ErrTorn)
	}
	h := b[labelText:]
	if string(h[:8]) != labelMagic {
		if strings.HasPrefix(string(b[:labelText]), firstLine) {
			return 0, fmt.Errorf("label: %w", ErrChecksum)
		}
		return 0, fmt.Errorf("label: %w", ErrNotVolume)
	}
	length := binary.LittleEndian.Uint32(h[12:])
	if length == 0 || length%labelUnit != 0 || length > MaxLabel {
		return 0, fmt.Errorf("label: %w", ErrChecksum)
	}
	return int(length), nil
}

// ParseLabel decodes a label from the start of b and returns its length. Errors: ErrNotVolume, ErrNewerVersion,
// ErrTorn, ErrChecksum, ErrMalformed.
func ParseLabel(b []byte) (l Label, length int, err error) {
	length, err = labelLength(b)
	if err != nil {
		return Label{}, 0, err
	}
	if len(b) < length {
		return Label{}, 0, fmt.Errorf("label: %w", ErrTorn)
	}
	b = b[:length]
	h := b[labelText:]
	v := ID(h[16:32])
	end := length - labelSum
	if binary.LittleEndian.Uint64(b[end:]) != xxh3.HashSeed(b[:end], v.seed()) {
		return Label{}, 0, fmt.Errorf("label: %w", ErrChecksum)
	}
	version := binary.LittleEndian.Uint16(h[8:])
	if version > Version {
		return Label{}, 0, fmt.Errorf("label of format %d: %w", version, ErrNewerVersion)
	}
	l = Label{Version: version, Volume: v}
	fields := binary.LittleEndian.Uint32(h[32:])
	room := uint32(length - labelText - labelHead - labelSum)
	if version == 0 || v.IsZero() || binary.LittleEndian.Uint16(h[10:]) != 0 || fields > room {
		return Label{}, 0, fmt.Errorf("label: %w", ErrMalformed)
	}
	if err := l.parseFields(h[labelHead:][:fields]); err != nil {
		return Label{}, 0, err
	}
	return l, length, nil
}

func (l *Label) parseFields(b []byte) error {
	d := decoder{b: b}
	for last := uint32(0); len(d.b) > 0 && !d.failed; {
		f := d.field(last)
		last = f.tag
		if d.failed || l.setField(&d, f) {
			continue
		}
		if f.critical {
			return fmt.Errorf("label field %d: %w", f.tag, ErrNewerVersion)
		}
	}
	if d.failed || l.Kind == 0 {
		return fmt.Errorf("label fields: %w", ErrMalformed)
	}
	return nil
}

// setField stores a field, and reports whether it knows its tag. Fields of the wrong shape fail d.
func (l *Label) setField(d *decoder, f field) bool {
	switch f.tag {
	case tagStore:
		d.id(f, &l.Store)
	case tagKind:
		l.Kind = Kind(d.small(f, 255))
	case tagCreated:
		if f.is(d, false) {
			l.Created = time.Unix(0, int64(f.number)).UTC()
		}
	case tagProgram:
		l.Program = d.text(f)
	case tagSetID:
		l.Set = new(Set)
		d.id(f, &l.Set.ID)
	default:
		return l.Set.setField(d, f)
	}
	return true
}

func (s *Set) setField(d *decoder, f field) bool {
	if f.tag < tagSetSequence || f.tag > tagSetParity {
		return false
	}
	if s == nil {
		d.fail()
		return true
	}
	switch f.tag {
	case tagSetSequence:
		s.Sequence = uint32(d.small(f, 1<<32-1))
	case tagSetLevel:
		s.Level = SetLevel(d.small(f, 255))
	case tagSetParent:
		d.id(f, &s.Parent)
	case tagSetPool:
		s.Pool = d.text(f)
	case tagSetDatasets:
		s.Datasets = d.list([]byte(d.text(f)))
	case tagSetHosts:
		s.Hosts = d.list([]byte(d.text(f)))
	case tagSetKeySlots:
		s.KeySlots = []byte(d.text(f))
	case tagSetBundle:
		s.Bundle = []byte(d.text(f))
	case tagSetKeys:
		s.SetKeys = []byte(d.text(f))
	case tagSetName:
		s.Name = d.text(f)
	case tagSetParity:
		s.Parity = []byte(d.text(f))
	}
	return true
}

// id stores a 16-byte field.
func (d *decoder) id(f field, to *[16]byte) {
	if !f.is(d, true) || len(f.bytes) != len(to) {
		d.fail()
		return
	}
	copy(to[:], f.bytes)
}

// text gives the bytes of a field, copied; empty ones are not written and not allowed.
func (d *decoder) text(f field) string {
	if f.is(d, true) && len(f.bytes) == 0 {
		d.fail()
	}
	return string(f.bytes)
}

// small gives a number of at most limit.
func (d *decoder) small(f field, limit uint64) uint64 {
	if f.is(d, false) && f.number > limit {
		d.fail()
	}
	return f.number
}

// ReadLabel reads the label at the start of a volume of size bytes and returns its length, where frames begin.
// Errors: the reader's and those of ParseLabel.
func ReadLabel(r io.ReaderAt, size int64) (l Label, length int, err error) {
	b := make([]byte, min(size, labelUnit))
	if err := readFull(r, b, 0); err != nil {
		return Label{}, 0, fmt.Errorf("label: %w", err)
	}
	length, err = labelLength(b)
	if err != nil {
		return Label{}, 0, err
	}
	if int64(length) > size {
		return Label{}, 0, fmt.Errorf("label: %w", ErrTorn)
	}
	if length > len(b) {
		b = make([]byte, length)
		if err := readFull(r, b, 0); err != nil {
			return Label{}, 0, fmt.Errorf("label: %w", err)
		}
	}
	return ParseLabel(b)
}

// readFull fills b; a file that ends before it is ErrTorn.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		return ErrTorn
	}
	return err
}
