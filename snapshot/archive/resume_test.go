package archive

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"snapfs/store"
)

// only is a check of volumes that must hold one set.
func (s *origin) only(volumes ...string) CheckedSet {
	s.t.Helper()
	res, err := Check(s.t.Context(), volumes, CheckOptions{
		OpenOptions: OpenOptions{Unlock: unlockTest}, Found: func(f Finding) { s.t.Logf("%s: %s", f.Volume, f.What) },
	})
	must(s.t, err)
	if len(res.Sets) != 1 {
		s.t.Fatalf("%d sets", len(res.Sets))
	}
	return res.Sets[0]
}

// TestResumeBehindTornVolume: a medium ends unannounced and nobody changes it. What is gone on with later is as whole as if somebody had.
func TestResumeBehindTornVolume(t *testing.T) {
	s := newSource(t)
	id := s.take(randomFiles(rand.New(rand.NewPCG(2, 2)), 60))
	o := s.options(t.TempDir(), id)
	o.Level = LevelFull
	res, err := Create(t.Context(), s.st, o)
	must(t, err)
	for _, room := range []int64{650_000, 1_300_000, res.Stored - 100} { // the last one ends in the trailer
		out := t.TempDir()
		o := s.options(out, id)
		whole, writes := o.Target, 0
		jam := errors.New("the robot is jammed")
		o.Level = LevelFull
		o.Change = func(context.Context, Change) error { return jam }
		o.Target = func(p Permit) (Target, error) {
			d, err := NewDirectory(out, p)
			return &shortTarget{d, func(m Medium) Medium {
				return &shortMedium{Medium: m, room: room, fail: syscall.ENOSPC, lies: true, written: &writes}
			}}, err
		}
		if _, err := Create(t.Context(), s.st, o); !errors.Is(err, jam) {
			t.Fatal(err)
		}
		state, err := s.st.State(t.Context())
		must(t, err)
		name := state.Archives[len(state.Archives)-1].Name
		o.Target, o.Snapshots, o.Level = whole, nil, ""
		_, err = Resume(t.Context(), s.st, name, o)
		must(t, err)
		if c := s.only(out); !c.Whole || c.Damaged {
			t.Errorf("room %d: %+v", room, c)
		}
		s.check([]store.ID{id}, out)
	}
}

// TestVolumeWrittenAgain: a run was killed before its volume was entered, and another one wrote more into a volume of that number. The first one
// does not stand for the second.
func TestVolumeWrittenAgain(t *testing.T) {
	s, first, out := newSource(t), t.TempDir(), t.TempDir()
	r := rand.New(rand.NewPCG(12, 2))
	files := randomFiles(r, 10)
	_, err := Create(t.Context(), s.st, s.options(t.TempDir(), s.take(files)))
	must(t, err)
	id := s.take(randomFiles(r, 60))
	o := s.options(first, id)
	o.VolumeSize = 700_000
	killed := errors.New("killed")
	o.Target = func(p Permit) (Target, error) {
		d, err := NewDirectory(first, p)
		return &shortTarget{d, func(m Medium) Medium { return &unentered{m, killed} }}, err
	}
	if _, err = Create(t.Context(), s.st, o); !errors.Is(err, killed) {
		t.Fatal(err)
	}
	state, err := s.st.State(t.Context())
	must(t, err)
	o = s.options(out)
	o.VolumeSize = 1_500_000
	res, err := Resume(t.Context(), s.st, state.Archives[1].Name, o)
	must(t, err)
	if c := s.only(first, out); !c.Whole {
		t.Errorf("with both: %+v", c)
	}
	left, err := filepath.Glob(filepath.Join(first, "*"+Suffix))
	must(t, err)
	must(t, os.Truncate(left[0], 600_000))
	if c := s.only(first, out); !c.Whole || c.Damaged {
		t.Errorf("the first one is cut short: %+v", c)
	}
	must(t, os.Remove(res.Set.Volumes[0].Where))
	if c := s.only(first, out); c.Whole || c.Complete {
		t.Errorf("without the second: %+v", c)
	}
}

// unentered completes a volume and fails then, as a run does that is killed before the catalogue has it.
type unentered struct {
	Medium
	fail error
}

func (u *unentered) Complete(size int64) error { return errors.Join(u.Medium.Complete(size), u.fail) }

// TestLostStaysLost: a set ends without a chunk that the store could not give, and its parity volume fails. Gone on with it still lacks the chunk.
func TestLostStaysLost(t *testing.T) {
	s, out := newSourceOf(t, store.InitOptions{Parity: store.NoParity}), t.TempDir() // nothing heals it
	files := randomFiles(rand.New(rand.NewPCG(14, 2)), 5)
	files["large"] = bytes.Repeat([]byte{1, 2, 3, 4, 5}, 28_000)
	id := s.take(files)
	s.damage(store.KindChunk, files["large"])
	o := s.options(out, id)
	o.ParityVolumes, o.ParityDir = 1, t.TempDir()
	broken, whole := errors.New("broken"), o.Target
	o.Target = func(p Permit) (Target, error) {
		d, err := NewDirectory(out, p)
		return &noParity{d, broken}, err
	}
	if _, err := Create(t.Context(), s.st, o); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	state, err := s.st.State(t.Context())
	must(t, err)
	o.Target, o.Snapshots, o.ParityVolumes = whole, nil, 0
	res, err := Resume(t.Context(), s.st, state.Archives[0].Name, o)
	must(t, err)
	if len(res.Lost) != 1 || res.Set.Lost != 1 {
		t.Errorf("lost %v, entered %d", res.Lost, res.Set.Lost)
	}
}

// noParity opens everything but parity volumes.
type noParity struct {
	Target
	fail error
}

func (n *noParity) Open(ctx context.Context, v Slot) (Medium, error) {
	if v.Parity > 0 {
		return nil, n.fail
	}
	return n.Target.Open(ctx, v)
}

// damage makes the store unable to give a blob.
func (s *origin) damage(kind store.Kind, data []byte) {
	s.t.Helper()
	places, err := s.st.Locate(s.t.Context(), []store.ID{s.st.BlobID(kind, data)})
	must(s.t, err)
	must(s.t, s.st.Close())
	p := places[0]
	f, err := os.OpenFile(filepath.Join(s.dir, "volumes", p.Volume.String()), os.O_RDWR, 0)
	must(s.t, err)
	_, err = f.WriteAt(make([]byte, 16), p.Offset+int64(p.Stored)-16)
	must(s.t, errors.Join(err, f.Close()))
	s.open()
	if _, err := s.st.Get(s.t.Context(), kind, s.st.BlobID(kind, data)); !isLoss(err) {
		s.t.Fatalf("read all the same: %v", err)
	}
}
