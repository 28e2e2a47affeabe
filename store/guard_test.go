package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"snapfs/store/volume"
)

// needImmutable skips the test where the flag cannot be set.
func needImmutable(t *testing.T) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, nil, 0o600))
	_, err := setImmutable(path, true)
	must(t, err)
	if was, err := setImmutable(path, false); err != nil || !was {
		t.Skip("no immutable flag here: not root, or the file system has none")
	}
}

// immutable tells which volumes have the flag.
func immutable(t *testing.T, dir string) map[volume.ID]bool {
	t.Helper()
	disk, err := onDisk(volumesDir(dir))
	must(t, err)
	set := map[volume.ID]bool{}
	for id := range disk {
		var st unix.Statx_t
		must(t, unix.Statx(unix.AT_FDCWD, volumePath(dir, id), 0, 0, &st))
		if st.Attributes&unix.STATX_ATTR_IMMUTABLE != 0 {
			set[id] = true
		}
	}
	return set
}

// survivors opens a copy of a store that has nothing but its keys and what is immutable.
func survivors(t *testing.T, dir string) *Store {
	t.Helper()
	flags := immutable(t, dir)
	copied := copyStore(t, dir)
	must(t, os.RemoveAll(filepath.Join(copied, indexName)))
	disk, err := onDisk(volumesDir(copied))
	must(t, err)
	for id := range disk {
		if !flags[id] {
			must(t, os.Remove(volumePath(copied, id)))
		}
	}
	return openStore(t, copied)
}

// checkSurvives makes sure that a held snapshot is there, held and whole, when all that can be removed is gone.
func checkSurvives(t *testing.T, what, dir string, held Snapshot, ids []ID, data [][]byte) {
	t.Helper()
	st := survivors(t, dir)
	defer closeStore(t, st)
	state, err := st.State(t.Context())
	must(t, err)
	found := false
	for _, s := range state.Snapshots {
		found = found || s.ID == held.ID && s.Name == held.Name && s.Dataset == held.Dataset && state.Held(s, time.Now()) && s.Damaged == ""
	}
	if !found {
		t.Fatalf("%s: what is immutable has the snapshots %+v", what, state.Snapshots)
	}
	checkAll(t, st, ids, data)
}

// volumesOf are the volumes that hold blobs.
func volumesOf(t *testing.T, st *Store, ids ...ID) map[volume.ID]bool {
	t.Helper()
	places, err := st.Locate(t.Context(), ids)
	must(t, err)
	set := map[volume.ID]bool{}
	for _, p := range places {
		set[p.Volume] = true
	}
	return set
}

func TestHeldVolumesAreImmutable(t *testing.T) {
	needImmutable(t)
	dir := newStore(t)
	st := openStore(t, dir)
	ids, one := putAll(t, st, "d", "one", blobs(1, 10, 300_000))
	closeStore(t, st)
	st = openStore(t, dir)
	putAll(t, st, "d", "two", blobs(2, 10, 300_000))
	closeStore(t, st)
	st = openStore(t, dir)
	defer func() { closeStore(t, st) }()

	must(t, st.Hold(t.Context(), one.ID, time.Time{}))
	want := volumesOf(t, st, append(ids, one.ID)...)
	guarded := immutable(t, dir)
	journals := countJournals(t, st)
	if len(want) != 2 || len(guarded) != 2+journals || !guarded[first(want)] {
		t.Fatalf("%d volumes are immutable, of %d with the snapshot and %d journals", len(guarded), len(want), journals)
	}
	id := first(want)
	if err := os.Remove(volumePath(dir, id)); !errors.Is(err, syscall.EPERM) {
		t.Errorf("remove: %v", err)
	}
	checkAll(t, st, ids, blobs(1, 10, 300_000))
	_, err := engineOf(st).unguard(id)
	must(t, err)
	must(t, engineOf(st).guardHeld(t.Context())) // as after a repair
	if got := immutable(t, dir); !maps.Equal(got, guarded) {
		t.Errorf("%d volumes are immutable", len(got))
	}
	must(t, st.Release(t.Context(), one.ID))
	if got := immutable(t, dir); len(got) != 0 {
		t.Errorf("%d volumes are immutable after the release", len(got))
	}
}

// countJournals counts the journals that are not being written.
func countJournals(t *testing.T, st *Store) int {
	t.Helper()
	e := engineOf(st)
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	n := len(e.journalsAt())
	if e.journal != nil {
		n--
	}
	return n
}

// TestHeldSnapshotsOutliveWhatIsRemoved: the facts that make a held snapshot visible are guarded like its data: in journals of jobs
// before and after it, of killed ones, and when a checkpoint takes their place.
func TestHeldSnapshotsOutliveWhatIsRemoved(t *testing.T) {
	needImmutable(t)
	dir := newStore(t)
	data := blobs(1, 10, 300_000)
	st := openStore(t, dir)
	putAll(t, st, "d", "before", blobs(2, 10))
	closeStore(t, st)
	st = openStore(t, dir)
	ids, held := putAll(t, st, "d", "held", data)
	crash(t, st)
	st = openStore(t, dir)
	_, err := st.Upkeep(t.Context()) // what the crash left is sealed
	must(t, err)
	must(t, st.Hold(t.Context(), held.ID, time.Time{}))
	checkSurvives(t, "held", dir, held, ids, data) // while the store is open
	putAll(t, st, "d", "after", blobs(3, 10))
	closeStore(t, st)
	checkSurvives(t, "closed", dir, held, ids, data)
	st = openStore(t, dir)
	dropped := 0
	for n := range 3 {
		must(t, st.Tag(t.Context(), held.ID, []string{fmt.Sprint(n)}, nil))
		report := compact(t, st)
		dropped += len(report.Dropped)
		checkSurvives(t, "compacted", dir, held, ids, data)
	}
	if dropped == 0 {
		t.Error("no journal was dropped")
	}
	closeStore(t, st)
	checkSurvives(t, "compacted and closed", dir, held, ids, data)
	st = openStore(t, dir)
	defer closeStore(t, st)
	must(t, st.Release(t.Context(), held.ID))
	if got := immutable(t, dir); len(got) != 0 {
		t.Errorf("%d volumes are immutable after the release", len(got))
	}
}

// TestRenewedJournalsStayGuarded: facts that a repair writes anew are guarded before the journal they were in goes.
func TestRenewedJournalsStayGuarded(t *testing.T) {
	needImmutable(t)
	dir := newStore(t)
	st := openStore(t, dir)
	ids, held := putAll(t, st, "d", "held", blobs(1, 10))
	id := engineOf(st).journal.id
	closeStore(t, st)
	st = openStore(t, dir)
	defer closeStore(t, st)
	must(t, st.Hold(t.Context(), held.ID, time.Time{}))
	e := engineOf(st)
	size, err := fileSize(volumePath(dir, id))
	must(t, err)
	j, err := e.readJournal(id, size)
	must(t, err)
	must(t, e.renewJournal(t.Context(), e.newSession("repair"), j))
	if _, err := os.Stat(volumePath(dir, id)); !os.IsNotExist(err) {
		t.Errorf("the old journal is there: %v", err)
	}
	checkSurvives(t, "renewed", dir, held, ids, blobs(1, 10))
}

// TestOwnerLeavesGuardedVolumes: what root guarded the owner of the store cannot remove, and goes on with the rest.
func TestOwnerLeavesGuardedVolumes(t *testing.T) {
	needImmutable(t)
	const somebody = 54321
	dir := newStore(t)
	must(t, os.Chmod(filepath.Dir(filepath.Dir(dir)), 0o755))
	st := openStore(t, dir)
	_, held := putAll(t, st, "d", "held", blobs(1, 10, 300_000))
	_, gone := putAll(t, st, "d", "gone", blobs(2, 10, 900_000))
	putAll(t, st, "d", "kept", blobs(3, 10))
	closeStore(t, st)
	st = openStore(t, dir)
	must(t, st.Forget(t.Context(), []ID{gone.ID}))
	must(t, st.Hold(t.Context(), held.ID, time.Time{}))
	closeStore(t, st)
	guarded := immutable(t, dir)
	unguardAll(dir)
	must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, somebody, somebody))
	}))
	for id := range guarded {
		_, err := setImmutable(volumePath(dir, id), true)
		must(t, err)
	}
	must(t, syscall.Seteuid(somebody))
	defer func() { must(t, syscall.Seteuid(0)) }()
	if _, err := os.Stat(dir); err != nil {
		t.Skip("directories of tests are closed to others: ", err)
	}
	st = openStore(t, dir)
	defer closeStore(t, st)
	_, err := st.Prune(t.Context(), PruneOptions{}, nil)
	must(t, err)
	for n := range 3 {
		must(t, st.Tag(t.Context(), held.ID, []string{fmt.Sprint(n)}, nil))
		compact(t, st)
	}
	if got := immutable(t, dir); !maps.Equal(got, guarded) {
		t.Errorf("%d volumes are immutable, want %d", len(got), len(guarded))
	}
}

func first(set map[volume.ID]bool) (id volume.ID) {
	for id := range set {
		return id
	}
	return id
}

// TestOpenVolumesAreGuardedWhenSealed: the holder goes on to write volumes with something held.
func TestOpenVolumesAreGuardedWhenSealed(t *testing.T) {
	needImmutable(t)
	dir := newStore(t)
	st := openStore(t, dir)
	ids, one := putAll(t, st, "d", "one", blobs(1, 10, 300_000))
	must(t, st.Hold(t.Context(), one.ID, time.Time{}))
	if got := immutable(t, dir); len(got) != 1 {
		t.Errorf("%d volumes are immutable, want the journal alone", len(got))
	}
	more, two := putAll(t, st, "d", "two", blobs(2, 10, 300_000))
	want := volumesOf(t, st, append(ids, one.ID)...)
	closeStore(t, st)
	if got := immutable(t, dir); len(got) != len(want)+2 || !got[first(want)] {
		t.Errorf("%d volumes are immutable, want %d and the journals", len(got), len(want))
	}
	st = openStore(t, dir)
	defer closeStore(t, st)
	checkAll(t, st, append(ids, more...), append(blobs(1, 10, 300_000), blobs(2, 10, 300_000)...))
	if state, err := st.State(t.Context()); err != nil || state.Snapshots[1].ID != two.ID {
		t.Errorf("state %+v %v", state, err)
	}
}

// TestDamageTakesNoGuardAway: while part of a held snapshot cannot be read, nobody knows which volumes the rest of it needs, so all flags stay.
func TestDamageTakesNoGuardAway(t *testing.T) {
	needImmutable(t)
	dir := newStore(t)
	st := openStore(t, dir)
	ids, one := putAll(t, st, "d", "one", blobs(1, 10, 300_000))
	closeStore(t, st)
	st = openStore(t, dir)
	_, two := putAll(t, st, "d", "two", blobs(2, 10))
	must(t, st.Hold(t.Context(), one.ID, time.Time{}))
	data, manifest := volumesOf(t, st, ids...), volumesOf(t, st, one.ID)
	closeStore(t, st)
	for id := range manifest {
		_, err := setImmutable(volumePath(dir, id), false)
		must(t, err)
		must(t, os.Remove(volumePath(dir, id)))
	}
	st = openStore(t, dir)
	defer closeStore(t, st)
	must(t, st.Hold(t.Context(), two.ID, time.Time{}))
	if got := immutable(t, dir); !got[first(data)] {
		t.Error("what a held snapshot needs is not immutable any more")
	}
	must(t, st.Release(t.Context(), one.ID)) // what is held now can be read
	if got := immutable(t, dir); got[first(data)] {
		t.Error("what nothing held needs is immutable")
	}
}

// TestGuardedVolumesAreRemoved: by the store itself, when what replaces them is guarded.
func TestGuardedVolumesAreRemoved(t *testing.T) {
	needImmutable(t)
	dir := newStore(t)
	st := openStore(t, dir)
	_, one := putAll(t, st, "d", "one", blobs(1, 10, 300_000))
	closeStore(t, st)
	st = openStore(t, dir)
	defer closeStore(t, st)
	_, two := putAll(t, st, "d", "two", blobs(2, 10))
	must(t, st.Hold(t.Context(), one.ID, time.Time{}))
	e := engineOf(st)
	old, replacing := first(volumesOf(t, st, one.ID)), first(volumesOf(t, st, two.ID))
	must(t, e.inheritGuard([]volume.ID{old}, []volume.ID{replacing}))
	if !immutable(t, dir)[replacing] {
		t.Error("what replaces a guarded volume is not guarded")
	}
	_, err := e.unguard(replacing) // it is still written here
	must(t, err)
	data, err := os.ReadFile(volumePath(dir, old))
	must(t, err)
	must(t, e.removeVolume(old))
	must(t, e.removeVolume(old)) // it is gone
	must(t, os.WriteFile(volumePath(dir, old), data, 0o600))
	if got, err := os.ReadFile(volumePath(dir, old)); err != nil || !bytes.Equal(got, data) {
		t.Error(err)
	}
}

// TestPruneKeepsGuards: volumes with held snapshots are rewritten, and what replaces them is immutable as well.
func TestPruneKeepsGuards(t *testing.T) {
	needImmutable(t)
	dir := newStore(t)
	st := openStore(t, dir)
	ids, held := putAll(t, st, "d", "held", blobs(1, 10, 300_000))
	_, gone := putAll(t, st, "d", "gone", blobs(2, 10, 900_000))
	putAll(t, st, "d", "kept", blobs(3, 10))
	closeStore(t, st) // all of them share volumes
	st = openStore(t, dir)
	must(t, st.Hold(t.Context(), held.ID, time.Time{}))
	before := volumesOf(t, st, append(ids, held.ID)...)
	must(t, st.Forget(t.Context(), []ID{gone.ID}))
	res, err := st.Prune(t.Context(), PruneOptions{}, nil)
	must(t, err)
	if len(res.Rewritten) == 0 {
		t.Errorf("nothing was rewritten: %+v", res)
	}
	closeStore(t, st)
	checkSurvives(t, "pruned", dir, held, ids, blobs(1, 10, 300_000))
	st = openStore(t, dir)
	defer closeStore(t, st)
	checkAll(t, st, ids, blobs(1, 10, 300_000))
	after, flags := volumesOf(t, st, append(ids, held.ID)...), immutable(t, dir)
	for id := range after {
		if before[id] {
			continue // was not rewritten
		}
		if !flags[id] {
			t.Errorf("volume %s holds something held and is not immutable", id)
		}
	}
}
