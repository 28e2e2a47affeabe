package archive

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"snapfs/snapshot"
	"snapfs/store"
	"snapfs/store/seal"
	"snapfs/store/volume"
)

// world is an origin whose snapshots are kept in memory, and writes sets of them by the letter of the format.
type world struct {
	t      testing.TB
	keys   string // directory
	bundle *seal.Bundle
	store  [16]byte
	namer  *store.Bare

	mu    sync.Mutex
	blobs map[store.ID]memBlob
	order []store.ID // as they were put

	snapshots []HeadSnapshot
	content   map[store.ID]map[string][]byte // by snapshot: files
}

type memBlob struct {
	kind store.Kind
	data []byte
}

var testKey = bytes.Repeat([]byte{7}, 32)

func newWorld(t testing.TB) *world {
	w := &world{t: t, keys: filepath.Join(t.TempDir(), "keys"), blobs: map[store.ID]memBlob{}, content: map[store.ID]map[string][]byte{}, store: [16]byte{1, 2}}
	var err error
	w.bundle, err = seal.Create(w.keys, []seal.NewSlot{{KeyFile: testKey}})
	must(t, err)
	w.namer = store.NewBare(w.bundle, nil, 0)
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Put is snapshot.Sink's.
func (w *world) Put(_ context.Context, kind store.Kind, data []byte) (store.ID, error) {
	id := w.namer.BlobID(kind, data)
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.blobs[id]; !ok {
		w.blobs[id] = memBlob{kind, bytes.Clone(data)}
		w.order = append(w.order, id)
	}
	return id, nil
}

// chunkSize makes files of one to a few chunks, some of them larger than what shares a frame.
const chunkSize = 150_000

func (w *world) file(name string, data []byte) *snapshot.Entry {
	e := &snapshot.Entry{Name: name, Type: snapshot.TypeFile, Mode: 0o644, Inode: uint64(len(w.order) + 10), Size: int64(len(data))}
	c := snapshot.NewContentWriter(w, w.bundle.PageKey())
	for rest := data; len(rest) > 0; {
		n := min(len(rest), chunkSize)
		id, err := w.Put(w.t.Context(), store.KindChunk, rest[:n])
		must(w.t, err)
		must(w.t, c.Add(w.t.Context(), snapshot.Item{ID: id, Length: int64(n)}))
		rest = rest[n:]
	}
	var err error
	e.Content, err = c.Finish(w.t.Context())
	must(w.t, err)
	return e
}

// snapshot takes one of files "dir/name".
func (w *world) snapshot(dataset string, files map[string][]byte) HeadSnapshot {
	ctx := w.t.Context()
	dirs := map[string]map[string][]byte{}
	for path, data := range files {
		dir, name := filepath.Split(path)
		dir = filepath.Clean(dir)
		if dirs[dir] == nil {
			dirs[dir] = map[string][]byte{}
		}
		dirs[dir][name] = data
	}
	root := snapshot.NewDirWriter(w, w.bundle.PageKey(), 0)
	for i, dir := range slices.Sorted(maps.Keys(dirs)) {
		d := snapshot.NewDirWriter(w, w.bundle.PageKey(), 0)
		for _, name := range slices.Sorted(maps.Keys(dirs[dir])) {
			must(w.t, d.Add(ctx, w.file(name, dirs[dir][name])))
		}
		id, totals, err := d.Finish(ctx)
		must(w.t, err)
		must(w.t, root.Add(ctx, &snapshot.Entry{Name: dir, Type: snapshot.TypeDir, Mode: 0o755, Inode: uint64(i + 2), Dir: id, Totals: totals}))
	}
	id, totals, err := root.Finish(ctx)
	must(w.t, err)
	n := len(w.snapshots) + 1
	start := time.Unix(1_790_000_000+int64(n)*86400, 0).UTC()
	m := &snapshot.Manifest{
		Dataset: dataset, Name: snapshot.SnapshotName(start, func(string) bool { return false }), Host: "h", User: "u", Paths: []string{"/src"}, Start: start, End: start, Single: true,
		Root: snapshot.Entry{Type: snapshot.TypeDir, Mode: 0o755, Dir: id, Totals: totals}, Totals: totals, Found: snapshot.FoundByScan,
	}
	sid, err := snapshot.WriteManifest(ctx, w, m)
	must(w.t, err)
	h := HeadSnapshot{ID: sid, Dataset: dataset, Name: m.Name, Start: start, Slot: uint32(n), Committed: start}
	w.snapshots = append(w.snapshots, h)
	w.content[sid] = maps.Clone(files)
	return h
}

// reach lists what snapshots need, as it was put.
func (w *world) reach(snaps []HeadSnapshot) (metadata, chunks []store.ID) {
	need := map[store.ID]bool{}
	var open []store.ID
	for _, s := range snaps {
		open = append(open, s.ID)
	}
	for len(open) > 0 {
		id := open[0]
		open = open[1:]
		if need[id] {
			continue
		}
		need[id] = true
		b := w.blobs[id]
		must(w.t, snapshot.References(b.kind, b.data, func(_ store.Kind, id store.ID) { open = append(open, id) }))
	}
	for _, id := range w.order {
		switch {
		case !need[id]:
		case w.blobs[id].kind == store.KindChunk:
			chunks = append(chunks, id)
		default:
			metadata = append(metadata, id)
		}
	}
	return metadata, chunks
}

// testSet is a set that was written.
type testSet struct {
	head    Head
	volumes []string // paths
	chunks  map[store.ID]bool
	where   map[store.ID][]frameAt // where each blob lies
}

type frameAt struct {
	volume         int // index
	offset, length int64
}

// setOptions say how to write a set.
type setOptions struct {
	name       string
	parents    []*testSet // nearest first
	volumeSize int64
	parity     int
}

// plainSetWriter writes one set.
type plainSetWriter struct {
	w    *world
	o    setOptions
	dir  string
	set  *testSet
	keys seal.SetKeys
	own  *seal.Bundle

	vol   *volume.Writer
	ids   []volume.ID
	sizes []int64
}

func (w *world) write(dir string, snaps []HeadSnapshot, o setOptions) *testSet {
	p := &plainSetWriter{w: w, o: o, dir: dir, set: &testSet{chunks: map[store.ID]bool{}, where: map[store.ID][]frameAt{}}}
	metadata, chunks := w.reach(snaps)
	var id [16]byte
	copy(id[:], o.name+"................")
	id[15] = w.store[0]
	p.set.head = Head{Set: id, Name: o.name, Pool: "default", Level: volume.Full, Created: time.Now(), Store: w.store, Snapshots: snaps}
	if len(o.parents) > 0 {
		p.set.head.Level, p.set.head.Parent = volume.Incremental, o.parents[0].head.Set
		for _, s := range o.parents {
			p.set.head.Chain = append(p.set.head.Chain, ChainSet{ID: s.head.Set, Name: s.head.Name, Level: s.head.Level, Volumes: len(s.volumes), Location: "shelf of " + s.head.Name, Created: s.head.Created})
		}
		chunks = slices.DeleteFunc(chunks, func(id store.ID) bool {
			return slices.ContainsFunc(o.parents, func(s *testSet) bool { return s.chunks[id] })
		})
	}
	for _, id := range chunks {
		p.set.chunks[id] = true
	}
	p.own = w.bundle.NewSet()
	var err error
	p.keys, err = w.bundle.WithStoreSlots(w.keys, p.own, id)
	must(w.t, err)
	p.begin()
	p.pack(metadata)
	p.record(encodeMetadataComplete(Counts{Metadata: int64(len(metadata))}))
	p.pack(chunks)
	p.finish()
	return p.set
}

func (p *plainSetWriter) begin() {
	number := uint32(len(p.set.volumes) + 1)
	path := filepath.Join(p.dir, fmt.Sprintf("%s-%04d.snapfs", p.o.name, number))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	must(p.w.t, err)
	id := volume.ID{byte(number)}
	r := rand.NewChaCha8([32]byte{byte(number), byte(len(p.o.name)), p.o.name[len(p.o.name)-1], p.w.store[0]})
	_, _ = io.ReadFull(r, id[1:])
	aead, err := p.own.VolumeAEAD(id)
	must(p.w.t, err)
	h := &p.set.head
	h.Number = number
	p.vol, err = volume.Create(f, volume.Label{Store: h.Store, Volume: id, Kind: volume.Archive, Created: h.Created, Program: "test", Set: &volume.Set{
		ID: h.Set, Sequence: number, Level: h.Level, Parent: h.Parent, Pool: h.Pool, Name: h.Name, KeySlots: p.keys.Slots, Bundle: p.keys.Bundle, SetKeys: p.keys.Keys,
	}}, volume.Options{AEAD: aead, Parity: p.o.parity})
	must(p.w.t, err)
	p.set.volumes, p.ids = append(p.set.volumes, path), append(p.ids, id)
	p.record(h.Encode())
}

func (p *plainSetWriter) record(plain []byte) {
	_, _, err := p.vol.Append(volume.FrameSet, plain, nil)
	must(p.w.t, err)
}

func (p *plainSetWriter) pack(ids []store.ID) {
	var raw []byte
	var rows []volume.Blob
	flush := func() {
		if len(rows) == 0 {
			return
		}
		if p.o.volumeSize > 0 && p.vol.Size()+int64(len(raw)) > p.o.volumeSize {
			p.seal()
			p.begin()
		}
		offset, stored, err := p.vol.Append(volume.FrameBlobs, volume.NewPacker(volume.LevelFastest).Pack(nil, rows, raw), rows)
		must(p.w.t, err)
		for _, r := range rows {
			p.set.where[r.ID] = append(p.set.where[r.ID], frameAt{len(p.set.volumes) - 1, offset, int64(stored)})
		}
		raw, rows = nil, nil
	}
	for _, id := range ids {
		b := p.w.blobs[id]
		if len(raw)+len(b.data) > 128<<10 {
			flush()
		}
		raw = append(raw, b.data...)
		rows = append(rows, volume.Blob{Kind: uint8(b.kind), ID: id, Length: uint32(len(b.data))})
	}
	flush()
}

func (p *plainSetWriter) seal() {
	must(p.w.t, p.vol.Seal())
	p.sizes = append(p.sizes, p.vol.Size())
	must(p.w.t, p.vol.Close())
}

func (p *plainSetWriter) finish() {
	e := End{Set: p.set.head.Set, Finished: time.Now()}
	for i, id := range p.ids {
		v := SetVolume{ID: id, Number: uint32(i + 1)}
		if i < len(p.sizes) {
			v.Length = p.sizes[i]
		}
		e.Volumes = append(e.Volumes, v)
	}
	p.record(e.Encode())
	p.seal()
}

// noise is incompressible and the same for the same seed.
func noise(seed uint64, n int) []byte {
	var s [32]byte
	s[0], s[1], s[2] = byte(seed), byte(seed>>8), byte(seed>>16)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(s).Read(b)
	return b
}

// someFiles are files of many sizes.
func someFiles(seed uint64, n int) map[string][]byte {
	files := map[string][]byte{}
	for i := range n {
		size := []int{0, 10, 3000, 20_000, 160_000, 400_000}[i%6]
		files[fmt.Sprintf("dir%d/file%03d", i%5, i)] = noise(seed+uint64(i), size+i)
	}
	return files
}

func (w *world) options(ref string) OpenOptions {
	o := OpenOptions{
		Unlock: func(context.Context, []seal.Info) (seal.Secret, error) { return seal.Secret{KeyFile: testKey}, nil },
		Note:   func(note string) { w.t.Log(note) },
	}
	if ref != "" {
		o.Resolve = func(ctx context.Context, st snapshot.Store) (*snapshot.Target, error) {
			return snapshot.Resolve(ctx, st, ref, time.Now(), time.UTC)
		}
	}
	return o
}

// read compares every file of a snapshot and returns the paths that are damaged.
func (w *world) read(b *Bare, s HeadSnapshot) (damaged []string) {
	ctx := w.t.Context()
	src := passed{Bare: b}
	if b.Passes() {
		must(w.t, src.all(ctx))
	}
	tree, err := snapshot.OpenTree(ctx, src, b.PageKey(), s.ID, nil)
	if err != nil {
		return slices.Sorted(maps.Keys(w.content[s.ID]))
	}
	for _, path := range slices.Sorted(maps.Keys(w.content[s.ID])) {
		want := w.content[s.ID][path]
		f, err := tree.Walk(ctx, path)
		got := make([]byte, len(want))
		if err == nil && len(want) > 0 {
			_, err = tree.ReadAt(ctx, f.Entry, got, 0)
		}
		switch {
		case err != nil && err != io.EOF:
			damaged = append(damaged, path)
		case !bytes.Equal(got, want):
			w.t.Errorf("%s is not what was archived", path)
		}
	}
	return damaged
}

// whole fails if anything is damaged.
func (w *world) whole(s HeadSnapshot, ref string, args ...string) {
	w.t.Helper()
	b, err := Open(w.t.Context(), args, w.options(ref))
	must(w.t, err)
	defer b.Close()
	if damaged := w.read(b, s); len(damaged) > 0 {
		w.t.Errorf("damaged: %v", damaged)
	}
}

// passed is a Bare with the chunks that came through its pipes.
type passed struct {
	*Bare
	chunks map[store.ID][]byte
}

func (p *passed) all(ctx context.Context) error {
	var mu sync.Mutex
	p.chunks = map[store.ID][]byte{}
	return p.Pass(ctx, func(store.ID) bool { return true }, func(id store.ID, data []byte) error {
		mu.Lock()
		defer mu.Unlock()
		p.chunks[id] = bytes.Clone(data)
		return nil
	}, func() bool { return false })
}

func (p passed) Get(ctx context.Context, kind store.Kind, id store.ID) ([]byte, error) {
	if data, ok := p.chunks[id]; ok && kind == store.KindChunk {
		return data, nil
	}
	return p.Bare.Get(ctx, kind, id)
}
