package store

import (
	"fmt"
	"path/filepath"

	"snapfs/store/seal"
)

// ErrForeignKeys: the keys belong to another store.
var ErrForeignKeys = seal.ErrForeign

// ExportKeys returns the key slots and the sealed bundle of the store in dir as text, to be kept apart from it. It needs no
// secret and opens only with those of the slots (a store without encryption: with none).
func ExportKeys(dir string) ([]byte, error) { return seal.Export(filepath.Join(dir, keysName)) }

// ImportKeys writes what ExportKeys gave into the store in dir, beside the slots that are there. Text with damage in it is
// refused whole (ErrDamagedSlot, ErrDamagedBundle), as are keys that are not this store's (ErrForeignKeys).
func ImportKeys(dir string, exported []byte) error {
	if err := checkOwner(dir); err != nil {
		return err
	}
	if _, err := readConfig(dir); err != nil {
		return err
	}
	if err := seal.Import(filepath.Join(dir, keysName), exported); err != nil {
		return fmt.Errorf("keys of %s: %w", dir, err)
	}
	return nil
}
