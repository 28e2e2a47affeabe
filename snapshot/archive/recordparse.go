package archive

import (
	"errors"
	"fmt"
	"math"

	"snapfs/store"
	"snapfs/store/volume"
)

// parseRecord decodes the plaintext of a record's frame: a *Head, *MetadataDone, *TableBefore or *End; nil for types
// that are not known. Errors: ErrRecord, store.ErrNewerFormat.
func parseRecord(plain []byte) (record any, err error) {
	if len(plain) == 0 {
		return nil, fmt.Errorf("empty: %w", ErrRecord)
	}
	r := store.ReadFields(plain[1:])
	switch plain[0] {
	case recordHead:
		record, err = parseHead(&r)
	case recordMetadataDone:
		record, err = parseMetadataDone(&r)
	case recordTableBefore:
		record, err = parseTableBefore(&r)
	case recordEnd:
		record, err = parseEnd(&r)
	default:
		return nil, nil
	}
	if err == nil {
		err = r.Err()
	}
	if err != nil && !errors.Is(err, store.ErrNewerFormat) {
		err = fmt.Errorf("type %d: %w: %w", plain[0], ErrRecord, err)
	}
	if err != nil {
		return nil, err
	}
	return record, nil
}

func parseHead(r *store.FieldReader) (*Head, error) {
	h := new(Head)
	var err error
	for r.Next() && err == nil {
		switch r.Tag() {
		case headSet:
			h.Set = id16(r)
		case headName:
			h.Name = r.String()
		case headPool:
			h.Pool = r.String()
		case headLevel:
			h.Level = level(r)
		case headParent:
			h.Parent = id16(r)
		case headNumber:
			h.Number = r.Uint32()
		case headCreated:
			h.Created = fromNanos(r.Int())
		case headStore:
			h.Store = id16(r)
		case headChunkAverage:
			h.ChunkAverage = int(r.Uint32())
		case headSnapshots:
			h.Snapshots, err = parseRecords(r, parseSnapshot)
		case headChain:
			h.Chain, err = parseRecords(r, parseChain)
		case headKeepUntil:
			h.KeepUntil = fromNanos(r.Int())
		default:
			h.parseCounts(r)
		}
	}
	if err == nil && (h.Set.IsZero() || h.Number == 0 || h.Level == 0) {
		err = errors.New("a head without set, number or level")
	}
	return h, err
}

func (h *Head) parseCounts(r *store.FieldReader) {
	switch r.Tag() {
	case headMetadataBlobs:
		h.MetadataBlobs = amount(r)
	case headMetadataBytes:
		h.MetadataBytes = amount(r)
	case headChunks:
		h.Chunks = amount(r)
	case headChunkBytes:
		h.ChunkBytes = amount(r)
	case headProgram:
		h.Program = r.String()
	case headParityVolumes:
		h.ParityVolumes = int(r.Uint32())
	default:
		r.Unknown()
	}
}

func parseSnapshot(r *store.FieldReader) (s SnapshotRecord) {
	for r.Next() {
		switch r.Tag() {
		case snapshotID:
			s.ID = r.ID()
		case snapshotDataset:
			s.Dataset = r.String()
		case snapshotName:
			s.Name = r.String()
		case snapshotStart:
			s.Start = fromNanos(r.Int())
		case snapshotSlot:
			s.Slot = r.Uint32()
		case snapshotSummary:
			s.Summary = append([]byte(nil), r.Bytes()...)
		case snapshotTags:
			s.Tags = r.Strings()
		case snapshotCommitted:
			s.Committed = fromNanos(r.Int())
		default:
			r.Unknown()
		}
	}
	return s
}

func parseChain(r *store.FieldReader) (c ChainSet) {
	for r.Next() {
		switch r.Tag() {
		case chainSet:
			c.Set = id16(r)
		case chainName:
			c.Name = r.String()
		case chainLevel:
			c.Level = level(r)
		case chainVolumes:
			c.Volumes = int(r.Uint32())
		case chainLocation:
			c.Location = r.String()
		case chainCreated:
			c.Created = fromNanos(r.Int())
		default:
			r.Unknown()
		}
	}
	return c
}

func parseMetadataDone(r *store.FieldReader) (*MetadataDone, error) {
	m := new(MetadataDone)
	for r.Next() {
		switch r.Tag() {
		case doneBlobs:
			m.Blobs = amount(r)
		case doneBytes:
			m.Bytes = amount(r)
		default:
			r.Unknown()
		}
	}
	return m, nil
}

func parseTableBefore(r *store.FieldReader) (*TableBefore, error) {
	t := new(TableBefore)
	for r.Next() {
		switch r.Tag() {
		case tableVolume:
			t.Volume = volume.ID(id16(r))
		case tableNumber:
			t.Number = r.Uint32()
		case tableWhole:
			t.Whole = amount(r)
		case tablePart:
			t.Part = append([]byte(nil), r.Bytes()...)
		default:
			r.Unknown()
		}
	}
	if r.Err() == nil && (t.Volume.IsZero() || t.Number == 0) {
		return nil, errors.New("a table of no volume")
	}
	return t, nil
}

func parseEnd(r *store.FieldReader) (*End, error) {
	e := new(End)
	var err error
	for r.Next() && err == nil {
		switch r.Tag() {
		case endSet:
			e.Set = id16(r)
		case endVolumes:
			e.Volumes, err = parseRecords(r, parseVolume)
		case endMetadataBlobs:
			e.MetadataBlobs = amount(r)
		case endChunks:
			e.Chunks = amount(r)
		case endBytes:
			e.Bytes = amount(r)
		case endLost:
			e.Lost = amount(r)
		case endFinished:
			e.Finished = fromNanos(r.Int())
		default:
			r.Unknown()
		}
	}
	if err == nil && r.Err() == nil && e.Set.IsZero() {
		err = errors.New("an end of no set")
	}
	return e, err
}

func parseVolume(r *store.FieldReader) (v VolumeRecord) {
	for r.Next() {
		switch r.Tag() {
		case endVolumeID:
			v.ID = volume.ID(id16(r))
		case endVolumeNumber:
			v.Number = r.Uint32()
		case endVolumeLength:
			v.Length = amount(r)
		default:
			r.Unknown()
		}
	}
	return v
}

// parseRecords is the inverse of encodeRecords.
func parseRecords[T any](r *store.FieldReader, parse func(*store.FieldReader) T) (list []T, err error) {
	for rest := r.Bytes(); len(rest) > 0; {
		var one []byte
		if one, rest, err = store.CutBytes(rest); err != nil {
			return nil, err
		}
		fields := store.ReadFields(one)
		v := parse(&fields)
		if err := fields.Err(); err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

func id16(r *store.FieldReader) (id [16]byte) {
	b := r.Bytes()
	if len(b) != len(id) {
		r.Refuse("not an id of 16 bytes")
		return id
	}
	return [16]byte(b)
}

func level(r *store.FieldReader) volume.SetLevel {
	v := r.Uint()
	if v > math.MaxUint8 {
		r.Refuse("no level")
	}
	return volume.SetLevel(v)
}

// amount is a number that counts something.
func amount(r *store.FieldReader) int64 {
	v := r.Uint()
	if v > math.MaxInt64 {
		r.Refuse("number too large")
		return 0
	}
	return int64(v)
}
