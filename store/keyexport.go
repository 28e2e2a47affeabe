package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"snapfs/store/seal"
)

// ErrForeignKeys: the keys belong to another store.
var ErrForeignKeys = seal.ErrForeign

// ExportKeys returns the key slots and the sealed bundle of the store in dir as text, to be kept apart from it. It needs no
// secret and opens only with those of the slots (a store without encryption: with none).
func ExportKeys(dir string) ([]byte, error) { return seal.Export(filepath.Join(dir, keysName)) }

// KeySheet returns what ExportKeys gives as numbered lines of words with checks, to be printed and typed in again.
func KeySheet(dir string) (string, error) {
	text, err := ExportKeys(dir)
	if err != nil {
		return "", err
	}
	return seal.Sheet(text)
}

// ErrSheet: words typed in from a sheet have mistakes; the error's lines say where.
var ErrSheet = seal.ErrSheet

// ImportKeys writes what ExportKeys or KeySheet gave into the store in dir, beside the slots that are there. Text with damage in it is
// refused whole (ErrDamagedSlot, ErrDamagedBundle), as are keys that are not this store's (ErrForeignKeys).
func ImportKeys(dir string, exported []byte) error {
	if err := checkOwner(dir); err != nil {
		return err
	}
	if err := importable(dir); err != nil {
		return err
	}
	err := seal.Import(filepath.Join(dir, keysName), exported)
	if err == nil || errors.Is(err, ErrSheet) { // that one is about what was typed, line by line
		return err
	}
	return fmt.Errorf("keys of %s: %w", dir, diskFull(err))
}

// importable: a directory that was a store is enough; Recreate makes the rest from keys and volumes.
func importable(dir string) error {
	_, err := readConfig(dir)
	if errors.Is(err, ErrNoStore) {
		if list, listed := os.ReadDir(filepath.Join(dir, volumesName)); listed == nil && len(list) > 0 {
			return nil
		}
	}
	return err
}
