package seal

import (
	"context"
	"encoding/json"
	"fmt"
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

// RoleAdmin is the role of slots that also open the admin keys.
const RoleAdmin = "admin"

// Info describes a slot without its secret.
type Info struct {
	ID        string // 8 hexadecimal digits
	Kind      SlotKind
	Label     string
	Role      string // "" or RoleAdmin
	Created   time.Time
	Recipient string // of an age slot: who can open it
	Problem   string // why the slot cannot be used; "" when it can
}

// NewSlot says how to make a slot: exactly one of the secrets, or Clear.
type NewSlot struct {
	Password  []byte
	KeyFile   []byte // 32 bytes
	Recipient string // age1..., ssh-ed25519 ..., ssh-rsa ...
	Clear     bool
	Label     string
	Role      string

	redacted
}

// Secret opens a slot: the first of the fields that is set is tried against the slots of its kind.
type Secret struct {
	Password []byte
	KeyFile  []byte // 32 bytes
	Identity []byte // contents of an age identity file or an SSH private key
	// Passphrase is asked when Identity is an SSH private key under a passphrase; nil: such a key is refused.
	Passphrase func() ([]byte, error)

	redacted
}

// Unlocker returns the secret to try on these slots. It is not called when a clear slot is there.
type Unlocker func(ctx context.Context, slots []Info) (Secret, error)

// slotMagic begins the first line of a slot file. On disk; append only.
const slotMagic = "snapfs key slot"

// slotVersion is the version this program writes and understands.
const slotVersion = 1

// slotFile is the second line of a slot file, as JSON. On disk; append only: fields an old program may skip
// are added, any other change is a new version.
type slotFile struct {
	ID        string    `json:"id"`
	Set       []byte    `json:"set"` // 16 random bytes shared by all slots and bundles of one store
	Kind      SlotKind  `json:"kind"`
	Role      string    `json:"role,omitempty"`
	Label     string    `json:"label,omitempty"`
	Created   time.Time `json:"created"`
	Salt      []byte    `json:"salt,omitempty"`      // password, key-file
	Argon2id  *argon2id `json:"argon2id,omitempty"`  // password
	Recipient string    `json:"recipient,omitempty"` // age
	Age       []byte    `json:"age,omitempty"`       // age: the slot's own key, encrypted to the recipient
	Clear     []byte    `json:"clear,omitempty"`     // clear: the slot's own key
	Nonce     []byte    `json:"nonce"`               // 12 bytes
	Wrapped   []byte    `json:"wrapped"`             // AES-256-GCM of the slot key (and the admin key)

	problem string // why it cannot be used
	damaged bool
}

func (s *slotFile) info() Info {
	return Info{
		ID: s.ID, Kind: s.Kind, Label: s.Label, Role: s.Role,
		Created: s.Created, Recipient: s.Recipient, Problem: s.problem,
	}
}

func (s *slotFile) encode() ([]byte, error) { return encodeFile(slotMagic, slotVersion, s) }

// parseSlot reads a slot file. It never fails: what cannot be used says why in problem.
func parseSlot(id string, data []byte) *slotFile {
	version, body, err := decodeFile(slotMagic, data)
	if err != nil {
		return &slotFile{ID: id, problem: err.Error(), damaged: true}
	}
	s := new(slotFile)
	if err := json.Unmarshal(body, s); err != nil && version == slotVersion {
		return &slotFile{ID: id, problem: "unreadable fields", damaged: true}
	}
	if version != slotVersion {
		return &slotFile{ID: id, Kind: s.Kind, Role: s.Role, Label: s.Label, Created: s.Created,
			problem: fmt.Sprintf("slot version %d needs a newer snapfs", version)}
	}
	if err := s.check(id); err != nil {
		s.ID, s.problem, s.damaged = id, err.Error(), true
		return s
	}
	switch s.Kind {
	case SlotPassword, SlotKeyFile, SlotAge, SlotClear:
	default:
		s.problem = fmt.Sprintf("slot kind %q needs a newer snapfs", s.Kind)
	}
	return s
}

// check refuses fields that no program would write.
func (s *slotFile) check(id string) error {
	switch {
	case s.ID != id:
		return fmt.Errorf("slot calls itself %q", s.ID)
	case len(s.Set) != len(Set{}):
		return fmt.Errorf("set of %d bytes", len(s.Set))
	case len(s.Nonce) != nonceSize:
		return fmt.Errorf("nonce of %d bytes", len(s.Nonce))
	case s.Kind == SlotPassword && s.Argon2id.check() != nil:
		return s.Argon2id.check()
	case (s.Kind == SlotPassword || s.Kind == SlotKeyFile) && len(s.Salt) < 16:
		return fmt.Errorf("salt of %d bytes", len(s.Salt))
	case s.Kind == SlotClear && len(s.Clear) != keySize:
		return fmt.Errorf("clear key of %d bytes", len(s.Clear))
	}
	return nil
}
