package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"snapfs/store/chunker"
	"snapfs/store/seal"
	"snapfs/store/volume"
)

// Store is an open store as jobs see it: held by this process, or reached through the process that holds
// it. Safe for concurrent use.
type Store struct {
	path    string
	config  config
	bundle  *seal.Bundle
	session Session
	end     func() error
	reader  *reader
	keys    idKeys
	cut     *chunker.Cutter
	flight  *inFlight
	job     string
	admin   atomic.Pointer[seal.Bundle] // with admin keys; nil: no admin slot was opened
}

// InitOptions says how to make a store.
type InitOptions struct {
	Slots        []seal.NewSlot // at least one; a clear slot for --no-encryption
	ChunkAverage int            // bytes; 0 means 512 KiB
	Compression  Compression    // zero means fastest
	AppendOnly   bool           // nothing is removed without admin rights, for ever; needs an admin slot
	Parity       int            // percent of what is stored, at most MaxParity; 0 means DefaultParity, NoParity none
	Program      string         // version that made it
	Like         *seal.Bundle   // its keys name and cut content, so that the same data has the same names here; nil: new ones
}

// Options says how to open a store.
type Options struct {
	Unlock  seal.Unlocker // asked only when this process must open the store itself
	Cache   int64         // bytes of decoded frames to keep; 0 means 32 MiB
	Job     string        // what this process does, for people: "backup of etc"
	Log     *slog.Logger  // nil: discarded
	Files   Files         // nil: the operating system's; tests bend it
	Now     func() time.Time
	Program string
	// References tells what a stored blob names. Without it, what must walk snapshots is refused: ErrNoReferences.
	References References
	// Direct refuses to hold the store: fail unless another process does. For tests.
	Direct bool
}

// Open holds the store in dir, or reaches the process that does. If that process ends, the Store becomes
// holder itself or finds the next one; callers notice nothing. Errors: ErrNoStore, ErrUnreachable, ErrNotOwner,
// ErrNewerFormat, ErrConfig, ErrHeld, those of unlocking.
func Open(ctx context.Context, dir string, o Options) (*Store, error) {
	dir, err := AbsolutePath(dir)
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = discardLog()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Cache == 0 {
		o.Cache = 32 << 20
	}
	if err := checkOwner(dir); err != nil {
		return nil, err
	}
	c, err := readConfig(dir)
	if err != nil {
		return nil, err
	}
	at, err := attach(ctx, dir, o)
	if err != nil {
		return nil, err
	}
	st := &Store{
		path: dir, config: c, bundle: at.bundle, session: at.session, end: at.end, keys: newIDKeys(at.bundle),
		reader: newReader(dir, at.bundle, at.session, o.Cache),
		cut:    chunker.New(chunker.Params{Average: c.ChunkAverage}, at.bundle.GearKey()),
		flight: &inFlight{ids: map[ID]struct{}{}}, job: o.Job,
	}
	if at.bundle.Admin() {
		if err := st.becomeAdmin(ctx, at.bundle); err != nil {
			return nil, errors.Join(err, st.Close())
		}
	}
	return st, nil
}

// Close ends the session; a holder seals its volumes.
func (s *Store) Close() error { return errors.Join(s.reader.close(), s.end()) }

// Dir is the store's directory, absolute.
func (s *Store) Dir() string { return s.path }

// BlobID is the ID that data of that kind has in this store.
func (s *Store) BlobID(kind Kind, data []byte) ID { return s.keys.id(kind, data) }

// Cutter returns the store's chunk parameters with their keyed gear table.
func (s *Store) Cutter() *chunker.Cutter { return s.cut }

// PageKey is the key of the hash that says where pages of directories are cut.
func (s *Store) PageKey() [32]byte { return s.bundle.PageKey() }

// Get returns a blob's plaintext, which the caller must not change. Errors: *MissingError, *CorruptError.
func (s *Store) Get(ctx context.Context, kind Kind, id ID) ([]byte, error) {
	return s.reader.get(ctx, kind, id)
}

// GetInto is Get without the cache for large frames: it uses dst's memory if it can and returns what holds the blob.
// For readers that want each blob once, such as restore.
func (s *Store) GetInto(ctx context.Context, kind Kind, id ID, dst []byte) ([]byte, error) {
	return s.reader.getInto(ctx, kind, id, dst)
}

// Have reports for each ID whether the store has the blob and the jobs of this Store may refer to it. Unlike Locate it takes the
// index's word for what is absent: for questions about what is usually not there.
func (s *Store) Have(ctx context.Context, ids []ID) ([]bool, error) { return s.session.Have(ctx, ids) }

// Locate finds where blobs lie, for reading them in the order of Place.Compare. Unknown ones give a zero Place.
func (s *Store) Locate(ctx context.Context, ids []ID) ([]Place, error) {
	return s.session.Locate(ctx, ids)
}

// Prefetch starts reading blobs that will be asked for soon; it never blocks and reports nothing.
func (s *Store) Prefetch(kind Kind, ids ...ID) { s.reader.prefetch(kind, ids) }

// NewWriter returns a Writer for one goroutine; several may be used at once.
func (s *Store) NewWriter() *Writer {
	level, err := s.config.Compression.level()
	if err != nil {
		level = volume.LevelFastest // not reached: the setting was checked at open
	}
	return &Writer{session: s.session, keys: s.keys, flight: s.flight, damaged: &s.reader.damaged, packer: volume.NewPacker(level)}
}

// Commit makes a snapshot real. All Writers must have been flushed.
func (s *Store) Commit(ctx context.Context, c Commit) (Snapshot, error) {
	return s.session.Commit(ctx, c)
}

// State returns the fold of the facts, current at the time of the call. It must not be changed.
func (s *Store) State(ctx context.Context) (*State, error) { return s.session.State(ctx, 0) }

// Wait returns when the state is newer than seq, or ctx ends.
func (s *Store) Wait(ctx context.Context, seq uint64) error { return s.session.Wait(ctx, seq) }

// Tag changes a snapshot's tags (ErrNotFound).
func (s *Store) Tag(ctx context.Context, snapshot ID, add, remove []string) error {
	return s.session.Append(ctx, []FactBody{&tagFact{snapshot: snapshot, add: add, remove: remove}})
}

// RenameDataset gives a dataset another name (ErrNotFound, ErrExists).
func (s *Store) RenameDataset(ctx context.Context, from, to string) error {
	st, err := s.State(ctx)
	if err != nil {
		return err
	}
	for _, d := range st.Datasets {
		if d.Name == from {
			return s.session.Append(ctx, []FactBody{&datasetFact{number: d.Number, name: to}})
		}
	}
	return fmt.Errorf("dataset %s: %w", from, ErrNotFound)
}

// LockDataset keeps other backups away from a dataset until unlock is called; *LockedError names the job
// that has it, unless wait is set.
func (s *Store) LockDataset(ctx context.Context, dataset string, wait bool) (unlock func(), err error) {
	name := "dataset " + dataset
	if err := s.session.Lock(ctx, name, s.job, wait); err != nil {
		return nil, err
	}
	return func() {
		// A lock that cannot be given back ends with the session.
		_ = s.session.Unlock(context.WithoutCancel(ctx), name)
	}, nil
}

// Pin keeps snapshots reachable while this Store is open, whoever forgets and prunes.
func (s *Store) Pin(ctx context.Context, snapshots ...ID) error { return s.session.Pin(ctx, snapshots) }

// Unpin lets snapshots go again.
func (s *Store) Unpin(ctx context.Context, snapshots ...ID) error {
	return s.session.Unpin(ctx, snapshots)
}

// Prune gives the space back that nothing kept needs. progress, which may be nil, is called one call at a time. Errors: ErrUnreadable
// (nothing was removed), ErrNoReferences.
func (s *Store) Prune(ctx context.Context, o PruneOptions, progress func(PruneProgress)) (PruneResult, error) {
	return s.session.Prune(ctx, o, progress)
}

// Upkeep finishes volumes that a crash left and merges small ones, as holders of the store do by themselves now and then.
func (s *Store) Upkeep(ctx context.Context) (PruneResult, error) { return s.session.Upkeep(ctx) }

// Verify checks the store while it is in use, and calls event with progress and with each finding, never concurrently.
func (s *Store) Verify(ctx context.Context, o VerifyOptions, event func(VerifyEvent) error) (VerifySummary, error) {
	return s.session.Verify(ctx, o, event)
}

// Volumes describes the volumes of the store.
func (s *Store) Volumes(ctx context.Context) ([]VolumeInfo, error) { return s.session.Volumes(ctx) }

// DamagedBlobs returns the blobs that are known to be damaged or lost: an entry that names one must be read again.
func (s *Store) DamagedBlobs(ctx context.Context) ([]ID, error) { return s.session.DamagedBlobs(ctx) }

// Stats describes the store's size.
func (s *Store) Stats(ctx context.Context) (Stats, error) { return s.session.Stats(ctx) }

// WriterStats counts what a Writer did.
type WriterStats struct {
	Blobs       int64 // put
	NewBlobs    int64 // of them stored anew
	RawBytes    int64 // plaintext of all
	NewRawBytes int64 // plaintext of the new ones
	StoredBytes int64 // growth of the volumes
}

// References calls visit for each blob that data, a blob of that kind, names. Package snapshot knows them; the store
// itself does not look into blobs.
type References func(kind Kind, data []byte, visit func(Kind, ID)) error

// Compression says how new frames are compressed. The values are names in snapfs.json.
type Compression string

// The levels a store can be made with.
const (
	CompressionNone    Compression = "none"
	CompressionS2      Compression = "s2"
	CompressionFastest Compression = "fastest"
	CompressionDefault Compression = "default"
	CompressionBetter  Compression = "better"
)
