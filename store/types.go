package store

import (
	"time"

	"snapfs/store/volume"
)

// Place is where a blob lies. The zero Place means "not known".
type Place struct {
	Volume volume.ID
	Offset int64  // of the frame in the volume, bytes
	Stored uint32 // length of the frame with its header, bytes
	Start  uint32 // of the blob in the frame's raw body, bytes
	Length uint32 // of the blob, bytes of plaintext
}

// IsZero reports whether p is no place.
func (p Place) IsZero() bool { return p.Stored == 0 }

// Compare orders places as they lie on disk: by volume, then offset, then start.
func (p Place) Compare(q Place) int {
	if c := compareBytes(p.Volume[:], q.Volume[:]); c != 0 {
		return c
	}
	switch {
	case p.Offset != q.Offset:
		return sign(p.Offset < q.Offset)
	case p.Start != q.Start:
		return sign(p.Start < q.Start)
	}
	return 0
}

// Snapshot is what the facts say of one snapshot.
type Snapshot struct {
	ID            ID
	Slot          uint32 // number of the commit, never reused: the upper half of its inode numbers
	DatasetNumber uint32
	Dataset       string // present name of the dataset
	Name          string // directory name in the mount, fixed at commit
	Start         time.Time
	Committed     time.Time
	Tags          []string  // sorted
	HeldUntil     time.Time // zero: not held
	HeldForever   bool
	Forgotten     bool   // forgotten and not yet pruned
	Partial       bool   // hidden: an interrupted or running backup's
	Damaged       string // why volumes it names are missing or short; "" when they are not
	Summary       []byte // what package snapshot wrote beside it (snapshot.Summary)

	Head ID // of the chain when Commit returned; only there
}

// Dataset is what the facts say of one dataset.
type Dataset struct {
	Number uint32 // never reused
	Name   string
}

// State is the fold of the facts.
type State struct {
	Seq       uint64     // grows with every fact: for Session.State and Store.Wait
	Snapshots []Snapshot // by commit order (Slot); partial and forgotten ones included
	Datasets  []Dataset  // by number
	Head      ID         // the newest fact

	HoldTime   time.Time // of the newest fact; for State.Held
	Clock      time.Time // as it was read for that fact
	AppendOnly bool      // forgetting and the like need admin rights
	Refused    []Refusal // the newest attempts without them, oldest first

	Archives []ArchiveSet // in the order in which they were begun; expired ones included
}

// Refusal is an attempt to take something away from an append-only store without admin rights.
type Refusal struct {
	What     string // for people
	Job      string // of the session, for people
	Time     time.Time
	Attempts uint64 // since the refusal before
}

// Commit asks for a snapshot to become real.
type Commit struct {
	Dataset  string
	Snapshot ID // of the manifest blob
	Name     string
	Start    time.Time
	Tags     []string
	Summary  []byte
	Partial  bool // hidden; replaces the dataset's former partial, dropped by its next complete snapshot
}

// Stats describes a store's size.
type Stats struct {
	Volumes      int
	Bytes        int64 // of all volumes, as stored
	DataBytes    int64
	MetaBytes    int64
	JournalBytes int64
	ParityBytes  int64 // of the three before
	IndexBytes   int64
	Blobs        int64
	RawBytes     int64 // plaintext of all blobs
	Snapshots    int
	Datasets     int
	KeySlots     int
	Encrypted    bool
	StoreID      string
	Created      time.Time
}

func (st *Stats) add(v *volumeState) {
	st.Volumes++
	st.Bytes += v.size
	st.Blobs += v.blobs
	st.RawBytes += v.raw
	st.ParityBytes += v.parity
	switch v.kind {
	case volume.Data:
		st.DataBytes += v.size
	case volume.Metadata:
		st.MetaBytes += v.size
	case volume.Journal:
		st.JournalBytes += v.size
	}
}

// sign is the result of a comparison of two things that differ.
func sign(less bool) int {
	if less {
		return -1
	}
	return 1
}
