package seal

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/argon2"
	"golang.org/x/sys/unix"
)

func onlySlot(t testing.TB, dir string) Info {
	t.Helper()
	list, err := List(dir)
	must(t, err)
	if len(list) != 1 {
		t.Fatalf("%d slots, want 1", len(list))
	}
	return list[0]
}

func opens(t testing.TB, dir string, s Secret) *Bundle {
	t.Helper()
	b, err := Open(t.Context(), dir, give(s))
	must(t, err)
	return b
}

func TestAnyOfSeveralSlotsOpens(t *testing.T) {
	cases := secretCases(t)
	dir, b := newKeys(t, cases[0].slot)
	for _, c := range cases[1:] {
		_, err := b.Add(dir, c.slot)
		must(t, err)
	}
	second := NewSlot{KeyFile: random(keySize), Label: "spare"}
	info, err := b.Add(dir, second)
	must(t, err)
	for _, c := range cases {
		if !sameKeys(opens(t, dir, c.right), b) {
			t.Errorf("%s opens other keys", c.name)
		}
	}
	opens(t, dir, Secret{KeyFile: second.KeyFile})

	must(t, Remove(dir, info.ID))
	_, err = Open(t.Context(), dir, give(Secret{KeyFile: second.KeyFile}))
	wantErr(t, err, ErrWrongSecret)
	opens(t, dir, cases[1].right)
	wantErr(t, Remove(dir, info.ID), ErrUnknownSlot)
	wantErr(t, Remove(dir, "../passwd"), ErrUnknownSlot)
}

func TestAddByAClient(t *testing.T) {
	dir, b := newKeys(t, NewSlot{KeyFile: random(keySize)})
	client, err := Unmarshal(b.Marshal())
	must(t, err)
	key := random(keySize)
	_, err = client.Add(dir, NewSlot{KeyFile: key})
	must(t, err)
	if !sameKeys(opens(t, dir, Secret{KeyFile: key}), b) {
		t.Error("a client's slot opens other keys")
	}
}

func TestLastSlotStays(t *testing.T) {
	dir, b := newKeys(t, NewSlot{KeyFile: random(keySize)})
	first := onlySlot(t, dir)
	wantErr(t, Remove(dir, first.ID), ErrLastSlot)

	admin, err := b.Add(dir, NewSlot{KeyFile: random(keySize), Role: RoleAdmin})
	must(t, err)
	wantErr(t, Remove(dir, first.ID), ErrLastSlot)
	wantErr(t, Remove(dir, admin.ID), ErrLastSlot)

	second, err := b.Add(dir, NewSlot{KeyFile: random(keySize)})
	must(t, err)
	flipByte(t, filepath.Join(dir, slotPrefix+second.ID), 40)
	wantErr(t, Remove(dir, first.ID), ErrLastSlot) // the other one opens nothing
	must(t, Remove(dir, second.ID))
}

func TestChangeReplacesTheSecret(t *testing.T) {
	old, now := random(keySize), []byte("new password")
	dir, b := newKeys(t, NewSlot{KeyFile: old, Label: "mine"})
	before := onlySlot(t, dir)
	info, err := b.Change(dir, before.ID, NewSlot{Password: now})
	must(t, err)
	if got := onlySlot(t, dir); got != info || got.ID == before.ID || got.Label != "mine" || got.Kind != SlotPassword {
		t.Errorf("changed to %+v", got)
	}
	if !sameKeys(opens(t, dir, Secret{Password: now}), b) {
		t.Error("opens other keys")
	}
	_, err = Open(t.Context(), dir, give(Secret{KeyFile: old}))
	wantErr(t, err, ErrNoSlot)
	_, err = b.Change(dir, before.ID, NewSlot{Password: now})
	wantErr(t, err, ErrUnknownSlot)
	_, err = b.Change(dir, info.ID, NewSlot{})
	wantErr(t, err, ErrBadSlot)
	_, err = b.Change(dir, info.ID, NewSlot{KeyFile: old, Role: RoleAdmin})
	wantErr(t, err, ErrBadSlot)
	opens(t, dir, Secret{Password: now})
}

func TestAdminSlots(t *testing.T) {
	user, admin, third := random(keySize), random(keySize), random(keySize)
	dir, b := newKeys(t, NewSlot{KeyFile: user})
	info, err := b.Add(dir, NewSlot{KeyFile: admin, Role: RoleAdmin})
	must(t, err)

	_, err = b.Add(dir, NewSlot{KeyFile: third, Role: RoleAdmin})
	wantErr(t, err, ErrNotAdmin)
	_, err = b.Change(dir, info.ID, NewSlot{KeyFile: third})
	wantErr(t, err, ErrNotAdmin)

	plain := opens(t, dir, Secret{KeyFile: user})
	if plain.Admin() {
		t.Error("a plain slot opened the admin keys")
	}
	full := opens(t, dir, Secret{KeyFile: admin})
	if !full.Admin() || len(full.admin.keys) == 0 || !sameKeys(full, plain) {
		t.Error("the admin slot did not open everything")
	}
	_, err = full.Add(dir, NewSlot{KeyFile: third, Role: RoleAdmin})
	must(t, err)
	if again := opens(t, dir, Secret{KeyFile: third}); again.admin == nil || again.admin.key != full.admin.key {
		t.Error("the second admin slot opens other keys")
	}
	changed, err := full.Change(dir, info.ID, NewSlot{Password: []byte("x")})
	must(t, err)
	if changed.Role != RoleAdmin {
		t.Errorf("role %q after the change", changed.Role)
	}
}

func TestForeignBundleChangesNothing(t *testing.T) {
	dir, _ := newKeys(t, NewSlot{Clear: true})
	_, other := newKeys(t, NewSlot{Clear: true})
	_, err := other.Add(dir, NewSlot{KeyFile: random(keySize)})
	wantErr(t, err, ErrForeign)
	onlySlot(t, dir)
}

// TestForeignSlots: a slot of another store that has come among those of this one is no way in, whether its secret opens a slot here or not.
func TestForeignSlots(t *testing.T) {
	key, other := random(keySize), random(keySize)
	strange, _ := newKeys(t, NewSlot{KeyFile: key}, NewSlot{KeyFile: other, Role: RoleAdmin}, NewSlot{Clear: true})
	list, err := keyDir{path: strange}.slots()
	must(t, err)
	dir, b := newKeys(t, NewSlot{KeyFile: key}, NewSlot{KeyFile: other, Role: RoleAdmin})
	own, err := List(dir)
	must(t, err)
	for _, s := range list {
		s.Created = s.Created.AddDate(-1, 0, 0) // tried first
		rewrite(t, dir, s)
	}
	if got := opens(t, dir, Secret{KeyFile: key}); !sameKeys(got, b) || got.Clear() {
		t.Error("opened other keys")
	}
	for _, s := range own {
		wantErr(t, Remove(dir, s.ID), ErrLastSlot) // no other one of its role opens anything
	}
	text, err := Export(dir)
	must(t, err)
	lost := filepath.Join(t.TempDir(), "keys")
	must(t, Import(lost, text))
	opens(t, lost, Secret{KeyFile: key})
	for _, s := range list {
		must(t, Remove(dir, s.ID))
	}
	opens(t, dir, Secret{KeyFile: key})
}

func TestSlotsCannotBePassedOff(t *testing.T) {
	key := random(keySize)
	dir, _ := newKeys(t, NewSlot{KeyFile: key})
	s, err := keyDir{path: dir}.slot(onlySlot(t, dir).ID)
	must(t, err)
	s.Role = RoleAdmin
	rewrite(t, dir, s)
	_, err = Open(t.Context(), dir, give(Secret{KeyFile: key}))
	wantErr(t, err, ErrWrongSecret)
}

func rewrite(t testing.TB, dir string, s *slotFile) {
	t.Helper()
	data, err := s.encode()
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, slotPrefix+s.ID), data, 0o600))
}

// TestPasswordsCostWhatRFC9106Recommends: new slots have the second recommended option of section 4, and it is what their key is made with.
func TestPasswordsCostWhatRFC9106Recommends(t *testing.T) {
	dir, b := newKeys(t, NewSlot{Password: []byte("x")}, NewSlot{Password: []byte("y"), Role: RoleAdmin})
	added, err := b.Add(dir, NewSlot{Password: []byte("x")})
	must(t, err)
	changed, err := b.Add(dir, NewSlot{KeyFile: random(keySize)})
	must(t, err)
	changed, err = b.Change(dir, changed.ID, NewSlot{Password: []byte("x")})
	must(t, err)
	salts := map[string]bool{}
	list, err := List(dir)
	must(t, err)
	for _, info := range list {
		s, err := keyDir{path: dir}.slot(info.ID)
		must(t, err)
		if s.Argon2id == nil || *s.Argon2id != (argon2id{Time: 3, Memory: 64 << 10, Threads: 4}) || len(s.Salt) < 16 || salts[string(s.Salt)] {
			t.Errorf("slot %+v: %+v, salt %x", info, s.Argon2id, s.Salt)
		}
		salts[string(s.Salt)] = true
		if got := s.fromPassword([]byte("x")); !bytes.Equal(got, argon2.IDKey([]byte("x"), s.Salt, 3, 64<<10, 4, 32)) {
			t.Errorf("slot %s: its key is another", info.ID)
		}
	}
	if len(salts) != 4 || added.ID == changed.ID {
		t.Errorf("%d slots with passwords", len(salts))
	}
}

func TestHostileParametersAreNotObeyed(t *testing.T) {
	dir, _ := newKeys(t, NewSlot{Password: []byte("x")})
	s, err := keyDir{path: dir}.slot(onlySlot(t, dir).ID)
	must(t, err)
	for _, a := range []*argon2id{
		nil, {}, {1, 64 << 10, 0}, {0, 64 << 10, 4}, {1, 4 << 20, 4}, {1000, 1 << 20, 4}, {1, 8, 255}, {1, 1, 1}, {1 << 31, 1 << 20, 1},
	} {
		s.Argon2id = a
		rewrite(t, dir, s)
		_, err = Open(t.Context(), dir, give(Secret{Password: []byte("x")}))
		wantErr(t, err, ErrDamagedSlot)
	}
}

func TestNewerSlotsAreListedNotUsed(t *testing.T) {
	dir, b := newKeys(t, NewSlot{KeyFile: random(keySize)})
	info, err := b.Add(dir, NewSlot{Password: []byte("x"), Label: "future"})
	must(t, err)
	s, err := keyDir{path: dir}.slot(info.ID)
	must(t, err)
	data, err := encodeFile(slotMagic, slotVersion+1, s)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, slotPrefix+info.ID), data, 0o600))
	_, err = Open(t.Context(), dir, give(Secret{Password: []byte("x")}))
	wantErr(t, err, ErrNoSlot)

	s.ID, s.Kind = "00000001", "fido"
	rewrite(t, dir, s)
	list, err := List(dir)
	must(t, err)
	problems := 0
	for _, i := range list {
		if i.Problem != "" {
			problems++
			if i.Label != "future" || !strings.Contains(i.Problem, "newer snapfs") {
				t.Errorf("listed as %+v", i)
			}
		}
	}
	if len(list) != 3 || problems != 2 {
		t.Errorf("%d slots, %d of them unusable: %+v", len(list), problems, list)
	}
}

func TestDamagedSlotBesideAWholeOne(t *testing.T) {
	good, bad := random(keySize), random(keySize)
	dir, b := newKeys(t, NewSlot{KeyFile: good})
	info, err := b.Add(dir, NewSlot{KeyFile: bad})
	must(t, err)
	flipByte(t, filepath.Join(dir, slotPrefix+info.ID), 50)
	opens(t, dir, Secret{KeyFile: good})
	_, err = Open(t.Context(), dir, give(Secret{KeyFile: bad}))
	wantErr(t, err, ErrWrongSecret)
	if !strings.Contains(err.Error(), info.ID) {
		t.Errorf("%v does not name the damaged slot", err)
	}
	_, err = Open(t.Context(), dir, give(Secret{Password: []byte("x")}))
	wantErr(t, err, ErrDamagedSlot)
}

func TestNewestWholeBundleWins(t *testing.T) {
	key := random(keySize)
	dir, b := newKeys(t, NewSlot{KeyFile: key})
	d := keyDir{path: dir}
	next := b.withAdmin()
	next.keys["added later"] = [32]byte{1}
	must(t, d.writeBundle(next))
	if got := opens(t, dir, Secret{KeyFile: key}); got.keys["added later"] != next.keys["added later"] {
		t.Error("not the newest")
	}
	flipByte(t, filepath.Join(dir, "bundle-2"), 90)
	if got := opens(t, dir, Secret{KeyFile: key}); !sameKeys(got, b) {
		t.Error("not the newest that is whole")
	}
	flipByte(t, filepath.Join(dir, "bundle-1"), 90)
	_, err := Open(t.Context(), dir, give(Secret{KeyFile: key}))
	wantErr(t, err, ErrDamagedBundle)
	must(t, os.Remove(filepath.Join(dir, "bundle-1")))
	must(t, os.Remove(filepath.Join(dir, "bundle-2")))
	_, err = Open(t.Context(), dir, give(Secret{KeyFile: key}))
	wantErr(t, err, ErrDamagedBundle)
}

func TestCrashBeforeRename(t *testing.T) {
	key := random(keySize)
	dir, b := newKeys(t, NewSlot{KeyFile: key})
	temp := filepath.Join(dir, tempPrefix+slotPrefix+"12345678")
	must(t, os.WriteFile(temp, []byte("half a sl"), 0o600))
	opens(t, dir, Secret{KeyFile: key})
	onlySlot(t, dir)
	_, err := b.Add(dir, NewSlot{KeyFile: random(keySize)})
	must(t, err)
	if _, err := os.Stat(temp); !os.IsNotExist(err) {
		t.Error("what the crash left is still there")
	}
}

func TestCrashBetweenNewAndOldSlot(t *testing.T) {
	old, now := random(keySize), random(keySize)
	dir, b := newKeys(t, NewSlot{KeyFile: old})
	_, err := keyDir{path: dir}.addSlot(b, NewSlot{KeyFile: now}) // the first half of a change
	must(t, err)
	opens(t, dir, Secret{KeyFile: old})
	opens(t, dir, Secret{KeyFile: now})
}

func TestPlantedFilesDoNotHarm(t *testing.T) {
	key := random(keySize)
	dir, _ := newKeys(t, NewSlot{KeyFile: key})
	must(t, unix.Mkfifo(filepath.Join(dir, slotPrefix+"00000000"), 0o600))
	must(t, os.Symlink("/dev/zero", filepath.Join(dir, slotPrefix+"00000001")))
	must(t, os.WriteFile(filepath.Join(dir, slotPrefix+"00000002"), make([]byte, maxFile+10), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, slotPrefix+"README"), nil, 0o600))
	opens(t, dir, Secret{KeyFile: key})
	list, err := List(dir)
	must(t, err)
	if len(list) != 4 {
		t.Errorf("%d slots, want 4: %+v", len(list), list)
	}
}

func TestRootGivesFilesToTheOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	store := t.TempDir()
	must(t, os.Chown(store, 12345, 12346))
	dir := filepath.Join(store, "keys")
	b, err := Create(dir, []NewSlot{{KeyFile: random(keySize)}})
	must(t, err)
	_, err = b.Add(dir, NewSlot{Clear: true})
	must(t, err)
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	must(t, err)
	for _, name := range append(names, dir) {
		var st unix.Stat_t
		must(t, unix.Lstat(name, &st))
		if st.Uid != 12345 || st.Gid != 12346 || st.Mode&0o077 != 0 {
			t.Errorf("%s: owner %d:%d mode %o", filepath.Base(name), st.Uid, st.Gid, st.Mode)
		}
	}
}

func TestFilesAreNotThereAfterAFailedCreate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "no such", "keys")
	_, err := Create(dir, []NewSlot{{Clear: true}})
	if !os.IsNotExist(fmt.Errorf("%w", err)) && err == nil {
		t.Error("made keys in a directory that is not there")
	}
}
