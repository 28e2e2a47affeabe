package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestKeysComeBackFromTheirExport(t *testing.T) {
	dir := newStore(t)
	text, err := ExportKeys(dir)
	must(t, err)
	must(t, os.RemoveAll(filepath.Join(dir, keysName)))
	if _, err := Open(t.Context(), dir, Options{Unlock: unlockTest}); err == nil {
		t.Fatal("opened without keys")
	}
	must(t, ImportKeys(dir, text))
	closeStore(t, openStore(t, dir))
	if err := ImportKeys(newStore(t), text); !errors.Is(err, ErrForeignKeys) {
		t.Errorf("keys of another store: %v", err)
	}
	if err := ImportKeys(t.TempDir(), text); !errors.Is(err, ErrNoStore) {
		t.Errorf("keys for no store: %v", err)
	}
}
