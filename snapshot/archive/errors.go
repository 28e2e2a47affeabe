package archive

import (
	"errors"
	"fmt"

	"snapfs/store"
)

// Creating a set.
var (
	// ErrNoSnapshots: there is nothing to archive.
	ErrNoSnapshots = errors.New("no snapshots to archive")
	// ErrNoParent: an incremental or differential set needs a finished set of its pool that can still be used.
	ErrNoParent = errors.New("no set that this one could build on")
	// ErrSetExists: a set of that name is known already.
	ErrSetExists = errors.New("a set of that name exists already")
	// ErrUnknownSet: no set of that name or ID is known to the store.
	ErrUnknownSet = errors.New("no such archive set")
	// ErrFinished: a finished set cannot be resumed.
	ErrFinished = errors.New("the set is finished already")
	// ErrExpired: an expired set cannot be resumed.
	ErrExpired = errors.New("the set has expired")
	// ErrVolumeExists: a volume would be overwritten.
	ErrVolumeExists = errors.New("a volume is there already")
	// ErrNotEmpty: a device or file holds something that is no expired volume.
	ErrNotEmpty = errors.New("it holds something already")
	// ErrInUse: another run writes a volume of that name.
	ErrInUse = errors.New("another run writes to it")
	// ErrMediumFull: the medium is full and there is nobody to change it.
	ErrMediumFull = errors.New("the medium is full")
	// ErrVolumeSize: volumes of that size cannot hold a single frame.
	ErrVolumeSize = errors.New("the volume size is too small")
	// ErrTarget: volumes cannot be written there.
	ErrTarget = errors.New("volumes cannot be written there")
	// ErrName: not a name for a set or pool.
	ErrName = errors.New("names are letters, digits, dots, dashes and underscores, 100 at most")
	// ErrParityVolumes: not a number of parity volumes.
	ErrParityVolumes = errors.New("a set has 0 to 16 parity volumes")
	// ErrParityDir: a set with parity volumes needs a directory for them.
	ErrParityDir = errors.New("the set has parity volumes, which need a directory")
	// ErrParityLost: the sums of an interrupted set are not in the directory for parity, and the volumes are not where they were written.
	ErrParityLost = errors.New("what the parity volumes are made of is not there")
)

// LockedError: what was given does not unlock a set, whose slots need not be those of the store. Err is seal.ErrWrongSecret or seal.ErrNoSlot.
type LockedError struct{ Err error }

func (e *LockedError) Error() string { return e.Err.Error() }
func (e *LockedError) Unwrap() error { return e.Err }

// GoneError: a set was interrupted, and a snapshot that it was to hold has been pruned since.
type GoneError struct {
	Set      string
	Snapshot store.ArchivedSnapshot
}

func (e *GoneError) Error() string {
	return fmt.Sprintf("set %s cannot be finished: its snapshot %s@%s (%.8s) was forgotten and pruned", e.Set, e.Snapshot.Dataset, e.Snapshot.Name, e.Snapshot.ID)
}

// ErrRecord: a record of a set is not what a writer makes.
var ErrRecord = errors.New("malformed record of an archive set")

// ErrNotArchived: no set that can be used holds a snapshot.
var ErrNotArchived = errors.New("in no archive set that can be used")

// ErrNoSet: a volume of a store, not of an archive set.
var ErrNoSet = errors.New("not a volume of an archive set")
