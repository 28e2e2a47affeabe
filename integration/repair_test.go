package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// damageAll flips bytes in every volume, as many as parity can always bring back, and returns what they were.
func damageAll(t testing.TB, w *world) (whole string) {
	t.Helper()
	whole = w.mkdir("whole")
	sh(t, w.dir, `cp "$1"/volumes/* whole/`, w.store)
	for _, v := range volumes(t, w.store) {
		for _, at := range []int64{10, v.size / 2, v.size - 40} {
			v.flip(t, at)
		}
	}
	return whole
}

// sameVolumes demands that the volumes are what they were, and that nothing else lies there.
func sameVolumes(t testing.TB, w *world, whole string) {
	t.Helper()
	if out := sh(t, w.dir, `diff -r "$1" "$2"/volumes || true`, whole, w.store); out != "" {
		t.Errorf("volumes after the repair: %s", out)
	}
}

// TestKilledRepair kills repairs at moments spread over their whole run: nothing gets worse, and the next one ends it.
func TestKilledRepair(t *testing.T) {
	n := kills()
	if testing.Short() {
		n = 6
	}
	w := newWorld(t)
	src := newChurn(t, w.mkdir("source"))
	src.files("small", 200)
	for i := range 6 {
		src.write("large/"+string(rune('a'+i)), 4<<20)
	}
	snap := "d@" + w.backup(0, "d", src.dir).Name
	want := sums(t, src.dir)
	whole := damageAll(t, w)
	start := time.Now()
	w.do(0, "verify", "--repair")
	run := time.Since(start)
	sameVolumes(t, w, whole)
	killed := 0
	for i, m := range moments(n, run) {
		if m.event != 0 {
			m.nth = 1 + i%40 // names and writes of healed copies
		}
		os.RemoveAll(w.path("whole"))
		whole = damageAll(t, w)
		if w.killAt(m, "verify", "--repair") {
			killed++
		}
		if o := w.start("verify", "--data", "--json").wait(); o.code != 0 && o.code != 4 {
			t.Fatalf("%v: verify: exit code %d: %s", m, o.code, tail(o.stderr))
		}
		w.do(0, "verify", "--repair")
		sameVolumes(t, w, whole)
		if t.Failed() {
			t.Fatalf("killed at %v", m)
		}
	}
	w.do(0, "verify", "--data")
	differ(t, "the snapshot", want, w.restored(snap))
	t.Logf("%d of %d repairs were killed", killed, n)
}

// TestRepairOnFullDisk: without room for a healed copy nothing is touched, and the report says why.
func TestRepairOnFullDisk(t *testing.T) {
	needRoot(t)
	w := worldAt(t, t.TempDir())
	w.store = w.path("disk", "store")
	w.env = append(w.env, "SNAPFS_STORE="+w.store)
	attachTmpfs(t, w.path("disk"), "160M")
	w.init()
	src := newChurn(t, w.mkdir("source"))
	for i := range 10 {
		src.write("large/"+string(rune('a'+i)), 4<<20)
	}
	w.backup(0, "d", src.dir)
	whole := damageAll(t, w)
	filler := w.path("disk", "filler")
	sh(t, w.dir, `fallocate -l $(( $(df --output=avail -B1 disk | tail -1) - 30000000 )) "$1"`, filler)
	before := sums(t, filepath.Join(w.store, "volumes"))
	o := w.do(4, "verify", "--repair")
	if !strings.Contains(o.stdout, "not repaired: no space left") {
		t.Errorf("it does not say why: %s", tail(o.stdout))
	}
	after := sums(t, filepath.Join(w.store, "volumes"))
	large := filepath.Base(w.largest("data").path)
	if lineOf(before, large) != lineOf(after, large) {
		t.Errorf("the damaged volume was touched: %s", after)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	w.do(0, "verify", "--repair")
	sameVolumes(t, w, whole)
	w.do(0, "verify", "--data")
}
