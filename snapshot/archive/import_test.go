package archive

import (
	"bytes"
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"snapfs/snapshot"
	"snapfs/store"
	"snapfs/store/seal"
)

func (w *world) openStore(dir string, like *seal.Bundle) *store.Store {
	w.t.Helper()
	key := bytes.Repeat([]byte{1}, 32)
	if _, err := store.KeySlots(dir); err != nil {
		must(w.t, store.Init(w.t.Context(), dir, store.InitOptions{Slots: []seal.NewSlot{{KeyFile: key}}, Like: like, ChunkAverage: 64 << 10}))
	}
	st, err := store.Open(w.t.Context(), dir, store.Options{
		Unlock: func(context.Context, []seal.Info) (seal.Secret, error) { return seal.Secret{KeyFile: key}, nil }, References: snapshot.References,
	})
	must(w.t, err)
	return st
}

// imports takes all over into a store and compares what it holds.
func (w *world) imports(st *store.Store, b *Bare, want ImportResult) {
	w.t.Helper()
	ctx := w.t.Context()
	r, err := Import(ctx, st, b, ImportOptions{})
	must(w.t, err)
	if r.Snapshots != want.Snapshots || r.There != want.There || r.Anew != want.Anew || r.Damaged != want.Damaged {
		w.t.Errorf("%+v, want %+v", *r, want)
	}
	for _, s := range w.snapshots {
		target, err := snapshot.Resolve(ctx, st, s.ID.String(), time.Now(), time.UTC)
		must(w.t, err)
		if (target.ID == s.ID) == want.Anew || target.Dataset != s.Dataset || target.Name != s.Name {
			w.t.Errorf("%+v became %+v", s, target)
		}
		tree, err := snapshot.OpenTree(ctx, st, st.PageKey(), target.ID, nil)
		must(w.t, err)
		if m := tree.Manifest(); want.Anew && (m.OriginSnapshot != s.ID || m.OriginStore != b.OriginStore()) {
			w.t.Errorf("origin %s of %s", m.OriginSnapshot, m.OriginStore)
		}
		for path, data := range w.content[s.ID] {
			f, err := tree.Walk(ctx, path)
			must(w.t, err)
			got := make([]byte, len(data))
			if len(data) > 0 {
				_, err = tree.ReadAt(ctx, f.Entry, got, 0)
			}
			if err != nil || !bytes.Equal(got, data) {
				w.t.Errorf("%s: %v", path, err)
			}
		}
	}
	sum, err := st.Verify(ctx, store.VerifyOptions{Data: true}, func(e store.VerifyEvent) error { return nil })
	must(w.t, err)
	if sum.Findings != 0 {
		w.t.Errorf("the store is not whole: %+v", sum)
	}
}

func TestImport(t *testing.T) {
	w := newWorld(t)
	dir, _ := chained(t, w, 700_000)
	for _, anew := range []bool{false, true} {
		b, err := Open(t.Context(), []string{dir}, w.options(""))
		must(t, err)
		like := b.Keys()
		if anew {
			like = nil
		}
		at := filepath.Join(t.TempDir(), "store")
		st := w.openStore(at, like)
		w.imports(st, b, ImportResult{Snapshots: 3, Anew: anew})
		must(t, st.Close())
		st = w.openStore(at, like)
		w.imports(st, b, ImportResult{There: 3, Anew: anew})
		must(t, st.Close())
		must(t, b.Close())
	}
}

// TestImportBringsForgottenBack: a snapshot that the store has forgotten and not pruned is there again when it was imported.
func TestImportBringsForgottenBack(t *testing.T) {
	w := newWorld(t)
	dir, _ := chained(t, w, 700_000)
	b, err := Open(t.Context(), []string{dir}, w.options(""))
	must(t, err)
	defer b.Close()
	for _, anew := range []bool{false, true} {
		like := b.Keys()
		if anew {
			like = nil
		}
		st := w.openStore(filepath.Join(t.TempDir(), "store"), like)
		w.imports(st, b, ImportResult{Snapshots: 3, Anew: anew})
		state, err := st.State(t.Context())
		must(t, err)
		must(t, st.Forget(t.Context(), []store.ID{state.Snapshots[0].ID, state.Snapshots[2].ID}))
		w.imports(st, b, ImportResult{Snapshots: 2, There: 1, Anew: anew})
		must(t, st.Close())
	}
}

// TestImportOfTakenName: a store with the same keys has gone on by itself and has another snapshot of that name, forgotten or not. Both stay to be
// told apart.
func TestImportOfTakenName(t *testing.T) {
	w := newWorld(t)
	dir, _ := chained(t, w, 700_000)
	last := w.snapshots[2]
	for _, forgotten := range []bool{false, true} {
		b, err := Open(t.Context(), []string{dir}, w.options(""))
		must(t, err)
		st := w.openStore(filepath.Join(t.TempDir(), "store"), b.Keys())
		writer := st.NewWriter()
		own, err := snapshot.WriteManifest(t.Context(), writer, &snapshot.Manifest{
			Dataset: last.Dataset, Name: last.Name, Host: "h", Paths: []string{"/src"}, Start: last.Start, End: last.Start, Single: true,
			Root: snapshot.Entry{Type: snapshot.TypeDir, Mode: 0o755}, Found: snapshot.FoundByScan,
		})
		must(t, err)
		must(t, writer.Flush(t.Context()))
		_, err = st.Commit(t.Context(), store.Commit{Dataset: last.Dataset, Snapshot: own, Name: last.Name, Start: last.Start})
		must(t, err)
		if forgotten {
			must(t, st.Forget(t.Context(), []store.ID{own}))
		}
		for range 2 {
			_, err := Import(t.Context(), st, b, ImportOptions{})
			must(t, err)
		}
		state, err := st.State(t.Context())
		must(t, err)
		names := map[string]store.ID{}
		for _, s := range state.Snapshots {
			if _, twice := names[s.Name]; twice {
				t.Errorf("two snapshots are called %s", s.Name)
			}
			names[s.Name] = s.ID
		}
		target, err := snapshot.Resolve(t.Context(), st, last.ID.String(), time.Now(), time.UTC)
		must(t, err)
		tree, err := snapshot.OpenTree(t.Context(), st, st.PageKey(), target.ID, nil)
		must(t, err)
		if m := tree.Manifest(); m.Name != last.Name+"-2" || m.OriginSnapshot != last.ID || len(state.Snapshots) != 4 {
			t.Errorf("%s of %s, %d snapshots", m.Name, m.OriginSnapshot, len(state.Snapshots))
		}
		for path := range w.content[last.ID] {
			_, err := tree.Walk(t.Context(), path)
			must(t, err)
		}
		must(t, st.Close())
		must(t, b.Close())
	}
}

func TestImportThroughPipe(t *testing.T) {
	w := newWorld(t)
	_, sets := chained(t, w, 700_000)
	b, err := w.openPipe("", pipe(t, sets...), func(o *OpenOptions) { o.All, o.Scratch = true, t.TempDir() })
	must(t, err)
	defer b.Close()
	st := w.openStore(filepath.Join(t.TempDir(), "store"), b.Keys())
	defer st.Close()
	w.imports(st, b, ImportResult{Snapshots: 3})
}

func TestImportWithoutParents(t *testing.T) {
	w := newWorld(t)
	_, sets := chained(t, w, 0)
	for _, anew := range []bool{false, true} {
		b, err := Open(t.Context(), append(sets[2].volumes, sets[1].volumes...), w.options(""))
		must(t, err)
		like := b.Keys()
		if anew {
			like = nil
		}
		st := w.openStore(filepath.Join(t.TempDir(), "store"), like)
		r, err := Import(t.Context(), st, b, ImportOptions{})
		if err != nil || r.Snapshots != 0 || r.Damaged != 3 {
			t.Errorf("%+v, %v", r, err)
		}
		must(t, st.Close())
		must(t, b.Close())
	}
}

// TestImportNames: names that no backup gives are refused before anything is written, and a number that is given for a name in use leaves a name.
func TestImportNames(t *testing.T) {
	for _, c := range []struct{ dataset, name string }{{"../evil", ""}, {"latest", ""}, {"data", "../../x"}, {"data", "2026-01-01_00-00-00/x"}} {
		w := newWorld(t)
		dir := t.TempDir()
		w.snapshot("data", someFiles(1, 3))
		bad := w.snapshot(c.dataset, someFiles(2, 3))
		if c.name != "" {
			bad.Name = c.name
		}
		w.write(dir, []HeadSnapshot{w.snapshots[0], bad}, setOptions{name: "hostile"})
		b, err := Open(t.Context(), []string{dir}, w.options(""))
		must(t, err)
		st := w.openStore(filepath.Join(t.TempDir(), "store"), b.Keys())
		if r, err := Import(t.Context(), st, b, ImportOptions{}); err == nil {
			t.Errorf("%q %q: %+v", c.dataset, c.name, r)
		}
		state, err := st.State(t.Context())
		if must(t, err); len(state.Snapshots) != 0 {
			t.Errorf("%q %q: %+v", c.dataset, c.name, state.Snapshots)
		}
		must(t, st.Close())
		must(t, b.Close())
	}
	i := &importer{named: []store.Snapshot{{ID: store.ID{1}, Dataset: "data", Name: "2026-01-01_00-00-00-2"}}}
	other := i.named[0]
	other.ID = store.ID{2}
	if name := i.freeName(other); !snapshot.IsSnapshotName(name) || name == other.Name {
		t.Error(name)
	}
	one := store.Snapshot{ID: store.ID{1}, Dataset: "data", Name: "2026-01-01_00-00-01"}
	for origin, same := range map[store.ID]bool{one.ID: true, other.ID: false} {
		hidden := one
		hidden.ID, hidden.Summary = store.ID{3}, (&snapshot.Summary{OriginSnapshot: origin}).Encode()
		i = &importer{named: []store.Snapshot{hidden}} // forgotten, and perhaps wanted again
		if name := i.freeName(one); (name == one.Name) != same {
			t.Errorf("%s beside a forgotten snapshot, the same: %t", name, same)
		}
	}
}

// TestImportCutsAnew: into a store with other keys content is cut as a backup into that store cuts it, not where the origin did.
func TestImportCutsAnew(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	data := noise(1, 3_000_000)
	s := w.snapshot("data", map[string][]byte{"dir/file": data})
	w.write(dir, []HeadSnapshot{s}, setOptions{name: "full"})
	b, err := Open(t.Context(), []string{dir}, w.options(""))
	must(t, err)
	defer b.Close()
	st := w.openStore(filepath.Join(t.TempDir(), "store"), nil)
	defer st.Close()
	w.imports(st, b, ImportResult{Snapshots: 1, Anew: true})
	target, err := snapshot.Resolve(t.Context(), st, s.ID.String(), time.Now(), time.UTC)
	must(t, err)
	tree, err := snapshot.OpenTree(t.Context(), st, st.PageKey(), target.ID, nil)
	must(t, err)
	f, err := tree.Walk(t.Context(), "dir/file")
	must(t, err)
	var got, want []snapshot.Item
	must(t, tree.Items(t.Context(), f.Entry, 0, func(_ int64, it snapshot.Item) bool { got = append(got, it); return true }))
	cut := st.Cutter()
	for rest := data; len(rest) > 0; {
		n := cut.Cut(rest[:min(len(rest), cut.Params().Max)])
		want = append(want, snapshot.Item{ID: st.BlobID(store.KindChunk, rest[:n]), Length: int64(n)})
		rest = rest[n:]
	}
	if !slices.Equal(got, want) || len(want) < 10 {
		t.Errorf("%d chunks, a backup gives %d", len(got), len(want))
	}
}
