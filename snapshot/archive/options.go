package archive

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"snapfs/store"
	"snapfs/store/volume"
)

// DefaultParity is how much parity each volume gets, in per cent of what it holds; NoParity is none.
const (
	DefaultParity = 6
	NoParity      = -1
)

// DefaultPool is the pool of sets that nobody gave another.
const DefaultPool = "default"

// Options say how a set is made. Zero values are the recommendation, but for Target.
type Options struct {
	Snapshots     []store.ID // to be archived; resuming: those the set was begun with
	Pool          string
	Name          string // of the set; "": pool, time and level
	Level         Level
	VolumeSize    int64 // most bytes of a volume; 0: as large as the medium
	Parity        int   // per cent; 0: DefaultParity
	ParityVolumes int   // for each group of volumes
	ParityDir     string
	Slots         []store.NewKeySlot // made for the set; none: those of the store
	KeepUntil     time.Time          // zero: for ever
	// Target opens where the volumes go, given what decides about volumes in the way.
	Target func(Permit) (Target, error)
	// Wait waits for another set of the pool to be written.
	Wait bool
	// Overwrite lets expired volumes be overwritten.
	Overwrite bool
	// Change has the medium changed; nil: nobody is there.
	Change func(context.Context, Change) error
	// ChangeAlways calls Change between any two volumes, also where that is not needed.
	ChangeAlways bool
	TempDir      string
	Progress     func(Progress)
	Now          func() time.Time
	Zone         *time.Location
	Program      string
	Level0       volume.Level // of compression of what is packed anew

	progress func(Progress)
}

// Change asks for the next medium.
type Change struct {
	Set    string
	Number uint32 // of the volume to be written
	Full   bool   // the last medium is full
	Last   string // where the last volume is
}

// Phases of making a set.
const (
	PhasePlan     = "plan"     // Done: metadata blobs found
	PhaseVolume   = "volume"   // Done: number of the volume that begins
	PhaseMetadata = "metadata" // Done and Total: bytes of plaintext
	PhaseChunks   = "chunks"   // likewise
	PhaseSums     = "sums"     // Done and Total: bytes of volumes that are read again for the parity volumes
	PhaseParity   = "parity"   // Done and Total: bytes of parity volumes
)

// Progress tells how far the work is.
type Progress struct {
	Phase       string
	Done, Total int64
}

// Result is what was made.
type Result struct {
	Set      store.ArchiveSet
	Written  Counts
	Stored   int64  // bytes of all volumes
	Lost     []Lost // blobs that the store could not give
	Sheet    string // where the text about the set is; "" if there was no place for it
	Reused   int    // volumes that an interrupted run had completed
	SheetErr error
}

var goodName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// CheckName refuses what is no name for a set or a pool.
func CheckName(name string) error {
	if !goodName.MatchString(name) {
		return fmt.Errorf("%q: %w", name, ErrName)
	}
	return nil
}

// fill gives what was left out its value and refuses what cannot be.
func (o *Options) fill() error {
	if o.Pool == "" {
		o.Pool = DefaultPool
	}
	if o.Level == "" {
		o.Level = LevelAuto
	}
	if o.Parity == 0 {
		o.Parity = DefaultParity
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Zone == nil {
		o.Zone = time.Local
	}
	if o.progress = o.Progress; o.progress == nil {
		o.progress = func(Progress) {}
	}
	if err := CheckName(o.Pool); err != nil {
		return err
	}
	if o.ParityVolumes < 0 || o.ParityVolumes > volume.SetParityMost {
		return fmt.Errorf("%d parity volumes: %w", o.ParityVolumes, ErrParityVolumes)
	}
	if o.Name != "" {
		return CheckName(o.Name)
	}
	return nil
}
