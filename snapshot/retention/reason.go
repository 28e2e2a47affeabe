package retention

import "fmt"

// Why is a rule or another cause of a decision.
type Why uint8

// The causes. The first group are rules, the second what no rule removes, the third is the one for removing.
const (
	Last Why = iota + 1
	Hourly
	Daily
	Weekly
	Monthly
	Yearly
	Within
	Tag

	Future
	Newest
	Held
	Suspicious
	BeforeSuspicious
	Apart

	NoRule
)

// words are what people and scripts read.
var words = map[Why]string{
	Last: "last", Hourly: "hourly", Daily: "daily", Weekly: "weekly", Monthly: "monthly", Yearly: "yearly",
	Within: "within the time to keep", Tag: "tag",
	Future: "dated in the future", Newest: "newest of the dataset", Held: "held", Suspicious: "suspicious",
	BeforeSuspicious: "before a suspicious one", Apart: "not asked about",
	NoRule: "no rule keeps it",
}

// String is a word or two.
func (w Why) String() string { return words[w] }

// Reason is why a snapshot is kept or removed.
type Reason struct {
	Why   Why
	Of    string // the period, or the tag
	Count int    // of Last: the newest is 1
	Whole bool   // only because snapshots with errors were left out of account
}

// String says it for people: "last 3", "daily 2026-11-22", "weekly 2026-W47 (without errors)".
func (r Reason) String() string {
	s := r.Why.String()
	if r.Count > 0 {
		s = fmt.Sprintf("%s %d", s, r.Count)
	}
	if r.Of != "" {
		s += " " + r.Of
	}
	if r.Whole {
		s += " (without errors)"
	}
	return s
}
