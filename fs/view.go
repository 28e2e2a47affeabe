package fs

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"snapfs/snapshot"
	"snapfs/store"
)

// shown is a snapshot the mount shows, or showed when the kernel took references to it. Immutable but for its usage.
type shown struct {
	store.Snapshot
	*usage
	summary *snapshot.Summary // nil if it cannot be read
}

// usage is one per slot, whatever becomes of the views that show it. Safe for concurrent use.
type usage struct {
	refs atomic.Int64 // the kernel's references to nodes of the snapshot

	mu     sync.Mutex
	pinned bool
}

// dataset is a directory of the root.
type dataset struct {
	store.Dataset
	snapshots []*shown // by slot
	byName    map[string]*shown
	latest    *shown
}

// view is what the mount shows at one moment. Immutable.
type view struct {
	datasets []*dataset // by number
	byName   map[string]*dataset
	byNumber map[uint32]*dataset
	bySlot   map[uint32]*shown // those no longer shown but referenced included

	bytes, entries uint64
	xattrs         snapshot.XattrKinds
	changed        time.Time // newest commit
}

// filter says which snapshots a mount shows.
type filter struct {
	datasets  []string
	snapshots []store.ID
}

func (f filter) shows(s *store.Snapshot) bool {
	if s.Partial || s.Forgotten || s.Slot == 0 || s.Slot > maxSlot {
		return false
	}
	if len(f.datasets) > 0 && !slices.Contains(f.datasets, s.Dataset) {
		return false
	}
	return len(f.snapshots) == 0 || slices.Contains(f.snapshots, s.ID)
}

// check refuses a filter that names what is not there.
func (f filter) check(v *view) error {
	for _, name := range f.datasets {
		if v.byName[name] == nil {
			return fmt.Errorf("dataset %s: %w", name, store.ErrNotFound)
		}
	}
	for _, id := range f.snapshots {
		if !slices.ContainsFunc(v.all(), func(s *shown) bool { return s.ID == id }) {
			return fmt.Errorf("snapshot %s: %w", id, store.ErrNotFound)
		}
	}
	return nil
}

// newView builds the view of a state. old is the view before it, or nil: what the kernel still refers to stays.
func newView(state *store.State, f filter, old *view) *view {
	v := &view{
		byName:   map[string]*dataset{},
		byNumber: map[uint32]*dataset{},
		bySlot:   map[uint32]*shown{},
	}
	if old != nil {
		v.keepReferenced(old)
	}
	for i := range state.Snapshots {
		if s := &state.Snapshots[i]; f.shows(s) {
			v.add(s, old)
		}
	}
	slices.SortFunc(v.datasets, func(a, b *dataset) int { return cmp.Compare(a.Number, b.Number) })
	for _, d := range v.datasets {
		slices.SortFunc(d.snapshots, func(a, b *shown) int { return cmp.Compare(a.Slot, b.Slot) })
		v.byName[d.Name] = d
	}
	return v
}

func (v *view) keepReferenced(old *view) {
	for slot, s := range old.bySlot {
		if s.refs.Load() > 0 {
			v.bySlot[slot] = s
		}
	}
}

func (v *view) add(s *store.Snapshot, old *view) {
	sh := newShown(s, old)
	v.bySlot[s.Slot] = sh
	d := v.byNumber[s.DatasetNumber]
	if d == nil {
		d = &dataset{
			Dataset: store.Dataset{Number: s.DatasetNumber, Name: s.Dataset},
			byName:  map[string]*shown{},
		}
		v.byNumber[d.Number] = d
		v.datasets = append(v.datasets, d)
	}
	d.snapshots = append(d.snapshots, sh)
	d.byName[sh.Name] = sh
	if d.latest == nil || newer(sh, d.latest) {
		d.latest = sh
	}
	v.count(sh)
}

// newShown takes over the usage of the old view's snapshot of that slot.
func newShown(s *store.Snapshot, old *view) *shown {
	sh := &shown{Snapshot: *s, usage: &usage{}}
	if old != nil && old.bySlot[s.Slot] != nil {
		sh.usage = old.bySlot[s.Slot].usage
	}
	if len(s.Summary) > 0 {
		sh.summary, _ = snapshot.ParseSummary(s.Summary) // without one only totals are missing
	}
	return sh
}

// lists reports whether a snapshot has a name in the mount.
func (v *view) lists(sh *shown) bool {
	d := v.byNumber[sh.DatasetNumber]
	return d != nil && d.byName[sh.Name] != nil && d.byName[sh.Name].Slot == sh.Slot
}

func (v *view) count(sh *shown) {
	if sh.Committed.After(v.changed) {
		v.changed = sh.Committed
	}
	if sh.summary == nil {
		v.xattrs |= (&snapshot.Summary{HasXattrs: true}).Xattrs() // nobody knows: the careful answer
		return
	}
	v.bytes += sh.summary.Bytes
	v.entries += sh.summary.Entries
	v.xattrs |= sh.summary.Xattrs()
}

func (v *view) all() []*shown {
	var all []*shown
	for _, d := range v.datasets {
		all = append(all, d.snapshots...)
	}
	return all
}

// newer orders the timeline: start time, then commit order.
func newer(a, b *shown) bool {
	if c := a.Start.Compare(b.Start); c != 0 {
		return c > 0
	}
	return a.Slot > b.Slot
}

// changedEntry is a name that came, went or changed its meaning in a directory of slot 0.
type changedEntry struct {
	dir  uint64
	name string
}

// changes lists the names that differ between two views.
func changes(old, now *view) []changedEntry {
	var out []changedEntry
	for _, d := range old.datasets {
		if n := now.byName[d.Name]; n == nil || n.Number != d.Number {
			out = append(out, changedEntry{rootID, d.Name})
		}
		n := now.byNumber[d.Number]
		if n == nil { // empty for whoever is inside
			n = &dataset{Dataset: d.Dataset}
		}
		out = append(out, changesIn(d, n)...)
	}
	for _, d := range now.datasets {
		if o := old.byName[d.Name]; o == nil || o.Number != d.Number {
			out = append(out, changedEntry{rootID, d.Name})
		}
	}
	return out
}

func changesIn(old, now *dataset) []changedEntry {
	var out []changedEntry
	dir := datasetID(now.Number)
	for _, s := range old.snapshots {
		if n := now.byName[s.Name]; n == nil || n.Slot != s.Slot {
			out = append(out, changedEntry{dir, s.Name})
		}
	}
	for _, s := range now.snapshots {
		if old.byName[s.Name] == nil {
			out = append(out, changedEntry{dir, s.Name})
		}
	}
	if now.latest == nil || old.latest.Slot != now.latest.Slot {
		out = append(out, changedEntry{dir, latestName})
	}
	return out
}
