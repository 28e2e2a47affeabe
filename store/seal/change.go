package seal

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Create makes dir, or uses it when it is empty, with a new bundle and its first slots (at least one).
func Create(dir string, slots []NewSlot) (*Bundle, error) { return create(dir, slots, nil, false) }

// CreateLike is Create with the keys of other that name and cut content: the same data has the same names in both.
func CreateLike(dir string, slots []NewSlot, other *Bundle) (*Bundle, error) {
	return create(dir, slots, other, false)
}

// CreateAppendOnly is Create for an append-only store; one of the slots must be an admin's.
func CreateAppendOnly(dir string, slots []NewSlot) (*Bundle, error) {
	return create(dir, slots, nil, true)
}

func create(dir string, slots []NewSlot, like *Bundle, appendOnly bool) (*Bundle, error) {
	if len(slots) == 0 {
		return nil, fmt.Errorf("%w: a store needs at least one", ErrBadSlot)
	}
	b := newBundle()
	if like != nil {
		b.keys[keyContent] = like.keys[keyContent]
	}
	for _, n := range slots {
		if _, err := n.kind(); err != nil {
			return nil, err
		}
		b.clear = b.clear || n.Clear
		if n.Role == RoleAdmin && b.admin == nil {
			b = b.withAdmin()
		}
	}
	switch {
	case appendOnly && b.admin == nil:
		return nil, fmt.Errorf("%w: an append-only store needs an admin slot", ErrBadSlot)
	case appendOnly:
		b.appendOnly()
	}
	d := keyDir{path: dir}
	if err := d.make(); err != nil {
		return nil, err
	}
	unlock, err := d.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := d.writeBundle(b); err != nil {
		return nil, err
	}
	for _, n := range slots {
		if _, err := d.addSlot(b, n); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// make creates the directory of keys; one that holds slots or bundles is refused.
func (d keyDir) make() error {
	err := os.Mkdir(d.path, 0o700)
	if err == nil {
		f, err := os.Open(d.path)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := giveToOwner(f, filepath.Dir(d.path)); err != nil {
			return fmt.Errorf("key slots: %w", err)
		}
		return keyDir{path: filepath.Dir(d.path), fault: d.fault}.sync()
	}
	if !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("key slots: %w", err)
	}
	names, err := d.names()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(names, func(name string) bool { return name != lockName }) {
		return fmt.Errorf("%s: %w", d.path, ErrExists)
	}
	return nil
}

// Add makes another slot for the bundle. The first admin slot of a store brings its admin keys into being;
// another one can only be made by a bundle that an admin slot opened (ErrNotAdmin). With an error the slot is there only if it is
// returned.
func (b *Bundle) Add(dir string, n NewSlot) (Info, error) { return b.add(keyDir{path: dir}, n) }

func (b *Bundle) add(d keyDir, n NewSlot) (Info, error) {
	unlock, err := b.writable(d)
	if err != nil {
		return Info{}, err
	}
	defer unlock()
	if n.Role == RoleAdmin && b.admin == nil {
		if b, err = d.firstAdmin(b); err != nil {
			return Info{}, err
		}
	}
	return d.addSlot(b, n)
}

// Change gives a slot another secret of any kind; the old one no longer opens it. The slot gets a new ID and
// keeps its role, and its label unless n has one. After a failure the new slot is there if it is returned: then it is the old one
// that may be; else the old one is there. Changing an admin slot needs a bundle that an admin slot opened (ErrNotAdmin).
func (b *Bundle) Change(dir, id string, n NewSlot) (Info, error) {
	return b.change(keyDir{path: dir}, id, n)
}

func (b *Bundle) change(d keyDir, id string, n NewSlot) (Info, error) {
	unlock, err := b.writable(d)
	if err != nil {
		return Info{}, err
	}
	defer unlock()
	old, err := d.find(id)
	if err != nil {
		return Info{}, err
	}
	if n.Role != "" && n.Role != old.Role {
		return Info{}, fmt.Errorf("%w: a change keeps the role", ErrBadSlot)
	}
	n.Role = old.Role
	if n.Label == "" {
		n.Label = old.Label
	}
	info, err := d.addSlot(b, n)
	if err != nil {
		return info, err
	}
	if err := d.remove(id); err != nil {
		return info, fmt.Errorf("slot %s is made, and the old one may still open the store: %w", info.ID, err)
	}
	return info, nil
}

// Remove deletes a slot, unless no other slot of its role could be used then (ErrLastSlot).
func Remove(dir, id string) error { return keyDir{path: dir}.removeOther(id) }

// removeOther deletes a slot that is not the last one of its role.
func (d keyDir) removeOther(id string) error {
	unlock, err := d.lock()
	if err != nil {
		return err
	}
	defer unlock()
	victim, err := d.find(id)
	if err != nil {
		return err
	}
	slots, err := d.slots()
	if err != nil {
		return err
	}
	others := slices.ContainsFunc(slots, func(s *slotFile) bool {
		return s.ID != id && s.problem == "" && s.Role == victim.Role
	})
	if !others {
		return fmt.Errorf("slot %s: %w", id, ErrLastSlot)
	}
	return d.remove(id)
}

// writable locks the directory for a change and makes sure that it belongs to the bundle.
func (b *Bundle) writable(d keyDir) (unlock func(), err error) {
	if unlock, err = d.lock(); err != nil {
		return nil, err
	}
	whole, _, err := d.bundles()
	if err == nil && !slices.ContainsFunc(whole, func(f *bundleFile) bool { return Set(f.Set) == b.set }) {
		err = fmt.Errorf("%s: %w", d.path, ErrForeign)
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// firstAdmin gives the store admin keys if it has no admin slot. Keys that a crash left without a slot are
// of no use to anybody, so they are replaced; not so those of an append-only store: taking its admin slots away must not
// make anybody an admin.
func (d keyDir) firstAdmin(b *Bundle) (*Bundle, error) {
	if b.AppendOnly() != nil {
		return nil, ErrNotAdmin
	}
	slots, err := d.slots()
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(slots, func(s *slotFile) bool { return s.Role == RoleAdmin || s.damaged }) {
		return nil, ErrNotAdmin
	}
	b = b.withAdmin()
	return b, d.writeBundle(b)
}

// writeBundle writes the bundle under the next number.
func (d keyDir) writeBundle(b *Bundle) error {
	numbers, err := d.bundleNumbers()
	if err != nil {
		return err
	}
	next := uint32(1)
	if len(numbers) > 0 {
		next = numbers[len(numbers)-1] + 1
	}
	data, err := b.encode(next)
	if err != nil {
		return err
	}
	return d.write(bundlePrefix+strconv.FormatUint(uint64(next), 10), data)
}

// addSlot wraps the bundle's keys in a new slot file. With an error the slot is there only if it is returned.
func (d keyDir) addSlot(b *Bundle, n NewSlot) (Info, error) {
	payload := slices.Clone(b.slotKey[:])
	if n.Role == RoleAdmin {
		if b.admin == nil {
			return Info{}, ErrNotAdmin
		}
		payload = append(payload, b.admin.key[:]...)
	}
	if err := d.rolesApart(b, n); err != nil {
		return Info{}, err
	}
	id, err := d.freeID()
	if err != nil {
		return Info{}, err
	}
	s, err := newSlotFile(slotFile{
		ID: id, Set: b.set[:], Role: n.Role, Label: n.Label, Created: time.Now().UTC().Truncate(time.Second),
	}, n, payload)
	if err != nil {
		return Info{}, err
	}
	data, err := s.encode()
	if err != nil {
		return Info{}, err
	}
	if err := d.write(slotPrefix+id, data); err != nil {
		gone := os.Remove(filepath.Join(d.path, slotPrefix+id)) // its name may have been there already
		if gone != nil && !errors.Is(gone, os.ErrNotExist) {
			return s.info(), err
		}
		return Info{}, err
	}
	return s.info(), nil
}

// rolesApart refuses a secret that opens a slot of the other role of an append-only store: everybody who has it would be an admin.
func (d keyDir) rolesApart(b *Bundle, n NewSlot) error {
	if b.AppendOnly() == nil {
		return nil
	}
	slots, err := d.slots()
	if err != nil {
		return err
	}
	for _, s := range slots {
		if s.problem != "" || s.Role == n.Role {
			continue
		}
		if n.Recipient != "" && s.Recipient == strings.TrimSpace(n.Recipient) || s.opensWith(n) {
			return fmt.Errorf("%w: its secret opens slot %s as well, which has another role", ErrBadSlot, s.ID)
		}
	}
	return nil
}

// opensWith reports whether the password or key file of a new slot opens this one.
func (s *slotFile) opensWith(n NewSlot) bool {
	kind, own, err := Secret{Password: n.Password, KeyFile: n.KeyFile}.opener()
	if err != nil || kind != s.Kind {
		return false
	}
	key, err := own(s)
	if err != nil {
		return false
	}
	_, err = s.openAs(key)
	return err == nil
}

func (d keyDir) freeID() (string, error) {
	for {
		id := hex.EncodeToString(random(4))
		_, err := os.Lstat(filepath.Join(d.path, slotPrefix+id))
		switch {
		case errors.Is(err, os.ErrNotExist):
			return id, nil
		case err != nil:
			return "", fmt.Errorf("key slots: %w", err)
		}
	}
}

func (d keyDir) find(id string) (*slotFile, error) {
	if !slotID.MatchString(id) {
		return nil, fmt.Errorf("slot %q: %w", id, ErrUnknownSlot)
	}
	s, err := d.slot(id)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("slot %s: %w", id, ErrUnknownSlot)
	}
	return s, err
}
