package backup

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"snapfs/snapshot"
	"snapfs/store"
)

// Bounds of what is looked at.
const (
	historyLength = 30 // backups compared with
	fewPoints     = 5  // below that many, only what is extreme counts
	leastNames    = 40 // a smaller dataset has no habits
	leastHit      = 20 // files
	mostGap       = 10 // times the usual time between backups that are allowed for
)

// Unusual is a share of a source's files that was hit by something far outside the dataset's history.
type Unusual struct {
	What  string // "encrypted", "replaced", "lost"
	Files int64  // hit
	Of    int64  // the snapshot before had
	Usual float64
	Known int // backups it is compared with
}

// String says it for people.
func (u Unusual) String() string {
	usual := "there are no earlier figures to compare with"
	switch {
	case u.Known == 1:
		usual = fmt.Sprintf("the backup before had %.1f %%", 100*u.Usual)
	case u.Known > 1:
		usual = fmt.Sprintf("the most in the %d backups before was %.1f %%", u.Known, 100*u.Usual)
	}
	return fmt.Sprintf("%d of %d files (%.0f %%) %s; %s", u.Files, u.Of, 100*float64(u.Files)/float64(u.Of), sentences[u.What], usual)
}

var sentences = map[string]string{
	"encrypted": "were replaced by contents that look random, as encrypted ones do",
	"replaced":  "were overwritten or replaced",
	"lost":      "are gone",
}

// measures are the shares looked at: see the package's comment.
var measures = []struct {
	what        string
	hit         func(a snapshot.Activity, errors uint64) uint64
	floor, few  float64
	needsPoints int
}{
	{"encrypted", encrypted, 0.25, 0.6, 0},
	{"replaced", replaced, 0.75, 0.95, 1},
	{"lost", lost, 0.5, 0.9, 1},
}

// gone is how many names have vanished for good: not those that were moved, whose content stands under another name.
func gone(a snapshot.Activity) uint64 { return less(a.Removed, less(a.New, a.Novel)) }

func encrypted(a snapshot.Activity, _ uint64) uint64 { return min(a.Dense, a.Rewritten+gone(a)) }

func replaced(a snapshot.Activity, _ uint64) uint64 { return a.Rewritten + min(a.Novel, gone(a)) }

func lost(a snapshot.Activity, errors uint64) uint64 { return less(a.Removed, a.New+errors) }

// less is a-b, not below zero.
func less(a, b uint64) uint64 { return a - min(a, b) }

// point is one backup of the history.
type point struct {
	activity snapshot.Activity
	errors   uint64
	gap      time.Duration // since the one before
}

// unusual compares a backup with those before it, the newest last.
func unusual(now point, history []point, skipLost bool) (found []Unusual) {
	before := now.activity.Before()
	if before < leastNames {
		return nil
	}
	history = history[max(0, len(history)-historyLength):]
	for _, m := range measures {
		hit := min(m.hit(now.activity, now.errors), before)
		if hit < leastHit || len(history) < m.needsPoints || skipLost && m.what == "lost" {
			continue
		}
		usual := baseline(history, m.hit)
		floor := m.floor
		if len(history) < fewPoints {
			floor = m.few
		}
		if float64(hit)/float64(before) > limit(floor, usual, gapFactor(now, history)) {
			found = append(found, Unusual{m.what, int64(hit), int64(before), highest(history, m.hit), len(history)})
		}
	}
	return found
}

// limit is how large a share may be: four times the usual, in proportion to the time that has passed, or a third of all files more,
// whichever is less, but never less than the floor. The third does not grow with time: somebody who makes a few backups in a hurry, and
// one a day later, is not to be blind in that one.
func limit(floor, usual, gap float64) float64 { return max(floor, min(4*usual*gap, usual+0.35)) }

// shares of the history, the greatest first.
func shares(history []point, hit func(snapshot.Activity, uint64) uint64) []float64 {
	list := []float64{0}
	for _, p := range history {
		if n := p.activity.Before(); n > 0 {
			list = append(list, min(float64(hit(p.activity, p.errors))/float64(n), 1))
		}
	}
	slices.SortFunc(list, func(a, b float64) int { return cmp.Compare(b, a) })
	return list
}

func highest(history []point, hit func(snapshot.Activity, uint64) uint64) float64 {
	return shares(history, hit)[0]
}

// baseline is what is usual: the second greatest share, so that one backup, however odd, does not make the next like it usual;
// the greatest of few.
func baseline(history []point, hit func(snapshot.Activity, uint64) uint64) float64 {
	list := shares(history, hit)
	if len(history) < fewPoints {
		return list[0]
	}
	return list[1]
}

// gapFactor allows for a longer time between backups: more changes in it.
func gapFactor(now point, history []point) float64 {
	var gaps []time.Duration
	for _, p := range history {
		if p.gap > 0 {
			gaps = append(gaps, p.gap)
		}
	}
	if len(gaps) == 0 {
		return 1
	}
	slices.Sort(gaps)
	return min(max(float64(now.gap)/float64(gaps[len(gaps)/2]), 1), mostGap)
}

// suspect compares the run that is about to be committed with the dataset's history.
func (r *run) suspect(m *snapshot.Manifest) []Unusual {
	j := r.job
	if r.base == nil {
		return nil
	}
	now := point{r.figures(), m.ErrorCount, j.start.Sub(j.parent.Start)}
	return unusual(now, j.history(), r.otherChoice(m))
}

// otherChoice reports whether the options chose other files than for the parent: then names are missing because nobody wanted them.
func (r *run) otherChoice(m *snapshot.Manifest) bool {
	p := r.base.Manifest()
	return m.OnlyListed || p.OnlyListed || !slices.Equal(m.Excludes, p.Excludes) || !slices.Equal(m.Paths, p.Paths) ||
		m.IgnoreFiles != p.IgnoreFiles || m.ExcludeCaches != p.ExcludeCaches || m.OneFileSystem != p.OneFileSystem ||
		m.ExcludeLargerThan != p.ExcludeLargerThan
}

// history are the dataset's backups that were counted, in the order of their commits. One that is tagged suspicious is no
// example; it is one when somebody has removed the tag.
func (j *job) history() (list []point) {
	var before time.Time
	for i := range j.state.Snapshots {
		s := &j.state.Snapshots[i]
		if s.Dataset != j.dataset || s.Partial {
			continue
		}
		gap := time.Duration(0)
		if !before.IsZero() {
			gap = s.Start.Sub(before)
		}
		before = s.Start
		if a, errors := activityOf(s); a.Before() > 0 && !slices.Contains(s.Tags, snapshot.TagSuspicious) {
			list = append(list, point{a, errors, gap})
		}
	}
	return list
}

// activityOf is zero where nothing was counted, or it cannot be read.
func activityOf(s *store.Snapshot) (snapshot.Activity, uint64) {
	sum, err := snapshot.ParseSummary(s.Summary)
	if err != nil {
		return snapshot.Activity{}, 0
	}
	return sum.Activity, sum.Errors
}
