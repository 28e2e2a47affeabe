package store

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"snapfs/store/volume"
)

// repairOnce verifies with repair and returns what is left, and what was said.
func repairOnce(t testing.TB, st *Store) (left int64, findings []Finding) {
	t.Helper()
	sum, findings := verified(t, st.session, VerifyOptions{Data: true, Repair: true})
	for _, f := range findings {
		t.Log(f.Problem, f.Text, f.Healed)
	}
	return sum.Findings - sum.Healed, findings
}

// wantNotes makes sure that nothing but notes is found, with these words each.
func wantNotes(t testing.TB, st *Store, words ...string) {
	t.Helper()
	sum, findings := verified(t, st.session, VerifyOptions{Data: true})
	if sum.Findings != sum.Healed {
		t.Errorf("%d findings, %d healed", sum.Findings, sum.Healed)
	}
	for _, f := range findings {
		if !strings.Contains(f.Text, "acknowledged on ") {
			t.Errorf("found %+v", f)
		}
	}
	for _, w := range words {
		if !slices.ContainsFunc(findings, func(f Finding) bool { return strings.Contains(f.Text, w) }) {
			t.Errorf("nothing says %q: %+v", w, findings)
		}
	}
}

// mergedStore is a store that was copied, used in both places and put together again.
func mergedStore(t *testing.T) string {
	dir, _, _ := chainStore(t, false)
	other := copyStore(t, dir)
	for i, d := range []string{dir, other} {
		st := openStore(t, d)
		putAll(t, st, "d", "after"+string(rune('a'+i)), blobs(uint64(50+i), 20))
		closeStore(t, st)
	}
	disk, err := onDisk(volumesDir(other))
	must(t, err)
	for id := range disk {
		if _, err := os.Stat(volumePath(dir, id)); err == nil {
			continue
		}
		data, err := os.ReadFile(volumePath(other, id))
		must(t, err)
		must(t, os.WriteFile(volumePath(dir, id), data, 0o600))
	}
	return dir
}

// TestWhatIsLostOfTheChainIsAcknowledged: told once with a failure, then mentioned for ever, also with a new index and after
// compactions, which go on.
func TestWhatIsLostOfTheChainIsAcknowledged(t *testing.T) {
	lose := func(compacted bool, which int, how func(t *testing.T, path string)) func(*testing.T) string {
		return func(t *testing.T) string {
			dir, journals, _ := chainStore(t, compacted)
			how(t, volumePath(dir, journals[which]))
			must(t, os.RemoveAll(filepath.Join(dir, indexName)))
			return dir
		}
	}
	remove := func(t *testing.T, path string) { must(t, os.Remove(path)) }
	harm := func(t *testing.T, path string) {
		data, err := os.ReadFile(path)
		must(t, err)
		for i := leastVolume; i < len(data)-leastVolume-volume.TrailerSize; i++ {
			data[i] ^= 0xff // the parity as well
		}
		must(t, os.WriteFile(path, data, 0o600))
	}
	for _, c := range []struct {
		name  string
		store func(t *testing.T) string
		words string
	}{
		{"a journal and the index", lose(false, 5, remove), "missing"},
		{"the first journal and the index", lose(false, 0, remove), "missing"},
		{"a journal behind the checkpoint and the index", lose(true, 6, remove), "missing"},
		{"the journal with the checkpoint and the index", lose(true, 3, remove), "missing"},
		{"a journal harmed beyond its parity and the index", lose(false, 5, harm), "cannot be read"},
		{"two histories", mergedStore, "facts with number"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := c.store(t)
			st := openStore(t, dir)
			if sum, _ := verified(t, st.session, VerifyOptions{}); sum.Findings == sum.Healed {
				t.Fatal("nothing is found")
			}
			if left, _ := repairOnce(t, st); left == 0 {
				t.Error("the loss was not told")
			}
			want := lasting(t, st)
			wantNotes(t, st, c.words)
			if left, _ := repairOnce(t, st); left != 0 {
				t.Error("acknowledged, and told again as damage")
			}
			st = reindex(t, st, func() *Store { return openStore(t, dir) })
			checkLasting(t, "with a new index", st, want)
			wantNotes(t, st, c.words)
			for range 3 { // the journal is compacted again
				putAll(t, st, "d", "more", blobs(uint64(time.Now().UnixNano()), 20))
				if report := compact(t, st); !report.Written {
					t.Error("not compacted")
				}
			}
			want = lasting(t, st)
			st = reindex(t, st, func() *Store { return openStore(t, dir) })
			checkLasting(t, "compacted", st, want)
			wantNotes(t, st, c.words)
			closeStore(t, st)
		})
	}
}

// TestAcknowledgedFactsComeBack: a journal is put back as it was after what it lost was acknowledged, and all it says counts.
func TestAcknowledgedFactsComeBack(t *testing.T) {
	dir, journals, _ := chainStore(t, false)
	path := volumePath(dir, journals[5])
	data, err := os.ReadFile(path)
	must(t, err)
	changeFile(t, path, func(b []byte) []byte {
		b[leastVolume+200] ^= 1 // the frame of the commit
		return wipe(b, layoutOf(t, data).parity...)
	})
	must(t, os.RemoveAll(filepath.Join(dir, indexName)))
	st := openStore(t, dir)
	if left, _ := repairOnce(t, st); left == 0 || len(lasting(t, st).Snapshots) != 7 {
		t.Error("the loss was not told")
	}
	closeStore(t, st)
	must(t, os.WriteFile(path, data, 0o600))
	st = openStore(t, dir)
	for range 2 {
		repairOnce(t, st)
		if n := len(lasting(t, st).Snapshots); n != 8 {
			t.Errorf("%d snapshots", n)
		}
		wantNotes(t, st)
		st = reindex(t, st, func() *Store { return openStore(t, dir) })
	}
	closeStore(t, st)
}

// TestAcknowledgedByAdminsOnly: in an append-only store; and a later loss is told anew.
func TestAcknowledgedByAdminsOnly(t *testing.T) {
	dir := newAppendOnly(t)
	var journals []volume.ID
	for i := range 8 {
		st := openStore(t, dir)
		putAll(t, st, "d", string(rune('a'+i)), blobs(uint64(i), 20))
		journals = append(journals, engineOf(st).journal.id)
		closeStore(t, st)
	}
	for _, lost := range []int{2, 5} {
		must(t, os.Remove(volumePath(dir, journals[lost])))
		must(t, os.RemoveAll(filepath.Join(dir, indexName)))
		st := openStore(t, dir)
		for range 2 {
			if left, findings := repairOnce(t, st); left == 0 || !slices.ContainsFunc(findings, func(f Finding) bool {
				return strings.Contains(f.Text, "an admin")
			}) {
				t.Errorf("journal %d: acknowledged without admin rights: %+v", lost, findings)
			}
		}
		must(t, st.UnlockAdmin(t.Context(), unlockAdminTest))
		if left, _ := repairOnce(t, st); left == 0 {
			t.Errorf("journal %d: the loss was not told", lost)
		}
		wantNotes(t, st, "missing")
		closeStore(t, st)
		if lost == 2 { // what comes next must lie behind the checkpoint to be missed
			journals = nil
			for i := range 8 {
				st := openStore(t, dir)
				putAll(t, st, "d", string(rune('k'+i)), blobs(uint64(20+i), 20))
				journals = append(journals, engineOf(st).journal.id)
				closeStore(t, st)
			}
		}
	}
}

// TestUnknownHeadIsNeverAcknowledged: whoever asks for a head is told, each time.
func TestUnknownHeadIsNeverAcknowledged(t *testing.T) {
	dir, journals, heads := chainStore(t, false)
	must(t, os.Remove(volumePath(dir, journals[7])))
	must(t, os.RemoveAll(filepath.Join(dir, indexName)))
	st := openStore(t, dir)
	defer closeStore(t, st)
	for range 2 {
		if sum, _ := verified(t, st.session, VerifyOptions{Repair: true, Data: true, Head: heads[7]}); sum.Findings-sum.Healed != 1 {
			t.Errorf("%+v", sum)
		}
	}
	wantNotes(t, st)
}

// TestHarmedJournalLeaves: what the index knows of a journal beyond repair is written anew, and the file goes.
func TestHarmedJournalLeaves(t *testing.T) {
	for compacted, which := range map[bool]int{false: 5, true: 1} { // behind the checkpoint, and before
		for _, part := range []string{"facts", "parity", "all but the labels", "end"} {
			dir, journals, heads := chainStore(t, compacted)
			st := openStore(t, dir)
			want := lasting(t, st)
			closeStore(t, st)
			path := volumePath(dir, journals[which])
			data, err := os.ReadFile(path)
			must(t, err)
			from, to := leastVolume, len(data)-leastVolume-volume.TrailerSize
			switch part {
			case "facts":
				for i := from; i < to; i += 512 {
					data[i+100] ^= 0xff
				}
			case "parity":
				for i := (from + to) / 2; i < to; i++ {
					data[i] ^= 0xff
				}
			case "all but the labels":
				for i := from; i < to; i++ {
					data[i] ^= 0xff
				}
			case "end":
				data = data[:from+300]
			}
			must(t, os.WriteFile(path, data, 0o600))
			st = openStore(t, dir)
			if left, _ := repairOnce(t, st); left != 0 {
				t.Errorf("compacted %v, journal %d, %s: %d findings are left", compacted, which, part, left)
			}
			checkLasting(t, "repaired", st, want)
			wantClean(t, st.session, VerifyOptions{Data: true})
			st = reindex(t, st, func() *Store { return openStore(t, dir) })
			checkLasting(t, "with a new index", st, want)
			wantClean(t, st.session, VerifyOptions{Data: true})
			checkHead(t, st, heads[which-1], "a head from before")
			closeStore(t, st)
		}
	}
}
