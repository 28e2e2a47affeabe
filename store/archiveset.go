package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"snapfs/store/volume"
)

// ArchiveSet is what the facts say of an archive set: written by package archive, kept here because prune keeps its lists and
// every process sees it in the State.
type ArchiveSet struct {
	ID        [16]byte
	Name      string
	Pool      string
	Level     volume.SetLevel
	Parent    [16]byte // zero for a full set
	Started   time.Time
	Finished  time.Time // zero: not finished
	KeepUntil time.Time // zero: for ever
	Snapshots []ArchivedSnapshot
	Volumes   []ArchiveVolume
	Plain     int64     // bytes of plaintext of all blobs in it
	Chunks    int64     // chunks in it
	Lost      int64     // blobs that could not be read when it was written
	Expired   time.Time // its volumes may be overwritten; lists and snapshots are left out then
	Resume    []byte    // what package archive needs to go on with an unfinished set

	// From the facts about its state; not part of those about the set.
	State    string // "onsite", "offsite", "vault", "damaged", "retired"; "" is onsite
	Location string
	Verified time.Time // when all of it was last read and found whole
	Problem  string    // what a verification found
}

// ArchivedSnapshot is a snapshot in a set; the store may have forgotten it.
type ArchivedSnapshot struct {
	ID      ID
	Dataset string
	Name    string
	Start   time.Time
}

// ArchiveVolume is a complete volume of a set.
type ArchiveVolume struct {
	ID     volume.ID
	Number uint32
	Size   int64
	Parity bool   // over the other volumes; holds no blobs
	Torn   bool   // it has no trailer: its medium ended unannounced
	Chunks ID     // root of the list of chunks in it; zero: none
	Where  string // it was written to
	Digest [32]byte
}

// ArchiveMark is a new state of a set.
type ArchiveMark struct {
	State    string
	Location string
	Verified time.Time
	Problem  string
}

// Tags of the value of archive set facts. On disk; append only.
const (
	tagSetName      = 1
	tagSetPool      = 2
	tagSetLevel     = 3 | Critical
	tagSetParent    = 4 | Critical
	tagSetStarted   = 5
	tagSetFinished  = 6
	tagSetKeepUntil = 7
	tagSetSnapshots = 8
	tagSetVolumes   = 9 | Critical
	tagSetPlain     = 10
	tagSetChunks    = 11
	tagSetLost      = 12
	tagSetExpired   = 13
	tagSetResume    = 14

	tagSetSnapID      = 1 // of each snapshot
	tagSetSnapDataset = 2
	tagSetSnapName    = 3
	tagSetSnapStart   = 4

	tagSetVolID     = 1 | Critical // of each volume
	tagSetVolNumber = 2
	tagSetVolSize   = 3
	tagSetVolParity = 4
	tagSetVolTorn   = 5
	tagSetVolChunks = 6 | Critical
	tagSetVolWhere  = 7
	tagSetVolDigest = 8

	tagMarkState    = 1 // of the value of state facts
	tagMarkLocation = 2
	tagMarkVerified = 3
	tagMarkProblem  = 4
)

func (a *ArchiveSet) encode() []byte {
	w := AppendFields(nil)
	w.String(tagSetName, a.Name)
	w.String(tagSetPool, a.Pool)
	w.Uint(tagSetLevel, uint64(a.Level))
	if a.Parent != [16]byte{} {
		w.Bytes(tagSetParent, a.Parent[:])
	}
	w.Int(tagSetStarted, nanos(a.Started))
	w.Int(tagSetFinished, nanos(a.Finished))
	w.Int(tagSetKeepUntil, nanos(a.KeepUntil))
	var snaps, volumes []byte
	for i := range a.Snapshots {
		snaps = AppendBytes(snaps, a.Snapshots[i].encode())
	}
	for i := range a.Volumes {
		volumes = AppendBytes(volumes, a.Volumes[i].encode())
	}
	w.Bytes(tagSetSnapshots, snaps)
	w.Bytes(tagSetVolumes, volumes)
	w.Uint(tagSetPlain, uint64(a.Plain))
	w.Uint(tagSetChunks, uint64(a.Chunks))
	w.Uint(tagSetLost, uint64(a.Lost))
	w.Int(tagSetExpired, nanos(a.Expired))
	w.Bytes(tagSetResume, a.Resume)
	return w.Encoded()
}

func (s *ArchivedSnapshot) encode() []byte {
	w := AppendFields(nil)
	w.ID(tagSetSnapID, s.ID)
	w.String(tagSetSnapDataset, s.Dataset)
	w.String(tagSetSnapName, s.Name)
	w.Int(tagSetSnapStart, nanos(s.Start))
	return w.Encoded()
}

func (v *ArchiveVolume) encode() []byte {
	w := AppendFields(nil)
	w.Bytes(tagSetVolID, v.ID[:])
	w.Uint(tagSetVolNumber, uint64(v.Number))
	w.Uint(tagSetVolSize, uint64(v.Size))
	w.Bool(tagSetVolParity, v.Parity)
	w.Bool(tagSetVolTorn, v.Torn)
	w.ID(tagSetVolChunks, v.Chunks)
	w.String(tagSetVolWhere, v.Where)
	if v.Digest != [32]byte{} {
		w.Bytes(tagSetVolDigest, v.Digest[:])
	}
	return w.Encoded()
}

func parseArchiveSet(id [16]byte, data []byte) (ArchiveSet, error) {
	a := ArchiveSet{ID: id}
	r := ReadFields(data)
	for r.Next() {
		switch r.Tag() {
		case tagSetName:
			a.Name = r.String()
		case tagSetPool:
			a.Pool = r.String()
		case tagSetLevel:
			a.Level = volume.SetLevel(r.Uint32())
		case tagSetParent:
			readID16(&r, &a.Parent)
		case tagSetStarted:
			a.Started = fromNanos(r.Int())
		case tagSetFinished:
			a.Finished = fromNanos(r.Int())
		case tagSetKeepUntil:
			a.KeepUntil = fromNanos(r.Int())
		case tagSetSnapshots:
			eachItem(&r, func(item []byte) error { return a.addSnapshot(item) })
		case tagSetVolumes:
			eachItem(&r, func(item []byte) error { return a.addVolume(item) })
		case tagSetPlain:
			a.Plain = int64(r.Uint())
		case tagSetChunks:
			a.Chunks = int64(r.Uint())
		case tagSetLost:
			a.Lost = int64(r.Uint())
		case tagSetExpired:
			a.Expired = fromNanos(r.Int())
		case tagSetResume:
			a.Resume = slices.Clone(r.Bytes())
		default:
			r.Unknown()
		}
	}
	if r.Err() != nil {
		return a, fmt.Errorf("archive set %x: %w", id, r.Err())
	}
	return a, nil
}

// eachItem calls fn for the items of a list.
func eachItem(r *FieldReader, fn func(item []byte) error) {
	for rest := r.Bytes(); len(rest) > 0; {
		item, left, err := CutBytes(rest)
		if err == nil {
			err = fn(item)
		}
		if err != nil {
			r.fail(err)
			return
		}
		rest = left
	}
}

func readID16(r *FieldReader, to *[16]byte) {
	if b := r.Bytes(); len(b) == len(to) {
		*to = [16]byte(b)
	} else {
		r.Refuse("not an id")
	}
}

func (a *ArchiveSet) addSnapshot(data []byte) error {
	var s ArchivedSnapshot
	r := ReadFields(data)
	for r.Next() {
		switch r.Tag() {
		case tagSetSnapID:
			s.ID = r.ID()
		case tagSetSnapDataset:
			s.Dataset = r.String()
		case tagSetSnapName:
			s.Name = r.String()
		case tagSetSnapStart:
			s.Start = fromNanos(r.Int())
		default:
			r.Unknown()
		}
	}
	a.Snapshots = append(a.Snapshots, s)
	return r.Err()
}

func (a *ArchiveSet) addVolume(data []byte) error {
	var v ArchiveVolume
	r := ReadFields(data)
	for r.Next() {
		switch r.Tag() {
		case tagSetVolID:
			readID16(&r, (*[16]byte)(&v.ID))
		case tagSetVolNumber:
			v.Number = r.Uint32()
		case tagSetVolSize:
			v.Size = int64(r.Uint())
		case tagSetVolParity:
			v.Parity = r.Bool()
		case tagSetVolTorn:
			v.Torn = r.Bool()
		case tagSetVolChunks:
			v.Chunks = r.ID()
		case tagSetVolWhere:
			v.Where = r.String()
		case tagSetVolDigest:
			if b := r.Bytes(); len(b) == len(v.Digest) {
				v.Digest = [32]byte(b)
			}
		default:
			r.Unknown()
		}
	}
	a.Volumes = append(a.Volumes, v)
	return r.Err()
}

func (m *ArchiveMark) encode() []byte {
	w := AppendFields(nil)
	w.String(tagMarkState, m.State)
	w.String(tagMarkLocation, m.Location)
	w.Int(tagMarkVerified, nanos(m.Verified))
	w.String(tagMarkProblem, m.Problem)
	return w.Encoded()
}

func (a *ArchiveSet) setMark(data []byte) error {
	r := ReadFields(data)
	for r.Next() {
		switch r.Tag() {
		case tagMarkState:
			a.State = r.String()
		case tagMarkLocation:
			a.Location = r.String()
		case tagMarkVerified:
			a.Verified = fromNanos(r.Int())
		case tagMarkProblem:
			a.Problem = r.String()
		default:
			r.Unknown()
		}
	}
	return r.Err()
}

// archives gives the sets in the order in which they were begun. What cannot be read (a newer program's) is left out.
func (f *fold) archives() (list []ArchiveSet) {
	for key, value := range f.records {
		if len(key) != 2+16 || FactKind(key[1]) != FactArchiveSet {
			continue
		}
		a, err := parseArchiveSet([16]byte([]byte(key[2:])), value)
		if err != nil {
			continue
		}
		if mark, ok := f.records[string(recordKey(FactArchiveState, a.ID[:]))]; ok && a.setMark(mark) != nil {
			continue
		}
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b ArchiveSet) int {
		if c := a.Started.Compare(b.Started); c != 0 {
			return c
		}
		return compareBytes(a.ID[:], b.ID[:])
	})
	return list
}

// SetArchive records an archive set; what is known of its state stays. Everything written before is on stable storage first.
func (s *Store) SetArchive(ctx context.Context, a ArchiveSet) error {
	return s.session.Append(ctx, []FactBody{&recordFact{kind: FactArchiveSet, key: a.ID[:], value: a.encode()}})
}

// MarkArchive records the state of a set (ErrNotFound).
func (s *Store) MarkArchive(ctx context.Context, set [16]byte, m ArchiveMark) error {
	st, err := s.State(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(st.Archives, func(a ArchiveSet) bool { return a.ID == set }) {
		return fmt.Errorf("archive set %x: %w", set, ErrNotFound)
	}
	return s.session.Append(ctx, []FactBody{&recordFact{kind: FactArchiveState, key: set[:], value: m.encode()}})
}

// needsSync reports whether a fact names blobs that may not be on stable storage yet.
func needsSync(b FactBody) bool { return b.Kind() == FactArchiveSet }

// encodeArchive gives the form in which a set travels.
func encodeArchive(a ArchiveSet) []byte {
	m := ArchiveMark{a.State, a.Location, a.Verified, a.Problem}
	b := AppendBytes(slices.Clone(a.ID[:]), a.encode())
	return AppendBytes(b, m.encode())
}

// parseArchive is the inverse of encodeArchive.
func parseArchive(b []byte) (a ArchiveSet, err error) {
	if len(b) < len(a.ID) {
		return a, ErrFields
	}
	id := [16]byte(b)
	value, rest, err := CutBytes(b[len(id):])
	if err != nil {
		return a, err
	}
	mark, _, err := CutBytes(rest)
	if err != nil {
		return a, err
	}
	if a, err = parseArchiveSet(id, value); err != nil {
		return a, err
	}
	return a, a.setMark(mark)
}

// archiveLists are the roots of the lists that sets keep. Needs commitMu.
func (e *engine) archiveLists() (roots []ID) {
	for _, a := range e.fold.archives() {
		for _, v := range a.Volumes {
			if v.Chunks != (ID{}) && a.Expired.IsZero() {
				roots = append(roots, v.Chunks)
			}
		}
	}
	return roots
}
