package store

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"snapfs/store/volume"
)

// mixedStore is a store with several volumes of each kind, and what they are.
func mixedStore(t testing.TB) (dir string, kinds map[volume.Kind][]volume.ID, ids []ID, data [][]byte, whole map[string][]byte) {
	t.Helper()
	dir, kinds = newStore(t), map[volume.Kind][]volume.ID{}
	for i := range 3 {
		st := openStore(t, dir)
		part := blobs(uint64(i), 100, 5000, 150_000+i*1000)
		more, _ := putAll(t, st, "d", "n"+string(rune('a'+i)), part)
		ids, data = append(ids, more...), append(data, part...)
		closeStore(t, st)
	}
	disk, err := onDisk(volumesDir(dir))
	must(t, err)
	for id, size := range disk {
		label, err := labelOf(volumePath(dir, id), size)
		must(t, err)
		kinds[label.Kind] = append(kinds[label.Kind], id)
	}
	for _, list := range kinds {
		slices.SortFunc(list, func(a, b volume.ID) int { return compareBytes(a[:], b[:]) })
	}
	return dir, kinds, ids, data, readVolumes(t, dir)
}

// TestExchangedNames: volumes that have each other's names, in pairs and rings, get their own again; with the index and without.
func TestExchangedNames(t *testing.T) {
	for name, ring := range map[string]func(k map[volume.Kind][]volume.ID) []volume.ID{
		"two of data":     func(k map[volume.Kind][]volume.ID) []volume.ID { return k[volume.Data][:2] },
		"two of metadata": func(k map[volume.Kind][]volume.ID) []volume.ID { return k[volume.Metadata][:2] },
		"two journals":    func(k map[volume.Kind][]volume.ID) []volume.ID { return k[volume.Journal][:2] },
		"three of each kind": func(k map[volume.Kind][]volume.ID) []volume.ID {
			return []volume.ID{k[volume.Data][0], k[volume.Journal][1], k[volume.Metadata][2]}
		},
		"all": func(k map[volume.Kind][]volume.ID) []volume.ID {
			return slices.Concat(k[volume.Data], k[volume.Journal], k[volume.Metadata])
		},
	} {
		for _, index := range []bool{true, false} {
			if !index && !strings.Contains(name, "two journals") && name != "all" {
				continue
			}
			t.Run(name, func(t *testing.T) {
				dir, kinds, ids, data, whole := mixedStore(t)
				list := ring(kinds)
				for i, id := range list {
					must(t, os.Rename(volumePath(dir, id), filepath.Join(volumesDir(dir), "x"+list[(i+1)%len(list)].String())))
				}
				for _, id := range list {
					must(t, os.Rename(filepath.Join(volumesDir(dir), "x"+id.String()), volumePath(dir, id)))
				}
				if !index {
					must(t, os.RemoveAll(filepath.Join(dir, indexName)))
				}
				st := openStore(t, dir)
				if sum, findings := verified(t, st.session, VerifyOptions{}); sum.Findings == sum.Healed ||
					!slices.ContainsFunc(findings, func(f Finding) bool { return strings.Contains(f.Text, "is that volume") }) {
					t.Errorf("before: %+v", findings)
				}
				if left, _ := repairOnce(t, st); left != 0 {
					t.Errorf("%d findings are left", left)
				}
				checkAll(t, st, ids, data)
				wantClean(t, st.session, VerifyOptions{Data: true})
				if n := len(lasting(t, st).Snapshots); n != 3 {
					t.Errorf("%d snapshots", n)
				}
				st = reindex(t, st, func() *Store { return openStore(t, dir) })
				wantClean(t, st.session, VerifyOptions{Data: true})
				closeStore(t, st)
				for path, want := range whole { // other journals come as facts are written; these stay
					if got, err := os.ReadFile(path); err != nil || string(got) != string(want) {
						t.Errorf("volume %s is not what it was: %v", filepath.Base(path), err)
					}
				}
			})
		}
	}
}

// TestRenamedJournal: journals are named by no fact, so only the file itself tells.
func TestRenamedJournal(t *testing.T) {
	for _, index := range []bool{true, false} {
		dir, kinds, _, _, _ := mixedStore(t)
		lost := kinds[volume.Journal][1]
		must(t, os.Rename(volumePath(dir, lost), filepath.Join(volumesDir(dir), "lost+found")))
		if !index {
			must(t, os.RemoveAll(filepath.Join(dir, indexName)))
		}
		st := openStore(t, dir)
		if left, _ := repairOnce(t, st); left != 0 {
			t.Errorf("index %v: %d findings are left", index, left)
		}
		wantClean(t, st.session, VerifyOptions{Data: true})
		if n := len(lasting(t, st).Snapshots); n != 3 {
			t.Errorf("index %v: %d snapshots", index, n)
		}
		closeStore(t, st)
	}
}

// flaggedFiles keep the immutable flags of files in memory, whatever names the files have, and need neither root nor a file system with
// flags.
type flaggedFiles struct {
	Files
	set map[uint64]bool // by inode
}

func (f *flaggedFiles) SetImmutable(path string, on bool) (was bool, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return false, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	was = f.set[st.Ino]
	f.set[st.Ino] = on
	return was, nil
}

// TestExchangedNamesFailingOperations fails the k-th operation: all volumes are there under some name, the flag that guards one of them stays
// with it, and the next repair goes on.
func TestExchangedNamesFailingOperations(t *testing.T) {
	for k := 0; ; k++ {
		dir, kinds, ids, data, whole := mixedStore(t)
		a, b := volumePath(dir, kinds[volume.Data][0]), volumePath(dir, kinds[volume.Journal][0])
		must(t, os.Rename(a, a+"x"))
		must(t, os.Rename(b, a))
		must(t, os.Rename(a+"x", b))
		own, err := filesFor(dir)
		must(t, err)
		flags := &flaggedFiles{own, map[uint64]bool{}}
		_, err = flags.SetImmutable(a, true)
		must(t, err)
		before := maps.Clone(flags.set)
		files := &faultyFiles{Files: flags, err: errInjected, left: k}
		st, err := Open(t.Context(), dir, Options{Unlock: unlockTest, Files: files, References: testReferences})
		must(t, err)
		_, err = st.Verify(t.Context(), VerifyOptions{Data: true, Repair: true}, func(VerifyEvent) error { return nil })
		if err != nil && !errors.Is(err, errInjected) {
			t.Errorf("fault %d: %v", k, err)
		}
		_ = st.Close()
		maps.DeleteFunc(flags.set, func(_ uint64, on bool) bool { return !on })
		if !maps.Equal(flags.set, before) {
			t.Errorf("fault %d: another file is guarded: inodes %v, before %v", k, flags.set, before)
		}
		st = openStore(t, dir)
		if left, _ := repairOnce(t, st); left != 0 {
			t.Errorf("fault %d: %d findings are left", k, left)
		}
		checkAll(t, st, ids, data)
		wantClean(t, st.session, VerifyOptions{Data: true})
		closeStore(t, st)
		for path, want := range whole {
			if got, err := os.ReadFile(path); err != nil || string(got) != string(want) {
				t.Errorf("fault %d: volume %s is not what it was: %v", k, filepath.Base(path), err)
			}
		}
		if !files.hit {
			t.Logf("%d operations failed", k)
			return
		}
	}
}
