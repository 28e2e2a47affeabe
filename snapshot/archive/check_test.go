package archive

import (
	"errors"
	"os"
	"testing"

	"snapfs/store/seal"
)

func (w *world) check(noKey bool, args ...string) (*CheckResult, []Finding) {
	w.t.Helper()
	var list []Finding
	r, err := Check(w.t.Context(), args, CheckOptions{OpenOptions: w.options(""), NoKey: noKey, Found: func(f Finding) { list = append(list, f) }})
	must(w.t, err)
	return r, list
}

func TestCheckWhole(t *testing.T) {
	w := newWorld(t)
	dir, sets := chained(t, w, 700_000)
	r, found := w.check(false, dir)
	if len(found) > 0 || len(r.Sets) != 3 || r.Blobs == 0 {
		t.Errorf("%+v %+v", r, found)
	}
	for i, s := range r.Sets {
		if !s.Whole || !s.Complete || s.Parents || s.Volumes != len(sets[i].volumes) {
			t.Errorf("%+v", s)
		}
	}
	if r, found = w.check(true, dir); len(found) > 0 || r.Blobs != 0 || r.Frames == 0 {
		t.Errorf("without a key: %+v %+v", r, found)
	}
	if r, found = w.check(false, sets[1].volumes...); len(found) > 0 || !r.Sets[0].Whole || !r.Sets[0].Parents {
		t.Errorf("one set: %+v %+v", r, found)
	}
	if _, found = w.check(false, sets[0].volumes[1:]...); len(found) == 0 {
		t.Error("a missing volume was not noticed")
	}
	last := len(sets[0].volumes) - 1
	if r, found = w.check(false, sets[0].volumes[:last]...); len(found) != 1 || r.Sets[0].Complete {
		t.Errorf("the missing last volume: %+v %+v", r, found)
	}
}

func TestCheckThroughPipe(t *testing.T) {
	w := newWorld(t)
	_, sets := chained(t, w, 700_000)
	o := CheckOptions{OpenOptions: w.options(""), Found: func(f Finding) { t.Errorf("%+v", f) }}
	o.Stdin = pipe(t, sets[0], sets[1])
	r, err := Check(t.Context(), []string{"-"}, o)
	must(t, err)
	if len(r.Sets) != 2 || !r.Sets[0].Whole || !r.Sets[1].Whole {
		t.Errorf("%+v", r.Sets)
	}
}

func TestCheckDamage(t *testing.T) {
	w := newWorld(t)
	_, sets := chained(t, w, 0)
	path := sets[0].volumes[0]
	data, err := os.ReadFile(path)
	must(t, err)
	data[len(data)/2] ^= 1
	must(t, os.WriteFile(path, data, 0o600))
	for _, noKey := range []bool{true, false} {
		r, found := w.check(noKey, path)
		if len(found) != 1 || !found[0].Heals || found[0].Offset > int64(len(data)/2) || found[0].Offset+found[0].Length < int64(len(data)/2) || r.Sets[0].Whole {
			t.Errorf("%+v %+v", r, found)
		}
	}
	must(t, os.WriteFile(path, data[:len(data)/2], 0o600))
	if r, found := w.check(false, path); len(found) == 0 || r.Sets[0].Complete {
		t.Errorf("cut short: %+v %+v", r, found)
	}
	must(t, os.WriteFile(path, noise(1, 1000), 0o600))
	if _, found := w.check(false, path); len(found) != 1 {
		t.Errorf("rubbish: %+v", found)
	}
}

func TestCheckWrongKey(t *testing.T) {
	w := newWorld(t)
	_, sets := chained(t, w, 0)
	testKey := testKey
	defer func(was []byte) { copy(testKey, was) }(append([]byte(nil), testKey...))
	testKey[0]++
	_, err := Check(t.Context(), sets[0].volumes, CheckOptions{OpenOptions: w.options("")})
	if !errors.Is(err, seal.ErrWrongSecret) {
		t.Error(err)
	}
}

// TestCheckCancelled: a check that is given up leaves nothing behind that still checks.
func TestCheckCancelled(t *testing.T) {
	w := newWorld(t)
	_, sets := chained(t, w, 0)
	for n := 0; ; n++ {
		c := newChecker(CheckOptions{OpenOptions: w.options("")})
		var err error
		c.b.inputs, err = openInputs(sets[0].volumes[:1], nil)
		must(t, err)
		left := n
		err = c.input(lateCancel{t.Context(), &left}, c.b.inputs[0])
		if len(c.ahead) > 0 || c.held != 0 {
			t.Errorf("step %d: %d frames of %d bytes", n, len(c.ahead), c.held)
		}
		must(t, c.b.Close())
		if err == nil {
			return
		}
	}
}

// TestCheckLargeFrames: frames that claim to be large do not all lie in memory at once, nor for long.
func TestCheckLargeFrames(t *testing.T) {
	c := newChecker(CheckOptions{})
	c.volume, c.set = &Volume{}, &checkedSet{}
	for range 4 {
		c.begun(&checkedFrame{stored: make([]byte, aheadMost*2/3)})
		if len(c.ahead) > 1 {
			t.Fatalf("%d frames of %d bytes are held", len(c.ahead), c.held)
		}
	}
	c.settleAll()
	if len(c.unused) > 0 || c.held != 0 {
		t.Errorf("%d frames are kept, %d bytes are held", len(c.unused), c.held)
	}
}

// TestTornVolumeAlone: a volume whose medium ended is not damaged only because the one behind it, which says so, is not given; one that was cut
// short is.
func TestTornVolumeAlone(t *testing.T) {
	s, out := newSource(t), t.TempDir()
	s.archiveAll(out)
	set := &s.state().Archives[0]
	first := set.Volumes[0].Where
	check := func() *CheckedSet {
		r, err := Check(t.Context(), []string{first}, CheckOptions{OpenOptions: OpenOptions{Unlock: unlockTest}})
		must(t, err)
		return &r.Sets[0]
	}
	if c := check(); !set.Volumes[0].Torn || c.Damaged || c.Cut(set) || c.Whole {
		t.Errorf("torn: %+v", c)
	}
	must(t, os.Truncate(first, set.Volumes[0].Size-1))
	if c := check(); !c.Damaged && !c.Cut(set) {
		t.Errorf("cut short: %+v", c)
	}
	set = &s.state().Archives[2]
	first = set.Volumes[0].Where
	must(t, os.Truncate(first, set.Volumes[0].Size/2))
	if c := check(); !c.Damaged && !c.Cut(set) {
		t.Errorf("one that has a trailer: %+v", c)
	}
}
