package store

import (
	"context"

	"snapfs/store/volume"
)

// Class says to which kind of volume a frame goes.
type Class uint8

// Classes of frames; the values travel on the wire, append only.
const (
	ClassData     Class = 1
	ClassMetadata Class = 2
)

// Frame is a packed frame on its way into the store: made by the session's process, sealed by the holder.
type Frame struct {
	Class Class
	Blobs []volume.Blob // the same rows as in Pack
	Pack  []byte        // codec, raw length, blob table, compressed body: volume.Packer.Pack
}

// Session is one job's access to a store. Two implementations: in the holder's process, and over a byte
// stream. Every method may be repeated after a failure without harm. Safe for concurrent use.
type Session interface {
	// Have reports for each ID whether it may be referred to by what this session commits, and pins the
	// volumes of the hits until the session ends.
	Have(ctx context.Context, ids []ID) ([]bool, error)
	// Put appends a frame. When it returns, the frame is written (it survives kill -9 of any process, not
	// yet a power failure) and Have knows its blobs. It returns by how much the volume grows, the frame's
	// share of parity and contents table included.
	Put(ctx context.Context, f Frame) (int64, error)
	// Locate finds blobs for reading; an unknown one gives a zero Place, not an error.
	Locate(ctx context.Context, ids []ID) ([]Place, error)
	// Read returns n stored bytes of a volume.
	Read(ctx context.Context, v volume.ID, offset int64, n int) ([]byte, error)
	// Commit syncs everything any session wrote, then makes the snapshot real, in that order.
	Commit(ctx context.Context, c Commit) (Snapshot, error)
	// Append adds facts other than commits (tags, dataset names, holds ...), durable when it returns; those that would change
	// nothing are left out.
	Append(ctx context.Context, facts []FactBody) error
	// State returns the fold of the facts; nil if its Seq is still since.
	State(ctx context.Context, since uint64) (*State, error)
	// Wait returns when the fold's Seq is no longer since, or ctx ends.
	Wait(ctx context.Context, since uint64) error
	// Lock takes a named lock until Unlock or the session's end. Held by another: a *LockedError, or with wait a wait.
	Lock(ctx context.Context, name, job string, wait bool) error
	Unlock(ctx context.Context, name string) error
	// Admin gives the session admin rights, which an append-only store wants for what takes something away: sign is asked
	// for the signature under each such fact, by the session itself and by what the holder does for it. ErrNotAdmin if sign is
	// not the store's admin. Without effect on other stores.
	Admin(ctx context.Context, sign Signer) error
	// Pin keeps snapshots reachable until the session ends, also for the next holder. ErrNotFound if one is gone already.
	Pin(ctx context.Context, snapshots []ID) error
	// Unpin lets snapshots go that were pinned.
	Unpin(ctx context.Context, snapshots []ID) error
	// Rebuild makes the index anew from the volumes, calling progress now and then.
	Rebuild(ctx context.Context, progress func(RebuildProgress)) error
	Stats(ctx context.Context) (Stats, error)
	// Damaged reports what reading showed to be damaged. The holder looks for itself and remembers it: Have counts
	// such blobs as absent, so that whoever has their content stores it anew.
	Damaged(ctx context.Context, found []DamagedFrame) error
	// Verify checks the store and reports what it finds. The store is in use meanwhile.
	Verify(ctx context.Context, o VerifyOptions, event func(VerifyEvent) error) (VerifySummary, error)
	// Volumes describes the volumes.
	Volumes(ctx context.Context) ([]VolumeInfo, error)
	// DamagedBlobs returns the blobs that are known to be damaged or lost, and not stored anew since.
	DamagedBlobs(ctx context.Context) ([]ID, error)
	// Prune removes what nothing needs, calling progress now and then. Everything else goes on meanwhile. Errors: ErrUnreadable.
	Prune(ctx context.Context, o PruneOptions, progress func(PruneProgress)) (PruneResult, error)
	// Upkeep finishes volumes that a crash left and merges small ones.
	Upkeep(ctx context.Context) (PruneResult, error)
	// Close ends the session: its pins and locks are gone.
	Close() error
}

// RebuildProgress tells how far a rebuild is.
type RebuildProgress struct {
	Volumes, VolumesTotal int
	Blobs                 int64
	Bytes                 int64
}
