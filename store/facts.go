package store

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"snapfs/store/volume"
)

// FactKind says what a fact is about.
type FactKind uint8

// Fact kinds. On disk; append only. A fact of a kind that is not known is skipped, or refused when it is critical.
const (
	FactCommit        FactKind = 1  // a snapshot exists
	FactPartial       FactKind = 2  // an interrupted or running backup's work
	FactForget        FactKind = 3  // snapshots are no longer wanted
	FactUnforget      FactKind = 4  // they are again
	FactPurge         FactKind = 5  // forgotten snapshots were not marked by a prune: gone for good
	FactHold          FactKind = 6  // a snapshot cannot be removed before a date
	FactRelease       FactKind = 7  // the hold is lifted
	FactTag           FactKind = 8  // tags added and removed
	FactDataset       FactKind = 9  // a dataset's number, name and settings
	FactVolumeSealed  FactKind = 10 // volumes that must exist, with their lengths
	FactVolumeDropped FactKind = 11 // volumes that may be missing
	FactImport        FactKind = 12 // a snapshot's origin in another store
	FactCheckpoint    FactKind = 13 // the fold of all facts before it
	FactArchiveSet    FactKind = 14 // an archive set and what it carries
	FactArchiveState  FactKind = 15 // where a set is, and how it is
	FactPresent       FactKind = 16 // a volume has a copy at a target
	FactAbsent        FactKind = 17 // it has none any more
	FactReplaced      FactKind = 18 // a volume's good blobs went into other volumes
	FactHead          FactKind = 19 // the newest fact of another chain
	FactClock         FactKind = 20 // the clock is right: the hold time follows it
	FactRefused       FactKind = 21 // somebody without admin rights tried what needs them
	FactAcknowledged  FactKind = 22 // what is wrong with the chain has been told and is not mended any more
)

// factNouns are what people call what facts do, in messages about those that were refused.
var factNouns = map[FactKind]string{
	FactForget: "forget", FactUnforget: "unforget", FactPurge: "purge", FactHold: "hold", FactRelease: "release of a hold",
	FactVolumeDropped: "removal of volumes", FactReplaced: "replacement of volumes", FactCheckpoint: "checkpoint",
	FactClock: "confirmation of the clock", FactAcknowledged: "acknowledgement of damage",
}

// String is for people.
func (k FactKind) String() string {
	if noun, ok := factNouns[k]; ok {
		return noun
	}
	return fmt.Sprintf("fact of kind %d", uint8(k))
}

// Tags of a fact's fields. On disk; append only.
const (
	tagFactKind  = 1 | Critical
	tagFactChain = 2 | Critical // 16 random bytes
	tagFactSeq   = 3 | Critical // from 1, one more than the fact before
	tagFactPrev  = 4            // ID of the fact before; none: the chain's first
	tagFactClock = 5            // the clock as read, ns since 1970
	tagFactHold  = 6            // the hold time, ns since 1970: never runs back
	tagFactBody  = 7            // fields of the kind
	tagFactSign  = 8            // signature over everything before
	tagFactMust  = 9            // readers that do not know the kind must refuse the store
)

// Fact is a small durable record in the journal.
type Fact struct {
	Kind      FactKind
	Critical  bool
	Chain     [16]byte
	Seq       uint64
	Prev      ID
	Clock     time.Time
	Hold      time.Time
	Body      []byte
	Signature []byte
}

// encode gives the canonical form; its keyed hash is the fact's ID.
func (f *Fact) encode() []byte {
	w := AppendFields(nil)
	w.Uint(tagFactKind, uint64(f.Kind))
	w.Bytes(tagFactChain, f.Chain[:])
	w.Uint(tagFactSeq, f.Seq)
	w.ID(tagFactPrev, f.Prev)
	w.Int(tagFactClock, nanos(f.Clock))
	w.Int(tagFactHold, nanos(f.Hold))
	w.Bytes(tagFactBody, f.Body)
	w.Bytes(tagFactSign, f.Signature)
	w.Bool(tagFactMust, f.Critical)
	return w.Encoded()
}

// parseFact is the inverse of encode.
func parseFact(data []byte) (*Fact, error) {
	f := &Fact{}
	r := ReadFields(data)
	for r.Next() {
		switch r.Tag() {
		case tagFactKind:
			f.Kind = FactKind(r.Uint32())
		case tagFactChain:
			if b := r.Bytes(); len(b) == len(f.Chain) {
				f.Chain = [16]byte(b)
			} else {
				r.Refuse("not a chain")
			}
		case tagFactSeq:
			f.Seq = r.Uint()
		case tagFactPrev:
			f.Prev = r.ID()
		case tagFactClock:
			f.Clock = fromNanos(r.Int())
		case tagFactHold:
			f.Hold = fromNanos(r.Int())
		case tagFactBody:
			f.Body = append([]byte(nil), r.Bytes()...)
		case tagFactSign:
			f.Signature = append([]byte(nil), r.Bytes()...)
		case tagFactMust:
			f.Critical = r.Bool()
		default:
			r.Unknown()
		}
	}
	if r.Err() == nil && (f.Kind == 0 || f.Seq == 0 || f.Chain == [16]byte{}) {
		r.Refuse("fact without kind, chain or number")
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("fact: %w", err)
	}
	return f, nil
}

// FirstTime and LastTime bound the times that a store can hold: nanoseconds since 1970 in 64 bits.
var (
	FirstTime = time.Unix(0, math.MinInt64).UTC() // in 1677
	LastTime  = time.Unix(0, math.MaxInt64).UTC() // in 2262
)

// nanos and fromNanos keep the zero Time zero; the beginning of 1970 is kept as a nanosecond later. What is beyond the bounds is kept as the bound, so that a hold never ends too early.
func nanos(t time.Time) int64 {
	switch {
	case t.IsZero():
		return 0
	case t.Before(FirstTime):
		return math.MinInt64
	case t.After(LastTime):
		return math.MaxInt64
	}
	if n := t.UnixNano(); n != 0 {
		return n
	}
	return 1
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// FactBody is what a fact of one kind says.
type FactBody interface {
	Kind() FactKind
	encode(w *Fields)
	decode(r *FieldReader)
}

// encodeBody gives a body's fields.
func encodeBody(b FactBody) []byte {
	w := AppendFields(nil)
	b.encode(&w)
	return w.Encoded()
}

// parseBody decodes a fact's body; nil for a kind that is not known.
func parseBody(kind FactKind, data []byte) (FactBody, error) {
	b := newBody(kind)
	if b == nil {
		return nil, nil
	}
	r := ReadFields(data)
	for r.Next() {
		b.decode(&r)
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("fact of kind %d: %w", kind, err)
	}
	return b, nil
}

func newBody(kind FactKind) FactBody {
	switch kind {
	case FactCommit:
		return &commitFact{}
	case FactPartial:
		return &commitFact{partial: true}
	case FactForget, FactUnforget, FactPurge:
		return &forgetFact{kind: kind}
	case FactHold, FactRelease:
		return &holdFact{kind: kind}
	case FactTag:
		return &tagFact{}
	case FactDataset:
		return &datasetFact{}
	case FactVolumeSealed, FactVolumeDropped, FactReplaced:
		return &volumesFact{kind: kind}
	case FactCheckpoint:
		return &checkpointFact{}
	case FactClock:
		return &clockFact{}
	case FactRefused:
		return &refusedFact{}
	case FactAcknowledged:
		return &acknowledgedFact{}
	case FactImport, FactArchiveSet, FactArchiveState, FactPresent, FactAbsent, FactHead:
		return &recordFact{kind: kind}
	}
	return nil
}

// commitFact makes a snapshot real, or a partial findable.
type commitFact struct {
	partial  bool
	snapshot ID
	slot     uint32
	dataset  uint32
	name     string
	start    time.Time
	tags     []string
	summary  []byte
	volumes  []sealedVolume // every volume written to since the last commit, with its length
}

// sealedVolume is a volume and the length it must at least have.
type sealedVolume struct {
	id     volume.ID
	kind   volume.Kind
	length int64
}

// Tags of commit and partial facts. On disk; append only.
const (
	tagCommitSnapshot = 1 | Critical
	tagCommitSlot     = 2 | Critical
	tagCommitDataset  = 3 | Critical
	tagCommitName     = 4
	tagCommitStart    = 5
	tagCommitTags     = 6
	tagCommitSummary  = 7
	tagCommitVolumes  = 8
)

func (c *commitFact) Kind() FactKind {
	if c.partial {
		return FactPartial
	}
	return FactCommit
}

func (c *commitFact) encode(w *Fields) {
	w.ID(tagCommitSnapshot, c.snapshot)
	w.Uint(tagCommitSlot, uint64(c.slot))
	w.Uint(tagCommitDataset, uint64(c.dataset))
	w.String(tagCommitName, c.name)
	w.Int(tagCommitStart, nanos(c.start))
	w.Strings(tagCommitTags, c.tags)
	w.Bytes(tagCommitSummary, c.summary)
	w.Bytes(tagCommitVolumes, encodeVolumes(c.volumes))
}

func (c *commitFact) decode(r *FieldReader) {
	switch r.Tag() {
	case tagCommitSnapshot:
		c.snapshot = r.ID()
	case tagCommitSlot:
		c.slot = r.Uint32()
	case tagCommitDataset:
		c.dataset = r.Uint32()
	case tagCommitName:
		c.name = r.String()
	case tagCommitStart:
		c.start = fromNanos(r.Int())
	case tagCommitTags:
		c.tags = r.Strings()
	case tagCommitSummary:
		c.summary = append([]byte(nil), r.Bytes()...)
	case tagCommitVolumes:
		c.volumes = decodeVolumes(r)
	default:
		r.Unknown()
	}
}

// encodeVolumes gives rows of volume id (16 bytes), kind (1 byte), length (uvarint).
func encodeVolumes(list []sealedVolume) []byte {
	var b []byte
	for _, v := range list {
		b = append(append(b, v.id[:]...), byte(v.kind))
		b = binary.AppendUvarint(b, uint64(v.length))
	}
	return b
}

func decodeVolumes(r *FieldReader) []sealedVolume {
	var list []sealedVolume
	for b := r.Bytes(); len(b) > 0; {
		if len(b) < len(volume.ID{})+1 {
			r.Refuse("volume list")
			return nil
		}
		v := sealedVolume{id: volume.ID(b[:16]), kind: volume.Kind(b[16])}
		n, rest, err := CutUvarint(b[17:])
		if err != nil || n > 1<<62 {
			r.Refuse("volume list")
			return nil
		}
		v.length, b = int64(n), rest
		list = append(list, v)
	}
	return list
}

// forgetFact names snapshots forgotten, wanted again or purged, and repeats what the fold needs of them.
type forgetFact struct {
	kind  FactKind
	snaps []forgotten
}

type forgotten struct {
	snapshot ID
	slot     uint32
	dataset  uint32
	name     string
}

// Tags of forget, unforget and purge facts. On disk; append only.
const tagForgetList = 1 | Critical

func (f *forgetFact) Kind() FactKind { return f.kind }

func (f *forgetFact) encode(w *Fields) {
	var b []byte
	for _, s := range f.snaps {
		b = append(b, s.snapshot[:]...)
		b = binary.AppendUvarint(b, uint64(s.slot))
		b = binary.AppendUvarint(b, uint64(s.dataset))
		b = AppendString(b, s.name)
	}
	w.Bytes(tagForgetList, b)
}

func (f *forgetFact) decode(r *FieldReader) {
	if r.Tag() != tagForgetList {
		r.Unknown()
		return
	}
	for b := r.Bytes(); len(b) > 0; {
		var s forgotten
		var err error
		if s, b, err = cutForgotten(b); err != nil {
			r.Refuse("snapshot list")
			return
		}
		f.snaps = append(f.snaps, s)
	}
}

func cutForgotten(b []byte) (s forgotten, rest []byte, err error) {
	if len(b) < len(ID{}) {
		return s, nil, ErrFields
	}
	s.snapshot = ID(b[:32])
	slot, b, err := CutUvarint(b[32:])
	if err != nil || slot > 1<<32-1 {
		return s, nil, ErrFields
	}
	dataset, b, err := CutUvarint(b)
	if err != nil || dataset > 1<<32-1 {
		return s, nil, ErrFields
	}
	name, b, err := CutBytes(b)
	s.slot, s.dataset, s.name = uint32(slot), uint32(dataset), string(name)
	return s, b, err
}
