package seal

import (
	"context"
	"crypto/ed25519"
	"fmt"
)

// AppendOnly returns the public key with which everything that takes something away from the store must be signed; nil for
// an ordinary store.
func (b *Bundle) AppendOnly() ed25519.PublicKey {
	key, ok := b.keys[keyAppendOnly]
	if !ok {
		return nil
	}
	return key[:]
}

// Sign signs a message with the admin key (Ed25519, RFC 8032): ErrNotAdmin unless an admin slot opened the bundle.
func (b *Bundle) Sign(message []byte) ([]byte, error) {
	if b.admin == nil {
		return nil, ErrNotAdmin
	}
	seed, ok := b.admin.keys[keyAdminSign]
	if !ok {
		return nil, fmt.Errorf("%w: the admin part has no key %q", ErrDamagedBundle, keyAdminSign)
	}
	return ed25519.Sign(ed25519.NewKeyFromSeed(seed[:]), message), nil
}

// OpenAdmin is Open by admin slots only: unlock is asked with those, and a secret of another slot is ErrWrongSecret.
// Without an admin slot: ErrNoSlot.
func OpenAdmin(ctx context.Context, dir string, unlock Unlocker) (*Bundle, error) {
	d := keyDir{path: dir}
	slots, err := d.slots()
	if err != nil {
		return nil, err
	}
	var admins []*slotFile
	for _, s := range slots {
		if s.Role == RoleAdmin {
			admins = append(admins, s)
		}
	}
	return d.openWith(ctx, admins, unlock)
}

// appendOnly makes the store's admin key the one that counts, for ever.
func (b *Bundle) appendOnly() { b.keys[keyAppendOnly] = b.keys[keyAdminPublic] }
