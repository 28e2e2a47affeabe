package archive

import (
	"testing"
	"time"

	"snapfs/store"
	"snapfs/store/volume"
)

// TestVerified: a snapshot counts as archived only if every set of a chain was verified, can be used, and lacks nothing.
func TestVerified(t *testing.T) {
	at, id := time.Unix(1e9, 0), store.ID{7}
	for name, c := range map[string]struct {
		change   func(s []store.ArchiveSet) []store.ArchiveSet
		held, ok bool
	}{
		"all verified":              {func(s []store.ArchiveSet) []store.ArchiveSet { return s }, true, true},
		"set not verified":          {func(s []store.ArchiveSet) []store.ArchiveSet { s[2].Verified = time.Time{}; return s }, true, false},
		"parent not verified":       {func(s []store.ArchiveSet) []store.ArchiveSet { s[1].Verified = time.Time{}; return s }, true, false},
		"parent's parent likewise":  {func(s []store.ArchiveSet) []store.ArchiveSet { s[0].Verified = time.Time{}; return s }, true, false},
		"parent lacks something":    {func(s []store.ArchiveSet) []store.ArchiveSet { s[0].Lost = 1; return s }, true, false},
		"parent damaged":            {func(s []store.ArchiveSet) []store.ArchiveSet { s[0].State = StateDamaged; return s }, false, false},
		"parent retired":            {func(s []store.ArchiveSet) []store.ArchiveSet { s[1].State = StateRetired; return s }, false, false},
		"parent expired":            {func(s []store.ArchiveSet) []store.ArchiveSet { s[0].Expired = at; return s }, false, false},
		"parent unfinished":         {func(s []store.ArchiveSet) []store.ArchiveSet { s[1].Finished = time.Time{}; return s }, false, false},
		"parent not known":          {func(s []store.ArchiveSet) []store.ArchiveSet { return s[1:] }, false, false},
		"sets that need each other": {func(s []store.ArchiveSet) []store.ArchiveSet { s[0].Parent = s[2].ID; return s }, false, false},
		"another set holds it whole": {func(s []store.ArchiveSet) []store.ArchiveSet {
			s[0].State, s[3].Snapshots = StateDamaged, s[2].Snapshots
			return s
		}, true, true},
		"another set is not verified": {func(s []store.ArchiveSet) []store.ArchiveSet {
			s[0].State, s[3].Snapshots, s[3].Verified = StateDamaged, s[2].Snapshots, time.Time{}
			return s
		}, true, false},
	} {
		set := func(n, parent byte) store.ArchiveSet {
			s := store.ArchiveSet{ID: [16]byte{n}, Level: volume.Full, Finished: at, Verified: at}
			if parent != 0 {
				s.Level, s.Parent = volume.Incremental, [16]byte{parent}
			}
			return s
		}
		list := []store.ArchiveSet{set(1, 0), set(2, 1), set(3, 2), set(4, 0)}
		list[2].Snapshots = []store.ArchivedSnapshot{{ID: id}}
		sets := Sets(c.change(list))
		if held, ok := len(sets.Holding(id)) > 0, sets.Verified(id); held != c.held || ok != c.ok {
			t.Errorf("%s: held %v, verified %v", name, held, ok)
		}
	}
}
