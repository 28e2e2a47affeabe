package snapshot

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func mustZone(t testing.TB, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Skipf("zone %s: %v", name, err)
	}
	return zone
}

const nanoLayout = "2006-01-02T15:04:05.999999999Z07:00"

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 11, 22, 3, 15, 7, 5, time.UTC)
	for _, c := range []struct {
		zone, in, want string
		exact          bool
	}{
		{"Europe/Berlin", "2026-11-22", "2026-11-22T23:59:59.999999999+01:00", false},
		{"Europe/Berlin", "2026-07-01T03:15", "2026-07-01T03:15:59.999999999+02:00", false},
		{"Europe/Berlin", "2026-07-01T03:15:07", "2026-07-01T03:15:07.999999999+02:00", false},
		{"Europe/Berlin", "2026-07-01_03-15-07", "2026-07-01T03:15:07.999999999+02:00", true},
		{"Europe/Berlin", "2026-07-01_03-15-07-2", "2026-07-01T03:15:07.999999999+02:00", true},
		{"Europe/Berlin", "2026-07-01_03-15-07-12", "2026-07-01T03:15:07.999999999+02:00", true},
		{"Europe/Berlin", "2024-02-29", "2024-02-29T23:59:59.999999999+01:00", false},

		// RFC 3339 means the end of its last digit.
		{"Europe/Berlin", "2026-07-01T03:15:07Z", "2026-07-01T05:15:07.999999999+02:00", false},
		{"Europe/Berlin", "2026-07-01T03:15:07-07:00", "2026-07-01T12:15:07.999999999+02:00", false},
		{"Europe/Berlin", "2026-07-01T03:15:07.25Z", "2026-07-01T05:15:07.259999999+02:00", false},
		{"Europe/Berlin", "2026-07-01T03:15:07.123456789Z", "2026-07-01T05:15:07.123456789+02:00", false},

		// Clocks go forward on 2026-03-29 at 02:00, back on 2026-10-25 at 03:00.
		{"Europe/Berlin", "2026-03-29T01:59", "2026-03-29T01:59:59.999999999+01:00", false},
		{"Europe/Berlin", "2026-03-29T02:00", "2026-03-29T03:00:59.999999999+02:00", false},
		{"Europe/Berlin", "2026-03-29T02:30:00", "2026-03-29T03:30:00.999999999+02:00", false},
		{"Europe/Berlin", "2026-03-29T03:00", "2026-03-29T03:00:59.999999999+02:00", false},
		{"Europe/Berlin", "2026-10-25T01:59", "2026-10-25T01:59:59.999999999+02:00", false},
		{"Europe/Berlin", "2026-10-25T02:00", "2026-10-25T02:00:59.999999999+01:00", false},
		{"Europe/Berlin", "2026-10-25T02:59:59", "2026-10-25T02:59:59.999999999+01:00", false},
		{"Europe/Berlin", "2026-10-25T03:00", "2026-10-25T03:00:59.999999999+01:00", false},
		{"Europe/Berlin", "2026-03-29", "2026-03-29T23:59:59.999999999+02:00", false},
		{"Europe/Berlin", "2026-10-25", "2026-10-25T23:59:59.999999999+01:00", false},

		// Clocks change at midnight; by half an hour; a whole day is skipped.
		{"America/Havana", "2026-10-31", "2026-10-31T23:59:59.999999999-04:00", false},
		{"America/Havana", "2026-11-01T00:30", "2026-11-01T00:30:59.999999999-05:00", false},
		{"America/Santiago", "2026-04-04", "2026-04-04T23:59:59.999999999-04:00", false},
		{"Australia/Lord_Howe", "2026-10-04T02:15", "2026-10-04T02:45:59.999999999+11:00", false},
		{"Australia/Lord_Howe", "2026-04-05T01:45", "2026-04-05T01:45:59.999999999+10:30", false},
		{"Pacific/Apia", "2011-12-30T12:00", "2011-12-31T12:00:59.999999999+14:00", false},
		{"Pacific/Kiritimati", "2026-01-01", "2026-01-01T23:59:59.999999999+14:00", false},

		{"UTC", "-2h", "2026-11-22T01:15:07.000000005Z", false},
		{"UTC", "-3d", "2026-11-19T03:15:07.000000005Z", false},
		{"UTC", "-0s", "2026-11-22T03:15:07.000000005Z", false},
		{"Europe/Berlin", "-2mo", "2026-09-22T04:15:07.000000005+02:00", false},
		{"Europe/Berlin", "-1y6mo1w2d3h4min5s", "2025-05-13T01:11:02.000000005+02:00", false},
	} {
		zone := mustZone(t, c.zone)
		got, exact, err := ParseTime(c.in, now, zone)
		if err != nil {
			t.Errorf("%s in %s: %v", c.in, c.zone, err)
			continue
		}
		if s := got.Format(nanoLayout); s != c.want || exact != c.exact {
			t.Errorf("%s in %s: %s exact %v, want %s", c.in, c.zone, s, exact, c.want)
		}
	}
}

func TestParseTimeRefuses(t *testing.T) {
	for _, s := range []string{
		"", "-", "-3", "-3m", "-d", "--3d", "+3d", "yesterday", "2026", "2026-11", "2026-13-01", "2026-02-30", "2026-11-22T",
		"2026-11-22T24:00", "2026-11-22T03", "2026-11-22T03:60", "2026-11-22 03:15", "2026-11-22T03:15:60", "2026-11-22T3:15",
		"2026-11-22T03:15:07.5", "2026-11-22T03:15Z", "2026-11-22T03:15:07,5Z", "2026-11-22_03-15", "2026-11-22_03-15-07-",
		"2026-11-22_03-15-07-1", "2026-11-22_03-15-07-02", "2026-11-22_03-15-07-+2", "2026-11-22_25-15-07", "2026-11-22_03-15-07x",
		" 2026-11-22", "2026-11-22\n", "-99999999999999999999d",
	} {
		_, _, err := ParseTime(s, time.Now(), time.UTC)
		var bad *TimeError
		if !errors.As(err, &bad) || bad.Text != s || !errors.Is(err, ErrSyntax) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestParseFuture(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]string{
		"+30d":                 "2026-12-22T12:00:00Z",
		"+1h":                  "2026-11-22T13:00:00Z",
		"2026-11-22":           "2026-11-22T23:59:59.999999999Z",
		"2027-01-01T00:00:00Z": "2027-01-01T00:00:00.999999999Z",
		"2262-04-11T23:00":     "2262-04-11T23:00:59.999999999Z",
	} {
		got, err := ParseFuture(in, now, time.UTC)
		if err != nil || got.Format(nanoLayout) != want {
			t.Errorf("%s: %v %v", in, got.Format(nanoLayout), err)
		}
	}
	for _, in := range []string{"", "+", "+3m", "+0d", "-3d", "2026-11-21", "30d", "2262-04-12", "9999-12-31", "+300y", "+600y", "+9999y"} {
		if _, err := ParseFuture(in, now, time.UTC); !errors.Is(err, ErrSyntax) {
			t.Errorf("%q: %v", in, err)
		}
	}
	if _, err := ParseFuture("30d", now, time.UTC); err == nil || !strings.Contains(err.Error(), "or +30d") || strings.Contains(err.Error(), "-3d") {
		t.Errorf("what is no time in the future: %v", err)
	}
}

func TestParseDuration(t *testing.T) {
	for in, want := range map[string]Duration{
		"1s":                 {Seconds: 1},
		"2min":               {Seconds: 120},
		"3h":                 {Seconds: 3 * 3600},
		"4d":                 {Days: 4},
		"5w":                 {Days: 35},
		"6mo":                {Months: 6},
		"7y":                 {Years: 7},
		"1y6mo":              {Years: 1, Months: 6},
		"6mo1y":              {Years: 1, Months: 6},
		"1h30min":            {Seconds: 5400},
		"1d1d":               {Days: 2},
		"0d":                 {},
		"007d":               {Days: 7},
		"1y1mo1w1d1h1min1s":  {Years: 1, Months: 1, Days: 8, Seconds: 3661},
		"9999y":              {Years: 9999},
		"315360000000s":      {Seconds: 315360000000},
		"00000000000000001s": {Seconds: 1},
	} {
		if got, err := ParseDuration(in); err != nil || got != want {
			t.Errorf("%s: %+v %v", in, got, err)
		}
	}
	for _, in := range []string{
		"", "m", "5m", "1h5m", "5", "1h5", "d", "-1d", "+1d", "1.5d", "1 d", "1d ", "1D", "1month", "1ms", "20000y",
		"99999999999999999999s", "400000000000s400000000000s", "400000000000w",
	} {
		_, err := ParseDuration(in)
		var bad *DurationError
		if !errors.As(err, &bad) || bad.Text != in || !errors.Is(err, ErrSyntax) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestDurationShift(t *testing.T) {
	berlin := mustZone(t, "Europe/Berlin")
	for _, c := range []struct {
		duration, from, before, after string
	}{
		{"1mo", "2026-03-31T10:00:00+02:00", "2026-02-28T10:00:00+01:00", "2026-04-30T10:00:00+02:00"},
		{"1y", "2024-02-29T10:00:00+01:00", "2023-02-28T10:00:00+01:00", "2025-02-28T10:00:00+01:00"},
		{"1d", "2026-03-30T02:30:00+02:00", "2026-03-29T03:30:00+02:00", "2026-03-31T02:30:00+02:00"},
		{"24h", "2026-03-30T02:30:00+02:00", "2026-03-29T01:30:00+01:00", "2026-03-31T02:30:00+02:00"},
		{"1d", "2026-10-26T02:30:00+01:00", "2026-10-25T02:30:00+01:00", "2026-10-27T02:30:00+01:00"},
		{"1h", "2026-10-25T02:30:00+01:00", "2026-10-25T02:30:00+02:00", "2026-10-25T03:30:00+01:00"},
		{"0d", "2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+02:00"},
		{"14mo", "2026-01-15T00:00:00+01:00", "2024-11-15T00:00:00+01:00", "2027-03-15T00:00:00+01:00"},
		{"300y", "2026-06-15T00:00:00Z", "1726-06-15", "2326-06-15"},
		{"9000000000s", "2026-01-01T00:00:00Z", "1740-10-20", "2311-03-15"},
	} {
		from, err := time.Parse(time.RFC3339, c.from)
		if err != nil {
			t.Fatal(err)
		}
		d, err := ParseDuration(c.duration)
		if err != nil {
			t.Fatal(err)
		}
		before, after := d.Before(from.In(berlin)).Format(time.RFC3339), d.After(from.In(berlin)).Format(time.RFC3339)
		if before[:len(c.before)] != c.before || after[:len(c.after)] != c.after {
			t.Errorf("%s around %s: %s and %s", c.duration, c.from, before, after)
		}
	}
}

// TestFromWall compares with what the clocks of several zones show in every quarter of an hour of two years.
func TestFromWall(t *testing.T) {
	for _, name := range []string{"UTC", "Europe/Berlin", "America/St_Johns", "America/Havana", "Australia/Lord_Howe", "Africa/Casablanca"} {
		zone := mustZone(t, name)
		latest := map[string]time.Time{}
		start := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
		for at := start; at.Year() < 2027; at = at.Add(15 * time.Minute) {
			latest[at.In(zone).Format(nameLayout)] = at
		}
		for shown, want := range latest {
			wall, err := time.Parse(nameLayout, shown)
			if err != nil {
				t.Fatal(err)
			}
			if got := fromWall(wall, zone); !got.Equal(want) {
				t.Errorf("%s in %s: %s, want %s", shown, name, got, want.In(zone))
			}
		}
	}
}

func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"2026-11-22", "2026-11-22T03:15", "2026-11-22T03:15:07.5Z", "-1y6mo", "2026-11-22_03-15-07-2", "0000-01-01", "9999-12-31", "-9999y"} {
		f.Add(s)
	}
	zone := mustZone(f, "Europe/Berlin")
	now := time.Date(2026, 11, 22, 3, 15, 7, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		at, exact, err := ParseTime(s, now, zone)
		if err != nil {
			if !errors.Is(err, ErrSyntax) {
				t.Fatal(err)
			}
			return
		}
		if exact {
			wall, _ := time.Parse(nameLayout, s[:len(nameLayout)])
			shown, _ := time.Parse(nameLayout, at.In(zone).Format(nameLayout))
			if gap := shown.Sub(wall); gap < 0 || gap > time.Hour {
				t.Fatalf("%q: %s", s, at.In(zone))
			}
		}
		ParseFuture(s, now, zone)
	})
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"1y6mo", "5m", "1s2min3h4d5w6mo7y", "9999y", "400000000000s", ""} {
		f.Add(s)
	}
	now := time.Date(2026, 11, 22, 3, 15, 7, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDuration(s)
		if err != nil {
			return
		}
		if d.Years < 0 || d.Months < 0 || d.Days < 0 || d.Seconds < 0 {
			t.Fatalf("%q: %+v", s, d)
		}
		if d.Before(now).After(now) || d.After(now).Before(now) {
			t.Fatalf("%q goes the wrong way: %s %s", s, d.Before(now), d.After(now))
		}
	})
}
