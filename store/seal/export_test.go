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

// TestImportLeavesWhatIsThere: what is whole is not overwritten, whatever the text says of it; what is damaged is.
func TestImportLeavesWhatIsThere(t *testing.T) {
	key, admin := random(keySize), random(keySize)
	dir, b := newKeys(t, NewSlot{KeyFile: key}, NewSlot{KeyFile: admin, Role: RoleAdmin})
	text, err := Export(dir)
	must(t, err)
	// A copy of the directory in which the slots were given other secrets, and the bundle other keys for the admin.
	other := filepath.Join(t.TempDir(), "other")
	must(t, os.CopyFS(other, os.DirFS(dir)))
	slots, err := keyDir{path: other}.slots()
	must(t, err)
	for _, s := range slots {
		changed, err := newSlotFile(*s, NewSlot{KeyFile: random(keySize)}, make([]byte, keySize))
		must(t, err)
		rewrite(t, other, changed)
	}
	forged, err := b.withAdmin().encode(1)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(other, bundlePrefix+"1"), forged, 0o600))
	bad, err := Export(other)
	must(t, err)
	check := func(what string) {
		t.Helper()
		if !sameKeys(opens(t, dir, Secret{KeyFile: key}), b) || !opens(t, dir, Secret{KeyFile: admin}).Admin() {
			t.Errorf("%s: the keys are others", what)
		}
	}
	must(t, Import(dir, bad))
	check("other contents under the same names")
	for _, s := range slots {
		flipByte(t, filepath.Join(dir, slotPrefix+s.ID), 60)
	}
	flipByte(t, filepath.Join(dir, bundlePrefix+"1"), 60)
	must(t, Import(dir, text))
	check("damaged files")
}

// TestImportBesideSlotsAlone: slots tell whose keys the directory holds when no bundle is whole.
func TestImportBesideSlotsAlone(t *testing.T) {
	key := random(keySize)
	dir, b := newKeys(t, NewSlot{KeyFile: key})
	text, err := Export(dir)
	must(t, err)
	strange, _ := newKeys(t, NewSlot{KeyFile: random(keySize)})
	other, err := Export(strange)
	must(t, err)
	flipByte(t, filepath.Join(dir, bundlePrefix+"1"), 60)
	wantErr(t, Import(dir, other), ErrForeign)
	must(t, Import(dir, text))
	if !sameKeys(opens(t, dir, Secret{KeyFile: key}), b) {
		t.Error("imported keys are others")
	}
}
