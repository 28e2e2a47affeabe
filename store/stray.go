package store

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"snapfs/store/volume"
)

// strays are files in the directory of volumes that are whole volumes of this store under names that are not theirs: copies, lost
// ones, and such as have exchanged their names.
type strays struct {
	of   map[string]volume.ID // by name: what the file is
	kind map[volume.ID]volume.Kind
	disk map[volume.ID]int64 // what lies under the names of volumes
}

// movedPrefix begins the name of a file on its way from the name of another volume to that of its own.
const movedPrefix = ".moved-"

// strays looks at the labels of all files.
func (v *verifier) strays() (*strays, error) {
	e := v.e
	s := &strays{of: map[string]volume.ID{}, kind: map[volume.ID]volume.Kind{}}
	entries, err := os.ReadDir(volumesDir(e.dir))
	if err == nil {
		s.disk, err = onDisk(volumesDir(e.dir))
	}
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		name := entry.Name()
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() || strings.HasPrefix(name, repairPrefix) {
			continue
		}
		label, err := labelOf(filepath.Join(volumesDir(e.dir), name), info.Size())
		if err == nil && label.Store == e.storeID && label.Volume.String() != name {
			s.of[name], s.kind[label.Volume] = label.Volume, label.Kind
		}
	}
	return s, nil
}

// homeless lists the volumes whose own name is free, or taken by another volume, with a file that is them; in the order of names.
func (s *strays) homeless() (ids []volume.ID, from map[volume.ID]string) {
	from = map[volume.ID]string{}
	for _, name := range slices.Sorted(maps.Keys(s.of)) {
		id := s.of[name]
		_, taken := s.disk[id]
		_, byOther := s.of[id.String()]
		if _, have := from[id]; !have && (!taken || byOther) {
			ids, from[id] = append(ids, id), name
		}
	}
	return ids, from
}

// moved notes that a file has its own name again. What had it has the file's, which may be its own: then it is home as well.
func (s *strays) moved(id volume.ID, from string) (home []volume.ID) {
	other, taken := s.of[id.String()]
	delete(s.of, from)
	delete(s.of, id.String())
	s.disk[id] = 0
	switch {
	case taken && other.String() == from:
		return []volume.ID{id, other}
	case taken:
		s.of[from] = other
	}
	return []volume.ID{id}
}

// wanted reports whether the store misses a volume, or may: journals are not listed anywhere, and who has the name of another volume was
// exchanged with something.
func (v *verifier) wanted(s *strays, id volume.ID) bool {
	_, taken := s.of[id.String()]
	v.e.commitMu.Lock()
	_, dropped := v.e.fold.dropped[id]
	_, need := v.e.fold.volumes[id]
	v.e.commitMu.Unlock()
	v.e.mu.Lock()
	state := v.e.volumes.byID[id]
	v.e.mu.Unlock()
	return !dropped && (need || taken || s.kind[id] == volume.Journal || state != nil && !state.dropped && state.indexed > 0)
}

// nameStray says of volumes that they lie there under other names.
func (v *verifier) nameStray(s *strays) {
	ids, from := s.homeless()
	for _, id := range ids {
		if !v.wanted(s, id) {
			continue
		}
		text := fmt.Sprintf("the file %q in volumes is that volume", from[id])
		at := slices.IndexFunc(v.findings, func(f Finding) bool { return f.Volume == id && f.Problem == ProblemMissing })
		if at < 0 {
			at = slices.IndexFunc(v.findings, func(f Finding) bool { return f.Volume == id })
		}
		if at < 0 {
			v.add(Finding{Problem: ProblemMissing, Volume: id, Offset: -1, Text: text})
			continue
		}
		v.findings[at].Text += "; " + text
		v.findings[at].Healed = false // as long as nobody gives it its name, even if nothing is known to need it
	}
}

// bringBack gives volumes their names again, one after the other: what has the name of one gets the name it had, so that a ring of
// exchanged names is set right as well. Killed anywhere, all files are there under some name, and the next repair goes on. Needs
// maintenance.
func (v *verifier) bringBack(ctx context.Context, s *strays) (again bool, err error) {
	tried := map[volume.ID]bool{}
	for {
		ids, from := s.homeless()
		at := slices.IndexFunc(ids, func(id volume.ID) bool { return !tried[id] && v.wanted(s, id) })
		if at < 0 {
			return again, nil
		}
		id := ids[at]
		tried[id] = true
		if err := ctx.Err(); err != nil {
			return again, err
		}
		if err := v.e.exchangeNames(id, from[id]); err != nil {
			return again, err
		}
		again = true
		for _, id := range s.moved(id, from[id]) {
			if err := v.foundAgain(ctx, id, s.kind[id]); err != nil {
				return again, err
			}
		}
	}
}

// exchangeNames gives a volume its name, and what has that the name of the file, if it is not free.
func (e *engine) exchangeNames(id volume.ID, from string) (err error) {
	dir := volumesDir(e.dir)
	own, file := volumePath(e.dir, id), filepath.Join(dir, from)
	aside := filepath.Join(dir, movedPrefix+id.String())
	_, statErr := os.Lstat(own)
	taken := statErr == nil
	atOwn, atFile := own, file // where what had these names is by now: that has its flag back, whatever fails
	for _, at := range []*string{&atOwn, &atFile} {
		if at == &atOwn && !taken {
			continue
		}
		was, err := e.files.SetImmutable(*at, false) // who is guarded cannot be renamed
		if err != nil {
			return err
		}
		if was {
			defer func() { _, _ = e.files.SetImmutable(*at, true) }() // what is not set the next job sets
		}
	}
	move := func(at *string, to string) {
		if err == nil {
			err = e.files.Rename(*at, to)
		}
		if err == nil {
			*at = to
			err = e.files.SyncDir(dir) // should the power go, no rename may have reached the disk without the one before it
		}
	}
	if taken {
		move(&atOwn, aside)
	}
	move(&atFile, own)
	if taken {
		move(&atOwn, file)
	}
	return err
}

// foundAgain makes a volume that has its name again known, and looks which findings remain.
func (v *verifier) foundAgain(ctx context.Context, id volume.ID, kind volume.Kind) error {
	e := v.e
	e.mu.Lock()
	state := e.volumes.byID[id]
	if state == nil {
		state = e.volumes.add(id, kind)
	}
	state.missing = false
	folded := state.indexed > 0
	e.mu.Unlock()
	v.unfolded = v.unfolded || kind == volume.Journal && !folded
	if err := e.replaced(state); err != nil {
		return err
	}
	if err := v.settleRepaired(ctx, id, ", and has its name again"); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.hurt = slices.DeleteFunc(v.hurt, func(h volume.ID) bool { return h == id })
	if slices.Contains(v.left, id) {
		v.hurt = append(v.hurt, id)
	}
	return nil
}
