package archive

import (
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"snapfs/store"
)

// sheetTarget is asked to take the sheet when the store may not know yet that the set is finished.
type sheetTarget struct {
	Target
	before func()
}

func (t *sheetTarget) Sheet(name, text string) (string, error) {
	t.before()
	return t.Target.Sheet(name, text)
}

// TestFinishedSetHasItsSheet: a set becomes finished when its sheet is there, so that whoever was killed before goes on and makes it.
func TestFinishedSetHasItsSheet(t *testing.T) {
	s := newSource(t)
	out := t.TempDir()
	o := s.options(out, s.take(randomFiles(rand.New(rand.NewPCG(8, 8)), 5)))
	o.Name = "one"
	asked := false
	o.Target = func(p Permit) (Target, error) {
		d, err := NewDirectory(out, p)
		return &sheetTarget{d, func() {
			asked = true
			state, err := s.st.State(t.Context())
			must(t, err)
			for _, set := range state.Archives {
				if !set.Finished.IsZero() {
					t.Errorf("set %s is finished before its sheet", set.Name)
				}
			}
		}}, err
	}
	res, err := Create(t.Context(), s.st, o)
	must(t, err)
	text, err := os.ReadFile(res.Sheet)
	must(t, err)
	if !asked || strings.Contains(string(text), "not finished") || !strings.Contains(string(text), res.Set.Volumes[0].Where) {
		t.Errorf("asked %v; the sheet:\n%s", asked, text)
	}
	state, err := s.st.State(t.Context())
	must(t, err)
	if found := Sets(state.Archives).byID(res.Set.ID); found == nil || found.Finished.IsZero() {
		t.Errorf("the set is not finished: %+v", found)
	}
}

// TestSheetCommand: what the sheet says to do works in a shell, wherever the volumes are.
func TestSheetCommand(t *testing.T) {
	volumes := func(name string, wheres ...string) *store.ArchiveSet {
		s := &store.ArchiveSet{Name: name}
		for i, where := range wheres {
			s.Volumes = append(s.Volumes, store.ArchiveVolume{Number: uint32(i + 1), Where: where, Parity: strings.Contains(where, "-parity-")})
		}
		return s
	}
	for _, c := range []struct {
		chain []*store.ArchiveSet
		want  string
	}{
		{[]*store.ArchiveSet{volumes("b", "/d/b-0001.snapfs"), volumes("a", "/d/a-0001.snapfs", "/d/a-0002.snapfs", "/d/a-parity-1.snapfs")}, "/d"},
		{[]*store.ArchiveSet{volumes("b", "/my disk/b-0001.snapfs", "/it's/b-0002.snapfs")}, `'/my disk' '/it'\''s'`},
		{[]*store.ArchiveSet{volumes("b", "/d/b-0001.snapfs"), volumes("a", "/dev/sdx")}, "/d /dev/sdx"},
		{[]*store.ArchiveSet{volumes("b", "/dev/sdx", "/dev/sdx")}, "VOLUMES-OF-b"},
		{[]*store.ArchiveSet{volumes("b", "standard output"), volumes("a")}, "VOLUMES-OF-b VOLUMES-OF-a"},
		{[]*store.ArchiveSet{volumes("b", "/d/today.tape")}, "/d/today.tape"},
	} {
		if got := strings.Join(placesOfAll(c.chain), " "); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}
