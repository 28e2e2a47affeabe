package store

import (
	"time"

	"snapfs/store/volume"
)

// holdFact promises that a snapshot is not removed before a date, or lifts the promise.
type holdFact struct {
	kind     FactKind
	snapshot ID
	until    time.Time // hold facts
	forever  bool
}

// Tags of hold and release facts. On disk; append only.
const (
	tagHoldSnapshot = 1 | Critical
	tagHoldUntil    = 2
	tagHoldForever  = 3
)

func (h *holdFact) Kind() FactKind { return h.kind }

func (h *holdFact) encode(w *Fields) {
	w.ID(tagHoldSnapshot, h.snapshot)
	w.Int(tagHoldUntil, nanos(h.until))
	w.Bool(tagHoldForever, h.forever)
}

func (h *holdFact) decode(r *FieldReader) {
	switch r.Tag() {
	case tagHoldSnapshot:
		h.snapshot = r.ID()
	case tagHoldUntil:
		h.until = fromNanos(r.Int())
	case tagHoldForever:
		h.forever = r.Bool()
	default:
		r.Unknown()
	}
}

// tagFact adds tags to a snapshot and takes others away.
type tagFact struct {
	snapshot    ID
	add, remove []string
}

// Tags of tag facts. On disk; append only.
const (
	tagTagSnapshot = 1 | Critical
	tagTagAdd      = 2
	tagTagRemove   = 3
)

func (t *tagFact) Kind() FactKind { return FactTag }

func (t *tagFact) encode(w *Fields) {
	w.ID(tagTagSnapshot, t.snapshot)
	w.Strings(tagTagAdd, t.add)
	w.Strings(tagTagRemove, t.remove)
}

func (t *tagFact) decode(r *FieldReader) {
	switch r.Tag() {
	case tagTagSnapshot:
		t.snapshot = r.ID()
	case tagTagAdd:
		t.add = r.Strings()
	case tagTagRemove:
		t.remove = r.Strings()
	default:
		r.Unknown()
	}
}

// datasetFact makes a dataset or changes it; the last one of a number counts.
type datasetFact struct {
	number   uint32
	name     string
	settings []byte
}

// Tags of dataset facts. On disk; append only.
const (
	tagDatasetNumber   = 1 | Critical
	tagDatasetName     = 2 | Critical
	tagDatasetSettings = 3
)

func (d *datasetFact) Kind() FactKind { return FactDataset }

func (d *datasetFact) encode(w *Fields) {
	w.Uint(tagDatasetNumber, uint64(d.number))
	w.String(tagDatasetName, d.name)
	w.Bytes(tagDatasetSettings, d.settings)
}

func (d *datasetFact) decode(r *FieldReader) {
	switch r.Tag() {
	case tagDatasetNumber:
		d.number = r.Uint32()
	case tagDatasetName:
		d.name = r.String()
	case tagDatasetSettings:
		d.settings = append([]byte(nil), r.Bytes()...)
	default:
		r.Unknown()
	}
}

// volumesFact names volumes that must exist (sealed), may be missing (dropped) or were replaced by others.
type volumesFact struct {
	kind FactKind
	list []sealedVolume
	by   []sealedVolume // of replaced: where the good blobs went
}

// Tags of volume facts. On disk; append only.
const (
	tagVolumesList = 1 | Critical
	tagVolumesBy   = 2
)

func (v *volumesFact) Kind() FactKind { return v.kind }

func (v *volumesFact) encode(w *Fields) {
	w.Bytes(tagVolumesList, encodeVolumes(v.list))
	w.Bytes(tagVolumesBy, encodeVolumes(v.by))
}

func (v *volumesFact) decode(r *FieldReader) {
	switch r.Tag() {
	case tagVolumesList:
		v.list = decodeVolumes(r)
	case tagVolumesBy:
		v.by = decodeVolumes(r)
	default:
		r.Unknown()
	}
}

// checkpointFact carries the fold of all facts before it, so that those may be dropped.
type checkpointFact struct {
	records  []byte // the fold's records, see fold.encode
	replaced ID     // root of the paged list of the IDs of all facts it replaces, in order
	count    uint64 // how many, with the tail
	tail     []ID   // the newest of them, which are not in the list
}

// Tags of checkpoint facts. On disk; append only.
const (
	tagCheckpointRecords  = 1 | Critical
	tagCheckpointReplaced = 2
	tagCheckpointCount    = 3
	tagCheckpointTail     = 4
)

func (c *checkpointFact) Kind() FactKind { return FactCheckpoint }

func (c *checkpointFact) encode(w *Fields) {
	w.Bytes(tagCheckpointRecords, c.records)
	w.ID(tagCheckpointReplaced, c.replaced)
	w.Uint(tagCheckpointCount, c.count)
	w.Bytes(tagCheckpointTail, joinIDs(c.tail))
}

func (c *checkpointFact) decode(r *FieldReader) {
	switch r.Tag() {
	case tagCheckpointRecords:
		c.records = append([]byte(nil), r.Bytes()...)
	case tagCheckpointReplaced:
		c.replaced = r.ID()
	case tagCheckpointCount:
		c.count = r.Uint()
	case tagCheckpointTail:
		c.tail = readIDs(r)
	default:
		r.Unknown()
	}
}

// recordFact is a fact that the fold keeps whole under a key: the last one of a kind and key counts. Imports, archive
// sets and their states, copies at targets and heads of other chains are such facts.
type recordFact struct {
	kind  FactKind
	key   []byte // what it is about: a snapshot, set, volume at a target, chain
	value []byte // fields of the package that writes it
}

// Tags of these facts. On disk; append only.
const (
	tagRecordKey   = 1 | Critical
	tagRecordValue = 2
)

func (f *recordFact) Kind() FactKind { return f.kind }

func (f *recordFact) encode(w *Fields) {
	w.Bytes(tagRecordKey, f.key)
	w.Bytes(tagRecordValue, f.value)
}

func (f *recordFact) decode(r *FieldReader) {
	switch r.Tag() {
	case tagRecordKey:
		f.key = append([]byte(nil), r.Bytes()...)
	case tagRecordValue:
		f.value = append([]byte(nil), r.Bytes()...)
	default:
		r.Unknown()
	}
}

// clockFact confirms the clock: its hold time is what it brings.
type clockFact struct{}

func (*clockFact) Kind() FactKind        { return FactClock }
func (*clockFact) encode(*Fields)        {}
func (*clockFact) decode(r *FieldReader) { r.Unknown() }

// refusedFact records that somebody without admin rights tried what needs them.
type refusedFact struct {
	what     string // "forget", "prune" ...
	job      string // of the session
	at       time.Time
	attempts uint64 // since the last such fact
}

// Tags of facts about refused attempts. On disk; append only.
const (
	tagRefusedWhat     = 1
	tagRefusedJob      = 2
	tagRefusedAt       = 3
	tagRefusedAttempts = 4
)

func (*refusedFact) Kind() FactKind { return FactRefused }

func (f *refusedFact) encode(w *Fields) {
	w.String(tagRefusedWhat, f.what)
	w.String(tagRefusedJob, f.job)
	w.Int(tagRefusedAt, nanos(f.at))
	w.Uint(tagRefusedAttempts, f.attempts)
}

func (f *refusedFact) decode(r *FieldReader) {
	switch r.Tag() {
	case tagRefusedWhat:
		f.what = r.String()
	case tagRefusedJob:
		f.job = r.String()
	case tagRefusedAt:
		f.at = fromNanos(r.Int())
	case tagRefusedAttempts:
		f.attempts = r.Uint()
	default:
		r.Unknown()
	}
}

// acknowledgedFact says what was found wrong with the chain and cannot be mended: whoever verifies is told of it and goes on.
type acknowledgedFact struct {
	job  string // of the session
	at   time.Time
	list []acknowledged
}

// acknowledged is one finding about the chain.
type acknowledged struct {
	problem ChainProblem
	volume  volume.ID // zero: none in particular
	seq     uint64
	fact    ID
	text    string // for people
}

// Tags of facts about what was acknowledged, and of what they list. On disk; append only.
const (
	tagAcknowledgedJob  = 1
	tagAcknowledgedAt   = 2
	tagAcknowledgedList = 3

	tagAckItemProblem = 1
	tagAckItemVolume  = 2
	tagAckItemSeq     = 3
	tagAckItemFact    = 4
	tagAckItemText    = 5
)

func (*acknowledgedFact) Kind() FactKind { return FactAcknowledged }

func (f *acknowledgedFact) encode(w *Fields) {
	w.String(tagAcknowledgedJob, f.job)
	w.Int(tagAcknowledgedAt, nanos(f.at))
	var items []byte
	for _, a := range f.list {
		items = AppendBytes(items, a.encode())
	}
	w.Bytes(tagAcknowledgedList, items)
}

func (f *acknowledgedFact) decode(r *FieldReader) {
	switch r.Tag() {
	case tagAcknowledgedJob:
		f.job = r.String()
	case tagAcknowledgedAt:
		f.at = fromNanos(r.Int())
	case tagAcknowledgedList:
		for b := r.Bytes(); len(b) > 0; {
			item, rest, err := CutBytes(b)
			if err != nil {
				r.Refuse("list of what is acknowledged")
				return
			}
			a := ReadFields(item)
			f.list, b = append(f.list, decodeAcknowledged(&a)), rest
			r.skipped = r.skipped || a.Skipped()
			if a.Err() != nil {
				r.Refuse("list of what is acknowledged")
				return
			}
		}
	default:
		r.Unknown()
	}
}

func (a acknowledged) encode() []byte {
	w := AppendFields(nil)
	w.String(tagAckItemProblem, string(a.problem))
	if !a.volume.IsZero() {
		w.Bytes(tagAckItemVolume, a.volume[:])
	}
	w.Uint(tagAckItemSeq, a.seq)
	w.ID(tagAckItemFact, a.fact)
	w.String(tagAckItemText, a.text)
	return w.Encoded()
}

func decodeAcknowledged(r *FieldReader) (a acknowledged) {
	for r.Next() {
		switch r.Tag() {
		case tagAckItemProblem:
			a.problem = ChainProblem(r.String())
		case tagAckItemVolume:
			b := r.Bytes()
			if len(b) != len(a.volume) || volume.ID(b).IsZero() {
				r.Refuse("not a volume")
				return a
			}
			a.volume = volume.ID(b)
		case tagAckItemSeq:
			a.seq = r.Uint()
		case tagAckItemFact:
			a.fact = r.ID()
		case tagAckItemText:
			a.text = r.String()
		default:
			r.Unknown()
		}
	}
	return a
}

// key is what tells one finding from another: all but what is said to people.
func (a acknowledged) key() []byte {
	a.text = ""
	return a.encode()
}
