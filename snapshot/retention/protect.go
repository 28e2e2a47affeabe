package retention

import (
	"slices"

	"snapfs/snapshot"
)

// protect keeps what no rule may remove. All snapshots of the dataset count here, also those the rules are not
// asked about.
func (d *decider) protect(newestFirst []int) {
	for n, i := range newestFirst {
		s := &d.list[i]
		if s.Apart {
			d.decisions[i].keep(Reason{Why: Apart})
		}
		if s.Held {
			d.decisions[i].keep(Reason{Why: Held})
		}
		if n == 0 {
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
