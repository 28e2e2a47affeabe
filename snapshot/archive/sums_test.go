package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"snapfs/store"
	"snapfs/store/volume"
)

// summed are volumes of random lengths and what the parity over them must be, by the letter of the format.
type summed struct {
	dir     string
	data    [][]byte
	volumes []store.ArchiveVolume
	r       *rand.Rand
	code    *volume.SetCode
	want    [][][]byte // by group and row
	rows    int
}

func newSummed(t *testing.T, rows int) *summed {
	s := &summed{dir: t.TempDir(), r: rand.New(rand.NewPCG(5, uint64(rows))), rows: rows}
	var err error
	s.code, err = volume.NewSetCode(rows)
	must(t, err)
	return s
}

// next makes another volume.
func (s *summed) next(t *testing.T) *store.ArchiveVolume {
	data := make([]byte, s.r.IntN(5000))
	if s.r.IntN(20) == 0 {
		data = make([]byte, 1<<20+s.r.IntN(3<<20))
	}
	for i := range data {
		data[i] = byte(s.r.Uint32())
	}
	v := store.ArchiveVolume{Number: uint32(len(s.data)) + 1, Size: int64(len(data))}
	v.Where = filepath.Join(s.dir, fmt.Sprint(v.Number))
	must(t, os.WriteFile(v.Where, data, 0o600))
	s.data, s.volumes = append(s.data, data), append(s.volumes, v)
	group, n := groupOf(v.Number)
	if n == 0 {
		s.want = append(s.want, make([][]byte, s.rows))
	}
	want := s.want[group]
	part := make([][]byte, s.rows)
	for j := range want {
		want[j] = append(want[j], make([]byte, max(0, len(data)-len(want[j])))...)
		part[j] = want[j][:len(data)]
	}
	must(t, s.code.Add(n, data, part))
	return &s.volumes[len(s.volumes)-1]
}

// write gives a volume to a maker as a writer does.
func (s *summed) write(t *testing.T, p *parityMaker, v *store.ArchiveVolume) {
	t.Helper()
	w, err := p.watch(v.Number)
	must(t, err)
	for rest := s.data[v.Number-1]; len(rest) > 0; {
		n := min(len(rest), 1+s.r.IntN(300_000))
		_, err := w.Write(rest[:n])
		must(t, err)
		rest = rest[n:]
	}
	v.Digest, err = p.complete(v.Number, v.Size)
	must(t, err)
	must(t, p.entered(v.Number))
}

func (s *summed) catchUp(t *testing.T, p *parityMaker) error {
	t.Helper()
	for group := range s.want {
		missing, last, err := p.behind(group, s.volumes)
		must(t, err)
		if len(missing) == 0 {
			continue
		}
		if err := p.catchUp(t.Context(), missing, last, func(int64) {}); err != nil {
			return err
		}
	}
	return nil
}

func (s *summed) check(t *testing.T, p *parityMaker) {
	t.Helper()
	for group, want := range s.want {
		_, last, err := p.behind(group, s.volumes)
		must(t, err)
		for j := range want {
			got, err := os.ReadFile(p.file(last, j))
			must(t, err)
			if !bytes.Equal(got, want[j]) {
				t.Errorf("group %d, row %d: other sums", group, j)
			}
		}
	}
}

// TestSums adds volumes of two groups up in both ways, changing between them, with runs that are killed between and within volumes.
func TestSums(t *testing.T) {
	for _, rows := range []int{1, 2, 5} {
		t.Run(fmt.Sprint(rows), func(t *testing.T) {
			s, sumDir := newSummed(t, rows), t.TempDir()
			open := func() *parityMaker {
				files, err := newSums(sumDir, "a.sum-1", rows)
				must(t, err)
				return &parityMaker{sums: files, again: s.r.IntN(2) == 0}
			}
			p := open()
			for range volume.SetData + 9 {
				v := s.next(t)
				if s.r.IntN(8) == 0 { // killed
					w, err := p.watch(v.Number)
					must(t, err)
					_, err = w.Write(make([]byte, s.r.IntN(3<<20)))
					must(t, err)
					p.close()
					p = open()
				}
				if !p.again {
					have := s.volumes
					s.volumes = have[:len(have)-1]
					must(t, s.catchUp(t, p))
					s.volumes = have
				}
				s.write(t, p, v)
			}
			must(t, s.catchUp(t, p))
			s.check(t, p)
			must(t, p.remove(func(sumName) bool { return true }))
			if left, _ := os.ReadDir(sumDir); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			must(t, s.catchUp(t, p)) // all over again
			s.check(t, p)
		})
	}
}

// TestSumsOfOtherVolumes: a volume that is not as it was written any more spoils no parity.
func TestSumsOfOtherVolumes(t *testing.T) {
	for what, spoil := range map[string]func(path string) error{
		"changed": func(path string) error {
			data, err := os.ReadFile(path)
			data[len(data)/2] ^= 1
			return errors.Join(err, os.WriteFile(path, data, 0o600))
		},
		"longer": func(path string) error { return os.Truncate(path, 1<<20) },
		"gone":   os.Remove,
		"a directory": func(path string) error {
			return errors.Join(os.Remove(path), os.Mkdir(path, 0o700))
		},
	} {
		t.Run(what, func(t *testing.T) {
			s := newSummed(t, 2)
			files, err := newSums(t.TempDir(), "a", 2)
			must(t, err)
			p := &parityMaker{sums: files, again: true}
			for len(s.volumes) < 4 || s.volumes[2].Size == 0 {
				s.write(t, p, s.next(t))
			}
			must(t, spoil(s.volumes[2].Where))
			if err := s.catchUp(t, p); !errors.Is(err, ErrParityLost) {
				t.Errorf("%v", err)
			}
			if last, err := p.last(0, 99); last != 0 || err != nil {
				t.Errorf("sums up to %d: %v", last, err)
			}
		})
	}
}

// TestParityBothWays: parity volumes make lost ones again, whether volumes stay where they are or go away with their medium, and also if what
// was added up is lost, as long as the volumes are there.
func TestParityBothWays(t *testing.T) {
	s := newSource(t)
	id := s.take(randomFiles(rand.New(rand.NewPCG(9, 9)), 25))
	broken := errors.New("broken")
	for _, changes := range []bool{false, true} {
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprintf("changes %v, lost %v", changes, lost), func(t *testing.T) {
				out := t.TempDir()
				o := s.options(out, id)
				o.Level, o.VolumeSize, o.ParityVolumes, o.ParityDir = LevelFull, 1<<20, 2, t.TempDir()
				o.Change, o.ChangeAlways = func(context.Context, Change) error { return nil }, changes
				whole, writes := o.Target, 0
				o.Target = func(p Permit) (Target, error) {
					d, err := NewDirectory(out, p)
					return &shortTarget{d, func(m Medium) Medium { return &shortMedium{Medium: m, fail: broken, written: &writes, failAt: 45} }}, err
				}
				_, err := Create(t.Context(), s.st, o)
				if !errors.Is(err, broken) {
					t.Fatalf("%v", err)
				}
				state, err := s.st.State(t.Context())
				must(t, err)
				set := state.Archives[len(state.Archives)-1]
				if len(set.Volumes) < 2 {
					t.Fatalf("%d volumes", len(set.Volumes))
				}
				if lost {
					must(t, os.RemoveAll(o.ParityDir))
					must(t, os.Mkdir(o.ParityDir, 0o700))
				}
				o.Target, o.Snapshots, o.Level = whole, nil, ""
				if lost {
					first := set.Volumes[0].Where
					must(t, os.Rename(first, first+".away"))
					if _, err := Resume(t.Context(), s.st, set.Name, o); !errors.Is(err, ErrParityLost) {
						t.Errorf("without a volume: %v", err)
					}
					must(t, os.Rename(first+".away", first))
				}
				res, err := Resume(t.Context(), s.st, set.Name, o)
				must(t, err)
				s.check([]store.ID{id}, out)
				must(t, os.Remove(res.Set.Volumes[0].Where))
				must(t, os.Remove(res.Set.Volumes[2].Where))
				s.check([]store.ID{id}, out)
				if left, _ := os.ReadDir(o.ParityDir); len(left) > 0 {
					t.Errorf("sums are left: %v", left)
				}
			})
		}
	}
}

// TestSumsAreNotLedAstray: the directory may be one that others write to.
func TestSumsAreNotLedAstray(t *testing.T) {
	dir := t.TempDir()
	s, err := newSums(dir, "set", 1)
	must(t, err)
	theirs := filepath.Join(t.TempDir(), "precious")
	must(t, os.WriteFile(theirs, []byte("precious"), 0o600))
	must(t, os.Symlink(theirs, s.path(0, 0, spareSum)))
	if _, err := s.step(0, 1, 4096); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a link is followed: %v", err)
	}
	if data, err := os.ReadFile(theirs); string(data) != "precious" {
		t.Errorf("%q, %v", data, err)
	}
}

// TestSumsOfTwoStores: two stores have sets of the same name and one directory for what has been added up. Neither takes the other's.
func TestSumsOfTwoStores(t *testing.T) {
	parity := t.TempDir()
	var stores []*origin
	var outs []string
	var options []Options
	jam := errors.New("the robot is jammed")
	for n := range uint64(2) {
		s, out := newSource(t), t.TempDir()
		o := s.options(out, s.take(randomFiles(rand.New(rand.NewPCG(n, 9)), 60)))
		o.Name, o.VolumeSize, o.ParityVolumes, o.ParityDir, o.ChangeAlways = "weekly", 1<<20, 1, parity, true
		o.Change = func(context.Context, Change) error { return jam }
		if _, err := Create(t.Context(), s.st, o); !errors.Is(err, jam) {
			t.Fatal(err)
		}
		o.Snapshots, o.ParityVolumes, o.Change = nil, 0, func(context.Context, Change) error { return nil }
		stores, outs, options = append(stores, s), append(outs, out), append(options, o)
	}
	for n, s := range stores {
		res, err := Resume(t.Context(), s.st, "weekly", options[n])
		must(t, err)
		must(t, os.Remove(res.Set.Volumes[0].Where))
		s.check(s.snaps, outs[n])
	}
}
