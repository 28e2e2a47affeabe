package archive

import (
	"fmt"
	"slices"
	"time"

	"snapfs/store"
	"snapfs/store/volume"
)

// Table is a part of the contents table of the volume before, whose medium ended unannounced.
type Table struct {
	Volume volume.ID
	Number uint32
	Whole  int64  // bytes of the volume that are whole frames; rows beyond that are of frames that come again
	Part   []byte // payload of a contents frame (package volume)
}

// SetVolume is a volume as the end of a set lists it.
type SetVolume struct {
	ID     volume.ID
	Number uint32
	Length int64 // 0: the volume the record stands in
}

// End ends a set.
type End struct {
	Set      [16]byte
	Volumes  []SetVolume
	Written  Counts // MetadataBytes has the bytes of both
	Lost     int64  // blobs that could not be read from the store
	Finished time.Time
}

// Tags of these records. On disk; append only.
const (
	metadataBlobs store.Tag = 1
	metadataBytes store.Tag = 2

	tableVolume store.Tag = 1 | store.Critical
	tableNumber store.Tag = 2 | store.Critical
	tableWhole  store.Tag = 3 | store.Critical
	tablePart   store.Tag = 4

	endSet      store.Tag = 1 | store.Critical
	endVolumes  store.Tag = 2
	endMetadata store.Tag = 3
	endChunks   store.Tag = 4
	endBytes    store.Tag = 5
	endLost     store.Tag = 6
	endFinished store.Tag = 7

	endVolumeID     store.Tag = 1 | store.Critical
	endVolumeNumber store.Tag = 2 | store.Critical
	endVolumeLength store.Tag = 3
)

func encodeMetadataComplete(c Counts) []byte {
	w := store.AppendFields([]byte{byte(RecordMetadata)})
	w.Uint(metadataBlobs, uint64(c.Metadata))
	w.Uint(metadataBytes, uint64(c.MetadataBytes))
	return w.Encoded()
}

// ParseMetadataComplete reads how much metadata the set has.
func ParseMetadataComplete(plain []byte) (c Counts, err error) {
	err = parseRecord(plain, RecordMetadata, func(r *store.FieldReader) {
		switch r.Tag() {
		case metadataBlobs:
			c.Metadata = int64(r.Uint())
		case metadataBytes:
			c.MetadataBytes = int64(r.Uint())
		default:
			r.Unknown()
		}
	})
	return c, err
}

// Encode gives the plaintext of the record's frame.
func (t *Table) Encode() []byte {
	w := store.AppendFields([]byte{byte(RecordTable)})
	w.Bytes(tableVolume, t.Volume[:])
	w.Uint(tableNumber, uint64(t.Number))
	w.Uint(tableWhole, uint64(t.Whole))
	w.Bytes(tablePart, t.Part)
	return w.Encoded()
}

// ParseTable is the inverse of Encode.
func ParseTable(plain []byte) (*Table, error) {
	t := &Table{}
	err := parseRecord(plain, RecordTable, func(r *store.FieldReader) {
		switch r.Tag() {
		case tableVolume:
			t.Volume = id16(r)
		case tableNumber:
			t.Number = r.Uint32()
		case tableWhole:
			t.Whole = int64(r.Uint())
		case tablePart:
			t.Part = slices.Clone(r.Bytes())
		default:
			r.Unknown()
		}
	})
	return t, err
}

// Encode gives the plaintext of the record's frame.
func (e *End) Encode() []byte {
	w := store.AppendFields([]byte{byte(RecordEnd)})
	w.Bytes(endSet, e.Set[:])
	w.Bytes(endVolumes, encodeList(e.Volumes, (*SetVolume).encode))
	w.Uint(endMetadata, uint64(e.Written.Metadata))
	w.Uint(endChunks, uint64(e.Written.Chunks))
	w.Uint(endBytes, uint64(e.Written.MetadataBytes+e.Written.ChunkBytes))
	w.Uint(endLost, uint64(e.Lost))
	putTime(&w, endFinished, e.Finished)
	return w.Encoded()
}

func (v *SetVolume) encode() []byte {
	w := store.AppendFields(nil)
	w.Bytes(endVolumeID, v.ID[:])
	w.Uint(endVolumeNumber, uint64(v.Number))
	w.Uint(endVolumeLength, uint64(v.Length))
	return w.Encoded()
}

// ParseEnd is the inverse of Encode; Written.MetadataBytes has the bytes of both.
func ParseEnd(plain []byte) (*End, error) {
	e := &End{}
	err := parseRecord(plain, RecordEnd, func(r *store.FieldReader) {
		switch r.Tag() {
		case endSet:
			e.Set = id16(r)
		case endVolumes:
			eachRecord(r, func(item *store.FieldReader) { e.Volumes = append(e.Volumes, parseSetVolume(item)) })
		case endMetadata:
			e.Written.Metadata = int64(r.Uint())
		case endChunks:
			e.Written.Chunks = int64(r.Uint())
		case endBytes:
			e.Written.MetadataBytes = int64(r.Uint())
		case endLost:
			e.Lost = int64(r.Uint())
		case endFinished:
			e.Finished = timeOf(r)
		default:
			r.Unknown()
		}
	})
	if err == nil && e.Set == ([16]byte{}) {
		err = fmt.Errorf("%w: end without a set", ErrRecord)
	}
	return e, err
}

func parseSetVolume(r *store.FieldReader) (v SetVolume) {
	for r.Next() {
		switch r.Tag() {
		case endVolumeID:
			v.ID = id16(r)
		case endVolumeNumber:
			v.Number = r.Uint32()
		case endVolumeLength:
			v.Length = int64(r.Uint())
		default:
			r.Unknown()
		}
	}
	return v
}
