package store

import (
	"context"
	"path/filepath"

	"snapfs/store/seal"
)

// Pack reads the frame at a place and returns its opened plaintext as it was packed (volume.ParsePack), in buf's memory: for whoever
// seals it again elsewhere without compressing it again. id is a blob in it, for errors. The frame may have moved since its place
// was asked for: on *CorruptError ask for the blobs themselves with Get.
func (s *Store) Pack(ctx context.Context, p Place, id ID, buf *[]byte) ([]byte, error) {
	plain, err := s.reader.openPlain(ctx, p, id, buf)
	if err != nil && ctx.Err() == nil && s.reader.dropExchanged(p.Volume) {
		return s.reader.openPlain(ctx, p, id, buf)
	}
	return plain, err
}

// ID is the store's identity, as it stands in the labels of its volumes.
func (s *Store) ID() [16]byte {
	id, err := s.config.storeID()
	if err != nil {
		return [16]byte{} // not reached: the config was checked at open
	}
	return id
}

// ChunkAverage is the average length of chunks in bytes.
func (s *Store) ChunkAverage() int { return s.config.ChunkAverage }

// NewSetKeys draws the keys of an archive set and gives what its labels hold of them: the store's slots, or those made for
// the set if there are any.
func (s *Store) NewSetKeys(id [16]byte, slots []NewKeySlot) (*seal.Bundle, seal.SetKeys, error) {
	set := s.bundle.NewSet()
	if len(slots) > 0 {
		k, err := set.WithSlots(id, slots)
		return set, k, err
	}
	k, err := s.bundle.WithStoreSlots(filepath.Join(s.path, keysName), set, id)
	return set, k, err
}

// SealSetKeys seals the keys of a set so that only this store opens them: OpenSetKeys.
func (s *Store) SealSetKeys(id [16]byte, set *seal.Bundle) ([]byte, error) {
	return s.bundle.SealSet(set, id)
}

// OpenSetKeys opens what SealSetKeys sealed, or the label of a set with the store's slots. Errors: ErrDamagedBundle.
func (s *Store) OpenSetKeys(id [16]byte, sealed []byte) (*seal.Bundle, error) {
	return s.bundle.OpenSetKeys(id, sealed)
}

// LockArchives keeps others from writing sets of a pool until unlock is called; it waits for who does so already, or *LockedError names that job.
func (s *Store) LockArchives(ctx context.Context, pool string, wait bool) (unlock func(), err error) {
	return s.lockNamed(ctx, "archive pool "+pool, wait)
}

// LockCatalogue is for whoever enters or ends sets by what he sees of others: for a moment.
func (s *Store) LockCatalogue(ctx context.Context) (unlock func(), err error) {
	return s.lockNamed(ctx, "archive sets", true)
}

func (s *Store) lockNamed(ctx context.Context, name string, wait bool) (unlock func(), err error) {
	if err := s.session.Lock(ctx, name, s.job, wait); err != nil {
		return nil, err
	}
	return func() {
		_ = s.session.Unlock(context.WithoutCancel(ctx), name) // else it ends with the session
	}, nil
}
