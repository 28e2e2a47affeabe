package store

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"snapfs/store/volume"
)

// fold is the state that the facts add up to. It is a set of records under the keys of the index, with typed views
// of them. Guarded by engine.commitMu for writing; State gives others a copy.
type fold struct {
	chain [16]byte
	seq   uint64 // of the last fact
	last  ID     // its ID
	hold  time.Time
	clock time.Time         // as read for the last fact
	base  checkpointBase    // the newest checkpoint
	admin ed25519.PublicKey // of an append-only store

	nextSlot    uint32
	nextDataset uint32
	snapshots   map[uint32]*snapshotRecord // by slot
	slots       map[ID]uint32
	datasets    map[uint32]*datasetFact
	volumes     map[volume.ID]sealedVolume // that must exist, with the least length
	dropped     map[volume.ID]volume.Kind  // that may be missing and are not used any more
	records     map[string][]byte          // recordFacts by kind and key
	refused     map[uint64]*refusedFact    // the newest refused attempts, by the number of their fact

	dirty   map[string][]byte // changed records, nil: removed; for the index
	ignored []ignoredFact     // since somebody looked
	late    []lateFact        // found behind the newest checkpoint; whether it knows them is still to be looked up
	fresh   bool              // made from all journals, not loaded
	others  *histories        // while it is made from the facts of several
	apart   bool              // what they say is in no checkpoint yet
	named   map[uint32]uint64 // by number of the dataset: number of the newest fact about it
}

// snapshotRecord is a snapshot in the fold.
type snapshotRecord struct {
	commitFact
	committed time.Time
	forgotten bool
	heldUntil time.Time
	forever   bool
}

// forgottenRow is what facts that forget repeat of a snapshot.
func (s *snapshotRecord) forgottenRow() forgotten {
	return forgotten{s.snapshot, s.slot, s.dataset, s.name}
}

func newFold() *fold {
	return &fold{
		nextSlot: 1, nextDataset: 1,
		snapshots: map[uint32]*snapshotRecord{}, slots: map[ID]uint32{}, datasets: map[uint32]*datasetFact{},
		volumes: map[volume.ID]sealedVolume{}, dropped: map[volume.ID]volume.Kind{}, records: map[string][]byte{},
		refused: map[uint64]*refusedFact{}, dirty: map[string][]byte{}, named: map[uint32]uint64{},
	}
}

// Tags of the fold's own records. In the index and in checkpoint facts: on disk; append only.
const (
	tagSnapRecordFact      = 1 | Critical // the commit's fields
	tagSnapRecordPartial   = 2 | Critical
	tagSnapRecordCommitted = 3
	tagSnapRecordForgotten = 4 | Critical
	tagSnapRecordHeld      = 5 | Critical
	tagSnapRecordForever   = 6 | Critical

	tagChainID          = 1 | Critical
	tagChainSeq         = 2 | Critical
	tagChainLast        = 3 | Critical
	tagChainHold        = 4 | Critical
	tagChainNextSlot    = 5 | Critical
	tagChainNextDataset = 6 | Critical
	tagChainClock       = 7
	tagChainBase        = 8 // number of the newest checkpoint, and what it says of the facts before it
	tagChainList        = 9
	tagChainTail        = 10
	tagChainCount       = 11
)

// chainKey is the key of the chain's own record.
var chainKey = metaKey("chain")

// apply adds one fact. Facts are given in the order of the chain, each once.
func (f *fold) apply(fact *Fact, id ID) error {
	body, err := parseBody(fact.Kind, fact.Body)
	if err != nil {
		return err
	}
	if body == nil && fact.Critical {
		return fmt.Errorf("fact %d is of kind %d: %w", fact.Seq, fact.Kind, ErrNewerFormat)
	}
	f.others.renumber(id, body)
	f.moveHold(fact)
	if fact.Seq >= f.seq {
		f.chain, f.seq, f.last, f.clock = fact.Chain, fact.Seq, id, fact.Clock
	}
	if f.unsigned(fact, body) {
		f.ignored = append(f.ignored, ignoredFact{fact.Kind, fact.Seq, id})
	} else if err := f.enter(fact, id, body); err != nil {
		return err
	}
	f.dirty[string(chainKey)] = f.encodeChain()
	return nil
}

// enter changes the state as a fact says.
func (f *fold) enter(fact *Fact, id ID, body FactBody) error {
	switch b := body.(type) {
	case *commitFact:
		f.commit(b, fact.Clock)
	case *forgetFact:
		f.forget(b, fact.Hold)
	case *holdFact:
		f.holdOrRelease(b)
	case *tagFact:
		f.tag(b)
	case *datasetFact:
		if fact.Seq < f.named[b.number] { // found late
			return nil
		}
		f.datasets[b.number], f.named[b.number] = b, fact.Seq
		f.given(b.number)
		f.dirty[string(numberKey(keyDataset, b.number))] = encodeBody(b)
	case *volumesFact:
		f.volume(b)
	case *recordFact:
		key := recordKey(b.kind, b.key)
		value := append([]byte{}, b.value...) // never nil, which would mean removed
		f.records[string(key)], f.dirty[string(key)] = value, value
	case *refusedFact:
		f.refuse(fact.Seq, b)
	case *acknowledgedFact:
		for _, a := range b.list {
			key := recordKey(b.Kind(), a.key())
			value := encodeBody(&acknowledgedFact{job: b.job, at: b.at, list: []acknowledged{a}})
			f.records[string(key)], f.dirty[string(key)] = value, value
		}
	case *checkpointFact:
		if err := f.restart(b, id); err != nil {
			return err
		}
		f.base = checkpointBase{fact.Seq, factList{b.replaced, b.tail}, b.count}
	}
	return nil
}

// given notes that a dataset has a number.
func (f *fold) given(n uint32) {
	if n < firstApart {
		f.nextDataset = max(f.nextDataset, n+1)
	}
}

// refusedLimit is how many refused attempts are remembered.
const refusedLimit = 32

func (f *fold) refuse(seq uint64, b *refusedFact) {
	f.refused[seq] = b
	f.dirty[string(refusedKey(seq))] = encodeBody(b)
	if len(f.refused) > refusedLimit {
		oldest := slices.Min(slices.Collect(maps.Keys(f.refused)))
		delete(f.refused, oldest)
		f.dirty[string(refusedKey(oldest))] = nil
	}
}

func refusedKey(seq uint64) []byte {
	return recordKey(FactRefused, binary.BigEndian.AppendUint64(nil, seq))
}

func recordKey(kind FactKind, key []byte) []byte {
	return append([]byte{keyRecord, byte(kind)}, key...)
}

// commit enters a snapshot. A slot taken twice (a store rolled back and used again) gets the next free one. What is complete never
// becomes a partial: the next commit would drop it.
func (f *fold) commit(c *commitFact, committed time.Time) {
	if slot, ok := f.slots[c.snapshot]; ok && (c.partial || !f.snapshots[slot].partial) {
		return
	}
	for slot, s := range f.snapshots {
		if s.partial && s.dataset == c.dataset {
			f.remove(slot)
		}
	}
	if _, taken := f.snapshots[c.slot]; taken || c.slot == 0 {
		c.slot = f.nextSlot
	}
	f.nextSlot = max(f.nextSlot, c.slot+1)
	f.snapshots[c.slot] = &snapshotRecord{commitFact: *c, committed: committed}
	f.slots[c.snapshot] = c.slot
	f.changed(c.slot)
	for _, v := range c.volumes {
		f.mustExist(v)
	}
}

func (f *fold) changed(slot uint32) {
	f.dirty[string(numberKey(keySnapshot, slot))] = f.snapshots[slot].encode()
}

func (f *fold) remove(slot uint32) {
	if s := f.snapshots[slot]; s != nil {
		if f.slots[s.snapshot] == slot {
			delete(f.slots, s.snapshot)
		}
		delete(f.snapshots, slot)
		f.dirty[string(numberKey(keySnapshot, slot))] = nil
	}
}

func (f *fold) mustExist(v sealedVolume) {
	if _, dropped := f.dropped[v.id]; !dropped && v.length > f.volumes[v.id].length {
		f.volumes[v.id] = v
		f.dirty[string(recordKey(FactVolumeSealed, v.id[:]))] = v.record()
	}
}

// record is the fold's record of a volume that must exist.
func (v sealedVolume) record() []byte {
	return binary.AppendUvarint([]byte{byte(v.kind)}, uint64(v.length))
}

// forget enters that snapshots are forgotten, wanted again or purged. What was held when the fact was made stays: such a
// fact comes from a store that was rolled back, or from no snapfs.
func (f *fold) forget(b *forgetFact, at time.Time) {
	for _, s := range b.snaps {
		slot, ok := f.slots[s.snapshot]
		if !ok || b.kind != FactUnforget && f.snapshots[slot].held(at) {
			continue
		}
		if b.kind == FactPurge {
			f.remove(slot)
			continue
		}
		f.snapshots[slot].forgotten = b.kind == FactForget
		f.changed(slot)
	}
}

// holdOrRelease: holds only extend, until released.
func (f *fold) holdOrRelease(b *holdFact) {
	slot, ok := f.slots[b.snapshot]
	if !ok {
		return
	}
	s := f.snapshots[slot]
	switch {
	case b.kind == FactRelease:
		s.heldUntil, s.forever = time.Time{}, false
	case b.forever:
		s.forever = true
	case b.until.After(s.heldUntil):
		s.heldUntil = b.until
	}
	f.changed(slot)
}

func (f *fold) tag(b *tagFact) {
	slot, ok := f.slots[b.snapshot]
	if !ok {
		return
	}
	s := f.snapshots[slot]
	tags := slices.DeleteFunc(slices.Concat(s.tags, b.add), func(t string) bool { return slices.Contains(b.remove, t) })
	slices.Sort(tags)
	s.tags = slices.Compact(tags)
	f.changed(slot)
}

func (f *fold) volume(b *volumesFact) {
	for _, v := range b.list {
		if b.kind == FactVolumeSealed {
			f.mustExist(v)
			continue
		}
		delete(f.volumes, v.id)
		f.dropped[v.id] = v.kind
		f.dirty[string(recordKey(FactVolumeSealed, v.id[:]))] = nil
		f.dirty[string(recordKey(FactVolumeDropped, v.id[:]))] = []byte{byte(v.kind)}
	}
	for _, v := range b.by {
		f.mustExist(v)
	}
}

func (s *snapshotRecord) encode() []byte {
	w := AppendFields(nil)
	w.Bytes(tagSnapRecordFact, encodeBody(&s.commitFact))
	w.Bool(tagSnapRecordPartial, s.partial)
	w.Int(tagSnapRecordCommitted, nanos(s.committed))
	w.Bool(tagSnapRecordForgotten, s.forgotten)
	w.Int(tagSnapRecordHeld, nanos(s.heldUntil))
	w.Bool(tagSnapRecordForever, s.forever)
	return w.Encoded()
}

func parseSnapshotRecord(data []byte) (*snapshotRecord, error) {
	s := &snapshotRecord{}
	r := ReadFields(data)
	for r.Next() {
		switch r.Tag() {
		case tagSnapRecordFact:
			b := ReadFields(r.Bytes())
			for b.Next() {
				s.commitFact.decode(&b)
			}
			if b.Err() != nil {
				return nil, b.Err()
			}
		case tagSnapRecordPartial:
			s.partial = r.Bool()
		case tagSnapRecordCommitted:
			s.committed = fromNanos(r.Int())
		case tagSnapRecordForgotten:
			s.forgotten = r.Bool()
		case tagSnapRecordHeld:
			s.heldUntil = fromNanos(r.Int())
		case tagSnapRecordForever:
			s.forever = r.Bool()
		default:
			r.Unknown()
		}
	}
	return s, r.Err()
}

func (f *fold) encodeChain() []byte {
	w := AppendFields(nil)
	w.Bytes(tagChainID, f.chain[:])
	w.Uint(tagChainSeq, f.seq)
	w.ID(tagChainLast, f.last)
	w.Int(tagChainHold, nanos(f.hold))
	w.Uint(tagChainNextSlot, uint64(f.nextSlot))
	w.Uint(tagChainNextDataset, uint64(f.nextDataset))
	w.Int(tagChainClock, nanos(f.clock))
	w.Uint(tagChainBase, f.base.seq)
	w.ID(tagChainList, f.base.list.root)
	w.Bytes(tagChainTail, joinIDs(f.base.list.tail))
	w.Uint(tagChainCount, f.base.count)
	return w.Encoded()
}

func (f *fold) parseChain(data []byte) error {
	r := ReadFields(data)
	for r.Next() {
		switch r.Tag() {
		case tagChainID:
			if b := r.Bytes(); len(b) == len(f.chain) {
				f.chain = [16]byte(b)
			}
		case tagChainSeq:
			f.seq = r.Uint()
		case tagChainLast:
			f.last = r.ID()
		case tagChainHold:
			f.hold = fromNanos(r.Int())
		case tagChainNextSlot:
			f.nextSlot = max(f.nextSlot, r.Uint32())
		case tagChainNextDataset:
			f.nextDataset = max(f.nextDataset, r.Uint32())
		case tagChainClock:
			f.clock = fromNanos(r.Int())
		case tagChainBase:
			f.base.seq = r.Uint()
		case tagChainList:
			f.base.list.root = r.ID()
		case tagChainTail:
			f.base.list.tail = readIDs(&r)
		case tagChainCount:
			f.base.count = r.Uint()
		default:
			r.Unknown()
		}
	}
	return r.Err()
}

// load enters one record, read from the index or a checkpoint.
func (f *fold) load(key, value []byte) error {
	switch {
	case len(key) == 5 && key[0] == keySnapshot:
		s, err := parseSnapshotRecord(value)
		if err != nil {
			return err
		}
		slot := binary.BigEndian.Uint32(key[1:])
		f.snapshots[slot], f.slots[s.snapshot] = s, slot
		f.nextSlot = max(f.nextSlot, slot+1) // the chain's record may be from before it: see writeFold
	case len(key) == 5 && key[0] == keyDataset:
		b, err := parseBody(FactDataset, value)
		if err != nil {
			return err
		}
		n := binary.BigEndian.Uint32(key[1:])
		f.datasets[n] = b.(*datasetFact)
		f.given(n)
	case len(key) > 1 && key[0] == keyRecord:
		return f.loadRecord(key, value)
	case bytes.Equal(key, chainKey):
		return f.parseChain(value)
	}
	return nil
}

func (f *fold) loadRecord(key, value []byte) error {
	kind := FactKind(key[1])
	if kind == FactRefused && len(key) == 2+8 {
		b, err := parseBody(kind, value)
		if err != nil {
			return err
		}
		f.refused[binary.BigEndian.Uint64(key[2:])] = b.(*refusedFact)
		return nil
	}
	if kind != FactVolumeSealed && kind != FactVolumeDropped {
		f.records[string(key)] = value
		return nil
	}
	if len(key) != 2+len(volume.ID{}) {
		return fmt.Errorf("%w: volume record", errIndexBroken)
	}
	if len(value) == 0 {
		return fmt.Errorf("%w: volume record", errIndexBroken)
	}
	v := sealedVolume{id: volume.ID(key[2:]), kind: volume.Kind(value[0])}
	if kind == FactVolumeDropped {
		f.dropped[v.id] = v.kind
		return nil
	}
	n, _, err := CutUvarint(value[1:])
	v.length = int64(n)
	f.volumes[v.id] = v
	return err
}

// all gives every record of the fold by its key.
func (f *fold) all() map[string][]byte {
	m := maps.Clone(f.records)
	for slot, s := range f.snapshots {
		m[string(numberKey(keySnapshot, slot))] = s.encode()
	}
	for n, d := range f.datasets {
		m[string(numberKey(keyDataset, n))] = encodeBody(d)
	}
	for id, v := range f.volumes {
		m[string(recordKey(FactVolumeSealed, id[:]))] = v.record()
	}
	for id, kind := range f.dropped {
		m[string(recordKey(FactVolumeDropped, id[:]))] = []byte{byte(kind)}
	}
	for seq, b := range f.refused {
		m[string(refusedKey(seq))] = encodeBody(b)
	}
	m[string(chainKey)] = f.encodeChain()
	return m
}

// checkpoint gives all records as a checkpoint carries them: key and value, each with its length, by key.
func (f *fold) checkpoint() (b []byte) {
	m := f.all()
	for _, key := range slices.Sorted(maps.Keys(m)) {
		b = AppendBytes(AppendString(b, key), m[key])
	}
	return b
}

// restart replaces the state by a checkpoint's. Numbers that were ever given stay given.
func (f *fold) restart(c *checkpointFact, id ID) error {
	fresh := newFold()
	if err := fresh.loadCheckpoint(c); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	f.others.renumberAll(id, fresh)
	for slot := range fresh.snapshots {
		fresh.nextSlot = max(fresh.nextSlot, slot+1)
	}
	for n := range fresh.datasets {
		fresh.given(n)
	}
	fresh.chain, fresh.seq, fresh.last, fresh.clock = f.chain, f.seq, f.last, f.clock
	fresh.admin, fresh.ignored, fresh.late, fresh.fresh, fresh.others = f.admin, f.ignored, f.late, f.fresh, f.others
	if f.hold.After(fresh.hold) {
		fresh.hold = f.hold
	}
	fresh.nextSlot, fresh.nextDataset = max(fresh.nextSlot, f.nextSlot), max(fresh.nextDataset, f.nextDataset)
	for key := range f.all() {
		if _, kept := fresh.dirty[key]; !kept {
			fresh.dirty[key] = nil
		}
	}
	*f = *fresh
	return nil
}

// loadCheckpoint enters the records of a checkpoint into an empty fold.
func (f *fold) loadCheckpoint(c *checkpointFact) error {
	for b := c.records; len(b) > 0; {
		key, rest, err := CutBytes(b)
		if err != nil {
			return err
		}
		value, rest, err := CutBytes(rest)
		if err != nil {
			return err
		}
		key, value, b = bytes.Clone(key), bytes.Clone(value), rest
		if err := f.load(key, value); err != nil {
			return err
		}
		f.dirty[string(key)] = value
	}
	return nil
}

// state gives the view for others; volumes says whether a commit's volumes are all there.
func (f *fold) state(damaged func([]sealedVolume) string) *State {
	st := &State{Seq: f.seq, Head: f.last, HoldTime: f.hold, Clock: f.clock, AppendOnly: f.admin != nil}
	for _, seq := range slices.Sorted(maps.Keys(f.refused)) {
		r := f.refused[seq]
		st.Refused = append(st.Refused, Refusal{What: r.what, Job: r.job, Time: r.at, Attempts: r.attempts})
	}
	for _, slot := range slices.Sorted(maps.Keys(f.snapshots)) {
		s := f.snapshots[slot]
		st.Snapshots = append(st.Snapshots, Snapshot{
			ID: s.snapshot, Slot: slot, DatasetNumber: s.dataset, Dataset: f.datasetName(s.dataset), Name: s.name,
			Start: s.start, Committed: s.committed, Tags: s.tags, HeldUntil: s.heldUntil, HeldForever: s.forever,
			Forgotten: s.forgotten, Partial: s.partial, Damaged: damaged(s.volumes), Summary: s.summary,
		})
	}
	st.Archives = f.archives()
	for _, n := range slices.Sorted(maps.Keys(f.datasets)) {
		st.Datasets = append(st.Datasets, Dataset{Number: n, Name: f.datasetName(n)})
	}
	return st
}

// datasetName never leaves a snapshot without a dataset, whatever facts were lost. Of two of one name, which histories made that
// came together, the one off the line has a number behind it.
func (f *fold) datasetName(n uint32) string {
	d := f.datasets[n]
	if d == nil {
		return fmt.Sprintf("dataset-%d", n)
	}
	name := d.name
	for i := 2; n >= firstApart && f.nameTaken(n, name); i++ {
		name = fmt.Sprintf("%s-%d", d.name, i)
	}
	return name
}

// nameTaken reports whether a dataset of a lower number has a name.
func (f *fold) nameTaken(n uint32, name string) bool {
	for m := range f.datasets {
		if m < n && f.datasetName(m) == name {
			return true
		}
	}
	return false
}

// datasetNumber finds a dataset by its present name.
func (f *fold) datasetNumber(name string) (uint32, bool) {
	for n := range f.datasets {
		if f.datasetName(n) == name {
			return n, true
		}
	}
	return 0, false
}
