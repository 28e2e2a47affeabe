package archive

import (
	"errors"
	"fmt"
	"time"

	"snapfs/store"
	"snapfs/store/volume"
)

// ErrRecord: a record of a set breaks the rules of its format.
var ErrRecord = errors.New("malformed record of an archive set")

// Types of records. On disk; append only.
const (
	recordHead         = 1
	recordMetadataDone = 2
	recordTableBefore  = 3
	recordEnd          = 4
)

// SetID names an archive set: 16 random bytes.
type SetID [16]byte

// String is the lower-case hexadecimal form.
func (id SetID) String() string { return fmt.Sprintf("%x", id[:]) }

// IsZero reports whether id names no set.
func (id SetID) IsZero() bool { return id == SetID{} }

// Head begins every volume of a set: what is in the set, and which sets it builds on.
type Head struct {
	Set           SetID
	Name          string
	Pool          string
	Level         volume.SetLevel
	Parent        SetID // zero for a full set
	Number        uint32
	Created       time.Time
	Store         [16]byte // the origin's id
	ChunkAverage  int      // bytes
	Snapshots     []SnapshotRecord
	Chain         []ChainSet // parent first: those that hold the chunks this set leaves out
	KeepUntil     time.Time
	MetadataBlobs int64 // this and the following: what is planned
	MetadataBytes int64
	Chunks        int64
	ChunkBytes    int64
	Program       string
	ParityVolumes int
}

// SnapshotRecord is what the origin's facts said of a snapshot.
type SnapshotRecord struct {
	ID        store.ID
	Dataset   string
	Name      string
	Start     time.Time
	Slot      uint32
	Summary   []byte
	Tags      []string
	Committed time.Time
}

// ChainSet is a set that another one needs.
type ChainSet struct {
	Set      SetID
	Name     string
	Level    volume.SetLevel
	Volumes  int
	Location string
	Created  time.Time
}

// MetadataDone says that all metadata of the set has come.
type MetadataDone struct {
	Blobs int64
	Bytes int64 // plain
}

// TableBefore is a part of the contents table of the volume before, which ended without one.
type TableBefore struct {
	Volume volume.ID
	Number uint32
	Whole  int64  // bytes of it that are whole frames
	Part   []byte // payload of a contents frame
}

// End closes a set.
type End struct {
	Set           SetID
	Volumes       []VolumeRecord
	MetadataBlobs int64
	Chunks        int64
	Bytes         int64 // plain, of both
	Lost          int64 // blobs that the store could not read
	Finished      time.Time
}

// VolumeRecord is a volume of a set.
type VolumeRecord struct {
	ID     volume.ID
	Number uint32
	Length int64 // 0: not known yet, of the one the record stands in
}

// Fields of a head. On disk; append only.
const (
	headSet           = 1 | store.Critical
	headName          = store.Tag(2)
	headPool          = store.Tag(3)
	headLevel         = 4 | store.Critical
	headParent        = store.Tag(5)
	headNumber        = 6 | store.Critical
	headCreated       = store.Tag(7)
	headStore         = 8 | store.Critical
	headChunkAverage  = store.Tag(9)
	headSnapshots     = store.Tag(10)
	headChain         = store.Tag(11)
	headKeepUntil     = store.Tag(12)
	headMetadataBlobs = store.Tag(13)
	headMetadataBytes = store.Tag(14)
	headChunks        = store.Tag(15)
	headChunkBytes    = store.Tag(16)
	headProgram       = store.Tag(17)
	headParityVolumes = store.Tag(18)
)

// Fields of a snapshot in a head. On disk; append only.
const (
	snapshotID        = 1 | store.Critical
	snapshotDataset   = store.Tag(2)
	snapshotName      = store.Tag(3)
	snapshotStart     = store.Tag(4)
	snapshotSlot      = store.Tag(5)
	snapshotSummary   = store.Tag(6)
	snapshotTags      = store.Tag(7)
	snapshotCommitted = store.Tag(8)
)

// Fields of a set of the chain. On disk; append only.
const (
	chainSet      = 1 | store.Critical
	chainName     = store.Tag(2)
	chainLevel    = store.Tag(3)
	chainVolumes  = store.Tag(4)
	chainLocation = store.Tag(5)
	chainCreated  = store.Tag(6)
)

// Fields of the other records. On disk; append only.
const (
	doneBlobs = store.Tag(1)
	doneBytes = store.Tag(2)

	tableVolume = 1 | store.Critical
	tableNumber = 2 | store.Critical
	tableWhole  = 3 | store.Critical
	tablePart   = store.Tag(4)

	endSet           = 1 | store.Critical
	endVolumes       = store.Tag(2)
	endMetadataBlobs = store.Tag(3)
	endChunks        = store.Tag(4)
	endBytes         = store.Tag(5)
	endLost          = store.Tag(6)
	endFinished      = store.Tag(7)

	endVolumeID     = 1 | store.Critical
	endVolumeNumber = 2 | store.Critical
	endVolumeLength = store.Tag(3)
)

// encode gives the plaintext of the record's frame.
func (h *Head) encode() []byte {
	f := store.AppendFields([]byte{recordHead})
	f.Bytes(headSet, h.Set[:])
	f.String(headName, h.Name)
	f.String(headPool, h.Pool)
	f.Uint(headLevel, uint64(h.Level))
	putID(&f, headParent, h.Parent)
	f.Uint(headNumber, uint64(h.Number))
	f.Int(headCreated, nanos(h.Created))
	f.Bytes(headStore, h.Store[:])
	f.Uint(headChunkAverage, uint64(h.ChunkAverage))
	f.Bytes(headSnapshots, encodeRecords(h.Snapshots, (*SnapshotRecord).append))
	f.Bytes(headChain, encodeRecords(h.Chain, (*ChainSet).append))
	f.Int(headKeepUntil, nanos(h.KeepUntil))
	f.Uint(headMetadataBlobs, uint64(h.MetadataBlobs))
	f.Uint(headMetadataBytes, uint64(h.MetadataBytes))
	f.Uint(headChunks, uint64(h.Chunks))
	f.Uint(headChunkBytes, uint64(h.ChunkBytes))
	f.String(headProgram, h.Program)
	f.Uint(headParityVolumes, uint64(h.ParityVolumes))
	return f.Encoded()
}

func (s *SnapshotRecord) append(buf []byte) []byte {
	f := store.AppendFields(buf)
	f.ID(snapshotID, s.ID)
	f.String(snapshotDataset, s.Dataset)
	f.String(snapshotName, s.Name)
	f.Int(snapshotStart, nanos(s.Start))
	f.Uint(snapshotSlot, uint64(s.Slot))
	f.Bytes(snapshotSummary, s.Summary)
	f.Strings(snapshotTags, s.Tags)
	f.Int(snapshotCommitted, nanos(s.Committed))
	return f.Encoded()
}

func (c *ChainSet) append(buf []byte) []byte {
	f := store.AppendFields(buf)
	f.Bytes(chainSet, c.Set[:])
	f.String(chainName, c.Name)
	f.Uint(chainLevel, uint64(c.Level))
	f.Uint(chainVolumes, uint64(c.Volumes))
	f.String(chainLocation, c.Location)
	f.Int(chainCreated, nanos(c.Created))
	return f.Encoded()
}

func (m *MetadataDone) encode() []byte {
	f := store.AppendFields([]byte{recordMetadataDone})
	f.Uint(doneBlobs, uint64(m.Blobs))
	f.Uint(doneBytes, uint64(m.Bytes))
	return f.Encoded()
}

func (t *TableBefore) encode() []byte {
	f := store.AppendFields([]byte{recordTableBefore})
	f.Bytes(tableVolume, t.Volume[:])
	f.Uint(tableNumber, uint64(t.Number))
	f.Uint(tableWhole, uint64(t.Whole))
	f.Bytes(tablePart, t.Part)
	return f.Encoded()
}

func (e *End) encode() []byte {
	f := store.AppendFields([]byte{recordEnd})
	f.Bytes(endSet, e.Set[:])
	f.Bytes(endVolumes, encodeRecords(e.Volumes, (*VolumeRecord).append))
	f.Uint(endMetadataBlobs, uint64(e.MetadataBlobs))
	f.Uint(endChunks, uint64(e.Chunks))
	f.Uint(endBytes, uint64(e.Bytes))
	f.Uint(endLost, uint64(e.Lost))
	f.Int(endFinished, nanos(e.Finished))
	return f.Encoded()
}

func (v *VolumeRecord) append(buf []byte) []byte {
	f := store.AppendFields(buf)
	f.Bytes(endVolumeID, v.ID[:])
	f.Uint(endVolumeNumber, uint64(v.Number))
	f.Uint(endVolumeLength, uint64(v.Length))
	return f.Encoded()
}

func encodeRecords[T any](list []T, appendTo func(*T, []byte) []byte) []byte {
	var out, one []byte
	for i := range list {
		one = appendTo(&list[i], one[:0])
		out = store.AppendBytes(out, one)
	}
	return out
}

func putID(f *store.Fields, tag store.Tag, id SetID) {
	if !id.IsZero() {
		f.Bytes(tag, id[:])
	}
}

// nanos is a time as records hold it; 0 for none.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
