package archive

import (
	"bytes"
	"context"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"snapfs/store"
	"snapfs/store/volume"
)

// successor is a store with the keys of the sets in dir.
func (s *origin) successor(dir string) *origin {
	b := s.openSets(dir)
	defer b.Close()
	n := &origin{t: s.t, dir: filepath.Join(s.t.TempDir(), "store"), content: s.content, now: s.now}
	must(s.t, store.Init(s.t.Context(), n.dir, store.InitOptions{Slots: []store.NewKeySlot{{KeyFile: testKey}}, Like: b.Keys(), Program: "test"}))
	n.open()
	s.t.Cleanup(func() { must(s.t, n.st.Close()) })
	return n
}

func (s *origin) openSets(args ...string) *Bare {
	b, err := Open(s.t.Context(), args, OpenOptions{Unlock: unlockTest, Note: func(note string) { s.t.Log(note) }, All: true})
	must(s.t, err)
	return b
}

// takeOver imports all and returns what became of it, and what was said.
func (s *origin) takeOver(args ...string) (*ImportResult, string) {
	s.t.Helper()
	b := s.openSets(args...)
	defer b.Close()
	notes := ""
	b.o.Note = func(note string) { notes += note + "\n" }
	r, err := Import(s.t.Context(), s.st, b, ImportOptions{})
	must(s.t, err)
	return r, notes
}

// comparable are the catalogue's sets without what only matters while they are written, and without what no volume says.
func (s *origin) comparable() []store.ArchiveSet {
	list := slices.Clone(s.state().Archives)
	for i := range list {
		list[i].Volumes = slices.Clone(list[i].Volumes)
		for k := range list[i].Volumes {
			list[i].Volumes[k].Digest = [32]byte{}
		}
		list[i].State, list[i].Location, list[i].Verified, list[i].Problem = "", "", time.Time{}, ""
	}
	return list
}

// archiveAll writes a full set on media that end unannounced, an incremental one with parity volumes, and a differential one.
func (s *origin) archiveAll(out string) (names []string) {
	r := rand.New(rand.NewPCG(11, 11))
	files := randomFiles(r, 25)
	for _, level := range []Level{LevelFull, LevelIncremental, LevelDifferential} {
		maps.Copy(files, map[string][]byte{"new" + string(level): noise(uint64(len(level)), 700_000)})
		o := s.options(out, s.take(files))
		o.Level, o.Name = level, string(level)
		switch level {
		case LevelFull:
			writes := 0
			o.Change, o.KeepUntil = func(context.Context, Change) error { return nil }, s.now.Add(1000*time.Hour)
			o.Target = func(p Permit) (Target, error) {
				d, err := NewDirectory(out, p)
				return &shortTarget{d, func(m Medium) Medium {
					return &shortMedium{Medium: m, room: 900_000, fail: syscall.ENOSPC, lies: true, written: &writes}
				}}, err
			}
		case LevelIncremental:
			o.VolumeSize, o.ParityVolumes, o.ParityDir = 500_000, 1, s.t.TempDir()
		}
		_, err := Create(s.t.Context(), s.st, o)
		must(s.t, err)
		names = append(names, string(level))
	}
	return names
}

// TestImportEntersSets: after an import a new store knows of the sets what the one knew that wrote them, and goes on with them.
func TestImportEntersSets(t *testing.T) {
	s, out := newSource(t), t.TempDir()
	s.archiveAll(out)
	n := s.successor(out)
	if r, notes := n.takeOver(out); r.Sets != 3 || r.Snapshots != 3 || notes != "" {
		t.Fatalf("%+v; %s", r, notes)
	}
	want := s.comparable()
	if got := n.comparable(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if torn := func(v store.ArchiveVolume) bool { return v.Torn }; !slices.ContainsFunc(want[0].Volumes, torn) {
		t.Error("no medium ended unannounced")
	}
	if n.state().Archives[1].Verified != (time.Time{}) || Sets(n.state().Archives).Verified(s.snaps[1]) {
		t.Error("an import verifies nothing")
	}
	files := maps.Clone(s.content[s.snaps[2]])
	files["later"] = noise(99, 300_000)
	id, more := n.take(files), t.TempDir()
	o := n.options(more, id)
	o.Level = LevelIncremental
	res, err := Create(t.Context(), n.st, o)
	must(t, err)
	if res.Set.Parent != want[2].ID || res.Written.ChunkBytes != 300_000 {
		t.Errorf("parent %x, %d bytes of chunks", res.Set.Parent, res.Written.ChunkBytes)
	}
	n.check([]store.ID{id, s.snaps[0]}, more, out)
	if r, err := Check(t.Context(), []string{more, out}, CheckOptions{OpenOptions: OpenOptions{Unlock: unlockTest}}); err != nil || len(r.Sets) != 4 || r.Sets[3].Parents || !r.Sets[3].Whole {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestImportKeepsTheCatalogue: what the store knows of a set is not replaced by what its volumes say.
func TestImportKeepsTheCatalogue(t *testing.T) {
	s, out := newSource(t), t.TempDir()
	s.archiveAll(out)
	list := s.state().Archives
	must(t, s.st.MarkArchive(t.Context(), list[1].ID, store.ArchiveMark{State: StateVault, Location: "box 17", Verified: s.now}))
	must(t, s.st.MarkArchive(t.Context(), list[2].ID, store.ArchiveMark{State: StateRetired}))
	list[2].Expired = s.now
	must(t, s.st.SetArchive(t.Context(), list[2]))
	before := s.state().Archives
	if r, notes := s.takeOver(out); r.Sets != 0 || notes != "" {
		t.Errorf("%+v; %s", r, notes)
	}
	if after := s.state().Archives; !reflect.DeepEqual(after, before) {
		t.Errorf("got  %+v\nwant %+v", after, before)
	}
}

// TestImportEntersNoHalfSets: a set of which a volume is missing, damaged or made anew is left out, and told; the others are entered.
func TestImportEntersNoHalfSets(t *testing.T) {
	s, out := newSource(t), t.TempDir()
	s.archiveAll(out)
	sets := s.state().Archives
	path := func(set, volume int) string { return filepath.Base(sets[set].Volumes[volume].Where) }
	last := len(sets[0].Volumes) - 1
	for _, c := range []struct {
		name, want string
		sets       int
		spoil      func(dir string) error
	}{
		{"end", "set full is not in the catalogue: its end was not given", 2, func(dir string) error { return os.Remove(filepath.Join(dir, path(0, last))) }},
		{"first", "set full is not in the catalogue: volume 1 was not given", 2, func(dir string) error { return os.Remove(filepath.Join(dir, path(0, 0))) }},
		{"torn", "set full is not in the catalogue: volume 1", 2, func(dir string) error { return zero(filepath.Join(dir, path(0, 0)), 100_000, 500_000) }},
		{"torn, a byte", "set full is not in the catalogue: volume 1", 2, func(dir string) error { return zero(filepath.Join(dir, path(0, 0)), sets[0].Volumes[0].Size-100, 1) }},
		{"torn short", "set full is not in the catalogue: volume 1", 2, func(dir string) error { return os.Truncate(filepath.Join(dir, path(0, 0)), 800_000) }},
		{"made anew", "set incremental is not in the catalogue: volume 1 was not given", 2, func(dir string) error { return os.Remove(filepath.Join(dir, path(1, 0))) }},
		{"parity", "", 3, func(dir string) error { return os.Remove(filepath.Join(dir, "incremental-parity-1"+Suffix)) }},
		{"beyond parity", "set differential is not in the catalogue: volume 1 is damaged", 2, func(dir string) error { return zero(filepath.Join(dir, path(2, 0)), 100_000, 500_000) }},
		{"healed", "", 3, func(dir string) error { return zero(filepath.Join(dir, path(2, 0)), 100_000, 1_000) }},
	} {
		dir := filepath.Join(t.TempDir(), "out")
		must(t, os.CopyFS(dir, os.DirFS(out)))
		must(t, c.spoil(dir))
		n := s.successor(dir)
		r, notes := n.takeOver(dir)
		if r.Sets != c.sets || len(n.state().Archives) != c.sets || !strings.Contains(notes, c.want) || c.want == "" && strings.Contains(notes, "catalogue") {
			t.Errorf("%s: %+v; %s", c.name, r, notes)
		}
	}
}

func zero(path string, off, n int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(make([]byte, n), off)
	return err
}

// TestImportEntersWhatItKnows: of what came through a pipe nobody knows where it is; in a store with other keys nothing is entered; nor is what
// no writer makes.
func TestImportEntersWhatItKnows(t *testing.T) {
	s, out := newSource(t), t.TempDir()
	s.archiveAll(out)
	var all []byte
	for _, set := range s.state().Archives {
		for _, v := range set.Volumes {
			data, err := os.ReadFile(v.Where)
			must(t, err)
			all = append(all, data...)
		}
	}
	n := s.successor(out)
	b, err := Open(t.Context(), []string{"-"}, OpenOptions{Unlock: unlockTest, All: true, Stdin: bytes.NewReader(all), Scratch: t.TempDir()})
	must(t, err)
	defer b.Close()
	r, err := Import(t.Context(), n.st, b, ImportOptions{})
	must(t, err)
	want := s.comparable()
	for i := range want {
		for k := range want[i].Volumes {
			want[i].Volumes[k].Where = ""
		}
	}
	if got := n.comparable(); r.Sets != 3 || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v: got  %+v\nwant %+v", r, got, want)
	}
	if r, notes := newSource(t).takeOver(out); !r.Anew || r.Sets != 0 || notes != "" {
		t.Errorf("other keys: %+v; %s", r, notes)
	}
	for _, spoil := range []func(*Head){
		func(h *Head) { h.Name = "../evil" }, func(h *Head) { h.Pool = "" }, func(h *Head) { h.Level = 4 },
		func(h *Head) { h.Parent = [16]byte{} }, func(h *Head) { h.Snapshots = []HeadSnapshot{{Dataset: "../evil", Name: "x"}} },
	} {
		h := Head{Name: "n", Pool: "p", Level: volume.Incremental, Parent: [16]byte{1}}
		set := &openSet{head: &h, end: &End{Volumes: []SetVolume{{Number: 1}}}}
		if _, err := set.entry(); err != nil {
			t.Error(err)
		}
		if spoil(&h); true {
			if e, err := set.entry(); err == nil {
				t.Errorf("entered: %+v", e)
			}
		}
	}
}
