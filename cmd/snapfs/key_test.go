package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"snapfs/store"
)

// TestKeyFileOfFailedChange: a key file that was made goes when the change of slots fails, unless its slot is there: it may be all that opens the
// store.
func TestKeyFileOfFailedChange(t *testing.T) {
	failed := errors.New("sync failed")
	for id, stays := range map[string]bool{"": false, "1a2b3c4d": true} {
		path := filepath.Join(t.TempDir(), "key")
		o := slotOptions{secrets: secretFlags{keyFile: path}}
		err := newProgram(nil, io.Discard, io.Discard).withNewSlot(t.Context(), o, func(store.NewKeySlot) (store.KeySlot, error) {
			return store.KeySlot{ID: id}, failed
		})
		if !errors.Is(err, failed) {
			t.Error(err)
		}
		if _, err := os.Stat(path); (err == nil) != stays {
			t.Errorf("slot %q: the key file stays: %v, want %v", id, err == nil, stays)
		}
	}
}
