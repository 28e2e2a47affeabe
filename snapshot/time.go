package snapshot

import (
	"fmt"
	"strings"
	"time"

	"snapfs/store"
)

// TimeError is a malformed TIME. It is an ErrSyntax.
type TimeError struct {
	Text   string
	Reason string
}

func (e *TimeError) Error() string { return fmt.Sprintf("time %q: %s", e.Text, e.Reason) }

// Is makes errors.Is(err, ErrSyntax) true.
func (e *TimeError) Is(target error) bool { return target == ErrSyntax }

// timeForms are what TIME may look like in the local zone, each with the last instant it names, seen from the first.
var timeForms = []struct {
	layout string
	rest   time.Duration
}{
	{"2006-01-02", 24*time.Hour - 1},
	{"2006-01-02T15:04", time.Minute - 1},
	{"2006-01-02T15:04:05", time.Second - 1},
}

// ParseTime reads a TIME and returns the instant it means: the END of what it names, to the nanosecond (a date means
// its last instant, 03:15 the last instant of that minute; RFC 3339 likewise, by the digits it has). -2h, -1y6mo
// count back from now. For a snapshot's name, which means exactly that one snapshot, exact is true and at is the
// local time it shows.
//
// Local times are those of zone, and so is the result. Clock changes: what comes twice is the later one, what is skipped is moved forward
// by the length of the gap. Errors: *TimeError.
func ParseTime(s string, now time.Time, zone *time.Location) (at time.Time, exact bool, err error) {
	if rest, found := strings.CutPrefix(s, "-"); found {
		d, reason := parseDuration(rest)
		if reason != "" {
			return at, false, &TimeError{s, reason}
		}
		return d.Before(now.In(zone)), false, nil
	}
	if IsSnapshotName(s) {
		wall, err := time.Parse(nameLayout, s[:len(nameLayout)])
		return fromWall(wall.Add(time.Second-1), zone), true, err
	}
	for _, form := range timeForms {
		if len(s) != len(form.layout) { // time.Parse would also take fractions
			continue
		}
		if wall, err := time.Parse(form.layout, s); err == nil {
			return fromWall(wall.Add(form.rest), zone), false, nil
		}
	}
	if at, ok := parseRFC3339(s); ok {
		return at.In(zone), false, nil
	}
	return at, false, &TimeError{s, wantTime + "-3d"}
}

// wantTime names the forms of a TIME but for the last, which is counted from now.
const wantTime = "want a snapshot's name, 2026-11-22, 2026-11-22T03:15, 2026-11-22T03:15:07, RFC 3339, or "

// Keepable refuses a time, given as s, that a store cannot hold. Errors: *TimeError.
func Keepable(s string, at time.Time) error {
	if at.Before(store.FirstTime) || at.After(store.LastTime) {
		return &TimeError{s, fmt.Sprintf("is outside of what a store can hold: %s to %s", store.FirstTime.Format(time.DateOnly), store.LastTime.Format(time.DateOnly))}
	}
	return nil
}

// ParseFuture reads a time in the future: a date or another form of ParseTime, or +30d counted from now; Keepable.
// Errors: *TimeError.
func ParseFuture(s string, now time.Time, zone *time.Location) (time.Time, error) {
	at, err := parseFuture(s, now, zone)
	if err == nil && !at.After(now) {
		err = &TimeError{s, "is not in the future"}
	}
	if err == nil {
		err = Keepable(s, at)
	}
	return at, err
}

func parseFuture(s string, now time.Time, zone *time.Location) (time.Time, error) {
	rest, found := strings.CutPrefix(s, "+")
	if !found {
		at, _, err := ParseTime(s, now, zone)
		if err != nil && !strings.HasPrefix(s, "-") {
			err = &TimeError{s, wantTime + "+30d"}
		}
		return at, err
	}
	d, reason := parseDuration(rest)
	if reason != "" {
		return time.Time{}, &TimeError{s, reason}
	}
	return d.After(now.In(zone)), nil
}

// parseRFC3339 returns the last instant that s, with or without a fraction of the second, names.
func parseRFC3339(s string) (time.Time, bool) {
	at, err := time.Parse(time.RFC3339, s)
	if err != nil || strings.Contains(s, ",") {
		return at, false
	}
	unit := time.Second
	if dot := strings.IndexByte(s, '.'); dot > 0 {
		for i := dot + 1; i < len(s) && '0' <= s[i] && s[i] <= '9' && unit > 1; i++ {
			unit /= 10
		}
	}
	return at.Add(unit - 1), true
}

// fromWall returns when the clocks of zone show what wall shows in UTC. time.Date leaves open which of two instants
// it returns.
func fromWall(wall time.Time, zone *time.Location) time.Time {
	const day = 24 * time.Hour // no zone is further from UTC
	_, offset := wall.Add(-2 * day).In(zone).Zone()
	found := wall.Add(-seconds(offset)).In(zone)
	for t := wall.Add(-2 * day).In(zone); ; {
		_, end := t.ZoneBounds()
		if end.IsZero() || end.After(wall.Add(2*day)) {
			return found
		}
		_, before := t.Zone()
		_, after := end.Zone()
		switch at := wall.Add(-seconds(after)); {
		case !at.Before(end):
			found = at.In(zone) // shown (also) after the change
		case wall.Add(-seconds(before)).Before(end):
			return found // shown before the change
		default:
			return wall.Add(-seconds(before)).In(zone) // skipped
		}
		t = end
	}
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }
