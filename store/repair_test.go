package store

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"snapfs/store/volume"
)

// damagedStore is a store with one volume of each kind, all of them damaged within what parity can bring back.
func damagedStore(t testing.TB) (dir string, ids []ID, data [][]byte, whole map[string][]byte) {
	t.Helper()
	dir = newStore(t)
	st := openStore(t, dir)
	data = blobs(1, 100, 200, 5000, 150_000, 300_000)
	ids, _ = putAll(t, st, "d", "one", data)
	closeStore(t, st)
	whole = readVolumes(t, dir)
	for path, b := range whole {
		b = bytes.Clone(b)
		b[5000] ^= 0xff
		b[len(b)-2000] ^= 0xff
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, ids, data, whole
}

func readVolumes(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, volumesName, "*"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, path := range files {
		if out[path], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// wantRepaired makes sure that all volumes are what they were, and that nothing else is left.
func wantRepaired(t testing.TB, dir string, whole map[string][]byte) {
	t.Helper()
	for path, want := range whole {
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("volume %s is not what it was: %v", filepath.Base(path), err)
		}
	}
	entries, err := os.ReadDir(volumesDir(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("left behind: %s", e.Name())
		}
	}
}

// TestRepairFailingOperations fails the k-th operation of a repair for every k: nothing is lost, what it says is true, and the
// next repair mends the rest.
func TestRepairFailingOperations(t *testing.T) {
	for _, fault := range []error{errInjected, syscall.ENOSPC} {
		for k := 0; ; k++ {
			if !failRepair(t, k, fault) {
				t.Logf("%d operations failed one by one with %v", k, fault)
				break
			}
			if k > 500 {
				t.Fatal("no end of operations")
			}
		}
	}
}

func failRepair(t *testing.T, k int, fault error) (hit bool) {
	dir, ids, data, whole := damagedStore(t)
	own, err := filesFor(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := &faultyFiles{Files: own, err: fault, left: k}
	st, err := Open(t.Context(), dir, Options{Unlock: unlockTest, Files: files, References: testReferences})
	if err != nil {
		t.Fatal(err)
	}
	var healed int64
	sum, err := st.Verify(t.Context(), VerifyOptions{Data: true, Repair: true}, func(VerifyEvent) error { return nil })
	if err != nil && !errors.Is(err, fault) && !errors.Is(err, ErrWriteFailed) {
		t.Fatalf("fault %d: %v", k, err)
	}
	if err == nil {
		healed = sum.Findings - sum.Healed
	}
	_ = st.Close()
	st = openStore(t, dir)
	again, findings := verified(t, st.session, VerifyOptions{Data: true})
	if err == nil && again.Findings-again.Healed > healed {
		t.Errorf("fault %d: %+v and then %+v: %+v", k, sum, again, findings)
	}
	sum, findings = verified(t, st.session, VerifyOptions{Data: true, Repair: true})
	if sum.Findings != sum.Healed {
		t.Errorf("fault %d: not mended: %+v", k, findings)
	}
	checkAll(t, st, ids, data)
	wantClean(t, st.session, VerifyOptions{Data: true})
	closeStore(t, st)
	wantRepaired(t, dir, whole)
	return files.hit
}

// TestRepairTwoAtOnce: two repairs of the same volumes, from two processes, and readers beside them.
func TestRepairTwoAtOnce(t *testing.T) {
	dir, ids, data, whole := damagedStore(t)
	first, second := openStore(t, dir), openStore(t, dir)
	for i, id := range ids { // opens the damaged files, and keeps them open
		if got, err := second.Get(t.Context(), KindChunk, id); err == nil && !bytes.Equal(got, data[i]) {
			t.Error("a damaged blob is read")
		}
	}
	var wg sync.WaitGroup
	for _, st := range []*Store{first, second} {
		wg.Go(func() {
			sum, err := st.Verify(t.Context(), VerifyOptions{Data: true, Repair: true}, func(VerifyEvent) error { return nil })
			if err != nil || sum.Findings != sum.Healed {
				t.Errorf("%+v, %v", sum, err)
			}
		})
	}
	wg.Wait()
	checkAll(t, second, ids, data)
	checkAll(t, first, ids, data)
	wantClean(t, second.session, VerifyOptions{Data: true})
	closeStore(t, second)
	closeStore(t, first)
	wantRepaired(t, dir, whole)
}

// TestRepairLeavesCopyOfKilled: what a killed repair left is removed by the next holder and stands in nobody's way.
func TestRepairLeavesCopyOfKilled(t *testing.T) {
	dir, ids, data, whole := damagedStore(t)
	for path := range whole {
		left := filepath.Join(filepath.Dir(path), repairPrefix+filepath.Base(path))
		if err := os.WriteFile(left, []byte("half a copy"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	st := openStore(t, dir)
	if sum, findings := verified(t, st.session, VerifyOptions{Data: true, Repair: true}); sum.Findings != sum.Healed {
		t.Errorf("%+v", findings)
	}
	checkAll(t, st, ids, data)
	closeStore(t, st)
	wantRepaired(t, dir, whole)
}

// TestVolumeCutAnywhere cuts a volume at every 4 KiB and repairs it: verify tells the truth, before and after.
func TestVolumeCutAnywhere(t *testing.T) {
	base := newStore(t)
	st := openStore(t, base)
	data := blobs(1, 100, 5000, 150_000, 60_000)
	ids, _ := putAll(t, st, "d", "one", data)
	closeStore(t, st)
	cuts, well, same := 0, 0, 0
	for path, whole := range readVolumes(t, base) {
		label, _, err := volume.ReadLabel(bytes.NewReader(whole), int64(len(whole)))
		must(t, err)
		for at := 0; at < len(whole); at += 4096 {
			dir := filepath.Join(t.TempDir(), "store")
			must(t, os.CopyFS(dir, os.DirFS(base)))
			file := filepath.Join(dir, volumesName, filepath.Base(path))
			must(t, os.Truncate(file, int64(at)))
			checkTruth(t, dir, ids, data, false, label.Kind == volume.Journal)
			cuts++
			if checkRepair(t, dir, ids, data) {
				well++
				if sameFile(file, whole) {
					same++
				}
			}
			if t.Failed() {
				t.Fatalf("%s of kind %d cut at %d", filepath.Base(path), label.Kind, at)
			}
		}
	}
	t.Logf("of %d cut volumes %d cost nothing, %d have the exact former bytes", cuts, well, same)
}

// TestDuplicateAndForeignVolumes: copies under other names and volumes of other stores do no harm and are named.
func TestDuplicateAndForeignVolumes(t *testing.T) {
	dir, other := newStore(t), newStore(t)
	data := blobs(1, 100, 5000)
	st := openStore(t, dir)
	ids, _ := putAll(t, st, "d", "one", data)
	closeStore(t, st)
	st = openStore(t, other)
	putAll(t, st, "d", "two", blobs(2, 100))
	closeStore(t, st)
	n := 0
	for path, b := range readVolumes(t, dir) {
		n++
		must(t, os.WriteFile(filepath.Join(filepath.Dir(path), strings.Repeat("0", 31)+string(rune('0'+n))), b, 0o600))
		must(t, os.WriteFile(path+".bak", b, 0o600))
	}
	for path, b := range readVolumes(t, other) {
		n++
		must(t, os.WriteFile(filepath.Join(dir, volumesName, filepath.Base(path)), b, 0o600))
	}
	st = openStore(t, dir)
	defer closeStore(t, st)
	for _, o := range []VerifyOptions{{}, {Data: true}, {Data: true, Repair: true}} {
		sum, findings := verified(t, st.session, o)
		for _, f := range findings {
			if f.Problem != ProblemForeign {
				t.Errorf("%+v", f)
			}
		}
		if int(sum.Findings) != n || sum.Findings != sum.Healed {
			t.Errorf("%+v, want %d foreign volumes", sum, n)
		}
	}
	checkAll(t, st, ids, data)
}

// TestRepairOfHeldVolumes: a healed copy takes the place of an immutable file and is immutable again, killed repairs do not matter.
func TestRepairOfHeldVolumes(t *testing.T) {
	needImmutable(t)
	dir := newStore(t)
	st := openStore(t, dir)
	data := blobs(1, 100, 300_000)
	ids, snap := putAll(t, st, "d", "one", data)
	closeStore(t, st)
	st = openStore(t, dir)
	defer func() { closeStore(t, st) }()
	must(t, st.Hold(t.Context(), snap.ID, time.Time{}))
	guarded := immutable(t, dir)
	whole := map[string][]byte{}
	for id := range guarded {
		path := volumePath(dir, id)
		b, err := os.ReadFile(path)
		must(t, err)
		whole[path] = b
		_, err = setImmutable(path, false)
		must(t, err)
		flipByte(t, path, 5000)
		_, err = setImmutable(path, true)
		must(t, err)
	}
	if len(guarded) == 0 {
		t.Fatal("nothing is guarded")
	}
	if sum, findings := verified(t, st.session, VerifyOptions{Data: true, Repair: true}); sum.Findings == 0 || sum.Findings != sum.Healed {
		t.Errorf("%+v", findings)
	}
	wantRepaired(t, dir, whole)
	if now := immutable(t, dir); !maps.Equal(now, guarded) {
		t.Errorf("guarded before %v, now %v", guarded, now)
	}
	checkAll(t, st, ids, data)
}
