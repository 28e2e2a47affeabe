package seal

import (
	"context"
	"crypto/cipher"
	"time"
)

// SlotKind says how a slot is unlocked. The values are names on disk; append only.
type SlotKind string

// The kinds of slots.
const (
	SlotPassword SlotKind = "password" // Argon2id, RFC 9106
	SlotKeyFile  SlotKind = "key-file" // HKDF of 32 random bytes
	SlotAge      SlotKind = "age"      // age X25519 or SSH recipient
	SlotClear    SlotKind = "clear"    // the key in clear: --no-encryption
)

// Info describes a slot without its secret.
type Info struct {
	ID      string // 8 hexadecimal digits
	Kind    SlotKind
	Label   string
	Role    string // "" or "admin"
	Created time.Time
}

// NewSlot says how to make a slot: exactly one of the secrets, or Clear.
type NewSlot struct {
	Password  []byte
	KeyFile   []byte // 32 bytes
	Recipient string // age1..., ssh-ed25519 ..., ssh-rsa ...
	Clear     bool
	Label     string
	Role      string
}

// Secret opens a slot: the first of the fields that is set is tried against the slots of its kind.
type Secret struct {
	Password []byte
	KeyFile  []byte // 32 bytes
	Identity []byte // contents of an age identity file or an SSH private key
}

// Unlocker returns the secret to try on these slots. It is not called when a clear slot is there.
type Unlocker func(ctx context.Context, slots []Info) (Secret, error)

// Bundle is an unlocked set of keys. Immutable; safe for concurrent use.
type Bundle struct {
	keys    map[string][32]byte
	slotKey [32]byte
	clear   bool
}

// Create makes dir with a new bundle and its first slots.
func Create(dir string, slots []NewSlot) (*Bundle, error) { panic("todo") }

// Open unlocks the newest bundle in dir. Errors: ErrWrongSecret, ErrNoSlot (none of the secret's kind), ErrDamagedSlot.
func Open(ctx context.Context, dir string, unlock Unlocker) (*Bundle, error) { panic("todo") }

// List reads the slots of dir; needs no secret.
func List(dir string) ([]Info, error) { panic("todo") }

// Add makes another slot for the bundle.
func (b *Bundle) Add(dir string, n NewSlot) (Info, error) { panic("todo") }

// Change gives a slot another secret of any kind; the old one no longer opens it.
func (b *Bundle) Change(dir, id string, n NewSlot) (Info, error) { panic("todo") }

// Remove deletes a slot; the last one is refused (ErrLastSlot).
func Remove(dir, id string) error { panic("todo") }

// Marshal gives the bundle in clear, without admin keys, for another process of the same user.
func (b *Bundle) Marshal() []byte { panic("todo") }

// Unmarshal is the inverse of Marshal.
func Unmarshal(data []byte) (*Bundle, error) { panic("todo") }

// BlobIDKey is the key of the BLAKE3 hash that names blobs of a kind.
func (b *Bundle) BlobIDKey(kind uint8) [32]byte { panic("todo") }

// GearKey seeds the chunker's gear table.
func (b *Bundle) GearKey() [32]byte { panic("todo") }

// PageKey is the key of the hash that cuts pages.
func (b *Bundle) PageKey() [32]byte { panic("todo") }

// NameKey is the key of the hashes that stand for names in the index.
func (b *Bundle) NameKey() [32]byte { panic("todo") }

// VolumeAEAD is the AES-256-GCM of one volume, made from the bundle and the volume's random id.
func (b *Bundle) VolumeAEAD(volume [16]byte) (cipher.AEAD, error) { panic("todo") }

// IndexAEAD is the AES-256-GCM that seals the values of the index.
func (b *Bundle) IndexAEAD() (cipher.AEAD, error) { panic("todo") }

// MAC authenticates small files such as snapfs.json: keyed BLAKE3-256.
func (b *Bundle) MAC(data []byte) [32]byte { panic("todo") }
