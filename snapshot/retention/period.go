package retention

import (
	"fmt"
	"time"
)

// periods are the rules that keep one snapshot for each period of the calendar.
var periods = []struct {
	why   Why
	count func(*Rules) int
	name  func(time.Time) string // of the period that a time, in the right zone, lies in
}{
	{Hourly, func(r *Rules) int { return r.Hourly }, hour},
	{Daily, func(r *Rules) int { return r.Daily }, layout("2006-01-02")},
	{Weekly, func(r *Rules) int { return r.Weekly }, week},
	{Monthly, func(r *Rules) int { return r.Monthly }, layout("2006-01")},
	{Yearly, func(r *Rules) int { return r.Yearly }, layout("2006")},
}

func layout(l string) func(time.Time) string { return func(t time.Time) string { return t.Format(l) } }

// hour names the offset too: it tells the two hours apart that clocks show twice.
func hour(t time.Time) string { return t.Format("2006-01-02T15 -0700") }

func week(t time.Time) string {
	year, n := t.ISOWeek()
	return fmt.Sprintf("%d-W%02d", year, n)
}
