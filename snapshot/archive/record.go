package archive

import (
	"fmt"
	"slices"
	"time"

	"snapfs/store"
	"snapfs/store/volume"
)

// RecordType says what a frame of kind volume.FrameSet holds. On disk; append only.
type RecordType uint8

// Types of records; unknown ones are stepped over.
const (
	RecordHead     RecordType = 1 // which set this is and what is in it
	RecordMetadata RecordType = 2 // all metadata has come
	RecordTable    RecordType = 3 // contents table of the volume before, which has no trailer
	RecordEnd      RecordType = 4 // the set is complete
)

// TypeOf is the type of a record, given the plaintext of its frame; 0 if there is none.
func TypeOf(plain []byte) RecordType {
	if len(plain) == 0 {
		return 0
	}
	return RecordType(plain[0])
}

// Head begins every volume of a set.
type Head struct {
	Set          [16]byte
	Name         string
	Pool         string
	Level        volume.SetLevel
	Parent       [16]byte // zero for a full set
	Number       uint32   // of the volume it stands in, from 1
	Created      time.Time
	Store        [16]byte
	ChunkAverage int
	Snapshots    []HeadSnapshot
	Chain        []ChainSet // what the set builds on, its parent first
	KeepUntil    time.Time
	Planned      Counts
	Program      string
	Parity       int // parity volumes for each group
}

// Counts are blobs and bytes of plaintext.
type Counts struct {
	Metadata, MetadataBytes int64
	Chunks, ChunkBytes      int64
}

// HeadSnapshot is a snapshot of the set.
type HeadSnapshot struct {
	ID        store.ID
	Dataset   string
	Name      string
	Start     time.Time
	Slot      uint32
	Summary   []byte // snapshot.Summary
	Tags      []string
	Committed time.Time
}

// ChainSet is a set that is needed beside this one.
type ChainSet struct {
	ID       [16]byte
	Name     string
	Level    volume.SetLevel
	Volumes  int
	Location string
	Created  time.Time
}

// Tags of records. On disk; append only.
const (
	headSet           store.Tag = 1 | store.Critical
	headName          store.Tag = 2
	headPool          store.Tag = 3
	headLevel         store.Tag = 4 | store.Critical
	headParent        store.Tag = 5
	headNumber        store.Tag = 6 | store.Critical
	headCreated       store.Tag = 7
	headStore         store.Tag = 8 | store.Critical
	headChunkAverage  store.Tag = 9
	headSnapshots     store.Tag = 10
	headChain         store.Tag = 11
	headKeepUntil     store.Tag = 12
	headMetadata      store.Tag = 13
	headMetadataBytes store.Tag = 14
	headChunks        store.Tag = 15
	headChunkBytes    store.Tag = 16
	headProgram       store.Tag = 17
	headParity        store.Tag = 18

	snapID        store.Tag = 1 | store.Critical
	snapDataset   store.Tag = 2
	snapName      store.Tag = 3
	snapStart     store.Tag = 4
	snapSlot      store.Tag = 5
	snapSummary   store.Tag = 6
	snapTags      store.Tag = 7
	snapCommitted store.Tag = 8

	chainID       store.Tag = 1 | store.Critical
	chainName     store.Tag = 2
	chainLevel    store.Tag = 3
	chainVolumes  store.Tag = 4
	chainLocation store.Tag = 5
	chainCreated  store.Tag = 6
)

// Encode gives the plaintext of the record's frame.
func (h *Head) Encode() []byte {
	w := store.AppendFields([]byte{byte(RecordHead)})
	w.Bytes(headSet, h.Set[:])
	w.String(headName, h.Name)
	w.String(headPool, h.Pool)
	w.Uint(headLevel, uint64(h.Level))
	putID16(&w, headParent, h.Parent)
	w.Uint(headNumber, uint64(h.Number))
	putTime(&w, headCreated, h.Created)
	w.Bytes(headStore, h.Store[:])
	w.Uint(headChunkAverage, uint64(h.ChunkAverage))
	w.Bytes(headSnapshots, encodeList(h.Snapshots, (*HeadSnapshot).encode))
	w.Bytes(headChain, encodeList(h.Chain, (*ChainSet).encode))
	putTime(&w, headKeepUntil, h.KeepUntil)
	w.Uint(headMetadata, uint64(h.Planned.Metadata))
	w.Uint(headMetadataBytes, uint64(h.Planned.MetadataBytes))
	w.Uint(headChunks, uint64(h.Planned.Chunks))
	w.Uint(headChunkBytes, uint64(h.Planned.ChunkBytes))
	w.String(headProgram, h.Program)
	w.Uint(headParity, uint64(h.Parity))
	return w.Encoded()
}

func (s *HeadSnapshot) encode() []byte {
	w := store.AppendFields(nil)
	w.ID(snapID, s.ID)
	w.String(snapDataset, s.Dataset)
	w.String(snapName, s.Name)
	putTime(&w, snapStart, s.Start)
	w.Uint(snapSlot, uint64(s.Slot))
	w.Bytes(snapSummary, s.Summary)
	w.Strings(snapTags, s.Tags)
	putTime(&w, snapCommitted, s.Committed)
	return w.Encoded()
}

func (c *ChainSet) encode() []byte {
	w := store.AppendFields(nil)
	w.Bytes(chainID, c.ID[:])
	w.String(chainName, c.Name)
	w.Uint(chainLevel, uint64(c.Level))
	w.Uint(chainVolumes, uint64(c.Volumes))
	w.String(chainLocation, c.Location)
	putTime(&w, chainCreated, c.Created)
	return w.Encoded()
}

// ParseHead is the inverse of Encode. Errors: ErrRecord, store.ErrNewerFormat.
func ParseHead(plain []byte) (*Head, error) {
	h := &Head{}
	err := parseRecord(plain, RecordHead, func(r *store.FieldReader) { h.field(r) })
	if err == nil && (h.Set == [16]byte{} || h.Number == 0) {
		err = fmt.Errorf("%w: head without set or number", ErrRecord)
	}
	return h, err
}

func (h *Head) field(r *store.FieldReader) {
	switch r.Tag() {
	case headSet:
		h.Set = id16(r)
	case headName:
		h.Name = r.String()
	case headPool:
		h.Pool = r.String()
	case headLevel:
		h.Level = volume.SetLevel(r.Uint32())
	case headParent:
		h.Parent = id16(r)
	case headNumber:
		h.Number = r.Uint32()
	case headCreated:
		h.Created = timeOf(r)
	case headStore:
		h.Store = id16(r)
	case headChunkAverage:
		h.ChunkAverage = int(r.Uint32())
	case headSnapshots:
		eachRecord(r, func(item *store.FieldReader) {
			h.Snapshots = append(h.Snapshots, parseHeadSnapshot(item))
		})
	case headChain:
		eachRecord(r, func(item *store.FieldReader) { h.Chain = append(h.Chain, parseChainSet(item)) })
	case headKeepUntil:
		h.KeepUntil = timeOf(r)
	case headMetadata:
		h.Planned.Metadata = int64(r.Uint())
	case headMetadataBytes:
		h.Planned.MetadataBytes = int64(r.Uint())
	case headChunks:
		h.Planned.Chunks = int64(r.Uint())
	case headChunkBytes:
		h.Planned.ChunkBytes = int64(r.Uint())
	case headProgram:
		h.Program = r.String()
	case headParity:
		h.Parity = int(r.Uint32())
	default:
		r.Unknown()
	}
}

func parseHeadSnapshot(r *store.FieldReader) (s HeadSnapshot) {
	for r.Next() {
		switch r.Tag() {
		case snapID:
			s.ID = r.ID()
		case snapDataset:
			s.Dataset = r.String()
		case snapName:
			s.Name = r.String()
		case snapStart:
			s.Start = timeOf(r)
		case snapSlot:
			s.Slot = r.Uint32()
		case snapSummary:
			s.Summary = slices.Clone(r.Bytes())
		case snapTags:
			s.Tags = r.Strings()
		case snapCommitted:
			s.Committed = timeOf(r)
		default:
			r.Unknown()
		}
	}
	return s
}

func parseChainSet(r *store.FieldReader) (c ChainSet) {
	for r.Next() {
		switch r.Tag() {
		case chainID:
			c.ID = id16(r)
		case chainName:
			c.Name = r.String()
		case chainLevel:
			c.Level = volume.SetLevel(r.Uint32())
		case chainVolumes:
			c.Volumes = int(r.Uint32())
		case chainLocation:
			c.Location = r.String()
		case chainCreated:
			c.Created = timeOf(r)
		default:
			r.Unknown()
		}
	}
	return c
}

// parseRecord reads the fields of a record of that type.
func parseRecord(plain []byte, want RecordType, field func(*store.FieldReader)) error {
	if TypeOf(plain) != want {
		return fmt.Errorf("%w: type %d, want %d", ErrRecord, TypeOf(plain), want)
	}
	r := store.ReadFields(plain[1:])
	for r.Next() {
		field(&r)
	}
	if r.Err() != nil {
		return fmt.Errorf("%w: %w", ErrRecord, r.Err())
	}
	return nil
}

// eachRecord calls fn with a reader for each record of a list, which fn reads to its end.
func eachRecord(r *store.FieldReader, fn func(*store.FieldReader)) {
	for rest := r.Bytes(); len(rest) > 0; {
		item, left, err := store.CutBytes(rest)
		if err != nil {
			r.Refuse("list of records")
			return
		}
		in := store.ReadFields(item)
		fn(&in)
		if in.Err() != nil {
			r.Refuse(in.Err().Error())
			return
		}
		rest = left
	}
}

func encodeList[T any](list []T, encode func(*T) []byte) (b []byte) {
	for i := range list {
		b = store.AppendBytes(b, encode(&list[i]))
	}
	return b
}

func putID16(w *store.Fields, tag store.Tag, id [16]byte) {
	if id != [16]byte{} {
		w.Bytes(tag, id[:])
	}
}

func id16(r *store.FieldReader) (id [16]byte) {
	b := r.Bytes()
	if len(b) != len(id) {
		r.Refuse("not an id of 16 bytes")
		return id
	}
	return [16]byte(b)
}

// putTime keeps the zero Time zero.
func putTime(w *store.Fields, tag store.Tag, t time.Time) {
	if !t.IsZero() {
		w.Int(tag, t.UnixNano())
	}
}

func timeOf(r *store.FieldReader) time.Time { return time.Unix(0, r.Int()).UTC() }
