package seal

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
)

func passwordUnlocker(password string) Unlocker {
	return func(context.Context, []Info) (Secret, error) { return Secret{Password: []byte(password)}, nil }
}

// sameContent: blobs have the same names, volumes other keys.
func sameContent(t *testing.T, store, set *Bundle) {
	t.Helper()
	if set.BlobIDKey(1) != store.BlobIDKey(1) || set.GearKey() != store.GearKey() || set.PageKey() != store.PageKey() {
		t.Error("the set names or cuts content in another way than its store")
	}
	if set.subkey(keyVolume, nil, infoVolume) == store.subkey(keyVolume, nil, infoVolume) {
		t.Error("the set has the key of the store's volumes")
	}
}

func TestSetWithStoreSlots(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	store, err := Create(dir, []NewSlot{{Password: []byte("one")}, {KeyFile: make([]byte, 32)}})
	if err != nil {
		t.Fatal(err)
	}
	id := [16]byte{1, 2, 3}
	k, err := store.WithStoreSlots(dir, store.NewSet(), id)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(SetSlots(k.Slots)); n != 2 {
		t.Fatalf("%d slots, want 2", n)
	}
	set, err := OpenSet(context.Background(), k, passwordUnlocker("one"))
	if err != nil {
		t.Fatal(err)
	}
	sameContent(t, store, set)
	if _, err := OpenSet(context.Background(), k, passwordUnlocker("two")); !errors.Is(err, ErrWrongSecret) {
		t.Errorf("wrong password: %v", err)
	}
	k.ID[0]++
	if _, err := OpenSet(context.Background(), k, passwordUnlocker("one")); !errors.Is(err, ErrDamagedBundle) {
		t.Errorf("keys of another set: %v", err)
	}
}

func TestSetWithSlotsOfItsOwn(t *testing.T) {
	store, err := Create(filepath.Join(t.TempDir(), "keys"), []NewSlot{{Password: []byte("one")}})
	if err != nil {
		t.Fatal(err)
	}
	fresh := store.NewSet()
	k, err := fresh.WithSlots([16]byte{9}, []NewSlot{{Password: []byte("archive")}})
	if err != nil {
		t.Fatal(err)
	}
	set, err := OpenSet(context.Background(), k, passwordUnlocker("archive"))
	if err != nil {
		t.Fatal(err)
	}
	sameContent(t, store, set)
	if set.subkey(keyVolume, nil, infoVolume) != fresh.subkey(keyVolume, nil, infoVolume) {
		t.Error("the set was opened with other keys")
	}
	if _, err := OpenSet(context.Background(), k, passwordUnlocker("one")); !errors.Is(err, ErrWrongSecret) {
		t.Errorf("the store's password: %v", err)
	}
	if _, err := fresh.WithSlots([16]byte{9}, nil); !errors.Is(err, ErrBadSlot) {
		t.Errorf("no slot: %v", err)
	}
}
