package store

import (
	"path/filepath"
	"testing"
)

// largeIndex makes a store with one snapshot and an index that is larger than Badger's smallest level: only then tables of sessions lie there by
// themselves.
func largeIndex(t *testing.T) (dir string, files tree, snap Snapshot) {
	t.Helper()
	dir = newStore(t)
	st := openTrees(t, dir)
	files = manyFiles(1, 5, 1000)
	snap = files.mustWrite(t, st)
	b := engineOf(st).idx.newBatch()
	for n := range uint32(150_000) {
		must(t, b.set(numberKey(keyVerified, n*28_000), make([]byte, 64)))
	}
	must(t, b.finish())
	closeStore(t, st)
	return dir, files, snap
}

// TestLookingLeavesFewTables: each process that pins a snapshot and ends leaves removals in the index; they do not become ever more tables.
func TestLookingLeavesFewTables(t *testing.T) {
	dir, files, snap := largeIndex(t)
	for range 3 * tablesApart {
		st := openTrees(t, dir)
		must(t, st.Pin(t.Context(), snap.ID))
		closeStore(t, st)
	}
	tables, err := filepath.Glob(filepath.Join(dir, indexName, "*", "*.sst"))
	must(t, err)
	if n := len(tables); n == 0 || n > 2*tablesApart {
		t.Errorf("%d tables", n)
	}
	st := openTrees(t, dir)
	files.check(t, st, snap)
	closeStore(t, st)
}

// TestLookingOnAFullDisk: on a nearly full disk nothing is written to the index to have its small tables merged.
func TestLookingOnAFullDisk(t *testing.T) {
	dir, _, snap := largeIndex(t)
	for range 3 * tablesApart {
		st := openTrees(t, dir)
		e := engineOf(st)
		if e.idx.smallTables() < tablesApart {
			must(t, st.Pin(t.Context(), snap.ID))
			closeStore(t, st)
			continue
		}
		own, before := e.files, e.idx.db.MaxVersion()
		e.files = &lowFiles{Files: own}
		e.gatherIndex()
		if e.idx.db.MaxVersion() != before {
			t.Error("written on a full disk")
		}
		e.files = own
		e.gatherIndex()
		if e.idx.db.MaxVersion() == before {
			t.Error("not written with space left")
		}
		closeStore(t, st)
		return
	}
	t.Error("too few small tables")
}
