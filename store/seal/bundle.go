package seal

import (
	"crypto/ed25519"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
)

// Set names the keys of one store: random, the same in all its slots and bundles, no secret.
type Set [16]byte

// Bundle is an unlocked set of keys. Immutable; safe for concurrent use.
type Bundle struct {
	keys    map[string][32]byte
	slotKey [32]byte
	set     Set
	clear   bool
	admin   *adminPart // nil unless an admin slot was opened

	redacted
}

// adminPart is what only admin slots open.
type adminPart struct {
	key  [32]byte // wrapped by admin slots beside the slot key
	keys map[string][32]byte
}

// Set names the keys of the store.
func (b *Bundle) Set() Set { return b.set }

// Clear reports whether a slot held the key in clear when the bundle was opened.
func (b *Bundle) Clear() bool { return b.clear }

// Admin reports whether the bundle was opened with an admin slot.
func (b *Bundle) Admin() bool { return b.admin != nil }

// bundleMagic begins the first line of a bundle file. On disk; append only.
const bundleMagic = "snapfs key bundle"

// bundleVersion is the version this program writes and understands.
const bundleVersion = 1

// bundleFile is the second line of a bundle file, as JSON. On disk; append only.
type bundleFile struct {
	Set    []byte      `json:"set"`
	Number uint32      `json:"number"` // N of the file's name
	Keys   sealedPart  `json:"keys"`
	Admin  *sealedPart `json:"admin,omitempty"`
}

// sealedPart is AES-256-GCM over the JSON of a map from names to keys.
type sealedPart struct {
	Nonce  []byte `json:"nonce"`
	Sealed []byte `json:"sealed"`
}

// Names of the parts in their AAD. On disk; append only.
const (
	partKeys  = "keys"
	partAdmin = "admin"
)

// newBundle draws the keys of a new store.
func newBundle() *Bundle {
	b := &Bundle{keys: map[string][32]byte{}, slotKey: [32]byte(random(keySize)), set: Set(random(len(Set{})))}
	for _, name := range keyNames {
		b.keys[name] = [32]byte(random(keySize))
	}
	return b
}

// withAdmin returns a copy of b with new admin keys.
func (b *Bundle) withAdmin() *Bundle {
	seed := random(ed25519.SeedSize)
	public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	out := &Bundle{keys: maps.Clone(b.keys), slotKey: b.slotKey, set: b.set, clear: b.clear}
	out.keys[keyAdminPublic] = [32]byte(public)
	out.admin = &adminPart{
		key:  [32]byte(random(keySize)),
		keys: map[string][32]byte{keyAdminSign: [32]byte(seed)},
	}
	return out
}

// encode seals the bundle as file number n.
func (b *Bundle) encode(n uint32) ([]byte, error) {
	f := bundleFile{Set: b.set[:], Number: n}
	var err error
	if f.Keys, err = sealKeys(b.slotKey, f.aad(partKeys), b.keys); err != nil {
		return nil, err
	}
	if b.admin != nil {
		part, err := sealKeys(b.admin.key, f.aad(partAdmin), b.admin.keys)
		if err != nil {
			return nil, err
		}
		f.Admin = &part
	}
	return encodeFile(bundleMagic, bundleVersion, f)
}

// parseBundle reads a bundle file without opening it.
func parseBundle(data []byte) (*bundleFile, error) {
	version, body, err := decodeFile(bundleMagic, data)
	if err != nil {
		return nil, err
	}
	if version != bundleVersion {
		return nil, fmt.Errorf("bundle version %d needs a newer snapfs", version)
	}
	f := new(bundleFile)
	if err := json.Unmarshal(body, f); err != nil {
		return nil, errors.New("unreadable fields")
	}
	if len(f.Set) != len(Set{}) || f.Number == 0 {
		return nil, errors.New("no set or number")
	}
	return f, nil
}

// open unseals the file with what a slot wrapped: the slot key, and in admin slots the admin key.
func (f *bundleFile) open(payload []byte) (*Bundle, error) {
	b := &Bundle{slotKey: [32]byte(payload), set: Set(f.Set)}
	var err error
	if b.keys, err = f.Keys.open(b.slotKey, f.aad(partKeys)); err != nil {
		return nil, err
	}
	for _, name := range keyNames {
		if _, ok := b.keys[name]; !ok {
			return nil, fmt.Errorf("key %q is missing", name)
		}
	}
	if len(payload) == 2*keySize && f.Admin != nil {
		b.admin = &adminPart{key: [32]byte(payload[keySize:])}
		if b.admin.keys, err = f.Admin.open(b.admin.key, f.aad(partAdmin)); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// aad binds a part to its store and what it is. The number is bound for the keys alone: whoever writes the
// next bundle without the admin key must be able to carry the admin part over.
func (f *bundleFile) aad(part string) []byte {
	number := f.Number
	if part == partAdmin {
		number = 0
	}
	out := append([]byte("snapfs 1 bundle\x00"), f.Set...)
	out = binary.LittleEndian.AppendUint32(out, number)
	return append(out, part...)
}

func sealKeys(key [32]byte, aad []byte, keys map[string][32]byte) (sealedPart, error) {
	plain, err := json.Marshal(toSlices(keys))
	if err != nil {
		return sealedPart{}, err
	}
	aead, err := newAEAD(key[:])
	if err != nil {
		return sealedPart{}, err
	}
	nonce := random(nonceSize)
	return sealedPart{Nonce: nonce, Sealed: aead.Seal(nil, nonce, plain, aad)}, nil
}

func (p sealedPart) open(key [32]byte, aad []byte) (map[string][32]byte, error) {
	aead, err := newAEAD(key[:])
	if err != nil {
		return nil, err
	}
	if len(p.Nonce) != nonceSize {
		return nil, fmt.Errorf("nonce of %d bytes", len(p.Nonce))
	}
	plain, err := aead.Open(nil, p.Nonce, p.Sealed, aad)
	if err != nil {
		return nil, errors.New("not sealed under these keys")
	}
	return toKeys(plain)
}

func toSlices(keys map[string][32]byte) map[string][]byte {
	out := make(map[string][]byte, len(keys))
	for name, key := range keys {
		out[name] = key[:]
	}
	return out
}

// toKeys reads the JSON of a map of keys. Errors do not quote it.
func toKeys(plain []byte) (map[string][32]byte, error) {
	var slices map[string][]byte
	if err := json.Unmarshal(plain, &slices); err != nil {
		return nil, errors.New("keys are unreadable")
	}
	out := make(map[string][32]byte, len(slices))
	for name, key := range slices {
		if len(key) != keySize {
			return nil, fmt.Errorf("key %q has %d bytes", name, len(key))
		}
		out[name] = [32]byte(key)
	}
	return out, nil
}

// marshalled is the form of a bundle on its way to another process of the same user.
type marshalled struct {
	Version int               `json:"version"`
	Set     []byte            `json:"set"`
	SlotKey []byte            `json:"slot_key"`
	Clear   bool              `json:"clear,omitempty"`
	Keys    map[string][]byte `json:"keys"`
}

// Marshal gives the bundle in clear, without admin keys, for another process of the same user.
func (b *Bundle) Marshal() []byte {
	out, err := json.Marshal(marshalled{
		Version: bundleVersion, Set: b.set[:], SlotKey: b.slotKey[:], Clear: b.clear, Keys: toSlices(b.keys),
	})
	if err != nil {
		panic("seal: JSON refuses a map of bytes")
	}
	return out
}

// Unmarshal is the inverse of Marshal. Errors do not quote data.
func Unmarshal(data []byte) (*Bundle, error) {
	var m marshalled
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, errors.New("marshalled keys are unreadable")
	}
	if m.Version != bundleVersion || len(m.Set) != len(Set{}) || len(m.SlotKey) != keySize {
		return nil, errors.New("marshalled keys are of another version")
	}
	b := &Bundle{keys: map[string][32]byte{}, slotKey: [32]byte(m.SlotKey), set: Set(m.Set), clear: m.Clear}
	for name, key := range m.Keys {
		if len(key) != keySize {
			return nil, errors.New("marshalled keys are unreadable")
		}
		b.keys[name] = [32]byte(key)
	}
	for _, name := range keyNames {
		if _, ok := b.keys[name]; !ok {
			return nil, fmt.Errorf("marshalled keys lack %q", name)
		}
	}
	return b, nil
}
