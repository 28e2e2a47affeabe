package seal

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"
)

// secretCase is a way to make a slot together with what opens it and what does not.
type secretCase struct {
	name  string
	kind  SlotKind
	slot  NewSlot
	right Secret
	wrong Secret
}

func secretCases(t testing.TB) []secretCase {
	t.Helper()
	key, other := random(keySize), random(keySize)
	id, otherID := newAgeIdentity(t), newAgeIdentity(t)
	edPublic, edPrivate, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	rsaPrivate, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	return []secretCase{
		{"password", SlotPassword, NewSlot{Password: []byte("secret")}, Secret{Password: []byte("secret")}, Secret{Password: []byte("Secret")}},
		{"key file", SlotKeyFile, NewSlot{KeyFile: key}, Secret{KeyFile: key}, Secret{KeyFile: other}},
		{"age", SlotAge, NewSlot{Recipient: id.Recipient().String()}, Secret{Identity: []byte("# comment\n" + id.String() + "\n")}, Secret{Identity: []byte(otherID.String())}},
		{"ssh-ed25519", SlotAge, NewSlot{Recipient: sshRecipient(t, edPublic)}, Secret{Identity: sshIdentity(t, edPrivate)}, Secret{Identity: []byte(otherID.String())}},
		{"ssh-rsa", SlotAge, NewSlot{Recipient: sshRecipient(t, &rsaPrivate.PublicKey)}, Secret{Identity: sshIdentity(t, rsaPrivate)}, Secret{Identity: sshIdentity(t, edPrivate)}},
	}
}

func newAgeIdentity(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	must(t, err)
	return id
}

func sshRecipient(t testing.TB, public any) string {
	t.Helper()
	key, err := ssh.NewPublicKey(public)
	must(t, err)
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func sshIdentity(t testing.TB, private any) []byte {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(private, "")
	must(t, err)
	return pem.EncodeToMemory(block)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

// give returns an Unlocker that always has s.
func give(s Secret) Unlocker {
	return func(context.Context, []Info) (Secret, error) { return s, nil }
}

func newKeys(t testing.TB, slots ...NewSlot) (string, *Bundle) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	b, err := Create(dir, slots)
	must(t, err)
	return dir, b
}

func sameKeys(a, b *Bundle) bool {
	return maps.Equal(a.keys, b.keys) && a.slotKey == b.slotKey && a.set == b.set
}

func TestEverySecretOpensItsSlot(t *testing.T) {
	for _, c := range secretCases(t) {
		t.Run(c.name, func(t *testing.T) {
			dir, b := newKeys(t, c.slot)
			got, err := Open(t.Context(), dir, give(c.right))
			must(t, err)
			if !sameKeys(got, b) || got.Clear() || got.Admin() {
				t.Error("opened other keys than were made")
			}
			_, err = Open(t.Context(), dir, give(c.wrong))
			wantErr(t, err, ErrWrongSecret)
			list, err := List(dir)
			must(t, err)
			if len(list) != 1 || list[0].Kind != c.kind || list[0].Recipient != c.slot.Recipient || list[0].Problem != "" {
				t.Errorf("list %+v", list)
			}
		})
	}
}

func TestClearSlotAsksNobody(t *testing.T) {
	dir, b := newKeys(t, NewSlot{Clear: true})
	got, err := Open(t.Context(), dir, func(context.Context, []Info) (Secret, error) {
		t.Error("a secret was asked for")
		return Secret{}, nil
	})
	must(t, err)
	if !sameKeys(got, b) || !got.Clear() || !b.Clear() {
		t.Error("opened other keys than were made")
	}
}

func TestThreeDifferentErrors(t *testing.T) {
	key := random(keySize)
	dir, _ := newKeys(t, NewSlot{KeyFile: key})
	_, err := Open(t.Context(), dir, give(Secret{Password: []byte("x")}))
	wantErr(t, err, ErrNoSlot)
	_, err = Open(t.Context(), dir, give(Secret{KeyFile: random(keySize)}))
	wantErr(t, err, ErrWrongSecret)
	flipByte(t, slotPath(t, dir), 60)
	_, err = Open(t.Context(), dir, give(Secret{KeyFile: key}))
	wantErr(t, err, ErrDamagedSlot)
	if errors.Is(err, ErrWrongSecret) || errors.Is(err, ErrNoSlot) {
		t.Errorf("%v is more than one error", err)
	}
}

func slotPath(t testing.TB, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, slotPrefix+"*"))
	must(t, err)
	if len(names) == 0 {
		t.Fatal("no slot file")
	}
	return names[0]
}

func flipByte(t testing.TB, path string, at int) {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	data[at] ^= 1
	must(t, os.WriteFile(path, data, 0o600))
}

func TestEveryFlippedByteIsNoticed(t *testing.T) {
	key := random(keySize)
	dir, _ := newKeys(t, NewSlot{KeyFile: key})
	path := slotPath(t, dir)
	whole, err := os.ReadFile(path)
	must(t, err)
	for i := range whole {
		flipByte(t, path, i)
		if _, err := Open(t.Context(), dir, give(Secret{KeyFile: key})); !errors.Is(err, ErrDamagedSlot) {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
		must(t, os.WriteFile(path, whole[:i], 0o600))
		if _, err := Open(t.Context(), dir, give(Secret{KeyFile: key})); !errors.Is(err, ErrDamagedSlot) {
			t.Fatalf("cut at %d: %v", i, err)
		}
		must(t, os.WriteFile(path, whole, 0o600))
	}
}

// TestSpoiltSlotHidesNoOther: a slot for an age recipient that cannot be read is passed over.
func TestSpoiltSlotHidesNoOther(t *testing.T) {
	id := newAgeIdentity(t)
	right := Secret{Identity: []byte(id.String())}
	dir, b := newKeys(t, NewSlot{Recipient: id.Recipient().String()})
	s, err := keyDir{path: dir}.slot(onlySlot(t, dir).ID)
	must(t, err)
	for i, spoilt := range [][]byte{nil, []byte("no age file"), s.Age[:len(s.Age)/2], append([]byte("x"), s.Age...)} {
		bad := *s
		bad.ID, bad.Age, bad.Created = fmt.Sprintf("0000000%d", i), spoilt, s.Created.AddDate(-1, 0, 0)
		rewrite(t, dir, &bad)
	}
	if !sameKeys(opens(t, dir, right), b) {
		t.Error("opened other keys")
	}
	must(t, os.Remove(filepath.Join(dir, slotPrefix+s.ID)))
	_, err = Open(t.Context(), dir, give(right))
	wantErr(t, err, ErrIdentity)
}

func TestUnlockerErrorsPass(t *testing.T) {
	dir, _ := newKeys(t, NewSlot{KeyFile: random(keySize)})
	mine := errors.New("no terminal")
	_, err := Open(t.Context(), dir, func(context.Context, []Info) (Secret, error) { return Secret{}, mine })
	wantErr(t, err, mine)
	_, err = Open(t.Context(), dir, nil)
	wantErr(t, err, ErrNoSlot)
	_, err = Open(t.Context(), dir, give(Secret{}))
	wantErr(t, err, ErrWrongSecret)
	_, err = Open(t.Context(), dir, give(Secret{KeyFile: []byte("short")}))
	wantErr(t, err, ErrWrongSecret)
	_, err = Open(t.Context(), dir, give(Secret{Identity: []byte("junk")}))
	wantErr(t, err, ErrIdentity)
}

func TestSSHIdentityUnderPassphrase(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	dir, b := newKeys(t, NewSlot{Recipient: sshRecipient(t, public)})
	block, err := ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte("open sesame"))
	must(t, err)
	secret := Secret{Identity: pem.EncodeToMemory(block)}
	_, err = Open(t.Context(), dir, give(secret))
	wantErr(t, err, ErrIdentity)
	secret.Passphrase = func() ([]byte, error) { return []byte("open sesame"), nil }
	got, err := Open(t.Context(), dir, give(secret))
	must(t, err)
	if !sameKeys(got, b) {
		t.Error("opened other keys than were made")
	}
}

func TestCreateRefuses(t *testing.T) {
	cases := map[string][]NewSlot{
		"no slot":           nil,
		"no secret":         {{}},
		"two secrets":       {{Clear: true, Password: []byte("x")}},
		"empty password":    {{Password: []byte{}}},
		"short key file":    {{KeyFile: make([]byte, 31)}},
		"unknown role":      {{Clear: true, Role: "king"}},
		"unknown recipient": {{Recipient: "age1nothing"}},
		"a key for signing": {{Recipient: "ssh-dss AAAA"}},
	}
	for name, slots := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := Create(filepath.Join(t.TempDir(), "keys"), slots)
			wantErr(t, err, ErrBadSlot)
		})
	}
	dir, _ := newKeys(t, NewSlot{Clear: true})
	_, err := Create(dir, []NewSlot{{Clear: true}})
	wantErr(t, err, ErrExists)
}

func TestMarshalledBundleIsTheSameWithoutAdmin(t *testing.T) {
	_, b := newKeys(t, NewSlot{KeyFile: random(keySize), Role: RoleAdmin})
	got, err := Unmarshal(b.Marshal())
	must(t, err)
	if !b.Admin() || got.Admin() || !sameKeys(got, b) {
		t.Error("not the same keys without the admin's")
	}
	if strings.Contains(string(b.Marshal()), fmt.Sprintf("%q", keyAdminSign)) {
		t.Error("admin keys are handed out")
	}
	for _, bad := range []string{"", "{}", `{"version":1}`, strings.Replace(string(b.Marshal()), `"volume"`, `"volumes"`, 1)} {
		if _, err := Unmarshal([]byte(bad)); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestSubkeysDiffer(t *testing.T) {
	_, b := newKeys(t, NewSlot{Clear: true})
	seen := map[[32]byte]string{}
	add := func(name string, key [32]byte) {
		if other, ok := seen[key]; ok {
			t.Errorf("%s = %s", name, other)
		}
		seen[key] = name
	}
	for kind := range 256 {
		add(fmt.Sprint("blob ", kind), b.BlobIDKey(uint8(kind)))
	}
	add("gear", b.GearKey())
	add("page", b.PageKey())
	add("name", b.NameKey())
	add("values", b.subkey(keyIndex, nil, infoValues))
	add("mac key", b.subkey(keyMAC, nil, infoMAC))
	add("volume 0", b.subkey(keyVolume, make([]byte, 16), infoVolume))
	add("volume 1", b.subkey(keyVolume, append(make([]byte, 15), 1), infoVolume))
	if mac := b.MAC(nil); b.MAC([]byte("a")) == b.MAC([]byte("b")) || b.MAC(nil) != mac {
		t.Error("MAC is no function of the data")
	}
	if key := b.BlobIDKey(1); b.BlobIDKey(1) != key {
		t.Error("subkeys are not stable")
	}
}

func TestVolumesAreSealedApart(t *testing.T) {
	_, b := newKeys(t, NewSlot{Clear: true})
	one, err := b.VolumeAEAD([16]byte{1})
	must(t, err)
	two, err := b.VolumeAEAD([16]byte{2})
	must(t, err)
	index, err := b.IndexAEAD()
	must(t, err)
	nonce := make([]byte, nonceSize)
	sealed := one.Seal(nil, nonce, []byte("data"), nil)
	if _, err := two.Open(nil, nonce, sealed, nil); err == nil {
		t.Error("another volume's key opens it")
	}
	if _, err := index.Open(nil, nonce, sealed, nil); err == nil {
		t.Error("the index key opens it")
	}
	if _, err := one.Open(nil, nonce, sealed, nil); err != nil {
		t.Error(err)
	}
}

func TestNothingPrintsSecrets(t *testing.T) {
	_, b := newKeys(t, NewSlot{Clear: true})
	for _, v := range []any{Secret{Password: []byte("hunter2")}, &Secret{Password: []byte("hunter2")}, NewSlot{Password: []byte("hunter2")}, b, *b} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x", "%q", "%t"} {
			if got := fmt.Sprintf(verb, v); got != hidden {
				t.Errorf("%T with %s: %s", v, verb, got)
			}
		}
		var log strings.Builder
		slog.New(slog.NewTextHandler(&log, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "v", v)
		asJSON, err := json.Marshal(v)
		must(t, err)
		if text := log.String() + string(asJSON); strings.Contains(text, "hunter2") || strings.Contains(text, "aHVudGVyMg") {
			t.Errorf("%T: %s", v, text)
		}
	}
}

func TestManyOpenAtOnce(t *testing.T) {
	key := random(keySize)
	dir, b := newKeys(t, NewSlot{KeyFile: key})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			info, err := b.Add(dir, NewSlot{KeyFile: random(keySize)})
			if err == nil {
				_, err = Open(context.Background(), dir, give(Secret{KeyFile: key}))
			}
			if err == nil {
				_, err = b.Change(dir, info.ID, NewSlot{KeyFile: random(keySize), Label: "second"})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	list, err := List(dir)
	must(t, err)
	if len(list) != 9 {
		t.Errorf("%d slots, want 9", len(list))
	}
}
