package store

import (
	"bytes"
	"errors"
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
	if got := immutable(t, dir); len(want) != 2 || len(got) != 2 || !got[first(want)] {
		t.Fatalf("%d volumes are immutable, of %d with the snapshot", len(got), len(want))
	}
	id := first(want)
	if err := os.Remove(volumePath(dir, id)); !errors.Is(err, syscall.EPERM) {
		t.Errorf("remove: %v", err)
	}
	checkAll(t, st, ids, blobs(1, 10, 300_000))
	_, err := engineOf(st).unguard(id)
	must(t, err)
	must(t, engineOf(st).guardHeld(t.Context())) // as after a repair
	if got := immutable(t, dir); len(got) != 2 {
		t.Errorf("%d volumes are immutable", len(got))
	}
	must(t, st.Release(t.Context(), one.ID))
	if got := immutable(t, dir); len(got) != 0 {
		t.Errorf("%d volumes are immutable after the release", len(got))
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
	if got := immutable(t, dir); len(got) != 0 {
		t.Errorf("%d open volumes are immutable", len(got))
	}
	more, two := putAll(t, st, "d", "two", blobs(2, 10, 300_000))
	want := volumesOf(t, st, append(ids, one.ID)...)
	closeStore(t, st)
	if got := immutable(t, dir); len(got) != len(want) || !got[first(want)] {
		t.Errorf("%d volumes are immutable, want %d", len(got), len(want))
	}
	st = openStore(t, dir)
	defer closeStore(t, st)
	checkAll(t, st, append(ids, more...), append(blobs(1, 10, 300_000), blobs(2, 10, 300_000)...))
	if state, err := st.State(t.Context()); err != nil || state.Snapshots[1].ID != two.ID {
		t.Errorf("state %+v %v", state, err)
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
