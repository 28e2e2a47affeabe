package store

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestHistoriesGiveOneNumber: a store rolled back and used again, with a new dataset in each history, which both have the same number.
// When the volumes come together again, no snapshot shows under the name of the other dataset, whichever history has a checkpoint
// or goes on for longer, and that stays so.
func TestHistoriesGiveOneNumber(t *testing.T) {
	for _, longer := range []string{"the first", "the second"} {
		for name, compacted := range map[string][2]int{
			"none": {0, 0}, "the first": {1, 0}, "the second": {0, 1}, "both": {1, 1}, "the first twice": {2, 0},
			"the second twice": {0, 2}, "both twice": {2, 2},
		} {
			t.Run(longer+" is longer, compacted "+name, func(t *testing.T) {
				extra := [2]int{1, 4}
				if longer == "the first" {
					extra = [2]int{4, 1}
				}
				m := newMerged(t)
				m.history(t, "mail", extra[0], compacted[0])
				first := filepath.Join(t.TempDir(), "first")
				copyVolumes(t, volumesDir(m.dir), first)
				m.rollBack(t)
				m.history(t, "photos", extra[1], compacted[1])
				copyVolumes(t, first, volumesDir(m.dir)) // into a store with an index
				m.check(t)
			})
		}
	}
}

// merged is a store into which the volumes of a lost history come.
type merged struct {
	dir, before string
	want        map[string]string // dataset by name of snapshot
}

func newMerged(t *testing.T) *merged {
	m := &merged{dir: newStore(t), before: filepath.Join(t.TempDir(), "before"), want: map[string]string{}}
	st := openStore(t, m.dir)
	m.commit(t, st, "etc", "common")
	closeStore(t, st)
	copyVolumes(t, volumesDir(m.dir), m.before)
	return m
}

func (m *merged) commit(t *testing.T, st *Store, dataset, name string) Snapshot {
	t.Helper()
	_, snap := putAll(t, st, dataset, name, blobs(uint64(len(m.want)), 5))
	m.want[name] = dataset
	return snap
}

// rollBack puts the common backup in the place of the store.
func (m *merged) rollBack(t *testing.T) {
	t.Helper()
	unguardAll(m.dir)
	must(t, os.RemoveAll(volumesDir(m.dir)))
	copyVolumes(t, m.before, volumesDir(m.dir))
	must(t, os.RemoveAll(filepath.Join(m.dir, indexName)))
}

// history makes a dataset that the common backup lacks, and uses it and the common one.
func (m *merged) history(t *testing.T, dataset string, extra, checkpoints int) {
	t.Helper()
	st := openStore(t, m.dir)
	defer func() { closeStore(t, st); unguardAll(m.dir) }()
	must(t, st.Hold(t.Context(), m.commit(t, st, dataset, dataset+"-held").ID, time.Time{}))
	m.commit(t, st, "etc", "etc-"+dataset)
	for i := range checkpoints {
		compact(t, st)
		m.commit(t, st, dataset, fmt.Sprint(dataset, "-then", i))
		closeStore(t, st)
		st = openStore(t, m.dir)
	}
	for i := range extra {
		m.commit(t, st, dataset, fmt.Sprint(dataset, "-", i))
	}
}

// check opens the store, uses it, makes its index anew, and compacts it.
func (m *merged) check(t *testing.T) {
	t.Helper()
	open := func() *Store { return openStore(t, m.dir) }
	st := open()
	defer func() { closeStore(t, st) }()
	numbers := m.compare(t, "come together", st)
	again := func(what string) {
		t.Helper()
		st = reindex(t, st, open)
		if got := m.compare(t, what, st); !maps.Equal(got, numbers) {
			t.Errorf("%s: %v and not %v", what, got, numbers)
		}
	}
	again("index made anew")
	for _, d := range []string{"mail", "photos", "etc"} {
		m.commit(t, st, d, d+"-after")
	}
	again("used")
	m.commit(t, st, "new", "new-after")
	numbers = m.compare(t, "another dataset", st)
	again("another dataset, index made anew")
	renamed := map[string]string{"mail": "post", "photos": "pictures", "etc": "settings"}
	for from, to := range renamed {
		must(t, st.RenameDataset(t.Context(), from, to))
		numbers[to] = numbers[from]
		delete(numbers, from)
	}
	for snap, d := range m.want {
		if renamed[d] != "" {
			m.want[snap] = renamed[d]
		}
	}
	m.commit(t, st, "post", "post-after")
	m.commit(t, st, "mail", "mail-anew") // the name is free
	m.compare(t, "renamed", st)
	numbers["mail"] = m.compare(t, "renamed", st)["mail"]
	again("renamed, index made anew")
	m.forget(t, st, "post")
	compact(t, st)
	again("compacted")
	compact(t, st)
	again("compacted twice")
}

// compare gives the numbers of the datasets.
func (m *merged) compare(t *testing.T, what string, st *Store) map[string]uint32 {
	t.Helper()
	state, err := st.State(t.Context())
	must(t, err)
	numbers, got := map[string]uint32{}, map[string]string{}
	for _, d := range state.Datasets {
		if numbers[d.Name] != 0 {
			t.Errorf("%s: two datasets %s", what, d.Name)
		}
		numbers[d.Name] = d.Number
	}
	for _, s := range state.Snapshots {
		got[s.Name] = s.Dataset
		if s.DatasetNumber != numbers[s.Dataset] || s.HeldForever != (s.Name == "mail-held" || s.Name == "photos-held") {
			t.Errorf("%s: %+v", what, s)
		}
	}
	if !maps.Equal(got, m.want) {
		t.Errorf("%s:\n%v\nwant\n%v", what, got, m.want)
	}
	return numbers
}

// forget does with a dataset as retention does: only the newest snapshot and what is held stay.
func (m *merged) forget(t *testing.T, st *Store, dataset string) {
	t.Helper()
	state, err := st.State(t.Context())
	must(t, err)
	var list []Snapshot
	for _, s := range state.Snapshots {
		if s.Dataset == dataset {
			list = append(list, s)
		}
	}
	for _, s := range list[:len(list)-1] {
		if !s.HeldForever {
			must(t, st.Forget(t.Context(), []ID{s.ID}))
		}
	}
	state, err = st.State(t.Context())
	must(t, err)
	for _, s := range state.Snapshots {
		if s.Forgotten && m.want[s.Name] != dataset {
			t.Errorf("%s of %s is forgotten", s.Name, m.want[s.Name])
		}
	}
}
