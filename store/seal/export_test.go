package seal

import (
	"os"
	"path/filepath"
	"testing"
)

func TestExportedKeysOpenTheStore(t *testing.T) {
	key := random(keySize)
	dir, b := newKeys(t, NewSlot{KeyFile: key}, NewSlot{Password: []byte("x")})
	text, err := Export(dir)
	must(t, err)
	lost := filepath.Join(t.TempDir(), "keys")
	must(t, os.Mkdir(lost, 0o700))
	must(t, Import(lost, text))
	must(t, Import(lost, text))
	if !sameKeys(opens(t, lost, Secret{KeyFile: key}), b) {
		t.Error("imported keys are others")
	}
	other, _ := newKeys(t, NewSlot{Clear: true})
	wantErr(t, Import(other, text), ErrForeign)
}

func TestDamagedExportWritesNothing(t *testing.T) {
	dir, _ := newKeys(t, NewSlot{KeyFile: random(keySize)})
	text, err := Export(dir)
	must(t, err)
	lost := filepath.Join(t.TempDir(), "keys")
	must(t, os.Mkdir(lost, 0o700))
	for i := range text {
		bad := append([]byte(nil), text...)
		bad[i] ^= 1
		if Import(lost, bad) == nil {
			t.Fatalf("byte %d flipped and accepted", i)
		}
		if Import(lost, text[:i]) == nil {
			t.Fatalf("cut at %d and accepted", i)
		}
	}
	if names, err := os.ReadDir(lost); err != nil || len(names) != 0 {
		t.Errorf("files written: %v %v", names, err)
	}
}
