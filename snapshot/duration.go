package snapshot

import (
	"fmt"
	"math"
	"time"
)

// Duration is a calendar duration: what a month or a day is long depends on when it is counted from.
type Duration struct {
	Years, Months, Days int
	Seconds             int64
}

// DurationError is a malformed DURATION. It is an ErrSyntax.
type DurationError struct {
	Text   string
	Reason string
}

func (e *DurationError) Error() string { return fmt.Sprintf("duration %q: %s", e.Text, e.Reason) }

// Is makes errors.Is(err, ErrSyntax) true.
func (e *DurationError) Is(target error) bool { return target == ErrSyntax }

// Bounds of a duration, above 10,000 years, so that no arithmetic on it overflows.
const (
	maxDurationDays    = 10_000 * 366
	maxDurationSeconds = 400_000_000_000
)

// ParseDuration reads DURATION: integers with s, min, h, d, w, mo, y, combined as in 1y6mo. Months and years are
// calendar units, days and weeks days of the calendar. Errors: *DurationError.
func ParseDuration(s string) (Duration, error) {
	d, reason := parseDuration(s)
	if reason != "" {
		return Duration{}, &DurationError{s, reason}
	}
	return d, nil
}

// parseDuration returns what is wrong with s, or "".
func parseDuration(s string) (d Duration, reason string) {
	if s == "" {
		return d, "is empty"
	}
	for s != "" {
		n, unit, rest, reason := cutDuration(s)
		if reason == "" {
			reason = d.add(n, unit)
		}
		if reason != "" {
			return d, reason
		}
		s = rest
	}
	return d, ""
}

// cutDuration takes the first number and unit off s.
func cutDuration(s string) (n int64, unit, rest, reason string) {
	i := 0
	for ; i < len(s) && '0' <= s[i] && s[i] <= '9'; i++ {
		if n = n*10 + int64(s[i]-'0'); n > maxDurationSeconds {
			return 0, "", "", "is too long"
		}
	}
	j := i
	for j < len(s) && (s[j] < '0' || s[j] > '9') {
		j++
	}
	switch {
	case i == 0:
		return 0, "", "", "want a number and a unit, as in 3d or 1y6mo"
	case j == i:
		return 0, "", "", "the last number has no unit: s, min, h, d, w, mo or y"
	}
	return n, s[i:j], s[j:], ""
}

// add adds n units and returns why it cannot, or "".
func (d *Duration) add(n int64, unit string) (reason string) {
	seconds := int64(0)
	days, months, years := int64(0), int64(0), int64(0)
	switch unit {
	case "s":
		seconds = n
	case "min":
		seconds = n * 60
	case "h":
		seconds = n * 3600
	case "d":
		days = n
	case "w":
		days = n * 7
	case "mo":
		months = n
	case "y":
		years = n
	case "m":
		return "m could be min (minutes) or mo (months)"
	default:
		return fmt.Sprintf("unknown unit %q: want s, min, h, d, w, mo or y", unit)
	}
	days, months, years, seconds = days+int64(d.Days), months+int64(d.Months), years+int64(d.Years), seconds+d.Seconds
	if seconds > maxDurationSeconds || years*366+months*31+days > maxDurationDays || seconds < 0 {
		return "is too long"
	}
	d.Days, d.Months, d.Years, d.Seconds = int(days), int(months), int(years), seconds
	return ""
}

// Before returns t minus d, in t's zone. A day that the month does not have becomes its last; clock changes as in ParseTime.
func (d Duration) Before(t time.Time) time.Time { return d.shift(t, -1) }

// After returns t plus d, in t's zone, by the rules of Before.
func (d Duration) After(t time.Time) time.Time { return d.shift(t, 1) }

func (d Duration) shift(t time.Time, sign int) time.Time {
	if months := d.Years*12 + d.Months; months != 0 || d.Days != 0 {
		t = shiftDate(t, sign*months, sign*d.Days)
	}
	for left := d.Seconds; left > 0; { // time.Duration ends at 292 years
		step := min(left, math.MaxInt32)
		t = t.Add(time.Duration(sign) * time.Duration(step) * time.Second)
		left -= step
	}
	return t
}

// shiftDate moves the date and keeps the time of day.
func shiftDate(t time.Time, months, days int) time.Time {
	year, month, day := t.Date()
	first := time.Date(year, month+time.Month(months), 1, 0, 0, 0, 0, time.UTC)
	last := first.AddDate(0, 1, -1).Day()
	date := first.AddDate(0, 0, min(day, last)-1+days)
	hour, minute, second := t.Clock()
	wall := time.Date(date.Year(), date.Month(), date.Day(), hour, minute, second, t.Nanosecond(), time.UTC)
	return fromWall(wall, t.Location())
}
