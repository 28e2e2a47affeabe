package store

import (
	"path/filepath"
	"testing"
)

// TestLookingLeavesFewTables: each process that pins a snapshot and ends leaves removals in the index; they do not become ever more tables. They
// stand alone on their level only if the index is larger than Badger's smallest level.
func TestLookingLeavesFewTables(t *testing.T) {
	dir := newStore(t)
	st := openTrees(t, dir)
	one := manyFiles(1, 5, 1000)
	snap := one.mustWrite(t, st)
	b := engineOf(st).idx.newBatch()
	for n := range uint32(150_000) {
		must(t, b.set(numberKey(keyVerified, n*28_000), make([]byte, 64)))
	}
	must(t, b.finish())
	closeStore(t, st)
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
	st = openTrees(t, dir)
	one.check(t, st, snap)
	closeStore(t, st)
}
