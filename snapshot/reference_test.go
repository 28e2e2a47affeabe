package snapshot

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"snapfs/snapshot/snapshottest"
	"snapfs/store"
)

// memStore is a Store in memory.
type memStore struct {
	*snapshottest.Blobs
	state *store.State
}

func newMemStore() *memStore { return &memStore{snapshottest.New(), &store.State{}} }

func (s *memStore) State(context.Context) (*store.State, error) { return s.state, nil }

func (s *memStore) PageKey() [32]byte { return testKey }

// add gives the state a snapshot; its ID begins with the given digits.
func (s *memStore) add(dataset, idPrefix, start string, change ...func(*store.Snapshot)) store.ID {
	at, err := time.Parse(time.RFC3339Nano, start)
	if err != nil {
		panic(err)
	}
	slot := uint32(len(s.state.Snapshots) + 1)
	var id store.ID
	hex.Decode(id[:], []byte(idPrefix+strings.Repeat("0", 56-len(idPrefix))+fmt.Sprintf("%08x", slot)))
	snap := store.Snapshot{ID: id, Slot: slot, Dataset: dataset, Start: at, Committed: at}
	snap.Name = SnapshotName(at, func(name string) bool {
		return slices.ContainsFunc(s.state.Snapshots, func(o store.Snapshot) bool { return o.Dataset == dataset && o.Name == name })
	})
	for _, f := range change {
		f(&snap)
	}
	s.state.Snapshots = append(s.state.Snapshots, snap)
	s.addDataset(dataset)
	return id
}

func (s *memStore) addDataset(name string) {
	if !slices.ContainsFunc(s.state.Datasets, func(d store.Dataset) bool { return d.Name == name }) {
		s.state.Datasets = append(s.state.Datasets, store.Dataset{Number: uint32(len(s.state.Datasets) + 1), Name: name})
	}
}

func partial(s *store.Snapshot)   { s.Partial = true }
func forgotten(s *store.Snapshot) { s.Forgotten = true }

// exampleStore has commits that are not in the order of their start times.
func exampleStore() *memStore {
	st := newMemStore()
	st.add("home", "aaaaaaaa11", "2026-11-20T10:00:00Z")
	st.add("home", "aaaaaaaa22", "2026-11-22T03:15:07.5Z")
	st.add("home", "bbbbbbbb", "2026-11-22T03:15:07.5Z") // name ends in -2
	st.add("home", "cccccccc", "2026-11-21T00:00:00Z")   // committed late
	st.add("etc", "dddddddd", "2026-11-22T02:00:00Z")
	st.add("etc", "eeeeeeee", "2026-11-23T00:00:00Z", partial)
	st.add("etc", "ffffffff", "2026-11-24T00:00:00Z", forgotten)
	st.add("face", "12345678", "2026-11-01T00:00:00Z") // four hexadecimal digits, but a dataset
	st.addDataset("empty")
	return st
}

func TestResolve(t *testing.T) {
	st := exampleStore()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for ref, want := range map[string]string{
		"latest":                              "home@2026-11-22_03-15-07-2 /",
		"latest:":                             "home@2026-11-22_03-15-07-2 /",
		"latest:/":                            "home@2026-11-22_03-15-07-2 /",
		"home":                                "home@2026-11-22_03-15-07-2 /",
		"etc":                                 "etc@2026-11-22_02-00-00 /",
		"face":                                "face@2026-11-01_00-00-00 /",
		"home@2026-11-22":                     "home@2026-11-22_03-15-07-2 /",
		"home@2026-11-21":                     "home@2026-11-21_00-00-00 /",
		"home@2026-11-20":                     "home@2026-11-20_10-00-00 /",
		"home@2026-11-22T03:15":               "home@2026-11-22_03-15-07-2 /",
		"home@2026-11-22T03:15:07":            "home@2026-11-22_03-15-07-2 /",
		"home@2026-11-22T03:15:06":            "home@2026-11-21_00-00-00 /",
		"home@2026-11-22T04:15:07+01:00":      "home@2026-11-22_03-15-07-2 /",
		"home@2026-11-22T03:15:07.4Z":         "home@2026-11-21_00-00-00 /",
		"home@2026-11-22T03:15:07.5Z":         "home@2026-11-22_03-15-07-2 /",
		"home@2026-11-22_03-15-07":            "home@2026-11-22_03-15-07 /",
		"home@2026-11-22_03-15-07-2":          "home@2026-11-22_03-15-07-2 /",
		"home@-2h":                            "home@2026-11-22_03-15-07-2 /",
		"home@-1d":                            "home@2026-11-21_00-00-00 /",
		"home@-1d12h":                         "home@2026-11-21_00-00-00 /",
		"home@-36h1min":                       "home@2026-11-20_10-00-00 /",
		"etc@2030-01-01":                      "etc@2026-11-22_02-00-00 /",
		"bbbbbbbb":                            "home@2026-11-22_03-15-07-2 /",
		"aaaaaaaa1":                           "home@2026-11-20_10-00-00 /",
		"12345678":                            "face@2026-11-01_00-00-00 /",
		"home:/a/b":                           "home@2026-11-22_03-15-07-2 /a/b",
		"home:a/b":                            "home@2026-11-22_03-15-07-2 /a/b",
		"home:a:/b":                           "home@2026-11-22_03-15-07-2 /a:/b",
		"home:a@b:/c":                         "home@2026-11-22_03-15-07-2 /a@b:/c",
		"home:/a/../b//c/":                    "home@2026-11-22_03-15-07-2 /b/c",
		"home@2026-11-22T03:15:/a:/b":         "home@2026-11-22_03-15-07-2 /a:/b",
		"home@2026-11-22T03:15:07:":           "home@2026-11-22_03-15-07-2 /",
		"home@2026-11-21:/x":                  "home@2026-11-21_00-00-00 /x",
		"home@2026-11-22T04:15:07+01:00:/a b": "home@2026-11-22_03-15-07-2 /a b",
		"home@2026-11-22_03-15-07:/x":         "home@2026-11-22_03-15-07 /x",
		"aaaaaaaa1:x\xff":                     "home@2026-11-20_10-00-00 /x\xff",
	} {
		got, err := Resolve(t.Context(), st, ref, now, time.UTC)
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		if s := got.Ref() + " " + got.Path; s != want {
			t.Errorf("%s: %s, want %s", ref, s, want)
		}
	}
}

func TestResolveErrors(t *testing.T) {
	st := exampleStore()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for ref, want := range map[string]string{
		"":                             "syntax",
		":/x":                          "syntax",
		":":                            "syntax",
		"home@":                        "syntax",
		"home@yesterday":               "syntax",
		"home@-5m":                     "syntax",
		"home@2026-11-22T03:15:x":      "syntax",
		"nowhere@2026-99-99":           "syntax",
		"hom":                          "unknown home",
		"hone":                         "unknown home",
		"hone@2026-11-22":              "unknown home",
		"@2026-11-22":                  "unknown",
		"Latest":                       "unknown",
		"empty":                        "unknown -",
		"empty@2026-11-22":             "unknown -",
		"home@2026-11-22_03-15-07-3":   "unknown home@2026-11-22_03-15-07",
		"home@2020-11-22_03-15-07":     "unknown home@2026-11-20_10-00-00",
		"eeeeeeee":                     "unknown -",
		"ffffffff":                     "forgotten 7",
		"ffffffff00:/x":                "forgotten 7",
		"etc@2026-11-24_00-00-00":      "forgotten 7",
		"etc@2026-11-24_00-00-01":      "unknown etc@2026-11-22_02-00-00",
		"BBBBBBBB":                     "unknown",
		"bbbbbbb":                      "unknown",
		"aaaaaaaa":                     "ambiguous 2",
		"aaaaaaaa:/x":                  "ambiguous 2",
		"home@2026-11-19":              "old home@2026-11-20_10-00-00",
		"home@-10y":                    "old home@2026-11-20_10-00-00",
		"etc@2026-11-22T01:59:59.999Z": "old etc@2026-11-22_02-00-00",
	} {
		_, err := Resolve(t.Context(), st, ref, now, time.UTC)
		if got := describe(err); got != want && (want != "unknown" || !strings.HasPrefix(got, want)) {
			t.Errorf("%q: %s (%v), want %s", ref, got, err, want)
		}
	}
}

func describe(err error) string {
	var unknown *UnknownError
	var ambiguous *AmbiguousError
	var old *TooOldError
	var forgotten *ForgottenError
	switch {
	case errors.As(err, &forgotten):
		return fmt.Sprintf("forgotten %d", forgotten.Snapshot.Slot)
	case errors.As(err, &unknown) && len(unknown.Candidates) > 0:
		return "unknown " + unknown.Candidates[0]
	case errors.As(err, &unknown):
		return "unknown -"
	case errors.As(err, &ambiguous):
		return fmt.Sprintf("ambiguous %d", len(ambiguous.Candidates))
	case errors.As(err, &old):
		return "old " + old.Oldest.Ref()
	case errors.Is(err, ErrSyntax):
		return "syntax"
	}
	return fmt.Sprint(err)
}

func TestResolveEmptyStore(t *testing.T) {
	for _, ref := range []string{"latest", "home", "home@-1d", "aaaaaaaa"} {
		var unknown *UnknownError
		if _, err := Resolve(t.Context(), newMemStore(), ref, time.Now(), time.UTC); !errors.As(err, &unknown) {
			t.Errorf("%s: %v", ref, err)
		}
	}
}

func TestList(t *testing.T) {
	st := exampleStore()
	for i := range st.state.Snapshots {
		s := &st.state.Snapshots[i]
		s.Summary = (&Summary{Host: "host-" + s.Dataset, Entries: uint64(i)}).Encode()
		if i%2 == 0 {
			s.Tags = []string{"even"}
		}
	}
	for _, c := range []struct {
		filter Filter
		want   string
	}{
		{Filter{}, "8 1 4 5 2 3"},
		{Filter{Dataset: "home"}, "1 4 2 3"},
		{Filter{Dataset: "home", Last: 2}, "2 3"},
		{Filter{Last: 1}, "3"},
		{Filter{Last: 100}, "8 1 4 5 2 3"},
		{Filter{Host: "host-etc"}, "5"},
		{Filter{Host: "host-home", Last: 3}, "4 2 3"},
		{Filter{Tag: "even"}, "1 5 3"},
		{Filter{Tag: "odd"}, ""},
		{Filter{Forgotten: true}, "7"},
		{Filter{Dataset: "none"}, ""},
	} {
		list, err := List(t.Context(), st, c.filter)
		if err != nil {
			t.Fatal(err)
		}
		var slots []string
		for _, l := range list {
			slots = append(slots, fmt.Sprint(l.Slot))
			if l.Summary.Entries != uint64(l.Slot-1) {
				t.Errorf("slot %d has the summary of another", l.Slot)
			}
		}
		if got := strings.Join(slots, " "); got != c.want {
			t.Errorf("%+v: %s, want %s", c.filter, got, c.want)
		}
	}
}

func FuzzResolve(f *testing.F) {
	for _, s := range []string{"latest", "home:/x", "home@2026-11-22T03:15:/a:/b", "aaaaaaaa", "home@-1d:", ":/", "@", "a@b:c"} {
		f.Add(s)
	}
	st := exampleStore()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, ref string) {
		snap, below := SplitRef(ref)
		if !strings.HasPrefix(ref, snap) || !strings.HasPrefix(below, "/") {
			t.Fatalf("%q: %q %q", ref, snap, below)
		}
		target, err := Resolve(t.Context(), st, ref, now, time.UTC)
		if err != nil {
			return
		}
		if target.Partial || target.Forgotten || target.Path != below {
			t.Fatalf("%q: %+v", ref, target)
		}
		again, err := Resolve(t.Context(), st, target.Ref()+":"+target.Path, now, time.UTC)
		if err != nil || again.ID != target.ID || again.Path != target.Path {
			t.Fatalf("%q: %v is not found by its name: %v", ref, target.Ref(), err)
		}
	})
}

func BenchmarkListSnapshots(b *testing.B) {
	st := newMemStore()
	start := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	summary := (&Summary{Host: "host", User: "root", Paths: []string{"/home"}, Entries: 1}).Encode()
	for i := range 10_000 {
		at := start.Add(time.Duration(i) * time.Hour)
		st.state.Snapshots = append(st.state.Snapshots, store.Snapshot{Slot: uint32(i + 1), Dataset: "home", Name: at.Format(nameLayout), Start: at, Summary: summary})
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := List(b.Context(), st, Filter{}); err != nil {
			b.Fatal(err)
		}
	}
}
