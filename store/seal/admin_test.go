package seal

import (
	"crypto/ed25519"
	"os"
	"path/filepath"
	"testing"
)

// newAppendOnly makes keys with an ordinary and an admin slot.
func newAppendOnly(t *testing.T) (dir string, user, admin Secret) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "keys")
	user, admin = Secret{KeyFile: random(keySize)}, Secret{KeyFile: random(keySize)}
	_, err := CreateAppendOnly(dir, []NewSlot{{KeyFile: user.KeyFile}, {KeyFile: admin.KeyFile, Role: RoleAdmin}})
	must(t, err)
	return dir, user, admin
}

func TestOnlyAdminsSign(t *testing.T) {
	dir, user, admin := newAppendOnly(t)
	_, err := opens(t, dir, user).Sign([]byte("x"))
	wantErr(t, err, ErrNotAdmin)
	_, err = OpenAdmin(t.Context(), dir, give(user))
	wantErr(t, err, ErrWrongSecret)

	b, err := OpenAdmin(t.Context(), dir, give(admin))
	must(t, err)
	signature, err := b.Sign([]byte("x"))
	must(t, err)
	client, err := Unmarshal(opens(t, dir, user).Marshal())
	must(t, err)
	if !ed25519.Verify(client.AppendOnly(), []byte("x"), signature) || ed25519.Verify(client.AppendOnly(), []byte("y"), signature) {
		t.Error("the signature is not what the store's key says")
	}
	client, err = Unmarshal(b.Marshal())
	must(t, err)
	_, err = client.Sign([]byte("x"))
	wantErr(t, err, ErrNotAdmin) // clients are not handed the admin key
}

func TestOrdinaryStoresAreNotAppendOnly(t *testing.T) {
	dir, b := newKeys(t, NewSlot{KeyFile: random(keySize)})
	if b.AppendOnly() != nil {
		t.Error("a new bundle is append-only")
	}
	_, err := OpenAdmin(t.Context(), dir, give(Secret{KeyFile: random(keySize)}))
	wantErr(t, err, ErrNoSlot)
	key := random(keySize)
	_, err = b.Add(dir, NewSlot{KeyFile: key, Role: RoleAdmin})
	must(t, err)
	if opens(t, dir, Secret{KeyFile: key}).AppendOnly() != nil {
		t.Error("an admin slot made the store append-only")
	}
	_, err = CreateAppendOnly(filepath.Join(t.TempDir(), "keys"), []NewSlot{{KeyFile: key}})
	wantErr(t, err, ErrBadSlot)
}

func TestNobodyBecomesAdminOfAnAppendOnlyStore(t *testing.T) {
	dir, user, _ := newAppendOnly(t)
	b := opens(t, dir, user)
	_, err := b.Add(dir, NewSlot{KeyFile: random(keySize), Role: RoleAdmin})
	wantErr(t, err, ErrNotAdmin)
	list, err := List(dir)
	must(t, err)
	for _, s := range list {
		if s.Role == RoleAdmin {
			must(t, os.Remove(filepath.Join(dir, slotPrefix+s.ID)))
		}
	}
	_, err = b.Add(dir, NewSlot{KeyFile: random(keySize), Role: RoleAdmin})
	wantErr(t, err, ErrNotAdmin)
}

func TestMoreAdmins(t *testing.T) {
	dir, _, admin := newAppendOnly(t)
	b, err := OpenAdmin(t.Context(), dir, give(admin))
	must(t, err)
	second := Secret{Password: []byte("second")}
	_, err = b.Add(dir, NewSlot{Password: second.Password, Role: RoleAdmin})
	must(t, err)
	other, err := OpenAdmin(t.Context(), dir, give(second))
	must(t, err)
	signature, err := other.Sign([]byte("x"))
	must(t, err)
	if !ed25519.Verify(b.AppendOnly(), []byte("x"), signature) {
		t.Error("another admin has another key")
	}
}

// TestRolesHaveSecretsOfTheirOwn: in an append-only store no secret opens a slot of each role.
func TestRolesHaveSecretsOfTheirOwn(t *testing.T) {
	key, admin, id := random(keySize), []byte("admin"), newAgeIdentity(t).Recipient().String()
	dir := filepath.Join(t.TempDir(), "keys")
	b, err := CreateAppendOnly(dir, []NewSlot{{KeyFile: key}, {Recipient: id}, {Password: admin, Role: RoleAdmin}})
	must(t, err)
	list, err := List(dir)
	must(t, err)
	for _, n := range []NewSlot{{KeyFile: key, Role: RoleAdmin}, {Recipient: id + "\n", Role: RoleAdmin}, {Password: admin}} {
		_, err := b.Add(dir, n)
		wantErr(t, err, ErrBadSlot)
		for _, s := range list {
			if s.Role == n.Role {
				n.Role = ""
				_, err = b.Change(dir, s.ID, n)
				wantErr(t, err, ErrBadSlot)
				n.Role = s.Role
			}
		}
	}
	_, err = b.Add(dir, NewSlot{Password: admin, Role: RoleAdmin}) // another one of its own role
	must(t, err)
	_, err = b.Add(dir, NewSlot{KeyFile: key})
	must(t, err)
	ordinary, _ := newKeys(t, NewSlot{KeyFile: key})
	_, err = opens(t, ordinary, Secret{KeyFile: key}).Add(ordinary, NewSlot{KeyFile: key, Role: RoleAdmin}) // where admins may do no more than others
	must(t, err)
}
