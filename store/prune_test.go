package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"snapfs/store/volume"
)

// treeRow is a kind and an ID, as nodes and manifests of these tests hold them.
const treeRow = 1 + len(ID{})

// treeReferences are the References of nodes and manifests made by tree.
func treeReferences(kind Kind, data []byte, visit func(Kind, ID)) error {
	if kind != KindNode && kind != KindManifest {
		return nil
	}
	if len(data) == 0 || data[0] != 'T' {
		return errors.New("not a node")
	}
	for data = data[1:]; len(data) >= treeRow; data = data[treeRow:] {
		visit(Kind(data[0]), ID(data[1:]))
	}
	return nil
}

// openTrees opens a store whose snapshots can be walked.
func openTrees(t testing.TB, dir string, change ...func(*Options)) *Store {
	t.Helper()
	o := Options{Unlock: unlockTest, Job: "test", References: treeReferences}
	for _, c := range change {
		c(&o)
	}
	st, err := Open(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// tree is what a snapshot of these tests holds: file contents, in directories of several.
type tree struct {
	name  string
	files [][]byte
}

const filesPerNode = 10

// write stores a tree and commits it.
func (tr tree) write(t testing.TB, st *Store, dataset string) (Snapshot, error) {
	t.Helper()
	w := st.NewWriter()
	manifest := []byte("T")
	for files := range slices.Chunk(tr.files, filesPerNode) {
		node := []byte("T")
		for _, f := range files {
			id, err := w.Put(t.Context(), KindChunk, f)
			if err != nil {
				return Snapshot{}, err
			}
			node = append(append(node, byte(KindChunk)), id[:]...)
		}
		id, err := w.Put(t.Context(), KindNode, node)
		if err != nil {
			return Snapshot{}, err
		}
		manifest = append(append(manifest, byte(KindNode)), id[:]...)
	}
	id, err := w.Put(t.Context(), KindManifest, append(manifest, tr.name...))
	if err == nil {
		err = w.Flush(t.Context())
	}
	if err != nil {
		return Snapshot{}, err
	}
	return st.Commit(t.Context(), Commit{Dataset: dataset, Snapshot: id, Name: tr.name, Start: time.Unix(1e9, 0)})
}

func (tr tree) mustWrite(t testing.TB, st *Store) Snapshot {
	t.Helper()
	s, err := tr.write(t, st, "d")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// check reads a snapshot and compares it with the tree.
func (tr tree) check(t testing.TB, st *Store, s Snapshot) {
	t.Helper()
	if err := tr.compare(t, st, s.ID); err != nil {
		t.Errorf("%s: %v", tr.name, err)
	}
}

func (tr tree) compare(t testing.TB, st *Store, id ID) error {
	manifest, err := st.Get(t.Context(), KindManifest, id)
	if err != nil {
		return err
	}
	n := 0
	var inner error
	err = treeReferences(KindManifest, manifest, func(_ Kind, id ID) {
		node, err := st.Get(t.Context(), KindNode, id)
		if err != nil {
			inner = errors.Join(inner, err)
			return
		}
		_ = treeReferences(KindNode, node, func(_ Kind, id ID) {
			data, err := st.Get(t.Context(), KindChunk, id)
			if err == nil && !bytes.Equal(data, tr.files[n]) {
				err = fmt.Errorf("file %d differs", n)
			}
			inner = errors.Join(inner, err)
			n++
		})
	})
	if n != len(tr.files) && inner == nil {
		inner = fmt.Errorf("%d files of %d", n, len(tr.files))
	}
	return errors.Join(err, inner)
}

func forgetAll(t testing.TB, st *Store, list ...Snapshot) {
	t.Helper()
	fact := &forgetFact{kind: FactForget}
	for _, s := range list {
		fact.snaps = append(fact.snaps, forgotten{s.ID, s.Slot, s.DatasetNumber, s.Name})
	}
	if err := st.session.Append(t.Context(), []FactBody{fact}); err != nil {
		t.Fatal(err)
	}
}

func mustPrune(t testing.TB, st *Store, o PruneOptions) PruneResult {
	t.Helper()
	r, err := st.Prune(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// volumesSize is what the volumes of a store take, journals apart.
func volumesSize(t testing.TB, st *Store) (size, journals int64) {
	t.Helper()
	s, err := st.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s.Bytes - s.JournalBytes, s.JournalBytes
}

// randomTree has files of which many are those of other trees.
func randomTree(rng *rand.Rand, n int, pool uint64) tree {
	tr := tree{name: fmt.Sprintf("s%d", n)}
	for range 20 + rng.IntN(60) {
		sizes := []int{30, 700, 5000, 60_000, 200_000}
		tr.files = append(tr.files, blobs(rng.Uint64N(pool), sizes[rng.IntN(len(sizes))])[0])
	}
	return tr
}

// TestPruneModel makes and forgets snapshots at random: what is kept can be read, and with max-waste 0 the store is as
// small as one that only ever had that.
func TestPruneModel(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { pruneModel(t, seed) })
	}
}

func pruneModel(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	dir := newStore(t)
	st := openTrees(t, dir)
	kept := map[ID]tree{}
	snaps := map[ID]Snapshot{}
	for n := range 30 {
		if rng.IntN(3) == 0 {
			closeStore(t, st)
			st = openTrees(t, dir)
		}
		tr := randomTree(rng, n, 300)
		s := tr.mustWrite(t, st)
		kept[s.ID], snaps[s.ID] = tr, s
		for id := range kept {
			if rng.IntN(8) == 0 {
				forgetAll(t, st, snaps[id])
				delete(kept, id)
			}
		}
		if rng.IntN(4) == 0 {
			mustPrune(t, st, PruneOptions{MaxWaste: float64(rng.IntN(30))})
			for id, tr := range kept {
				tr.check(t, st, snaps[id])
			}
		}
	}
	closeStore(t, st)
	st = openTrees(t, dir)
	foreseen := mustPrune(t, st, PruneOptions{DryRun: true})
	done := mustPrune(t, st, PruneOptions{})
	if !slices.Equal(foreseen.Removed, done.Removed) || !slices.Equal(foreseen.Rewritten, done.Rewritten) {
		t.Errorf("foreseen %+v, done %+v", foreseen, done)
	}
	if foreseen.BytesFreed < done.BytesFreed {
		t.Errorf("%d bytes freed, at most %d foreseen", done.BytesFreed, foreseen.BytesFreed)
	}
	again := mustPrune(t, st, PruneOptions{})
	if len(again.Removed)+len(again.Rewritten) > 0 {
		t.Errorf("a second prune still did %+v", again)
	}
	for id, tr := range kept {
		tr.check(t, st, snaps[id])
	}
	size, _ := volumesSize(t, st)
	closeStore(t, st)

	other := openTrees(t, newStore(t))
	defer closeStore(t, other)
	for _, tr := range kept {
		tr.mustWrite(t, other)
	}
	want, _ := volumesSize(t, other)
	t.Logf("%d bytes, a fresh store has %d", size, want)
	if size > want+want/50+2<<20 {
		t.Errorf("%d bytes, a fresh store has %d", size, want)
	}
	st = openTrees(t, dir)
	must(t, st.Rebuild(t.Context(), nil))
	for id, tr := range kept {
		tr.check(t, st, snaps[id])
	}
	closeStore(t, st)
	checkVolumesKnown(t, dir)
}

// checkVolumesKnown: every file in volumes is one that the store uses.
func checkVolumesKnown(t *testing.T, dir string) {
	t.Helper()
	st := openTrees(t, dir)
	defer closeStore(t, st)
	e := engineOf(st)
	files, err := onDisk(volumesDir(dir))
	must(t, err)
	e.mu.Lock()
	defer e.mu.Unlock()
	for id := range files {
		if v := e.volumes.byID[id]; v == nil || v.dropped {
			t.Errorf("volume %s lies there and is not used", id)
		}
	}
}

func manyFiles(seed uint64, n, size int) tree {
	tr := tree{name: fmt.Sprintf("s%d", seed)}
	for i := range n {
		tr.files = append(tr.files, blobs(seed<<8|uint64(i), size)[0])
	}
	return tr
}

func TestPruneRemovesWhatIsForgotten(t *testing.T) {
	dir := newStore(t)
	st := openTrees(t, dir)
	a, b := manyFiles(1, 40, 50_000), manyFiles(2, 40, 50_000)
	one := a.mustWrite(t, st)
	closeStore(t, st)
	st = openTrees(t, dir)
	two := b.mustWrite(t, st)
	forgetAll(t, st, one)
	closeStore(t, st)
	st = openTrees(t, dir)
	defer closeStore(t, st)
	r := mustPrune(t, st, PruneOptions{MaxWaste: DefaultMaxWaste})
	if len(r.Removed) != 2 || r.BytesFreed < 2_000_000 || r.Purged != 1 {
		t.Errorf("%+v", r)
	}
	b.check(t, st, two)
	if err := a.compare(t, st, one.ID); err == nil {
		t.Error("what was forgotten and pruned can still be read")
	}
	state, err := st.State(t.Context())
	must(t, err)
	if len(state.Snapshots) != 1 {
		t.Errorf("snapshots %+v", state.Snapshots)
	}
	if err := st.Pin(t.Context(), one.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("pinned what is gone: %v", err)
	}
}

// TestPruneKeepsWhatSessionsHold: snapshots pinned, blobs a session was told of, and blobs it wrote.
func TestPruneKeepsWhatSessionsHold(t *testing.T) {
	dir := newStore(t)
	st := openTrees(t, dir)
	trees := []tree{manyFiles(1, 30, 50_000), manyFiles(2, 30, 50_000), manyFiles(3, 30, 50_000)}
	var snaps []Snapshot
	for _, tr := range trees {
		snaps = append(snaps, tr.mustWrite(t, st))
		closeStore(t, st)
		st = openTrees(t, dir)
	}
	defer func() { closeStore(t, st) }()
	other := openTrees(t, dir)
	must(t, other.Pin(t.Context(), snaps[0].ID))
	w := other.NewWriter()
	var ids []ID
	fresh := manyFiles(4, 10, 50_000)
	for _, f := range slices.Concat(trees[1].files[:15], fresh.files) {
		id, err := w.Put(t.Context(), KindChunk, f)
		must(t, err)
		ids = append(ids, id)
	}
	must(t, w.Flush(t.Context()))
	forgetAll(t, st, snaps...)
	r := mustPrune(t, st, PruneOptions{})
	if r.Purged != 2 {
		t.Errorf("%d purged, %+v", r.Purged, r)
	}
	trees[0].check(t, st, snaps[0])
	checkAll(t, st, ids, slices.Concat(trees[1].files[:15], fresh.files))
	if err := trees[1].compare(t, st, snaps[1].ID); err == nil {
		t.Error("more was kept than the session was told of")
	}
	closeStore(t, other)
	mustPrune(t, st, PruneOptions{})
	closeStore(t, st)
	st = openTrees(t, dir) // without what it has cached
	if err := trees[0].compare(t, st, snaps[0].ID); err == nil {
		t.Error("kept although nobody holds it any more")
	}
}

// TestPruneRefusesWithoutKnowing: a node that cannot be read may name anything.
func TestPruneRefusesWithoutKnowing(t *testing.T) {
	dir := newStore(t)
	st := openTrees(t, dir)
	a, b := manyFiles(1, 40, 5000), manyFiles(2, 40, 5000)
	one := a.mustWrite(t, st)
	closeStore(t, st)
	st = openTrees(t, dir)
	two := b.mustWrite(t, st)
	forgetAll(t, st, one)
	places, err := st.Locate(t.Context(), []ID{two.ID})
	must(t, err)
	closeStore(t, st)
	flip(t, volumePath(dir, places[0].Volume), places[0].Offset+100)
	st = openTrees(t, dir)
	defer func() { closeStore(t, st) }()
	before, err := onDisk(volumesDir(dir))
	must(t, err)
	_, err = st.Prune(t.Context(), PruneOptions{}, nil)
	var corrupt *CorruptError
	if !errors.Is(err, ErrUnreadable) || !errors.As(err, &corrupt) {
		t.Errorf("error %v", err)
	}
	after, err := onDisk(volumesDir(dir))
	must(t, err)
	for id := range before {
		if _, ok := after[id]; !ok {
			t.Errorf("volume %s was removed", id)
		}
	}
	a.check(t, st, one)
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	must(t, err)
	b[0] ^= 0x10
	_, err = f.WriteAt(b, at)
	must(t, err)
}

// TestPruneKeepsUnfinishedWork: what an interrupted job stored stays a week, what was forgotten beside it goes.
func TestPruneKeepsUnfinishedWork(t *testing.T) {
	dir := newStore(t)
	now := time.Now()
	clock := func(o *Options) { o.Now = func() time.Time { return now } }
	st := openTrees(t, dir, clock)
	gone, kept, work := manyFiles(1, 40, 50_000), manyFiles(2, 5, 50_000), manyFiles(3, 20, 50_000)
	one, two := gone.mustWrite(t, st), kept.mustWrite(t, st)
	w := st.NewWriter()
	var ids []ID
	for _, f := range work.files {
		id, err := w.Put(t.Context(), KindChunk, f)
		must(t, err)
		ids = append(ids, id)
	}
	must(t, w.Flush(t.Context()))
	forgetAll(t, st, one)
	closeStore(t, st)
	st = openTrees(t, dir, clock)
	mustPrune(t, st, PruneOptions{})
	size, _ := volumesSize(t, st)
	if size < 25*50_000 || size > 30*50_000 {
		t.Errorf("%d bytes left", size)
	}
	checkAll(t, st, ids, work.files)
	closeStore(t, st)
	now = now.Add(8 * 24 * time.Hour)
	st = openTrees(t, dir, clock)
	defer func() { closeStore(t, st) }()
	mustPrune(t, st, PruneOptions{})
	if size, _ := volumesSize(t, st); size > 10*50_000 {
		t.Errorf("%d bytes left after a week", size)
	}
	kept.check(t, st, two)
}

// TestUpkeepMergesSmallVolumes: many tiny backups leave few volumes, and each byte moves few times.
func TestUpkeepMergesSmallVolumes(t *testing.T) {
	dir := newStore(t)
	var trees []tree
	var snaps []Snapshot
	const backups = 200
	for n := range backups {
		st := openTrees(t, dir)
		tr := manyFiles(uint64(n), 2, 2000)
		trees, snaps = append(trees, tr), append(snaps, tr.mustWrite(t, st))
		_, err := engineOf(st).upkeep(t.Context(), nil, upkeepBudget{partingBytes, partingPart}) // as when it closes, however slow that is
		must(t, err)
		closeStore(t, st)
	}
	// Each leaves a journal with two facts at least, and the journals since the checkpoint before the newest stay.
	if n := journalCount(t, dir); n > leastFacts {
		t.Errorf("%d journals left", n)
	}
	files, err := onDisk(volumesDir(dir))
	must(t, err)
	st := openTrees(t, dir)
	stats, err := st.Stats(t.Context())
	must(t, err)
	t.Logf("%d backups, %d volumes, %d bytes, journal %d", backups, len(files), stats.Bytes, stats.JournalBytes)
	_, err = st.Upkeep(t.Context())
	must(t, err)
	count := map[volume.Kind]int{}
	e := engineOf(st)
	e.mu.Lock()
	for _, v := range e.volumes.byID {
		count[v.kind]++
	}
	e.mu.Unlock()
	t.Logf("%v", count)
	if count[volume.Data]+count[volume.Metadata] > 2*4*mergeTiers {
		t.Errorf("%v volumes left", count)
	}
	for i, tr := range trees {
		tr.check(t, st, snaps[i])
	}
	closeStore(t, st)
	must(t, os.RemoveAll(filepath.Join(dir, indexName)))
	st = openTrees(t, dir)
	defer closeStore(t, st)
	for i, tr := range trees {
		tr.check(t, st, snaps[i])
	}
	state, err := st.State(t.Context())
	must(t, err)
	for _, s := range state.Snapshots {
		if s.Damaged != "" {
			t.Errorf("snapshot %s: %s", s.Name, s.Damaged)
		}
	}
}
