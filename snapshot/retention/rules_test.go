package retention

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the zones of the tables, on any machine

	"snapfs/snapshot"
)

// timeline makes snapshots of lines "START [word]...", committed in this order. Words: errors, held, apart, #TAG.
func timeline(t *testing.T, zone *time.Location, lines string) (list []Snapshot) {
	t.Helper()
	for line := range strings.Lines(lines) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		s := Snapshot{Start: at(t, zone, words[0]), Commit: uint64(len(list) + 1)}
		for _, w := range words[1:] {
			switch {
			case w == "errors":
				s.Errors = true
			case w == "held":
				s.Held = true
			case w == "apart":
				s.Apart = true
			default:
				s.Tags = append(s.Tags, strings.TrimPrefix(w, "#"))
			}
		}
		list = append(list, s)
	}
	return list
}

// at reads a local time, or one with an offset.
func at(t *testing.T, zone *time.Location, text string) time.Time {
	t.Helper()
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if at, err := time.ParseInLocation(layout, text, zone); err == nil {
			return at.In(zone)
		}
	}
	t.Fatalf("no time: %s", text)
	return time.Time{}
}

func load(t *testing.T, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func duration(t *testing.T, s string) snapshot.Duration {
	t.Helper()
	if s == "" {
		return snapshot.Duration{}
	}
	d, err := snapshot.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// verdict writes decisions as "+ reasons" and "-", one a line.
func verdict(list []Decision) string {
	var b strings.Builder
	for _, d := range list {
		var reasons []string
		for _, r := range d.Reasons {
			reasons = append(reasons, r.String())
		}
		if d.Keep {
			b.WriteString("+ " + strings.Join(reasons, ", ") + "\n")
		} else {
			b.WriteString("-\n")
		}
	}
	return b.String()
}

// row is one case of a table.
type row struct {
	name   string
	rules  Rules
	within string
	zone   string // "": Berlin
	now    string // "": after all of them
	in     string
	want   string
}

func (r row) run(t *testing.T) {
	zone := load(t, "Europe/Berlin")
	if r.zone != "" {
		zone = load(t, r.zone)
	}
	now := time.Date(2100, 1, 1, 0, 0, 0, 0, zone)
	if r.now != "" {
		now = at(t, zone, r.now)
	}
	r.rules.Within = duration(t, r.within)
	got := verdict(Decide(timeline(t, zone, r.in), r.rules, now, zone))
	want := ""
	for line := range strings.Lines(r.want) {
		if line = strings.TrimSpace(line); line != "" {
			want += line + "\n"
		}
	}
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

var tables = map[string][]row{
	"rules": {
		{name: "last", rules: Rules{Last: 2}, in: `
			2026-11-20T10:00
			2026-11-21T10:00
			2026-11-22T10:00`, want: `
			-
			+ last 2
			+ last 1, newest of the dataset`},
		{name: "more than there are", rules: Rules{Last: 1000000}, in: "2026-11-20", want: "+ last 1, newest of the dataset"},
		{name: "periods without a snapshot are not counted", rules: Rules{Daily: 2}, in: `
			2026-01-01T08:00
			2026-01-01T20:00
			2026-11-22T10:00`, want: `
			-
			+ daily 2026-01-01
			+ daily 2026-11-22, newest of the dataset`},
		{name: "each period has its newest", rules: Rules{Hourly: 2, Daily: 2, Monthly: 2, Yearly: 3}, in: `
			2024-03-01T10:00
			2025-11-22T10:00
			2026-10-31T10:00
			2026-11-21T10:00
			2026-11-22T09:10
			2026-11-22T09:50
			2026-11-22T10:00`, want: `
			+ yearly 2024
			+ yearly 2025
			+ monthly 2026-10
			+ daily 2026-11-21
			-
			+ hourly 2026-11-22T09 +0100
			+ hourly 2026-11-22T10 +0100, daily 2026-11-22, monthly 2026-11, yearly 2026, newest of the dataset`},
		{name: "tags", rules: Rules{Tags: []string{"a", "b"}}, in: `
			2026-11-19 #a
			2026-11-20 #b #a
			2026-11-21 #c
			2026-11-22`, want: `
			+ tag a
			+ tag a, tag b
			-
			+ newest of the dataset`},
		{name: "within counts from the newest", within: "2d", now: "2030-01-01", in: `
			2026-11-20T09:59:59
			2026-11-20T10:00:00
			2026-11-22T10:00:00`, want: `
			-
			+ within the time to keep
			+ within the time to keep, newest of the dataset`},
		{name: "within, calendar month", within: "1mo", in: `
			2026-02-27T23:00
			2026-02-28T12:00
			2026-03-31T12:00`, want: `
			-
			+ within the time to keep
			+ within the time to keep, newest of the dataset`},
		{name: "the order given does not matter", rules: Rules{Last: 1}, in: `
			2026-11-22
			2026-11-20
			2026-11-21`, want: `
			+ last 1, newest of the dataset
			-
			-`},
		{name: "equal times: the later commit is newer", rules: Rules{Last: 1, Daily: 1}, in: `
			2026-11-22T10:00
			2026-11-22T10:00
			2026-11-22T10:00`, want: `
			-
			-
			+ last 1, daily 2026-11-22, newest of the dataset`},
		{name: "numbers below zero are none", rules: Rules{Last: -1, Daily: -5, Yearly: 1}, in: `
			2026-11-20
			2026-11-22`, want: `
			-
			+ yearly 2026, newest of the dataset`},
	},
	"the calendar": {
		{name: "doubled hour: two hours", rules: Rules{Hourly: 4}, in: `
			2026-10-25T01:30:00+02:00
			2026-10-25T02:10:00+02:00
			2026-10-25T02:50:00+02:00
			2026-10-25T02:10:00+01:00
			2026-10-25T02:50:00+01:00
			2026-10-25T03:10:00+01:00`, want: `
			+ hourly 2026-10-25T01 +0200
			-
			+ hourly 2026-10-25T02 +0200
			-
			+ hourly 2026-10-25T02 +0100
			+ hourly 2026-10-25T03 +0100, newest of the dataset`},
		{name: "doubled hour: one day of 25 hours", rules: Rules{Daily: 2}, in: `
			2026-10-24T23:59:59+02:00
			2026-10-25T00:00:00+02:00
			2026-10-25T23:59:59+01:00`, want: `
			+ daily 2026-10-24
			-
			+ daily 2026-10-25, newest of the dataset`},
		{name: "skipped hour: none is counted", rules: Rules{Hourly: 2}, in: `
			2026-03-29T00:30:00+01:00
			2026-03-29T01:59:59+01:00
			2026-03-29T03:00:00+02:00`, want: `
			-
			+ hourly 2026-03-29T01 +0100
			+ hourly 2026-03-29T03 +0200, newest of the dataset`},
		{name: "half an hour is set back", zone: "Australia/Lord_Howe", rules: Rules{Hourly: 3}, in: `
			2026-04-05T01:10:00+11:00
			2026-04-05T01:40:00+11:00
			2026-04-05T01:40:00+10:30
			2026-04-05T02:10:00+10:30`, want: `
			-
			+ hourly 2026-04-05T01 +1100
			+ hourly 2026-04-05T01 +1030
			+ hourly 2026-04-05T02 +1030, newest of the dataset`},
		{name: "set back over midnight: a date that comes twice is one day", zone: "America/St_Johns", rules: Rules{Daily: 2}, in: `
			2010-11-05T12:00:00-02:30
			2010-11-06T23:30:00-02:30
			2010-11-07T00:00:30-02:30
			2010-11-06T23:30:00-03:30
			2010-11-07T00:30:00-03:30`, want: `
			-
			-
			-
			+ daily 2010-11-06
			+ daily 2010-11-07, newest of the dataset`},
		{name: "no midnight on the day of the change", zone: "America/Sao_Paulo", rules: Rules{Daily: 3}, in: `
			2018-11-03T23:59:59-03:00
			2018-11-04T01:00:00-02:00
			2018-11-05T00:00:00-02:00`, want: `
			+ daily 2018-11-03
			+ daily 2018-11-04
			+ daily 2018-11-05, newest of the dataset`},
		{name: "a day that was skipped", zone: "Pacific/Apia", rules: Rules{Daily: 2}, in: `
			2011-12-28T12:00:00-10:00
			2011-12-29T12:00:00-10:00
			2011-12-31T12:00:00+14:00`, want: `
			-
			+ daily 2011-12-29
			+ daily 2011-12-31, newest of the dataset`},
		{name: "leap day", rules: Rules{Daily: 3, Monthly: 2}, in: `
			2028-02-28T12:00
			2028-02-29T00:00
			2028-02-29T23:59
			2028-03-01T00:00`, want: `
			+ daily 2028-02-28
			-
			+ daily 2028-02-29, monthly 2028-02
			+ daily 2028-03-01, monthly 2028-03, newest of the dataset`},
		{name: "a year before a leap day", within: "1y", in: `
			2027-02-28T11:59
			2027-02-28T12:00
			2028-02-29T12:00`, want: `
			-
			+ within the time to keep
			+ within the time to keep, newest of the dataset`},
		{name: "2100 is no leap year", within: "1d", in: `
			2100-02-28T11:59
			2100-02-28T12:00
			2100-03-01T12:00`, now: "2200-01-01", want: `
			-
			+ within the time to keep
			+ within the time to keep, newest of the dataset`},
		{name: "ISO weeks over the end of a year", rules: Rules{Weekly: 3}, in: `
			2020-12-27T23:59
			2020-12-28T00:00
			2020-12-31T12:00
			2021-01-01T12:00
			2021-01-03T23:59
			2021-01-04T00:00`, want: `
			+ weekly 2020-W52
			-
			-
			-
			+ weekly 2020-W53
			+ weekly 2021-W01, newest of the dataset`},
		{name: "a week that belongs to the next year", rules: Rules{Weekly: 2, Yearly: 2}, in: `
			2024-12-29T12:00
			2024-12-30T12:00
			2024-12-31T12:00
			2025-01-01T12:00`, want: `
			+ weekly 2024-W52
			-
			+ yearly 2024
			+ weekly 2025-W01, yearly 2025, newest of the dataset`},
		{name: "end of the year", rules: Rules{Hourly: 2, Monthly: 2, Yearly: 2}, in: `
			2026-12-31T22:00
			2026-12-31T23:59:59
			2027-01-01T00:00:00`, want: `
			-
			+ hourly 2026-12-31T23 +0100, monthly 2026-12, yearly 2026
			+ hourly 2027-01-01T00 +0100, monthly 2027-01, yearly 2027, newest of the dataset`},
		{name: "the same instants in New York", zone: "America/New_York", rules: Rules{Yearly: 2}, in: `
			2026-12-31T23:30:00+01:00
			2027-01-01T00:30:00+01:00
			2027-01-01T06:00:00+01:00`, want: `
			-
			+ yearly 2026
			+ yearly 2027, newest of the dataset`},
		{name: "within a day over a clock change is a calendar day", within: "1d", in: `
			2026-10-24T11:59:59+02:00
			2026-10-24T12:00:00+02:00
			2026-10-25T12:00:00+01:00`, want: `
			-
			+ within the time to keep
			+ within the time to keep, newest of the dataset`},
		{name: "within 24 hours over a clock change is 24 hours", within: "24h", in: `
			2026-10-24T12:59:59+02:00
			2026-10-24T13:00:00+02:00
			2026-10-25T12:00:00+01:00`, want: `
			-
			+ within the time to keep
			+ within the time to keep, newest of the dataset`},
		{name: "before 1970", rules: Rules{Daily: 2}, zone: "UTC", in: `
			1969-12-31T23:59:59
			1970-01-01T00:00:00
			1970-01-01T12:00:00`, want: `
			+ daily 1969-12-31
			-
			+ daily 1970-01-01, newest of the dataset`},
	},
	"what no rule removes": {
		{name: "future", rules: Rules{Last: 1, Daily: 1}, within: "1d", now: "2026-11-22T12:00", in: `
			2026-11-20T10:00
			2026-11-22T10:00
			2027-11-22T10:00
			2099-01-01`, want: `
			-
			+ last 1, daily 2026-11-22, within the time to keep
			+ dated in the future
			+ dated in the future, newest of the dataset`},
		{name: "the future takes no place of the newest", rules: Rules{Tags: []string{"x"}}, now: "2026-11-22T12:00", in: `
			2026-11-20
			2026-11-21
			2030-01-01`, want: `
			-
			+ newest of the dataset
			+ dated in the future, newest of the dataset`},
		{name: "this very moment is not the future", rules: Rules{Last: 1}, now: "2026-11-22T12:00", in: `
			2026-11-20T10:00
			2026-11-22T12:00`, want: `
			-
			+ last 1, newest of the dataset`},
		{name: "only future ones", rules: Rules{Last: 1}, now: "2020-01-01", in: `
			2026-11-20T10:00
			2026-11-22T12:00`, want: `
			+ dated in the future
			+ dated in the future, newest of the dataset`},
		{name: "the last one", rules: Rules{Tags: []string{"none"}}, in: `
			2026-11-20
			2026-11-22`, want: `
			-
			+ newest of the dataset`},
		{name: "held", rules: Rules{Last: 1}, in: `
			2026-11-20 held
			2026-11-21
			2026-11-22`, want: `
			+ held
			-
			+ last 1, newest of the dataset`},
		{name: "before a suspicious one", rules: Rules{Last: 1}, in: `
			2026-11-19
			2026-11-20
			2026-11-21 #suspicious
			2026-11-22
			2026-11-23`, want: `
			-
			+ before a suspicious one
			+ suspicious
			-
			+ last 1, newest of the dataset`},
		{name: "before a suspicious one, with errors", rules: Rules{Last: 1}, in: `
			2026-11-18
			2026-11-19
			2026-11-20 errors
			2026-11-21 errors
			2026-11-22 #suspicious`, want: `
			-
			+ before a suspicious one
			-
			+ before a suspicious one
			+ last 1, newest of the dataset, suspicious`},
		{name: "several suspicious ones", rules: Rules{Last: 1}, in: `
			2026-11-19
			2026-11-20
			2026-11-21 #suspicious
			2026-11-22 #suspicious
			2026-11-23`, want: `
			-
			+ before a suspicious one
			+ before a suspicious one, suspicious
			+ suspicious
			+ last 1, newest of the dataset`},
		{name: "the first is suspicious", rules: Rules{Last: 1}, in: `
			2026-11-19 #suspicious
			2026-11-20`, want: `
			+ suspicious
			+ last 1, newest of the dataset`},
		{name: "not asked about", rules: Rules{Last: 1}, in: `
			2026-11-19
			2026-11-20 apart
			2026-11-21
			2026-11-22 apart`, want: `
			-
			+ not asked about
			+ last 1
			+ not asked about, newest of the dataset`},
		{name: "before a suspicious one, which is not asked about", rules: Rules{Last: 1}, in: `
			2026-11-19
			2026-11-20
			2026-11-21 apart #suspicious
			2026-11-22`, want: `
			-
			+ before a suspicious one
			+ not asked about, suspicious
			+ last 1, newest of the dataset`},
	},
	"errors": {
		{name: "whole ones are kept as if there were no others", rules: Rules{Last: 1, Daily: 2}, in: `
			2026-11-19
			2026-11-20
			2026-11-21 errors
			2026-11-22 errors`, want: `
			+ daily 2026-11-19 (without errors)
			+ last 1 (without errors), daily 2026-11-20 (without errors)
			+ daily 2026-11-21
			+ last 1, daily 2026-11-22, newest of the dataset`},
		{name: "never without errors", rules: Rules{Daily: 1}, in: `
			2026-11-21 errors
			2026-11-22 errors`, want: `
			-
			+ daily 2026-11-22, newest of the dataset`},
		{name: "the whole one of the same day", rules: Rules{Daily: 1}, in: `
			2026-11-22T08:00
			2026-11-22T09:00
			2026-11-22T10:00 errors`, want: `
			-
			+ daily 2026-11-22 (without errors)
			+ daily 2026-11-22, newest of the dataset`},
		{name: "within counts from the newest whole one, too", within: "1d", in: `
			2026-11-18T12:00
			2026-11-19T12:00
			2026-11-22T12:00 errors`, want: `
			+ within the time to keep (without errors)
			+ within the time to keep (without errors)
			+ within the time to keep, newest of the dataset`},
	},
}

func TestTables(t *testing.T) {
	for name, rows := range tables {
		for _, r := range rows {
			t.Run(name+"/"+r.name, r.run)
		}
	}
}

func TestEmpty(t *testing.T) {
	for _, r := range []Rules{{}, {Last: 0}, {Tags: []string{}}} {
		if !r.Empty() {
			t.Errorf("%+v has a rule?", r)
		}
	}
	for _, r := range []Rules{{Last: 1}, {Yearly: 1}, {Within: snapshot.Duration{Seconds: 1}}, {Tags: []string{"a"}}} {
		if r.Empty() {
			t.Errorf("%+v has no rule?", r)
		}
	}
	if d := Decide(nil, Rules{Last: 1}, time.Now(), time.UTC); len(d) != 0 {
		t.Errorf("decisions about nothing: %v", d)
	}
}

// TestAgainstModel compares with a slow restatement of the rules, on random timelines.
func TestAgainstModel(t *testing.T) {
	zones := []*time.Location{time.UTC, load(t, "Europe/Berlin"), load(t, "Australia/Lord_Howe"), load(t, "America/St_Johns")}
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		zone := zones[rng.IntN(len(zones))]
		now := time.Date(2026, 11, 22, 12, 0, 0, 0, zone)
		list := make([]Snapshot, rng.IntN(60))
		for i := range list {
			list[i] = Snapshot{
				Start:  now.Add(time.Duration(5-rng.IntN(400)) * time.Duration(1+rng.IntN(40)) * time.Hour),
				Commit: uint64(i), Errors: rng.IntN(4) == 0, Held: rng.IntN(20) == 0, Apart: rng.IntN(10) == 0,
			}
		}
		rules := Rules{Last: rng.IntN(3), Hourly: rng.IntN(5), Daily: rng.IntN(5), Weekly: rng.IntN(4), Monthly: rng.IntN(4), Yearly: rng.IntN(3)}
		got := Decide(list, rules, now, zone)
		for i, want := range model(list, rules, now, zone) {
			if got[i].Keep != want {
				t.Fatalf("seed %d: snapshot %d %+v: keep %v, want %v (%v)", seed, i, list[i], got[i].Keep, want, got[i].Reasons)
			}
			if len(got[i].Reasons) == 0 {
				t.Fatalf("seed %d: snapshot %d: no reason", seed, i)
			}
		}
	}
}

// model says it the other way round: a snapshot is kept by a period if no newer one lies in it and fewer than N
// periods with a snapshot are newer.
func model(list []Snapshot, rules Rules, now time.Time, zone *time.Location) []bool {
	newer := func(a, b int) bool { return compare(&list[a], &list[b]) > 0 }
	keeps := func(i int, counts func(int) bool) bool {
		if !counts(i) {
			return false
		}
		before := 0
		for j := range list {
			if counts(j) && newer(j, i) {
				before++
			}
		}
		keep := before < rules.Last
		for _, p := range periods {
			name := func(j int) string { return p.name(list[j].Start.In(zone)) }
			mine, others := true, map[string]bool{}
			for j := range list {
				if counts(j) && newer(j, i) {
					others[name(j)] = true
					mine = mine && name(j) != name(i)
				}
			}
			keep = keep || mine && len(others) < p.count(&rules)
		}
		return keep
	}
	out := make([]bool, len(list))
	for i, s := range list {
		all := func(j int) bool { return !list[j].Apart && !list[j].Start.After(now) }
		whole := func(j int) bool { return all(j) && !list[j].Errors }
		newest := !slices.ContainsFunc(list, func(o Snapshot) bool { return compare(&o, &list[i]) > 0 })
		out[i] = s.Apart || s.Held || s.Start.After(now) || newest || keeps(i, all) || keeps(i, whole)
	}
	return out
}

func TestReasons(t *testing.T) {
	for why := Last; why <= NoRule; why++ {
		if why.String() == "" {
			t.Errorf("cause %d has no word", why)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	list := make([]Snapshot, 10_000)
	for i := range list {
		list[i] = Snapshot{Start: now.Add(-time.Duration(i) * time.Hour), Commit: uint64(i)}
	}
	for b.Loop() {
		if got := Decide(list, Rules{Hourly: 24, Daily: 7, Weekly: 4, Monthly: 12, Yearly: 10}, now, time.UTC); len(got) != len(list) {
			b.Fatal(fmt.Sprint(len(got)))
		}
	}
}
