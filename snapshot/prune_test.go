package snapshot_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"snapfs/snapshot"
	"snapfs/store"
)

// The size of TestPruneThousands, with SNAPFS_TEST_LONG and without.
const (
	thousandSnapshots, fewSnapshots = 1000, 20
	thousandDirs, fewDirs           = 1000, 50
	filesPerDir                     = 100
	dirsChanged                     = 20 // by each snapshot, five files each
)

// forest makes snapshots of a tree that changes a little every time.
type forest struct {
	t    *testing.T
	st   *store.Store
	w    *store.Writer
	rng  *rand.Rand
	next uint64
	dirs [][]snapshot.Entry
	root []snapshot.Entry
}

func (f *forest) file(name string) snapshot.Entry {
	f.next++
	data := binary.LittleEndian.AppendUint64([]byte("content "), f.next)
	id, err := f.w.Put(f.t.Context(), store.KindChunk, data)
	if err != nil {
		f.t.Fatal(err)
	}
	return snapshot.Entry{
		Name: name, Type: snapshot.TypeFile, Mode: 0o644, Size: int64(len(data)), Inode: f.next,
		Content: snapshot.Content{Items: []snapshot.Item{{ID: id, Length: int64(len(data))}}},
	}
}

func (f *forest) directory(entries []snapshot.Entry) (store.ID, snapshot.Totals) {
	w := snapshot.NewDirWriter(f.w, f.st.PageKey(), 0)
	for i := range entries {
		if err := w.Add(f.t.Context(), &entries[i]); err != nil {
			f.t.Fatal(err)
		}
	}
	id, totals, err := w.Finish(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return id, totals
}

func (f *forest) plant(dirs int) {
	for d := range dirs {
		var entries []snapshot.Entry
		for n := range filesPerDir {
			entries = append(entries, f.file(fmt.Sprintf("f%05d", n)))
		}
		f.dirs = append(f.dirs, entries)
		f.root = append(f.root, snapshot.Entry{Name: fmt.Sprintf("d%05d", d), Type: snapshot.TypeDir, Mode: 0o755})
		f.root[d].Dir, f.root[d].Totals = f.directory(entries)
	}
}

func (f *forest) change() {
	for range dirsChanged {
		d := f.rng.IntN(len(f.dirs))
		for range 5 {
			n := f.rng.IntN(filesPerDir)
			f.dirs[d][n] = f.file(f.dirs[d][n].Name)
		}
		f.root[d].Dir, f.root[d].Totals = f.directory(f.dirs[d])
	}
}

func (f *forest) commit(n int) store.Snapshot {
	m := &snapshot.Manifest{Dataset: "forest", Name: fmt.Sprint("s", n), Root: snapshot.Entry{Type: snapshot.TypeDir, Mode: 0o755}, Single: true}
	m.Root.Dir, m.Root.Totals = f.directory(f.root)
	m.Totals = m.Root.Totals
	id, err := snapshot.WriteManifest(f.t.Context(), f.w, m)
	if err == nil {
		err = f.w.Flush(f.t.Context())
	}
	if err != nil {
		f.t.Fatal(err)
	}
	s, err := f.st.Commit(f.t.Context(), store.Commit{Dataset: "forest", Snapshot: id, Name: m.Name, Start: time.Unix(int64(n), 0)})
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// TestPruneThousands makes very many snapshots of very many files, forgets nine in ten and prunes: what is left can be read.
func TestPruneThousands(t *testing.T) {
	snapshots, dirs := fewSnapshots, fewDirs
	if os.Getenv("SNAPFS_TEST_LONG") != "" {
		snapshots, dirs = thousandSnapshots, thousandDirs
	}
	dir := filepath.Join(t.TempDir(), "store")
	key := bytes.Repeat([]byte{3}, 32)
	if err := store.Init(t.Context(), dir, store.InitOptions{Slots: []store.NewKeySlot{{KeyFile: key}}}); err != nil {
		t.Fatal(err)
	}
	open := func() *store.Store {
		st, err := store.Open(t.Context(), dir, store.Options{References: snapshot.References,
			Unlock: func(context.Context, []store.KeySlot) (store.Secret, error) { return store.Secret{KeyFile: key}, nil }})
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	st := open()
	f := &forest{t: t, st: st, w: st.NewWriter(), rng: rand.New(rand.NewPCG(1, 2))}
	f.plant(dirs)
	var forget, keep []store.ID
	for n := range snapshots {
		f.change()
		if s := f.commit(n); n%10 == 0 {
			keep = append(keep, s.ID)
		} else {
			forget = append(forget, s.ID)
		}
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	st = open()
	defer st.Close()
	prune := func(what string, o store.PruneOptions) store.PruneResult {
		*f = forest{}
		debug.FreeOSMemory()
		resetPeak()
		before, begun := residentKiB("VmRSS"), time.Now()
		r, err := st.Prune(t.Context(), o, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d snapshots of %d files, %.2f s, memory %d MiB before and %d MiB at most; removed %d volumes, rewrote %d, freed %d of %d bytes",
			what, snapshots, dirs*filesPerDir, time.Since(begun).Seconds(), before>>10, residentKiB("VmHWM")>>10, len(r.Removed), len(r.Rewritten),
			r.BytesFreed, r.Bytes+r.BytesFreed)
		return r
	}
	prune("nothing forgotten, dry run", store.PruneOptions{DryRun: true, MaxWaste: store.DefaultMaxWaste})
	if err := st.Forget(t.Context(), forget); err != nil {
		t.Fatal(err)
	}
	if r := prune("nine in ten forgotten", store.PruneOptions{}); r.Purged != len(forget) {
		t.Errorf("%d purged of %d", r.Purged, len(forget))
	}
	for _, id := range []store.ID{keep[0], keep[len(keep)-1]} {
		tree, err := snapshot.OpenTree(t.Context(), st, st.PageKey(), id, nil)
		if err != nil {
			t.Fatal(err)
		}
		files := 0
		err = tree.List(t.Context(), tree.Root(), 0, func(d snapshot.Found) bool {
			if listErr := tree.List(t.Context(), d, 0, func(e snapshot.Found) bool {
				_, err := st.Get(t.Context(), store.KindChunk, e.Content.Items[0].ID)
				if err != nil {
					t.Error(err)
				}
				files++
				return err == nil
			}); listErr != nil {
				t.Error(listErr)
			}
			return !t.Failed()
		})
		if err != nil || files != dirs*filesPerDir {
			t.Fatalf("%d files, %v", files, err)
		}
	}
}

// resetPeak makes VmHWM count from now on.
func resetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

// residentKiB is a line of /proc/self/status.
func residentKiB(name string) (n int) {
	data, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			fmt.Sscan(rest, &n)
		}
	}
	return n
}
