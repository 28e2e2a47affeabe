package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapfs/integration/moments"
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
	p := plan(run, repairReads, repairReplaces, repairGoesOn) // the first copy may be a small one, too quick to be met each time
	for {
		m, more := p.Next()
		if !more {
			break
		}
		os.RemoveAll(w.path("whole"))
		whole = damageAll(t, w)
		before, damaged := w.look(), sums(t, filepath.Join(w.store, "volumes"))
		running := w.killAt(m, "verify", "--repair")
		phase := repairing(w.look().Since(before), damaged, sums(t, filepath.Join(w.store, "volumes")), sums(t, whole))
		if running {
			p.Hit(m, phase)
		} else {
			p.Late(m)
		}
		found := 4 // nothing but whole volumes is in order
		if phase == repairEnds {
			found = 0
		}
		w.do(found, "verify", "--data")
		w.do(0, "verify", "--repair")
		sameVolumes(t, w, whole)
		if t.Failed() {
			t.Fatalf("killed %v", m)
		}
	}
	ended(t, p)
	w.do(0, "verify", "--data")
	differ(t, "the snapshot", want, w.restored(snap))
}

// The phases of a repair.
const (
	repairReads    = "0 reading"
	repairWrites   = "1 writing the first healed copy"
	repairReplaces = "2 some volumes are replaced"
	repairGoesOn   = "3 writing another healed copy"
	repairEnds     = "4 all volumes are replaced"
)

// repairing says what a repair was doing, by the listings of the damaged volumes, of those that lie there now, and of whole ones.
func repairing(c moments.Change, damaged, now, whole string) string {
	same := func(a, b string) bool { // by sums alone: copies have other times
		return strings.Fields(a)[3] == strings.Fields(b)[3]
	}
	healed, left := 0, 0
	for line := range strings.Lines(damaged) {
		name, _, _ := strings.Cut(line, " ")
		switch is := lineOf(now, name); {
		case is != "" && same(is, lineOf(whole, name)):
			healed++
		default:
			left++
		}
	}
	switch {
	case left == 0:
		return repairEnds
	case c.Other+c.Data+c.Nodes+c.Journals > 0 && healed > 0:
		return repairGoesOn
	case healed > 0:
		return repairReplaces
	case c.Other+c.Data+c.Nodes+c.Journals > 0:
		return repairWrites
	}
	return repairReads
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
