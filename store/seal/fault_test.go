package seal

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// faultyDir is a directory of keys in which the k-th operation fails.
func faultyDir(dir string, k int, fault error) (d keyDir, hit *bool) {
	hit = new(bool)
	return keyDir{path: dir, fault: func(string) error {
		k--
		if k != -1 {
			return nil
		}
		*hit = true
		return fault
	}}, hit
}

// TestFailingOperations fails the k-th write, sync, rename and remove of every change of slots: who could open the store still can, with the
// old secret or with that of a slot that is said to be there, nothing is left behind, and the change can be made again.
func TestFailingOperations(t *testing.T) {
	first, second, now := random(keySize), random(keySize), random(keySize)
	type change func(t *testing.T, d keyDir, b *Bundle, id string) (Info, error)
	for name, c := range map[string]struct {
		do   change
		stay [][]byte // secrets that open the store, whatever fails
		gone []byte   // that does not any more once it is done
	}{
		"add": {func(t *testing.T, d keyDir, b *Bundle, _ string) (Info, error) {
			return b.add(d, NewSlot{KeyFile: now})
		},
			[][]byte{first, second}, nil},
		"add the first admin": {func(t *testing.T, d keyDir, b *Bundle, _ string) (Info, error) {
			return b.add(d, NewSlot{KeyFile: now, Role: RoleAdmin})
		}, [][]byte{first, second}, nil},
		"change": {func(t *testing.T, d keyDir, b *Bundle, id string) (Info, error) {
			return b.change(d, id, NewSlot{KeyFile: now})
		}, [][]byte{first}, second},
		"remove": {func(t *testing.T, d keyDir, b *Bundle, id string) (Info, error) { return Info{}, d.removeOther(id) },
			[][]byte{first}, second},
		"import": {func(t *testing.T, d keyDir, b *Bundle, id string) (Info, error) {
			text, err := Export(d.path)
			must(t, err)
			return Info{}, d.take(text)
		}, [][]byte{first, second}, nil},
		"import what was lost": {func(t *testing.T, d keyDir, b *Bundle, id string) (Info, error) {
			text, err := Export(d.path)
			must(t, err)
			must(t, os.Remove(filepath.Join(d.path, slotPrefix+id)))
			info, err := Info{}, d.take(text)
			if err != nil {
				must(t, Import(d.path, text))
			}
			return info, err
		}, [][]byte{first, second}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			for _, fault := range []error{errors.New("injected fault"), syscall.ENOSPC} {
				for k := 0; ; k++ {
					dir, b := newKeys(t, NewSlot{KeyFile: first})
					slot, err := b.Add(dir, NewSlot{KeyFile: second})
					must(t, err)
					d, hit := faultyDir(dir, k, fault)
					info, err := c.do(t, d, b, slot.ID)
					if !*hit {
						must(t, err)
						t.Logf("%d operations failed one by one with %v", k, fault)
						break
					}
					wantErr(t, err, fault)
					for _, key := range c.stay {
						opens(t, dir, Secret{KeyFile: key})
					}
					if info.ID != "" {
						opens(t, dir, Secret{KeyFile: now})
					} else if _, err := Open(t.Context(), dir, give(Secret{KeyFile: now})); err == nil {
						t.Errorf("operation %d: there is a slot that nobody was told of", k)
					}
					if c.gone != nil && name == "change" && info.ID == "" {
						opens(t, dir, Secret{KeyFile: c.gone})
					}
					again(t, c.do, dir, b, slot.ID, info)
					if c.gone != nil {
						_, err := Open(t.Context(), dir, give(Secret{KeyFile: c.gone}))
						wantErr(t, err, ErrWrongSecret)
					}
					left, err := filepath.Glob(filepath.Join(dir, tempPrefix+"*"))
					if err != nil || len(left) > 0 {
						t.Errorf("left behind: %v, %v", left, err)
					}
				}
			}
		})
	}
}

// again makes a change that failed. What was only not synced is done already.
func again(t *testing.T, do func(*testing.T, keyDir, *Bundle, string) (Info, error), dir string, b *Bundle, id string, made Info) {
	t.Helper()
	list, err := List(dir)
	must(t, err)
	there, admin := false, false
	for _, s := range list {
		there, admin = there || s.ID == id, admin || s.Role == RoleAdmin
	}
	if !there || admin && made.ID != "" {
		return
	}
	_, err = do(t, keyDir{path: dir}, b, id)
	if err != nil && !strings.Contains(err.Error(), ErrUnknownSlot.Error()) {
		t.Fatal(err)
	}
}
