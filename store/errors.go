package store

import (
	"errors"
	"fmt"

	"snapfs/store/volume"
)

// Opening and making a store.
var (
	// ErrNoStore: the directory is missing, or holds no store.
	ErrNoStore = errors.New("no snapfs store there")
	// ErrNoConfig is ErrNoStore for a directory that has volumes and no snapfs.json: Recreate makes one.
	ErrNoConfig = fmt.Errorf("%w: the volumes of one are, and snapfs.json is missing", ErrNoStore)
	// ErrNewerFormat: the store needs features this program does not have.
	ErrNewerFormat = errors.New("store needs a newer snapfs")
	// ErrConfig: snapfs.json is damaged or forged.
	ErrConfig = errors.New("snapfs.json is damaged or does not belong to these keys")
	// ErrNotEmpty: init into a directory that holds something.
	ErrNotEmpty = errors.New("directory is not empty")
	// ErrStoreExists: init over a store.
	ErrStoreExists = errors.New("a store is there already")
	// ErrHeld: another process holds the store and cannot be reached.
	ErrHeld = errors.New("store is held by another process that cannot be reached")
	// ErrNotOwner: only the owner of the store's directory and root may open it.
	ErrNotOwner = errors.New("only root and the owner of the store may open it")
	// ErrUnreachable: the store's directory cannot be looked at.
	ErrUnreachable = errors.New("the store cannot be reached")
	// ErrInside: something would be written into the store's directory that is not the store's.
	ErrInside = errors.New("inside the store")
)

// Running.
var (
	// ErrClosed: the store or session was closed.
	ErrClosed = errors.New("store is closed")
	// ErrNoSpace: the store's file system is (nearly) full.
	ErrNoSpace = errors.New("no space left for the store")
	// ErrWriteFailed: a write or sync of a volume failed; what this job wrote since is not safe, the job must end.
	ErrWriteFailed = errors.New("writing a volume failed")
	// ErrForgotten: the process that held the store has ended, and the next one does not know what this job relies on, as the index was
	// lost. It must begin again.
	ErrForgotten = errors.New("the index of the store was lost together with what this job had stored or found there: begin again")
	// ErrNotFound: no such snapshot or dataset.
	ErrNotFound = errors.New("not found")
	// ErrUnreadable: a snapshot cannot be walked, so that what it needs is not known and nothing may be removed.
	ErrUnreadable = errors.New("a snapshot cannot be read, so nothing is removed")
	// ErrNoReferences: the store was opened without Options.References, which this operation needs.
	ErrNoReferences = errors.New("the process that holds the store cannot walk snapshots")
	// ErrExists: a dataset of that name is there already.
	ErrExists = errors.New("exists already")
)

// Holds.
var (
	// ErrOnHold: a held snapshot cannot be removed.
	ErrOnHold = errors.New("is held")
	// ErrHeldLonger: a hold cannot be shortened.
	ErrHeldLonger = errors.New("is held longer already")
	// ErrHoldOver: a hold would be over before it begins.
	ErrHoldOver = errors.New("a hold must end in the future")
	// errAppendOnly is ErrNotAdmin for what takes something away.
	errAppendOnly = fmt.Errorf("the store is append-only, this %w", ErrNotAdmin)
	// errNotAppended: facts of that kind are made by the holder of the store alone.
	errNotAppended = errors.New("such facts are made by the store itself")
)

// CorruptError says that stored bytes are not what was written.
type CorruptError struct {
	Volume volume.ID
	Offset int64 // of the frame, bytes; -1 if it is about the whole volume
	ID     ID    // the blob asked for; zero if none
	Err    error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("volume %s frame at %d is damaged: %v", e.Volume, e.Offset, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// MissingError says that no volume at hand holds a blob that something names.
type MissingError struct {
	Kind Kind
	ID   ID
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("blob %s (kind %d) is in no volume", e.ID, e.Kind)
}

// LockedError says who has a lock that was asked for.
type LockedError struct {
	Name string // of the lock
	Job  string // of its holder, for people
}

func (e *LockedError) Error() string { return fmt.Sprintf("%s is locked by %s", e.Name, e.Job) }

// errUnknownCompression says which words are known.
func errUnknownCompression(c Compression) error {
	return fmt.Errorf("compression %q: want none, s2, fastest, default or better", string(c))
}
