package archive

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"

	"snapfs/store"
	"snapfs/store/seal"
	"snapfs/store/volume"
)

// openSet is a set of which volumes were found.
type openSet struct {
	id      [16]byte
	label   *volume.Label // of one of its volumes
	bundle  *seal.Bundle
	volumes []*Volume           // in the order they were found
	head    *Head               // nil: not found whole
	end     *End                // nil: not met
	done    bool                // all metadata has come
	torn    map[volume.ID]int64 // volumes whose medium ended, and how many bytes of them count

	manifests []store.ID // found in frames, for when no head is whole
}

// name names the set for people.
func (s *openSet) name() string {
	switch {
	case s.head != nil && s.head.Name != "":
		return s.head.Name
	case s.label.Set.Name != "":
		return s.label.Set.Name
	}
	return fmt.Sprintf("%x", s.id)
}

// keyring opens sets; it asks for a secret once where one will do.
type keyring struct {
	unlock seal.Unlocker
	stores []*seal.Bundle // opened with slots of stores
	secret *seal.Secret   // the last that opened something
}

// open unlocks a set with what its label holds. Errors: those of seal.OpenSet.
func (k *keyring) open(ctx context.Context, l *volume.Label) (*seal.Bundle, error) {
	keys := seal.SetKeys{ID: l.Set.ID, Slots: l.Set.KeySlots, Bundle: l.Set.Bundle}
	for _, b := range k.stores {
		if set, err := b.OpenSetKeys(keys.ID, l.Set.SetKeys); err == nil {
			return set, nil
		}
	}
	if k.secret != nil {
		b, err := k.with(ctx, keys, l.Set.SetKeys, func(context.Context, []seal.Info) (seal.Secret, error) { return *k.secret, nil })
		if err == nil {
			return b, nil
		}
	}
	return k.with(ctx, keys, l.Set.SetKeys, k.ask)
}

// unlockSet opens the bundle that the label of a volume holds. An error that is about the secret is a *LockedError.
func unlockSet(ctx context.Context, keys seal.SetKeys, unlock seal.Unlocker) (*seal.Bundle, error) {
	b, err := seal.OpenSet(ctx, keys, unlock)
	if errors.Is(err, seal.ErrWrongSecret) || errors.Is(err, seal.ErrNoSlot) {
		err = &LockedError{err}
	}
	return b, err
}

// with opens a bundle, and with that, if it is a store's, the set's.
func (k *keyring) with(ctx context.Context, keys seal.SetKeys, sealed []byte, unlock seal.Unlocker) (*seal.Bundle, error) {
	b, err := unlockSet(ctx, keys, unlock)
	if err != nil || len(sealed) == 0 {
		return b, err
	}
	k.stores = append(k.stores, b)
	return b.OpenSetKeys(keys.ID, sealed)
}

// ask asks the caller and remembers the answer.
func (k *keyring) ask(ctx context.Context, slots []seal.Info) (seal.Secret, error) {
	if k.unlock == nil {
		return seal.Secret{}, seal.ErrNoSlot
	}
	secret, err := k.unlock(ctx, slots)
	if err == nil {
		k.secret = &secret
	}
	return secret, err
}

// take notes a record that was found, given the plaintext of its frame. What cannot be read is as good as lost.
func (s *openSet) take(plain []byte) {
	switch TypeOf(plain) {
	case RecordHead:
		if h, err := ParseHead(plain); err == nil && h.Set == s.id && s.head == nil {
			s.head = h
		}
	case RecordMetadata:
		s.done = true
	case RecordEnd:
		// if it came twice, the one that names more volumes was the last
		if e, err := ParseEnd(plain); err == nil && e.Set == s.id && (s.end == nil || len(e.Volumes) >= len(s.end.Volumes)) {
			s.end = e
		}
	case RecordTable:
		if t, err := ParseTable(plain); err == nil {
			if s.torn == nil {
				s.torn = map[volume.ID]int64{}
			}
			s.torn[t.Volume] = t.Whole
		}
	}
}

// aead is the key of one volume.
func (s *openSet) aead(id volume.ID) (cipher.AEAD, error) { return s.bundle.VolumeAEAD(id) }

// readHead reads the record at the beginning of a volume. ok is false if it is not whole.
func (s *openSet) readHead(v *Volume) bool {
	_, length, err := volume.ReadLabel(v.source, v.Size)
	if err != nil {
		return false
	}
	plain, err := s.frame(v, int64(length), volume.FrameSet)
	if err != nil {
		return false
	}
	s.take(plain)
	return s.head != nil
}

// frame reads and opens one frame.
func (s *openSet) frame(v *Volume, offset int64, kind volume.FrameKind) ([]byte, error) {
	var head [volume.HeaderSize]byte
	if err := readFull(v.source, head[:], offset); err != nil {
		return nil, err
	}
	h, err := volume.ParseHeader(head[:], v.ID)
	if err != nil {
		return nil, err
	}
	if h.Kind != kind {
		return nil, fmt.Errorf("frame of kind %d: %w", h.Kind, volume.ErrMalformed)
	}
	stored := make([]byte, h.Stored())
	if err := readFull(v.source, stored, offset); err != nil {
		return nil, err
	}
	aead, err := s.aead(v.ID)
	if err != nil {
		return nil, err
	}
	_, plain, err := volume.OpenFrame(stored, v.ID, aead)
	return plain, err
}

func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		return volume.ErrTorn
	}
	return err
}

// index finds out what a volume holds: from its contents table, else by reading all of it.
func (s *openSet) index(v *Volume, x *blobIndex, scratch string) error {
	aead, err := s.aead(v.ID)
	if err != nil {
		return err
	}
	if v.Sealed() {
		err := s.fromContents(v, x, aead)
		if err == nil {
			return nil
		}
		if !isDamaged(err) {
			return fmt.Errorf("%s: %w", v, err)
		}
	}
	if err := v.heal(scratch); err != nil {
		return err
	}
	if v.Sealed() && s.fromContents(v, x, aead) == nil {
		return nil
	}
	return s.fromFrames(v, x, aead)
}

// isDamaged reports whether an error tells of bytes that are not what was written.
func isDamaged(err error) bool {
	return errors.Is(err, volume.ErrChecksum) || errors.Is(err, volume.ErrTorn) || errors.Is(err, volume.ErrForged) ||
		errors.Is(err, volume.ErrMalformed) || errors.Is(err, errIO)
}

func (s *openSet) fromContents(v *Volume, x *blobIndex, aead cipher.AEAD) error {
	var records []int64
	var rows []listed
	err := volume.ReadContents(v.source, v.Trailer, aead, func(f volume.FrameInfo) error {
		switch f.Kind {
		case volume.FrameBlobs:
			rows = append(rows, listed{f.Offset, f.Stored, append([]volume.Blob(nil), f.Blobs...)})
			if len(rows) >= 256 {
				s.addRows(v, x, &rows)
			}
		case volume.FrameSet:
			records = append(records, f.Offset)
		}
		return nil
	})
	s.addRows(v, x, &rows)
	for _, at := range records {
		if plain, readErr := s.frame(v, at, volume.FrameSet); readErr == nil {
			s.take(plain)
		}
	}
	return err
}

// listed is a frame of a contents table.
type listed struct {
	offset int64
	stored uint32
	blobs  []volume.Blob
}

func (s *openSet) addRows(v *Volume, x *blobIndex, rows *[]listed) {
	for _, f := range *rows {
		s.add(v, x, f.offset, f.stored, f.blobs)
	}
	*rows = (*rows)[:0]
}

func (s *openSet) add(v *Volume, x *blobIndex, offset int64, stored uint32, blobs []volume.Blob) {
	x.add(v.number, offset, stored, blobs)
	for i := range blobs {
		if store.Kind(blobs[i].Kind) == store.KindManifest {
			s.manifests = append(s.manifests, blobs[i].ID)
		}
	}
}

// fromFrames opens every frame of a volume whose contents table is lost.
func (s *openSet) fromFrames(v *Volume, x *blobIndex, aead cipher.AEAD) error {
	_, _, err := volume.ScanPayloads(v.source, 0, v.Size, v.ID, func(offset int64, h volume.Header, stored []byte, damage error) error {
		if damage == nil {
			s.takeFrame(v, x, aead, offset, h, stored)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", v, err)
	}
	return nil
}

// takeFrame takes what a whole frame holds; one that does not open counts as damaged.
func (s *openSet) takeFrame(v *Volume, x *blobIndex, aead cipher.AEAD, offset int64, h volume.Header, stored []byte) {
	if h.Kind != volume.FrameBlobs && h.Kind != volume.FrameSet {
		return
	}
	_, plain, err := volume.OpenFrame(stored, v.ID, aead)
	if err != nil {
		return
	}
	if h.Kind == volume.FrameSet {
		s.take(plain)
		return
	}
	if pack, err := volume.ParsePack(plain); err == nil {
		s.add(v, x, offset, h.Stored(), pack.Blobs)
	}
}
