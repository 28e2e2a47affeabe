package archive

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"snapfs/store"
)

// TestSchedule runs "Sunday full, otherwise incremental, 30 days online, sets kept 90 days" by a simulated clock: 20 weeks, 7 years with
// $SNAPFS_TEST_LONG. Nothing younger than its retention is lost, and nothing else is kept.
func TestSchedule(t *testing.T) {
	const online, kept = 30 * 24 * time.Hour, 90 * 24 * time.Hour
	days := 20 * 7
	if os.Getenv("SNAPFS_TEST_LONG") != "" {
		days = 7 * 365
	}
	s, out := newSource(t), t.TempDir()
	taken := map[store.ID]time.Time{}
	files := map[string][]byte{}
	for day := range days {
		files[fmt.Sprintf("file%d", day%9)] = []byte(fmt.Sprintf("day %d", day))
		s.setNow(s.now.Truncate(24 * time.Hour).Add(12 * time.Hour)) // and take goes on by a day
		id := s.take(files)
		taken[id] = s.now
		o := s.options(out)
		o.Level = LevelIncremental
		if s.now.Weekday() == time.Sunday || day == 0 {
			o.Level = LevelFull
		}
		o.KeepUntil = s.now.Add(kept)
		state := s.state()
		o.Snapshots = Choose(state, DefaultPool, nil)
		res, err := Create(t.Context(), s.st, o)
		must(t, err)
		must(t, s.st.MarkArchive(t.Context(), res.Set.ID, store.ArchiveMark{Verified: s.now}))
		s.forgetOld(online)
		gone, err := Expire(t.Context(), s.st, s.now, false)
		must(t, err)
		for _, g := range gone {
			for _, v := range g.Volumes {
				must(t, os.Remove(v.Where))
			}
		}
		if s.now.Weekday() == time.Wednesday {
			_, err := s.st.Prune(t.Context(), store.PruneOptions{}, nil)
			must(t, err)
			s.checkSchedule(taken, kept, out)
		}
	}
	state := s.state()
	t.Logf("%d days: %d snapshots online, %d sets of %d left", days, len(state.Snapshots), len(live(state)), len(state.Archives))
}

func (s *origin) state() *store.State {
	state, err := s.st.State(s.t.Context())
	must(s.t, err)
	return state
}

// forgetOld forgets what is older than the online window and can be restored from verified sets.
func (s *origin) forgetOld(online time.Duration) {
	state := s.state()
	var old []store.ID
	for _, snap := range state.Snapshots {
		if !snap.Forgotten && s.now.Sub(snap.Start) > online && Sets(state.Archives).Verified(snap.ID) {
			old = append(old, snap.ID)
		}
	}
	if len(old) > 0 {
		must(s.t, s.st.Forget(s.t.Context(), old))
	}
}

func live(state *store.State) (sets []store.ArchiveSet) {
	return slices.DeleteFunc(slices.Clone(state.Archives), func(a store.ArchiveSet) bool { return !a.Expired.IsZero() })
}

// checkSchedule: what must be there is there, what must not is not, and something of it is read.
func (s *origin) checkSchedule(taken map[store.ID]time.Time, kept time.Duration, out string) {
	s.t.Helper()
	state := s.state()
	sets := Sets(state.Archives)
	var oldest store.ID
	for id, at := range taken {
		switch holding := sets.Holding(id); {
		case s.now.Sub(at) < kept && len(holding) == 0:
			s.t.Fatalf("%s: the snapshot of %s is in no set", s.now, at)
		case len(holding) == 0:
			delete(taken, id)
			delete(s.content, id)
			continue
		case s.now.Sub(at) > kept+8*24*time.Hour: // the rest of a week whose last set is kept
			s.t.Fatalf("%s: the snapshot of %s is still in %s", s.now, at, holding[0].Name)
		}
		if oldest.IsZero() || at.Before(taken[oldest]) {
			oldest = id
		}
	}
	if n := len(state.Snapshots); n > 31 {
		s.t.Fatalf("%s: %d snapshots in the store", s.now, n)
	}
	volumes, err := filepath.Glob(filepath.Join(out, "*"+Suffix))
	must(s.t, err)
	count := 0
	for _, a := range live(state) {
		count += len(a.Volumes)
	}
	if len(volumes) != count {
		s.t.Fatalf("%s: %d volumes in the directory, %d in the catalogue", s.now, len(volumes), count)
	}
	chain, _ := sets.Chain(sets.Holding(oldest)[0])
	var need []string
	for _, c := range chain {
		for _, v := range c.Volumes {
			need = append(need, v.Where)
		}
	}
	s.check([]store.ID{oldest}, need...)
}
