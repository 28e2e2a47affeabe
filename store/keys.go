package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"snapfs/store/seal"
)

// What package seal defines, for those above this package.
type (
	// Secret opens a key slot.
	Secret = seal.Secret
	// KeySlot describes a key slot without its secret.
	KeySlot = seal.Info
	// NewKeySlot says how to make one.
	NewKeySlot = seal.NewSlot
)

// Kinds of key slots.
const (
	SlotPassword = seal.SlotPassword
	SlotKeyFile  = seal.SlotKeyFile
	SlotAge      = seal.SlotAge
	SlotClear    = seal.SlotClear
)

// Errors of package seal, for those above this package.
var (
	ErrWrongSecret   = seal.ErrWrongSecret
	ErrNoSlot        = seal.ErrNoSlot
	ErrDamagedSlot   = seal.ErrDamagedSlot
	ErrDamagedBundle = seal.ErrDamagedBundle
	ErrNoKeys        = seal.ErrNoKeys
	ErrIdentity      = seal.ErrIdentity
	ErrBadSlot       = seal.ErrBadSlot
	ErrLastSlot      = seal.ErrLastSlot
	ErrUnknownSlot   = seal.ErrUnknownSlot
	ErrNotAdmin      = seal.ErrNotAdmin
)

// EditDistance is the number of insertions, deletions, replacements and swaps of neighbouring bytes that make b of a: by it the words of a printed
// key are read in spite of misspellings, and those of a command line.
func EditDistance(a, b string) int { return seal.EditDistance(a, b) }

// KeySlots lists the key slots of the store in dir; it needs no secret. Errors: ErrNoStore, ErrUnreachable.
func KeySlots(dir string) ([]KeySlot, error) {
	keys := filepath.Join(dir, keysName)
	if _, err := os.Stat(filepath.Join(dir, configName)); isNothing(err) {
		return nil, noStore(dir)
	}
	slots, err := seal.List(keys)
	if err != nil {
		return nil, fmt.Errorf("key slots of %s: %w", dir, unreachable(err))
	}
	return slots, nil
}

// AddSlot makes another key slot for the store. With an error the slot is there only if it is returned. Errors: ErrNoSpace.
func (s *Store) AddSlot(_ context.Context, n NewKeySlot) (KeySlot, error) {
	slot, err := s.slotBundle().Add(filepath.Join(s.path, keysName), n)
	return slot, diskFull(err)
}

// ChangeSlot gives a slot another secret of any kind; the old one no longer opens it. With an error the new slot is there only if it is
// returned, else the old one. Errors: ErrUnknownSlot, ErrNoSpace.
func (s *Store) ChangeSlot(_ context.Context, id string, n NewKeySlot) (KeySlot, error) {
	slot, err := s.slotBundle().Change(filepath.Join(s.path, keysName), id, n)
	return slot, diskFull(err)
}

// slotBundle is the bundle to make slots with: with admin keys if this Store has them.
func (s *Store) slotBundle() *seal.Bundle {
	if b := s.adminBundle(); b != nil {
		return b
	}
	return s.bundle
}

// RemoveSlot deletes a slot; the last one of its role is refused (ErrLastSlot), and that of an admin of an append-only store
// needs admin rights (ErrNotAdmin). Errors: ErrUnknownSlot.
func (s *Store) RemoveSlot(_ context.Context, id string) error {
	slots, err := KeySlots(s.path)
	if err != nil {
		return err
	}
	for _, slot := range slots {
		if slot.ID == id && slot.Role == seal.RoleAdmin && s.AppendOnly() && s.adminBundle() == nil {
			return fmt.Errorf("slot %s: %w", id, ErrNotAdmin)
		}
	}
	return diskFull(seal.Remove(filepath.Join(s.path, keysName), id))
}
