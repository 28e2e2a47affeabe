package snapshot

import (
	"errors"
	"testing"
)

func TestResolveExact(t *testing.T) {
	st := exampleStore()
	full := st.state.Snapshots[4].ID.String()
	for ref, slot := range map[string]uint32{
		"aaaaaaaa1":                  1,
		"bbbbbbbb":                   3,
		full:                         5,
		full[:63]:                    5,
		"ffffffff":                   7, // forgotten
		"etc@2026-11-24_00-00-00":    7,
		"home@2026-11-22_03-15-07":   2,
		"home@2026-11-22_03-15-07-2": 3,
		"face@2026-11-01_00-00-00":   8,
	} {
		found, err := ResolveExact(t.Context(), st, ref)
		if err != nil || len(found) != 1 || found[0].Slot != slot {
			t.Errorf("%s: %v, %v", ref, found, err)
		}
	}
	both, err := ResolveExact(t.Context(), st, "bbbbbbbb", full)
	if err != nil || len(both) != 2 || both[0].Slot != 3 || both[1].Slot != 5 {
		t.Errorf("two: %v, %v", both, err)
	}
	for _, ref := range []string{
		"", "latest", "home", "hom", "home@", "home@2026-11-22", "home@-1d", "home@2026-11-22T03:15:07", "home:", "home:/a", "bbbbbbb", "BBBBBBBB",
		"bbbbbbbb:/x", "home@2026-11-22_03-15-07:/x", full + "0",
	} {
		var inexact *InexactError
		if _, err := ResolveExact(t.Context(), st, "aaaaaaaa1", ref); !errors.As(err, &inexact) || !errors.Is(err, ErrSyntax) {
			t.Errorf("%q: %v", ref, err)
		}
	}
	for ref, want := range map[string]string{
		"eeeeeeee":                   "unknown -", // partial
		"99999999":                   "unknown -",
		"hone@2026-11-22_03-15-07":   "unknown home",
		"home@2026-11-22_03-15-07-3": "unknown home@2026-11-22_03-15-07",
		"aaaaaaaa":                   "ambiguous 2",
		"empty@2026-11-22_03-15-07":  "unknown -",
	} {
		_, err := ResolveExact(t.Context(), st, ref)
		if got := describe(err); got != want && got != "unknown home@2026-11-20_10-00-00" {
			t.Errorf("%q: %s (%v), want %s", ref, got, err, want)
		}
	}
}
