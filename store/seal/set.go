package seal

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// SetKeys is what the label of an archive volume holds of keys: slots, the sealed bundle they open, and, if that is the
// bundle of a store, the set's own bundle sealed under it.
type SetKeys struct {
	ID     [16]byte // of the set
	Slots  []byte   // slot files, one after the other
	Bundle []byte   // a bundle file
	Keys   []byte   // nonce and AES-256-GCM of the set's keys; none: Bundle is the set's own
}

// infoSet is the HKDF info of the key that seals a set's bundle; the salt is the set's id. On disk; append only.
const infoSet = "snapfs 1 archive set"

// NewSet draws the keys of an archive set: those that name and cut content are the store's, all others are new.
func (b *Bundle) NewSet() *Bundle {
	set := newBundle()
	set.keys[keyContent] = b.keys[keyContent]
	return set
}

// WithStoreSlots gives a set the store's slots: whoever can open the store in dir now can open the set.
func (b *Bundle) WithStoreSlots(dir string, set *Bundle, id [16]byte) (SetKeys, error) {
	exported, err := Export(dir)
	if err != nil {
		return SetKeys{}, err
	}
	k := SetKeys{ID: id}
	for len(exported) > 0 {
		var file []byte
		if file, exported = cutFile(exported); bytes.HasPrefix(file, []byte(bundleMagic)) {
			k.Bundle = file
		} else {
			k.Slots = append(k.Slots, file...)
		}
	}
	k.Keys, err = b.SealSet(set, id)
	return k, err
}

// WithSlots gives a set slots of its own, at least one; none of them may be an admin's.
func (b *Bundle) WithSlots(id [16]byte, slots []NewSlot) (SetKeys, error) {
	k := SetKeys{ID: id}
	if len(slots) == 0 {
		return k, fmt.Errorf("%w: a set needs at least one", ErrBadSlot)
	}
	for _, n := range slots {
		if n.Role != "" {
			return k, fmt.Errorf("%w: sets have no admins", ErrBadSlot)
		}
		s, err := newSlotFile(slotFile{
			ID: hex.EncodeToString(random(4)), Set: b.set[:], Label: n.Label, Created: time.Now().UTC().Truncate(time.Second),
		}, n, b.slotKey[:])
		if err != nil {
			return k, err
		}
		data, err := s.encode()
		if err != nil {
			return k, err
		}
		k.Slots = append(k.Slots, data...)
	}
	var err error
	k.Bundle, err = b.encode(1)
	return k, err
}

// SealSet seals a set's bundle under a key of this one.
func (b *Bundle) SealSet(set *Bundle, id [16]byte) ([]byte, error) {
	plain, err := json.Marshal(toSlices(set.keys))
	if err != nil {
		return nil, err
	}
	key := b.subkey(keyVolume, id[:], infoSet)
	aead, err := newAEAD(key[:])
	if err != nil {
		return nil, err
	}
	nonce := random(nonceSize)
	return aead.Seal(nonce, nonce, plain, append([]byte(infoSet), id[:]...)), nil
}

// OpenSetKeys opens a set's keys with those of its store. Errors: ErrDamagedBundle (damaged, or another store's).
func (b *Bundle) OpenSetKeys(id [16]byte, sealed []byte) (*Bundle, error) {
	key := b.subkey(keyVolume, id[:], infoSet)
	aead, err := newAEAD(key[:])
	if err != nil {
		return nil, err
	}
	if len(sealed) < nonceSize {
		return nil, fmt.Errorf("%w: keys of the set: cut short", ErrDamagedBundle)
	}
	plain, err := aead.Open(nil, sealed[:nonceSize], sealed[nonceSize:], append([]byte(infoSet), id[:]...))
	if err != nil {
		return nil, fmt.Errorf("%w: keys of the set: not sealed under the store's", ErrDamagedBundle)
	}
	set := &Bundle{set: b.set, clear: b.clear}
	if set.keys, err = toKeys(plain); err != nil {
		return nil, fmt.Errorf("%w: keys of the set: %v", ErrDamagedBundle, err)
	}
	for _, name := range keyNames {
		if _, ok := set.keys[name]; !ok {
			return nil, fmt.Errorf("%w: keys of the set: %q is missing", ErrDamagedBundle, name)
		}
	}
	return set, nil
}

// SetSlots describes the slots of a label; it needs no secret.
func SetSlots(slots []byte) []Info { return infos(labelSlots(slots)) }

func labelSlots(text []byte) (slots []*slotFile) {
	for len(text) > 0 {
		var data []byte
		data, text = cutFile(text)
		slots = append(slots, parseSlot(claimedID(data), data))
	}
	return slots
}

// OpenSet opens the keys of an archive set with what its labels hold. Errors: ErrWrongSecret, ErrNoSlot, ErrDamagedSlot,
// ErrDamagedBundle, ErrIdentity, and what unlock returns.
func OpenSet(ctx context.Context, k SetKeys, unlock Unlocker) (*Bundle, error) {
	slot, payload, err := unwrap(ctx, labelSlots(k.Slots), unlock)
	if err != nil {
		return nil, fmt.Errorf("keys of the set: %w", err)
	}
	f, err := parseBundle(k.Bundle)
	if err == nil && Set(f.Set) != Set(slot.Set) {
		err = errors.New("it belongs to other slots")
	}
	if err != nil {
		return nil, fmt.Errorf("keys of the set: %w: %v", ErrDamagedBundle, err)
	}
	b, err := f.open(payload)
	if err != nil {
		return nil, fmt.Errorf("keys of the set: %w: %v", ErrDamagedBundle, err)
	}
	b.clear = slot.Kind == SlotClear
	if len(k.Keys) == 0 {
		return b, nil
	}
	return b.OpenSetKeys(k.ID, k.Keys)
}
