package store

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"snapfs/store/volume"
)

// orderedFiles note which files are on stable storage, name and content, and which have the flag. Whenever the flag of a volume is cleared,
// or a file with it removed, they look whether its kind has successors made since, all of them synced and with the flag.
type orderedFiles struct {
	Files
	t *testing.T

	mu      sync.Mutex
	dirty   map[string]bool // written and not synced
	unnamed map[string]bool // made, and the directory not synced since
	flagged map[string]bool
	made    []string
	kinds   map[volume.Kind]int // cleared, by kind
	what    string              // that is done
	before  func(path string)   // a flag is cleared; nil: successors
}

func newOrderedFiles(t *testing.T, dir string) *orderedFiles {
	own, err := filesFor(dir)
	must(t, err)
	f := &orderedFiles{Files: own, t: t, dirty: map[string]bool{}, unnamed: map[string]bool{}, flagged: map[string]bool{}, kinds: map[volume.Kind]int{}}
	for id := range immutable(t, dir) {
		f.flagged[volumePath(dir, id)] = true
	}
	return f
}

func (f *orderedFiles) Create(path string, keepCached bool) (volume.File, error) {
	file, err := f.Files.Create(path, keepCached)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.made, f.dirty[path], f.unnamed[path] = append(f.made, path), true, true
	return &orderedFile{file, f, path}, nil
}

func (f *orderedFiles) SyncDir(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.unnamed)
	return f.Files.SyncDir(path)
}

func (f *orderedFiles) SetImmutable(path string, on bool) (was bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !on && f.flagged[path] {
		f.kinds[f.kind(path)]++
		if f.before != nil {
			f.before(path)
		} else {
			f.successors(path)
		}
	}
	was, err = f.Files.SetImmutable(path, on)
	if err == nil {
		f.flagged[path] = on
	}
	return was, err
}

func (f *orderedFiles) Remove(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.flagged[path] {
		f.t.Errorf("%s: %s is removed with its flag", f.what, filepath.Base(path))
	}
	return f.Files.Remove(path)
}

// successors looks at what takes the place of a volume that is about to go. Of the journals the last one is being written.
func (f *orderedFiles) successors(path string) {
	kind := f.kind(path)
	ready := 0
	for i, made := range f.made {
		if f.kind(made) != kind {
			continue
		}
		if !f.dirty[made] && !f.unnamed[made] && f.flagged[made] {
			ready++
		} else if kind != volume.Journal || i < len(f.made)-1 {
			f.t.Errorf("%s: the flag of %s is cleared while its successor is not synced (%v, its name %v) or has no flag (%v)", f.what,
				filepath.Base(path), f.dirty[made], f.unnamed[made], f.flagged[made])
		}
	}
	if ready == 0 {
		f.t.Errorf("%s: the flag of a %v volume is cleared and it has no successor", f.what, kind)
	}
}

func (f *orderedFiles) kind(path string) volume.Kind {
	info, err := os.Stat(path)
	if err != nil {
		return 0 // gone since
	}
	label, err := labelOf(path, info.Size())
	if err != nil {
		f.t.Error(err)
	}
	return label.Kind
}

type orderedFile struct {
	volume.File
	f    *orderedFiles
	path string
}

func (o *orderedFile) WriteAt(b []byte, off int64) (int, error) {
	o.f.mu.Lock()
	o.f.dirty[o.path] = true
	o.f.mu.Unlock()
	return o.File.WriteAt(b, off)
}

func (o *orderedFile) Sync() error {
	o.f.mu.Lock() // nothing is written meanwhile
	defer o.f.mu.Unlock()
	err := o.File.Sync()
	o.f.dirty[o.path] = o.f.dirty[o.path] && err != nil
	return err
}

// TestFlagsAreClearedLast: prune, upkeep and compaction clear the flag of a volume when what replaces it is synced and has the flag.
func TestFlagsAreClearedLast(t *testing.T) {
	needImmutable(t)
	for what, job := range map[string]func(t *testing.T, st *Store, held Snapshot) error{
		"upkeep": func(t *testing.T, st *Store, _ Snapshot) error {
			_, err := st.Upkeep(t.Context())
			return err
		},
		"prune": func(t *testing.T, st *Store, _ Snapshot) error {
			_, err := st.Prune(t.Context(), PruneOptions{}, nil)
			return err
		},
		"compaction": func(t *testing.T, st *Store, held Snapshot) error {
			for n := range 3 {
				must(t, st.Tag(t.Context(), held.ID, []string{fmt.Sprint(n)}, nil))
				compact(t, st)
			}
			return nil
		},
	} {
		t.Run(what, func(t *testing.T) {
			dir := newStore(t)
			data := blobs(1, 10, 300_000)
			st := openStore(t, dir)
			ids, held := putAll(t, st, "d", "held", data)
			_, gone := putAll(t, st, "d", "gone", blobs(2, 10, 900_000)) // in the same volumes
			if what == "upkeep" {
				crash(t, st)
			} else {
				closeStore(t, st)
			}
			st = openStore(t, dir)
			must(t, st.Hold(t.Context(), held.ID, time.Time{}))
			must(t, st.Forget(t.Context(), []ID{gone.ID}))
			closeStore(t, st)

			files := newOrderedFiles(t, dir)
			files.what = what
			st, err := Open(t.Context(), dir, Options{Unlock: unlockTest, References: testReferences, Files: files})
			must(t, err)
			must(t, job(t, st, held))
			for kind, want := range map[volume.Kind]bool{
				volume.Data: what != "compaction", volume.Metadata: what == "upkeep", volume.Journal: what == "compaction",
			} {
				if files.kinds[kind] == 0 && want {
					t.Errorf("no flag of a %v volume was cleared", kind)
				}
			}
			closeStore(t, st)
			checkSurvives(t, what, dir, held, ids, data)
		})
	}
}

// TestRepairsAreSyncedFirst: the flag of a damaged volume is cleared when its healed copy is synced.
func TestRepairsAreSyncedFirst(t *testing.T) {
	needImmutable(t)
	dir, _, ids, data := heldStore(t)
	st := openStore(t, dir)
	id := first(volumesOf(t, st, ids...))
	closeStore(t, st)
	_, err := setImmutable(volumePath(dir, id), false)
	must(t, err)
	flipByte(t, volumePath(dir, id), 5000)
	_, err = setImmutable(volumePath(dir, id), true)
	must(t, err)
	files := newOrderedFiles(t, dir)
	files.what = "repair"
	st, err = Open(t.Context(), dir, Options{Unlock: unlockTest, References: testReferences, Files: files})
	must(t, err)
	defer func() { closeStore(t, st) }()
	repairing := filepath.Base(repairPath(dir, id))
	files.before = func(path string) {
		if len(files.made) != 1 || filepath.Base(files.made[0]) != repairing || files.dirty[files.made[0]] {
			t.Errorf("the flag of %s is cleared while %q, not synced %v, are its copies", filepath.Base(path), files.made, files.dirty)
		}
	}
	if sum, findings := verified(t, st.session, VerifyOptions{Data: true, Repair: true}); sum.Healed != 1 {
		t.Errorf("%+v", findings)
	}
	if !files.flagged[volumePath(dir, id)] || files.kinds[volume.Data] != 1 {
		t.Errorf("flags: %v, cleared %v", files.flagged, files.kinds)
	}
	checkAll(t, st, ids, data)
}
