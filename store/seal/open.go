package seal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"filippo.io/age"
)

// List reads the slots of dir, oldest first; needs no secret. Slots that cannot be used say why in Problem.
func List(dir string) ([]Info, error) {
	slots, err := keyDir{path: dir}.slots()
	if err != nil {
		return nil, err
	}
	return infos(slots), nil
}

func infos(slots []*slotFile) []Info {
	out := make([]Info, len(slots))
	for i, s := range slots {
		out[i] = s.info()
	}
	return out
}

// Open unlocks the newest bundle in dir. Errors: ErrNoKeys, ErrWrongSecret, ErrNoSlot (none of the secret's kind),
// ErrDamagedSlot, ErrDamagedBundle, ErrIdentity, and what unlock returns.
func Open(ctx context.Context, dir string, unlock Unlocker) (*Bundle, error) {
	d := keyDir{path: dir}
	slots, err := d.slots()
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(slots) == 0 {
		return nil, fmt.Errorf("keys in %s: %w", d.path, ErrNoKeys)
	}
	if err != nil {
		return nil, err
	}
	return d.openWith(ctx, slots, unlock)
}

// openWith unlocks the newest bundle with one of the slots given.
func (d keyDir) openWith(ctx context.Context, slots []*slotFile, unlock Unlocker) (*Bundle, error) {
	slot, payload, err := unwrap(ctx, slots, unlock)
	if err != nil {
		return nil, fmt.Errorf("keys in %s: %w", d.path, err)
	}
	b, err := d.openBundle(slot, payload)
	if err != nil {
		return nil, fmt.Errorf("keys in %s: %w", d.path, err)
	}
	return b, nil
}

// openBundle opens the newest bundle that is whole.
func (d keyDir) openBundle(slot *slotFile, payload []byte) (*Bundle, error) {
	whole, problems, err := d.bundles()
	if err != nil {
		return nil, err
	}
	for _, f := range whole {
		if Set(f.Set) != Set(slot.Set) {
			problems = errors.Join(problems, fmt.Errorf("bundle-%d: belongs to other slots", f.Number))
			continue
		}
		b, err := f.open(payload)
		if err == nil {
			b.clear = slot.Kind == SlotClear
			return b, nil
		}
		problems = errors.Join(problems, fmt.Errorf("bundle-%d: %w", f.Number, err))
	}
	if problems == nil {
		problems = errors.New("none is there")
	}
	return nil, fmt.Errorf("%w: %v", ErrDamagedBundle, problems)
}

// unwrap opens one of the slots: a clear one unasked, else one of the kind of the secret that unlock gives.
func unwrap(ctx context.Context, slots []*slotFile, unlock Unlocker) (*slotFile, []byte, error) {
	for _, s := range slots {
		if s.Kind != SlotClear || s.problem != "" {
			continue
		}
		if payload, err := s.openAs(s.Clear); err == nil {
			return s, payload, nil
		}
		s.problem, s.damaged = "the clear key does not open it", true
	}
	if err := anyUsable(slots); err != nil {
		return nil, nil, err
	}
	if unlock == nil {
		return nil, nil, ErrNoSlot
	}
	secret, err := unlock(ctx, infos(slots))
	if err != nil {
		return nil, nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	return secret.try(ctx, slots)
}

// anyUsable tells damage from absence before anybody is asked for a secret.
func anyUsable(slots []*slotFile) error {
	var problem error
	for _, s := range slots {
		if s.problem == "" && s.Kind != SlotClear {
			return nil
		}
		if s.damaged {
			problem = fmt.Errorf("%w: %s: %s", ErrDamagedSlot, s.ID, s.problem)
		}
	}
	if problem != nil {
		return problem
	}
	return ErrNoSlot
}

// try opens the first slot of the secret's kind that it fits. One that cannot be tried does not keep it from the others.
func (s Secret) try(ctx context.Context, slots []*slotFile) (*slotFile, []byte, error) {
	kind, own, err := s.opener()
	if err != nil {
		return nil, nil, err
	}
	tried, damaged, failed := 0, error(nil), error(nil)
	for _, slot := range slots {
		if slot.damaged {
			damaged = fmt.Errorf("%w: %s: %s", ErrDamagedSlot, slot.ID, slot.problem)
		}
		if slot.Kind != kind || slot.problem != "" {
			continue
		}
		tried++
		key, err := own(slot)
		if err == nil {
			var payload []byte
			if payload, err = slot.openAs(key); err == nil {
				return slot, payload, nil
			}
		}
		if failed == nil && !errors.Is(err, ErrWrongSecret) {
			failed = err
		}
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
	}
	switch {
	case failed != nil:
		return nil, nil, failed
	case tried > 0 && damaged != nil:
		return nil, nil, fmt.Errorf("%w (and: %v)", ErrWrongSecret, damaged)
	case tried > 0:
		return nil, nil, ErrWrongSecret
	case damaged != nil:
		return nil, nil, damaged
	}
	return nil, nil, fmt.Errorf("%w: %s", ErrNoSlot, kind)
}

// openAs is open with a check of the payload's length: the slot key, in admin slots followed by the admin key.
func (s *slotFile) openAs(own []byte) ([]byte, error) {
	payload, err := s.open(own)
	if err != nil {
		return nil, err
	}
	want := keySize
	if s.Role == RoleAdmin {
		want = 2 * keySize
	}
	if len(payload) != want {
		return nil, fmt.Errorf("%w: %s: it holds %d bytes", ErrDamagedSlot, s.ID, len(payload))
	}
	return payload, nil
}

// opener returns the kind of slots the secret is for, and how it leads to a slot's own key.
func (s Secret) opener() (SlotKind, func(*slotFile) ([]byte, error), error) {
	switch {
	case s.Password != nil:
		return SlotPassword, func(f *slotFile) ([]byte, error) { return f.fromPassword(s.Password), nil }, nil
	case s.KeyFile != nil && len(s.KeyFile) != keySize:
		return "", nil, fmt.Errorf("%w: a key file has exactly %d bytes, not %d", ErrWrongSecret, keySize, len(s.KeyFile))
	case s.KeyFile != nil:
		return SlotKeyFile, func(f *slotFile) ([]byte, error) { return f.fromKeyFile(s.KeyFile) }, nil
	case s.Identity != nil:
		ids, err := s.identities()
		return SlotAge, identityOpener(ids), err
	}
	return "", nil, fmt.Errorf("%w: none was given", ErrWrongSecret)
}

func identityOpener(ids []age.Identity) func(*slotFile) ([]byte, error) {
	return func(f *slotFile) ([]byte, error) { return f.fromIdentities(ids) }
}
