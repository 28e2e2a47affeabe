package retention

import (
	"slices"
	"time"

	"snapfs/snapshot"
)

// Rules say what is kept. A rule that is zero is not there.
type Rules struct {
	Last, Hourly, Daily, Weekly, Monthly, Yearly int
	Within                                       snapshot.Duration
	Tags                                         []string
}

// Empty reports whether there is no rule at all: nothing should be removed by such rules.
func (r Rules) Empty() bool {
	return max(r.Last, r.Hourly, r.Daily, r.Weekly, r.Monthly, r.Yearly) <= 0 && r.Within == snapshot.Duration{} && len(r.Tags) == 0
}

// Snapshot is what the rules look at.
type Snapshot struct {
	Start  time.Time
	Commit uint64 // order of commits: decides between two of one start
	Tags   []string
	Errors bool // something is missing in it: paths that could not be read, or damage
	Held   bool // a hold on it has not ended
	Apart  bool // the rules are not asked about it: it stays, and takes no place
}

// Decision says what becomes of a snapshot.
type Decision struct {
	Keep    bool
	Reasons []Reason // never empty
}

// keep enters a reason to keep.
func (d *Decision) keep(r Reason) {
	d.Keep = true
	if !slices.Contains(d.Reasons, r) {
		d.Reasons = append(d.Reasons, r)
	}
}

// Decide applies the rules to the snapshots of one dataset, in any order, and returns a decision on each, in the
// same order. now says what lies in the future, zone where days begin.
func Decide(list []Snapshot, rules Rules, now time.Time, zone *time.Location) []Decision {
	decisions := make([]Decision, len(list))
	newestFirst := make([]int, len(list))
	for i := range list {
		newestFirst[i] = i
	}
	slices.SortStableFunc(newestFirst, func(a, b int) int { return compare(&list[b], &list[a]) })

	var all, whole []int
	for _, i := range newestFirst {
		switch s := &list[i]; {
		case s.Apart:
		case s.Start.After(now):
			decisions[i].keep(Reason{Why: Future})
		default:
			all = append(all, i)
			if !s.Errors {
				whole = append(whole, i)
			}
		}
	}
	d := decider{list, rules, zone, decisions}
	d.apply(all, false)
	d.apply(whole, true)
	d.protect(newestFirst, now)
	for i := range decisions {
		if !decisions[i].Keep {
			decisions[i].Reasons = []Reason{{Why: NoRule}}
		}
	}
	return decisions
}

// compare orders the timeline.
func compare(a, b *Snapshot) int {
	if c := a.Start.Compare(b.Start); c != 0 {
		return c
	}
	switch {
	case a.Commit < b.Commit:
		return -1
	case a.Commit > b.Commit:
		return 1
	}
	return 0
}

// decider is the state of Decide.
type decider struct {
	list      []Snapshot
	rules     Rules
	zone      *time.Location
	decisions []Decision
}

// keep keeps a snapshot in one of the two passes. What the first pass kept is not kept once more for being whole.
func (d *decider) keep(i int, r Reason, whole bool) {
	if whole && slices.ContainsFunc(d.decisions[i].Reasons, func(had Reason) bool { return had.Why == r.Why && !had.Whole }) {
		return
	}
	r.Whole = whole
	d.decisions[i].keep(r)
}

// apply applies all rules to some snapshots, newest first, as if there were no others.
func (d *decider) apply(list []int, whole bool) {
	if len(list) == 0 {
		return
	}
	for n, i := range list[:min(max(d.rules.Last, 0), len(list))] {
		d.keep(i, Reason{Why: Last, Count: n + 1}, whole)
	}
	for _, p := range periods {
		d.perPeriod(list, p.why, p.count(&d.rules), p.name, whole)
	}
	d.within(list, whole)
	for _, i := range list {
		for _, t := range d.rules.Tags {
			if slices.Contains(d.list[i].Tags, t) {
				d.keep(i, Reason{Why: Tag, Of: t}, whole)
			}
		}
	}
}

// perPeriod keeps the newest snapshot of each of the n newest periods. Names of periods are compared, not neighbours: a date
// may come back after the clocks were set back over midnight.
func (d *decider) perPeriod(list []int, why Why, n int, name func(time.Time) string, whole bool) {
	met := map[string]bool{}
	for _, i := range list {
		if len(met) >= n {
			return
		}
		if p := name(d.list[i].Start.In(d.zone)); !met[p] {
			met[p] = true
			d.keep(i, Reason{Why: why, Of: p}, whole)
		}
	}
}

func (d *decider) within(list []int, whole bool) {
	if d.rules.Within == (snapshot.Duration{}) {
		return
	}
	from := d.rules.Within.Before(d.list[list[0]].Start.In(d.zone))
	for _, i := range list {
		if !d.list[i].Start.Before(from) {
			d.keep(i, Reason{Why: Within}, whole)
		}
	}
}
