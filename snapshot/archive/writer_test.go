package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"snapfs/snapshot"
	"snapfs/store"
	"snapfs/store/seal"
	"snapfs/store/volume"
)

// origin is a store with snapshots whose content is known.
type origin struct {
	t   testing.TB
	dir string
	st  *store.Store
	now time.Time

	clock atomic.Int64 // now for the store, in nanoseconds: its upkeep looks at it whenever it likes

	content map[store.ID]map[string][]byte
	snaps   []store.ID
	xattrs  map[string][]byte // encoded, by file; they are stored by themselves
}

func newSource(t testing.TB) *origin { return newSourceOf(t, store.InitOptions{}) }

func newSourceOf(t testing.TB, o store.InitOptions) *origin {
	dir := filepath.Join(t.TempDir(), "store")
	o.Slots, o.Program = []store.NewKeySlot{{KeyFile: testKey}}, "test"
	must(t, store.Init(t.Context(), dir, o))
	s := &origin{t: t, dir: dir, content: map[store.ID]map[string][]byte{}, now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)}
	s.open()
	t.Cleanup(func() { must(t, s.st.Close()) })
	return s
}

func unlockTest(context.Context, []seal.Info) (seal.Secret, error) {
	return seal.Secret{KeyFile: testKey}, nil
}

// setNow sets the clock of the test and the store.
func (s *origin) setNow(now time.Time) {
	s.now = now
	s.clock.Store(now.UnixNano())
}

func (s *origin) open() {
	s.setNow(s.now)
	var err error
	s.st, err = store.Open(s.t.Context(), s.dir, store.Options{
		Unlock: unlockTest, Job: "test", References: snapshot.References, Now: func() time.Time { return time.Unix(0, s.clock.Load()).UTC() },
	})
	must(s.t, err)
}

// take makes a snapshot of files, all in one directory.
func (s *origin) take(files map[string][]byte) store.ID {
	ctx := s.t.Context()
	s.setNow(s.now.Add(24 * time.Hour))
	w := s.st.NewWriter()
	d := snapshot.NewDirWriter(w, s.st.PageKey(), 0)
	for i, name := range slices.Sorted(maps.Keys(files)) {
		data := files[name]
		e := &snapshot.Entry{Name: name, Type: snapshot.TypeFile, Mode: 0o644, Inode: uint64(i + 10), Size: int64(len(data))}
		c := snapshot.NewContentWriter(w, s.st.PageKey())
		for rest := data; len(rest) > 0; {
			n := min(len(rest), chunkSize)
			id, err := w.Put(ctx, store.KindChunk, rest[:n])
			must(s.t, err)
			must(s.t, c.Add(ctx, snapshot.Item{ID: id, Length: int64(n)}))
			rest = rest[n:]
		}
		var err error
		e.Content, err = c.Finish(ctx)
		must(s.t, err)
		if set := s.xattrs[name]; set != nil {
			e.XattrsID, err = w.Put(ctx, store.KindXattrs, set)
			must(s.t, err)
		}
		must(s.t, d.Add(ctx, e))
	}
	id, totals, err := d.Finish(ctx)
	must(s.t, err)
	name := snapshot.SnapshotName(s.now, func(string) bool { return false })
	sid, err := snapshot.WriteManifest(ctx, w, &snapshot.Manifest{
		Dataset: "data", Name: name, Host: "h", User: "u", Paths: []string{"/src"}, Start: s.now, End: s.now, Single: true,
		Root: snapshot.Entry{Type: snapshot.TypeDir, Mode: 0o755, Dir: id, Totals: totals}, Totals: totals, Found: snapshot.FoundByScan,
	})
	must(s.t, err)
	must(s.t, w.Flush(ctx))
	sum := snapshot.Summary{Host: "h", Paths: []string{"/src"}, Single: true}
	_, err = s.st.Commit(ctx, store.Commit{Dataset: "data", Snapshot: sid, Name: name, Start: s.now, Summary: sum.Encode()})
	must(s.t, err)
	s.content[sid] = maps.Clone(files)
	s.snaps = append(s.snaps, sid)
	return sid
}

// options are those of a set in a directory.
func (s *origin) options(out string, ids ...store.ID) Options {
	return Options{
		Snapshots: ids, Now: func() time.Time { s.setNow(s.now.Add(time.Second)); return s.now }, Zone: time.UTC, Program: "test",
		Target: func(p Permit) (Target, error) { return NewDirectory(out, p) },
	}
}

// check reads snapshots back from volumes.
func (s *origin) check(ids []store.ID, volumes ...string) {
	s.t.Helper()
	b, err := Open(s.t.Context(), volumes, OpenOptions{Unlock: unlockTest})
	must(s.t, err)
	defer b.Close()
	for _, id := range ids {
		t, err := snapshot.OpenTree(s.t.Context(), b, b.PageKey(), id, nil)
		must(s.t, err)
		for name, want := range s.content[id] {
			f, err := t.Walk(s.t.Context(), "/"+name)
			must(s.t, err)
			got := make([]byte, len(want))
			if len(want) > 0 {
				_, err = t.ReadAt(s.t.Context(), f.Entry, got, 0)
				must(s.t, err)
			}
			if !bytes.Equal(got, want) {
				s.t.Fatalf("snapshot %s: %s is another", id, name)
			}
		}
	}
}

func randomFiles(r *rand.Rand, n int) map[string][]byte {
	files := map[string][]byte{}
	for i := range n {
		size := r.IntN(3000)
		if r.IntN(5) == 0 {
			size = r.IntN(500_000)
		}
		data := make([]byte, size)
		for j := range data {
			data[j] = byte(r.Uint32())
		}
		files[fmt.Sprintf("file%d", i)] = data
	}
	return files
}

// TestLevels compares what sets carry with a plain map: random changes, levels, states and expiries.
func TestLevels(t *testing.T) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 7))
		s, out := newSource(t), t.TempDir()
		files := randomFiles(r, 12)
		carried := map[[16]byte]map[store.ID]bool{} // by set: chunks
		for range 12 {
			maps.Copy(files, map[string][]byte{fmt.Sprintf("file%d", r.IntN(12)): randomFiles(r, 1)["file0"]})
			id := s.take(files)
			o := s.options(out, id)
			o.Level = []Level{LevelAuto, LevelFull, LevelIncremental, LevelDifferential}[r.IntN(4)]
			o.KeepUntil = s.now.Add(time.Duration(r.IntN(10)) * 24 * time.Hour)
			res, err := Create(t.Context(), s.st, o)
			state, serr := s.st.State(t.Context())
			must(t, serr)
			sets := Sets(state.Archives)
			if errors.Is(err, ErrNoParent) {
				if _, _, perr := sets.Parent(DefaultPool, o.Level); perr == nil {
					t.Fatal("there is a parent")
				}
				continue
			}
			must(t, err)
			chain, ok := sets.Chain(sets.byID(res.Set.ID))
			if !ok {
				t.Fatalf("seed %d: the chain of a new set cannot be used", seed)
			}
			want := s.chunks(id)
			for _, c := range chain[1:] {
				for id := range carried[c.ID] {
					delete(want, id)
				}
			}
			got := s.listed(&res.Set)
			if !maps.Equal(got, want) {
				t.Fatalf("seed %d: %s set carries %d chunks, want %d", seed, res.Set.Level, len(got), len(want))
			}
			carried[res.Set.ID] = got
			s.check([]store.ID{id}, out)
			if r.IntN(5) == 0 {
				victim := state.Archives[r.IntN(len(state.Archives))]
				must(t, s.st.MarkArchive(t.Context(), victim.ID, store.ArchiveMark{State: StateRetired}))
			}
			if r.IntN(3) == 0 {
				s.expire()
			}
		}
	}
}

// chunks lists what a snapshot needs.
func (s *origin) chunks(id store.ID) map[store.ID]bool {
	need := map[store.ID]bool{}
	w := &walker{
		src: s.st, met: map[store.ID]struct{}{}, meta: func(store.Kind, store.ID) error { return nil },
		chunk: func(id store.ID) error { need[id] = true; return nil }, lost: func(Lost) {}, progress: func(int64) {},
	}
	must(s.t, w.walk(s.t.Context(), id))
	return need
}

func (s *origin) listed(set *store.ArchiveSet) map[store.ID]bool {
	got := map[store.ID]bool{}
	for _, root := range chunkLists(set) {
		l := s.st.IDList(root)
		for {
			id, ok, err := l.Next(s.t.Context())
			must(s.t, err)
			if !ok {
				break
			}
			got[id] = true
		}
	}
	return got
}

// expire compares what expires with the rule said plainly.
func (s *origin) expire() {
	state, err := s.st.State(s.t.Context())
	must(s.t, err)
	parents := map[[16]byte][16]byte{}
	needed := map[[16]byte]bool{}
	for _, a := range state.Archives {
		parents[a.ID] = a.Parent
	}
	for _, a := range state.Archives {
		if a.Expired.IsZero() && !a.KeepUntil.Before(s.now) {
			for id := a.ID; id != [16]byte{}; id = parents[id] {
				needed[id] = true
			}
		}
	}
	gone, err := Expire(s.t.Context(), s.st, s.now, false)
	must(s.t, err)
	for _, g := range gone {
		if needed[g.ID] {
			s.t.Fatalf("%s expired and is needed", g.Name)
		}
	}
	for _, a := range state.Archives {
		if a.Expired.IsZero() && !needed[a.ID] && !slices.ContainsFunc(gone, func(g store.ArchiveSet) bool { return g.ID == a.ID }) {
			s.t.Fatalf("%s should have expired", a.Name)
		}
	}
}

// TestVolumesOfManySizes: a set is the same whatever its volumes are, and no volume is larger than it may be.
func TestVolumesOfManySizes(t *testing.T) {
	s := newSource(t)
	id := s.take(randomFiles(rand.New(rand.NewPCG(1, 1)), 40))
	for _, size := range []int64{700_000, 1 << 20, 3 << 20, 0} {
		out := t.TempDir()
		o := s.options(out, id)
		o.VolumeSize, o.Level = size, LevelFull
		res, err := Create(t.Context(), s.st, o)
		must(t, err)
		for _, v := range res.Set.Volumes {
			info, err := os.Stat(v.Where)
			must(t, err)
			if info.Size() != v.Size || size > 0 && v.Size > size {
				t.Errorf("volume %d has %d bytes, %d entered, limit %d", v.Number, info.Size(), v.Size, size)
			}
		}
		s.check([]store.ID{id}, out)
	}
	o := s.options(t.TempDir(), id)
	o.VolumeSize = 50_000
	if _, err := Create(t.Context(), s.st, o); !errors.Is(err, ErrVolumeSize) {
		t.Errorf("tiny volumes: %v", err)
	}
}

// shortMedium takes so many bytes and then says that it is full, unannounced or not, cutting the write that does not fit.
type shortMedium struct {
	Medium
	room    int64
	fail    error
	taken   int64
	lies    bool // Reserve does not know
	written *int
	failAt  int // number of the write that fails; 0: none
}

func (m *shortMedium) Write(p []byte) (int, error) {
	*m.written++
	if *m.written == m.failAt {
		return 0, m.fail
	}
	if m.room > 0 && m.taken+int64(len(p)) > m.room {
		n, err := m.Medium.Write(p[:m.room-m.taken])
		m.taken += int64(n)
		return n, errors.Join(err, m.fail)
	}
	n, err := m.Medium.Write(p)
	m.taken += int64(n)
	return n, err
}

func (m *shortMedium) Reserve(size int64) (bool, error) {
	return m.lies || m.room == 0 || size <= m.room, nil
}

// shortTarget hands out short media over a directory.
type shortTarget struct {
	Target
	make func(Medium) Medium
}

func (t *shortTarget) Open(ctx context.Context, v Slot) (Medium, error) {
	m, err := t.Target.Open(ctx, v)
	if err != nil {
		return nil, err
	}
	return t.make(m), nil
}

// TestMediumEnds: media of every length, announced and not; what they hold together is the set.
func TestMediumEnds(t *testing.T) {
	s := newSource(t)
	id := s.take(randomFiles(rand.New(rand.NewPCG(2, 2)), 25))
	for _, lies := range []bool{false, true} {
		for room := int64(650_000); room < 1_300_000; room += 54_321 {
			out := t.TempDir()
			o := s.options(out, id)
			o.Level, o.Change = LevelFull, func(context.Context, Change) error { return nil }
			writes := 0
			o.Target = func(p Permit) (Target, error) {
				d, err := NewDirectory(out, p)
				return &shortTarget{d, func(m Medium) Medium {
					return &shortMedium{Medium: m, room: room, fail: syscall.ENOSPC, lies: lies, written: &writes}
				}}, err
			}
			res, err := Create(t.Context(), s.st, o)
			if err != nil {
				t.Fatalf("room %d, unannounced %v: %v", room, lies, err)
			}
			torn := slices.ContainsFunc(res.Set.Volumes, func(v store.ArchiveVolume) bool { return v.Torn })
			if torn != (lies && len(res.Set.Volumes) > 1) {
				t.Errorf("room %d, unannounced %v: torn %v in %d volumes", room, lies, torn, len(res.Set.Volumes))
			}
			if want := s.chunks(id); !maps.Equal(s.listed(&res.Set), want) {
				t.Errorf("room %d: the lists are not those of what was written", room)
			}
			s.check([]store.ID{id}, out)
		}
	}
}

// TestFailedWrites: the k-th write fails; the set can be gone on with and is whole then.
func TestFailedWrites(t *testing.T) {
	s := newSource(t)
	id := s.take(randomFiles(rand.New(rand.NewPCG(3, 3)), 25))
	broken := errors.New("broken")
	for k := 1; ; k += 3 {
		out := t.TempDir()
		writes := 0
		o := s.options(out, id)
		o.Level, o.VolumeSize, o.ParityVolumes, o.ParityDir = LevelFull, 1<<20, 1, t.TempDir()
		whole := o.Target
		o.Target = func(p Permit) (Target, error) {
			d, err := NewDirectory(out, p)
			return &shortTarget{d, func(m Medium) Medium { return &shortMedium{Medium: m, fail: broken, written: &writes, failAt: k} }}, err
		}
		res, err := Create(t.Context(), s.st, o)
		if err == nil {
			if writes < 20 {
				t.Errorf("only %d writes", writes)
			}
			return
		}
		if !errors.Is(err, broken) {
			t.Fatalf("write %d: %v", k, err)
		}
		state, err := s.st.State(t.Context())
		must(t, err)
		set := state.Archives[len(state.Archives)-1]
		if StateOf(&set) != "unfinished" {
			t.Fatalf("write %d: the set is %s", k, StateOf(&set))
		}
		complete := len(set.Volumes)
		o.Target, o.Snapshots, o.Level = whole, nil, ""
		if res, err = Resume(t.Context(), s.st, set.Name, o); err != nil {
			t.Fatalf("write %d, resumed: %v", k, err)
		}
		if res.Reused != complete || StateOf(&res.Set) != StateOnsite || res.Written.Chunks != int64(len(s.chunks(id))) {
			t.Fatalf("write %d: reused %d of %d, %s, %d chunks of %d", k, res.Reused, complete, StateOf(&res.Set), res.Written.Chunks, len(s.chunks(id)))
		}
		s.check([]store.ID{id}, out)
		if left, _ := filepath.Glob(filepath.Join(out, "*"+partialSuffix)); len(left) > 0 {
			t.Errorf("write %d: left %v", k, left)
		}
		if left, _ := os.ReadDir(o.ParityDir); len(left) > 0 {
			t.Errorf("write %d: sums are left: %v", k, left)
		}
	}
}

// TestLostBytes: bytes that a file took and that did not reach the device spoil the volume. A full medium that says so does not.
func TestLostBytes(t *testing.T) {
	const where = "/somewhere/a.partial"
	if err := lost(where, syscall.ENOSPC); EndOfMedium(err) || !strings.Contains(err.Error(), where) {
		t.Errorf("%v", err)
	}
	if err := lost(where, syscall.EIO); err != syscall.EIO || lost(where, nil) != nil {
		t.Errorf("%v", err)
	}
}

// TestPermit: volumes are overwritten only if their set has expired and that is wanted.
func TestPermit(t *testing.T) {
	s, dir := newSource(t), t.TempDir()
	id := s.take(randomFiles(rand.New(rand.NewPCG(4, 4)), 3))
	file := filepath.Join(dir, "disk")
	o := s.options("", id)
	o.Level, o.Target = LevelFull, func(p Permit) (Target, error) { return OpenTarget(t.Context(), file, TargetOptions{Permit: p}) }
	o.KeepUntil = s.now.Add(time.Hour)
	_, err := Create(t.Context(), s.st, o)
	must(t, err)
	for _, overwrite := range []bool{false, true} {
		o.Overwrite = overwrite
		if _, err := Create(t.Context(), s.st, o); !errors.Is(err, ErrVolumeExists) {
			t.Errorf("over a set that is kept: %v", err)
		}
	}
	s.now = s.now.Add(48 * time.Hour)
	gone, err := Expire(t.Context(), s.st, s.now, false)
	must(t, err)
	if len(gone) != 1 {
		t.Fatalf("%d sets expired", len(gone))
	}
	o.Overwrite, o.KeepUntil = false, time.Time{}
	if _, err := Create(t.Context(), s.st, o); !errors.Is(err, ErrVolumeExists) {
		t.Errorf("without being told: %v", err)
	}
	o.Overwrite = true
	_, err = Create(t.Context(), s.st, o)
	must(t, err)
	s.check([]store.ID{id}, file)
	must(t, os.WriteFile(file, []byte("a letter"), 0o600))
	if _, err := Create(t.Context(), s.st, o); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("over a letter: %v", err)
	}
	s.st.Close()
	s.open()
}

// TestStream writes into a pipe, in blocks, volume after volume.
func TestStream(t *testing.T) {
	s := newSource(t)
	id := s.take(randomFiles(rand.New(rand.NewPCG(5, 5)), 20))
	for _, block := range []int64{0, 512, 64 << 10} {
		var pipe bytes.Buffer
		o := s.options("", id)
		o.Level, o.VolumeSize = LevelFull, 1<<20
		o.Target = func(p Permit) (Target, error) {
			return OpenTarget(t.Context(), "-", TargetOptions{Permit: p, Block: block, Stdout: onlyWriter{&pipe, block}})
		}
		_, err := Create(t.Context(), s.st, o)
		must(t, err)
		file := filepath.Join(t.TempDir(), "stream")
		must(t, os.WriteFile(file, pipe.Bytes(), 0o600))
		b, err := Open(t.Context(), []string{"-"}, OpenOptions{Unlock: unlockTest, Stdin: bytes.NewReader(pipe.Bytes()), KeepAll: true})
		must(t, err)
		tree, err := snapshot.OpenTree(t.Context(), b, b.PageKey(), id, nil)
		must(t, err)
		if _, err := tree.Walk(t.Context(), "/file0"); err != nil {
			t.Error(err)
		}
		must(t, b.Close())
	}
}

// onlyWriter is a device with blocks.
type onlyWriter struct {
	w     io.Writer
	block int64
}

func (o onlyWriter) Write(p []byte) (int, error) {
	if o.block > 0 && int64(len(p)) != o.block {
		return 0, fmt.Errorf("a block of %d bytes", len(p))
	}
	return o.w.Write(p)
}

func FuzzRecords(f *testing.F) {
	h := Head{Set: [16]byte{1}, Number: 2, Level: volume.Full, Snapshots: []HeadSnapshot{{ID: store.ID{1}, Dataset: "d"}}, Chain: []ChainSet{{ID: [16]byte{3}}}}
	e := End{Set: [16]byte{1}, Volumes: []SetVolume{{ID: volume.ID{1}, Number: 1}}}
	p := SetParity{Volumes: 2, Number: 1, Covered: []Covered{{ID: volume.ID{1}, Number: 1, Length: 4}}}
	tb := Table{Volume: volume.ID{1}, Number: 1, Part: []byte{1}}
	for _, b := range [][]byte{h.Encode(), e.Encode(), p.Encode(), tb.Encode(), encodeMetadataComplete(Counts{}), (&resumeState{}).encode()} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = ParseHead(data)
		_, _ = ParseEnd(data)
		_, _ = ParseTable(data)
		_, _ = ParseMetadataComplete(data)
		var r resumeState
		if r.decode(data) == nil {
			if err := new(resumeState).decode(r.encode()); err != nil {
				t.Error(err)
			}
		}
		if p, err := ParseSetParity(data); err == nil {
			if _, err := ParseSetParity(p.Encode()); err != nil {
				t.Error(err)
			}
		}
	})
}
