package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"snapfs/store/volume"
)

// rebuildLoses rebuilds and returns what was said to be lost.
func rebuildLoses(t *testing.T, st *Store) *LossError {
	t.Helper()
	var loss *LossError
	if err := st.Rebuild(t.Context(), nil); !errors.As(err, &loss) {
		t.Fatalf("rebuild: %v", err)
	}
	t.Log(loss)
	return loss
}

// lossIDs are the volumes of a loss.
func lossIDs(loss *LossError) (ids []volume.ID) {
	for _, v := range loss.Volumes {
		ids = append(ids, v.ID)
	}
	return ids
}

// TestRebuildTellsWhatIsLost: journals are gone, and with the old index all that knew of some snapshots.
func TestRebuildTellsWhatIsLost(t *testing.T) {
	dir := newStore(t)
	var journals []volume.ID
	var snaps []Snapshot
	for i, name := range []string{"one", "two", "three"} {
		st := openStore(t, dir)
		_, snap := putAll(t, st, "d", name, blobs(uint64(i), 20))
		snaps, journals = append(snaps, snap), append(journals, engineOf(st).journal.id)
		closeStore(t, st)
	}
	st := openStore(t, dir)
	must(t, st.Hold(t.Context(), snaps[0].ID, time.Time{}))
	must(t, st.Hold(t.Context(), snaps[2].ID, time.Now().Add(time.Hour)))
	must(t, st.Rebuild(t.Context(), nil))
	closeStore(t, st)
	unguardAll(dir)
	disk, err := onDisk(volumesDir(dir))
	must(t, err)
	aside := t.TempDir()
	var gone []volume.ID
	for id := range disk {
		if label, err := labelOf(volumePath(dir, id), disk[id]); err == nil && label.Kind == volume.Journal && id != journals[0] {
			must(t, os.Rename(volumePath(dir, id), filepath.Join(aside, id.String())))
			gone = append(gone, id)
		}
	}

	st = openStore(t, dir)
	loss := rebuildLoses(t, st)
	if len(loss.Snapshots) != 2 || loss.Snapshots[0].Name != "three" || loss.Snapshots[1].Name != "two" {
		t.Errorf("snapshots %+v", loss.Snapshots)
	}
	if len(loss.Holds) != 1 || loss.Holds[0].Name != "one" {
		t.Errorf("holds %+v", loss.Holds)
	}
	slices.SortFunc(gone, func(a, b volume.ID) int { return compareBytes(a[:], b[:]) })
	if !slices.Equal(lossIDs(loss), gone) {
		t.Errorf("volumes %v, want %v", loss.Volumes, gone)
	}
	must(t, st.Rebuild(t.Context(), nil)) // told once: nothing knows any more
	closeStore(t, st)

	copyVolumes(t, aside, volumesDir(dir))
	st = openStore(t, dir)
	defer closeStore(t, st)
	state, err := st.State(t.Context())
	must(t, err)
	if len(state.Snapshots) != 3 || !state.Held(state.Snapshots[2], time.Now()) {
		t.Errorf("with the journals back: %+v", state.Snapshots)
	}
}

// TestRebuildTellsOfMissingVolumes: those that facts name.
func TestRebuildTellsOfMissingVolumes(t *testing.T) {
	dir := newStore(t)
	st := openStore(t, dir)
	ids, _ := putAll(t, st, "d", "one", blobs(1, 300_000))
	id := first(volumesOf(t, st, ids...))
	closeStore(t, st)
	must(t, os.Remove(volumePath(dir, id)))
	st = openStore(t, dir)
	defer closeStore(t, st)
	for range 2 {
		loss := rebuildLoses(t, st)
		if len(loss.Snapshots)+len(loss.Holds) > 0 || !slices.Equal(lossIDs(loss), []volume.ID{id}) {
			t.Errorf("%+v", loss)
		}
	}
}
