package retention

import (
	"slices"
	"time"

	"snapfs/snapshot"
)

// protect keeps what no rule may remove. All snapshots of the dataset count here, also those the rules are not
// asked about. One dated in the future does not take the place of the newest, which
// stays even if no rule keeps it.
func (d *decider) protect(newestFirst []int, now time.Time) {
	past := false
	for n, i := range newestFirst {
		s := &d.list[i]
		first := !past && !s.Start.After(now)
		past = past || first
		if s.Apart {
			d.decisions[i].keep(Reason{Why: Apart})
		}
		if s.Held {
			d.decisions[i].keep(Reason{Why: Held})
		}
		if n == 0 || first && !d.decisions[i].Keep {
			d.decisions[i].keep(Reason{Why: Newest})
		}
		if slices.Contains(s.Tags, snapshot.TagSuspicious) {
			d.decisions[i].keep(Reason{Why: Suspicious})
			d.before(newestFirst[n+1:])
		}
	}
}

// before keeps the first of the snapshots before a suspicious one, and the first whole one.
func (d *decider) before(older []int) {
	for n, i := range older {
		whole := !d.list[i].Errors
		if n == 0 || whole {
			d.decisions[i].keep(Reason{Why: BeforeSuspicious})
		}
		if whole {
			return
		}
	}
}
