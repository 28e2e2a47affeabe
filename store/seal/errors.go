package seal

import "errors"

// Unlocking.
var (
	// ErrWrongSecret: slots of the secret's kind are there and whole, and it opens none of them.
	ErrWrongSecret = errors.New("secret opens no key slot")
	// ErrNoSlot: no slot of the secret's kind is there.
	ErrNoSlot = errors.New("no key slot of that kind")
	// ErrDamagedSlot: the slots that might have been opened are damaged.
	ErrDamagedSlot = errors.New("key slot is damaged")
	// ErrNoKeys: no key slot of any kind is there; the directory is empty or missing.
	ErrNoKeys = errors.New("all key slots are missing")
	// ErrDamagedBundle: a slot was opened, but no key bundle is whole.
	ErrDamagedBundle = errors.New("key bundle is damaged")
	// ErrIdentity: the identity file is not one, or needs a passphrase.
	ErrIdentity = errors.New("identity cannot be used")
)

// Changing slots.
var (
	// ErrBadSlot: a NewSlot that contradicts itself, or whose secret is unusable.
	ErrBadSlot = errors.New("key slot cannot be made")
	// ErrLastSlot: the slot is the last of its role.
	ErrLastSlot = errors.New("the last key slot cannot be removed")
	// ErrUnknownSlot: no slot has that ID.
	ErrUnknownSlot = errors.New("no such key slot")
	// ErrNotAdmin: only who opened an admin slot can make another.
	ErrNotAdmin = errors.New("needs an admin key slot")
	// ErrForeign: the bundle belongs to other slots than those of the directory.
	ErrForeign = errors.New("keys belong to another store")
	// ErrExists: the directory holds slots or a bundle already.
	ErrExists = errors.New("keys are there already")
)
