package store

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"snapfs/store/volume"
	"snapfs/store/wire"
)

// codeStore marks errors of this package on the wire.
const codeStore = wire.CodeFirstOwn

// travelling are the sentinels that reach the other side, known there by their position. On the wire; append only.
var travelling = [...]error{
	ErrNoStore, ErrNewerFormat, ErrConfig, ErrNoSpace, ErrWriteFailed, ErrNotFound, ErrExists, fs.ErrNotExist,
	fs.ErrPermission, ErrNotAdmin, ErrOnHold, ErrHeldLonger, ErrHoldOver, ErrUnreadable, ErrNoReferences, ErrForgotten,
}

// Tags of an error's data. On the wire; append only.
const (
	tagErrorSentinels = 1 // a bit for each of travelling
	tagErrorVolume    = 2 // 2 to 5: CorruptError
	tagErrorOffset    = 3
	tagErrorBlob      = 4
	tagErrorCause     = 5
	tagErrorMissing   = 6 // 6, 7: MissingError
	tagErrorKind      = 7
	tagErrorLock      = 8 // 8, 9: LockedError
	tagErrorJob       = 9
)

// toWire packs an error so that errors.Is and errors.As work on the other side.
func toWire(err error) error {
	if errors.Is(err, ErrClosed) {
		return &wire.Error{Code: wire.CodeEnding, Text: err.Error()}
	}
	var sentinels uint64
	for i, s := range travelling {
		if errors.Is(err, s) {
			sentinels |= 1 << i
		}
	}
	w := AppendFields(nil)
	w.Uint(tagErrorSentinels, sentinels)
	var corrupt *CorruptError
	if errors.As(err, &corrupt) {
		w.Bytes(tagErrorVolume, corrupt.Volume[:])
		w.Int(tagErrorOffset, corrupt.Offset)
		w.ID(tagErrorBlob, corrupt.ID)
		w.String(tagErrorCause, corrupt.Err.Error())
	}
	var missing *MissingError
	if errors.As(err, &missing) {
		w.Bytes(tagErrorMissing, missing.ID[:])
		w.Uint(tagErrorKind, uint64(missing.Kind))
	}
	var locked *LockedError
	if errors.As(err, &locked) {
		w.String(tagErrorLock, locked.Name)
		w.String(tagErrorJob, locked.Job)
	}
	if len(w.Encoded()) == 0 {
		return err
	}
	return &wire.Error{Code: codeStore, Text: err.Error(), Data: w.Encoded()}
}

// remoteError is an error of this package that happened on the other side.
type remoteError struct {
	text string
	is   []error
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.is }

// fromWire is the inverse of toWire.
func fromWire(err error) error {
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != codeStore {
		return err
	}
	out := &remoteError{text: e.Text}
	var corrupt CorruptError
	var missing MissingError
	var locked LockedError
	r := ReadFields(e.Data)
	for r.Next() {
		switch r.Tag() {
		case tagErrorSentinels:
			out.addSentinels(r.Uint())
		case tagErrorVolume:
			if b := r.Bytes(); len(b) == len(volume.ID{}) {
				corrupt.Volume = volume.ID(b)
				out.is = append(out.is, &corrupt)
			}
		case tagErrorOffset:
			corrupt.Offset = r.Int()
		case tagErrorBlob:
			corrupt.ID = r.ID()
		case tagErrorCause:
			corrupt.Err = errors.New(r.String())
		case tagErrorMissing:
			if b := r.Bytes(); len(b) == len(ID{}) {
				missing.ID = ID(b)
				out.is = append(out.is, &missing)
			}
		case tagErrorKind:
			missing.Kind = Kind(r.Uint32())
		case tagErrorLock:
			locked.Name = r.String()
			out.is = append(out.is, &locked)
		case tagErrorJob:
			locked.Job = r.String()
		default:
			r.Unknown()
		}
	}
	if r.Err() != nil {
		return err
	}
	return out
}

func (e *remoteError) addSentinels(bits uint64) {
	for i, s := range travelling {
		if bits&(1<<i) != 0 {
			e.is = append(e.is, s)
		}
	}
}

func wireIDs(ids []ID) [][32]byte {
	out := make([][32]byte, len(ids))
	for i, id := range ids {
		out[i] = id
	}
	return out
}

func storeIDs(ids [][32]byte) []ID {
	out := make([]ID, len(ids))
	for i, id := range ids {
		out[i] = id
	}
	return out
}

// storeFrame takes the blobs of a frame from its pack, so that the index can never be told of others.
func storeFrame(p *wire.Put) (Frame, error) {
	pack, err := volume.ParsePack(p.Pack)
	if err != nil {
		return Frame{}, fmt.Errorf("%w: %w", wire.ErrMessage, err)
	}
	return Frame{Class: Class(p.Class), Blobs: pack.Blobs, Pack: p.Pack}, nil
}

func wirePlaces(places []Place) *wire.Places {
	out := make([]wire.Place, len(places))
	for i, p := range places {
		out[i] = wire.Place{Volume: p.Volume, Offset: p.Offset, Stored: p.Stored, Start: p.Start, Length: p.Length}
	}
	return &wire.Places{Places: out}
}

func storePlaces(places []wire.Place) []Place {
	out := make([]Place, len(places))
	for i, p := range places {
		out[i] = Place{Volume: p.Volume, Offset: p.Offset, Stored: p.Stored, Start: p.Start, Length: p.Length}
	}
	return out
}

func wireCommit(c Commit) *wire.Commit {
	return &wire.Commit{
		Dataset: c.Dataset, Snapshot: c.Snapshot, Name: c.Name, Start: c.Start, Tags: c.Tags, Summary: c.Summary, Partial: c.Partial,
	}
}

func storeCommit(c *wire.Commit) Commit {
	return Commit{
		Dataset: c.Dataset, Snapshot: c.Snapshot, Name: c.Name, Start: c.Start, Tags: c.Tags,
		Summary: slices.Clone(c.Summary), Partial: c.Partial,
	}
}

func wireSnapshot(s Snapshot) wire.Snapshot {
	return wire.Snapshot{
		ID: s.ID, Slot: s.Slot, DatasetNumber: s.DatasetNumber, Dataset: s.Dataset, Name: s.Name, Start: s.Start,
		Committed: s.Committed, Tags: s.Tags, HeldUntil: s.HeldUntil, HeldForever: s.HeldForever, Forgotten: s.Forgotten,
		Partial: s.Partial, Damaged: s.Damaged, Summary: s.Summary,
	}
}

func storeSnapshot(s wire.Snapshot) Snapshot {
	return Snapshot{
		ID: s.ID, Slot: s.Slot, DatasetNumber: s.DatasetNumber, Dataset: s.Dataset, Name: s.Name, Start: s.Start,
		Committed: s.Committed, Tags: s.Tags, HeldUntil: s.HeldUntil, HeldForever: s.HeldForever, Forgotten: s.Forgotten,
		Partial: s.Partial, Damaged: s.Damaged, Summary: s.Summary,
	}
}

func wireState(st *State) *wire.StatePart {
	out := &wire.StatePart{Seq: st.Seq, Head: st.Head, HoldTime: st.HoldTime, Clock: st.Clock, AppendOnly: st.AppendOnly}
	for _, r := range st.Refused {
		out.Refused = append(out.Refused, wire.Refusal(r))
	}
	for _, s := range st.Snapshots {
		out.Snapshots = append(out.Snapshots, wireSnapshot(s))
	}
	for _, d := range st.Datasets {
		out.Datasets = append(out.Datasets, wire.Dataset{Number: d.Number, Name: d.Name})
	}
	for _, a := range st.Archives {
		out.Archives = append(out.Archives, encodeArchive(a))
	}
	return out
}

func storeState(st *wire.StatePart) *State {
	out := &State{Seq: st.Seq, Head: st.Head, HoldTime: st.HoldTime, Clock: st.Clock, AppendOnly: st.AppendOnly}
	for _, r := range st.Refused {
		out.Refused = append(out.Refused, Refusal(r))
	}
	for _, s := range st.Snapshots {
		out.Snapshots = append(out.Snapshots, storeSnapshot(s))
	}
	for _, d := range st.Datasets {
		out.Datasets = append(out.Datasets, Dataset{Number: d.Number, Name: d.Name})
	}
	for _, b := range st.Archives {
		if a, err := parseArchive(b); err == nil { // what a newer program wrote is left out here as there
			out.Archives = append(out.Archives, a)
		}
	}
	return out
}

func wireFacts(facts []FactBody) *wire.Facts {
	out := &wire.Facts{}
	for _, f := range facts {
		out.Facts = append(out.Facts, wire.Fact{Kind: uint8(f.Kind()), Body: encodeBody(f)})
	}
	return out
}

func storeFacts(facts []wire.Fact) ([]FactBody, error) {
	out := make([]FactBody, len(facts))
	for i, f := range facts {
		body, err := parseBody(FactKind(f.Kind), slices.Clone(f.Body))
		if err != nil {
			return nil, err
		}
		if body == nil {
			return nil, fmt.Errorf("%w: fact of kind %d", wire.ErrMessage, f.Kind)
		}
		out[i] = body
	}
	return out, nil
}

func wireDamaged(found []DamagedFrame) *wire.Damaged {
	out := &wire.Damaged{}
	for _, f := range found {
		out.Frames = append(out.Frames, wire.DamagedFrame{Volume: f.Volume, Offset: f.Offset, Blob: f.Blob})
	}
	return out
}

func storeDamaged(m *wire.Damaged) []DamagedFrame {
	var out []DamagedFrame
	for _, f := range m.Frames {
		out = append(out, DamagedFrame{Volume: f.Volume, Offset: f.Offset, Blob: f.Blob})
	}
	return out
}

func wireStats(s Stats) *wire.Stats {
	return &wire.Stats{
		Volumes: s.Volumes, Snapshots: s.Snapshots, Datasets: s.Datasets, KeySlots: s.KeySlots, Bytes: s.Bytes, DataBytes: s.DataBytes,
		MetaBytes: s.MetaBytes, JournalBytes: s.JournalBytes, ParityBytes: s.ParityBytes, IndexBytes: s.IndexBytes, Blobs: s.Blobs,
		RawBytes: s.RawBytes, Encrypted: s.Encrypted, StoreID: s.StoreID, Created: s.Created,
	}
}

func storeStats(s *wire.Stats) Stats {
	return Stats{
		Volumes: s.Volumes, Snapshots: s.Snapshots, Datasets: s.Datasets, KeySlots: s.KeySlots, Bytes: s.Bytes, DataBytes: s.DataBytes,
		MetaBytes: s.MetaBytes, JournalBytes: s.JournalBytes, ParityBytes: s.ParityBytes, IndexBytes: s.IndexBytes, Blobs: s.Blobs,
		RawBytes: s.RawBytes, Encrypted: s.Encrypted, StoreID: s.StoreID, Created: s.Created,
	}
}
