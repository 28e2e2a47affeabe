package archive

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestVolumeInUse: whoever writes a volume of a name keeps others from it, who would take its place in the middle.
func TestVolumeInUse(t *testing.T) {
	dir := t.TempDir()
	first, err := NewDirectory(dir, nil)
	must(t, err)
	second, err := NewDirectory(dir, nil)
	must(t, err)
	slot := Slot{Name: "weekly", Number: 1}
	must(t, os.WriteFile(filepath.Join(dir, slot.FileName()+partialSuffix), []byte("left by a run that was killed"), 0o600))
	m, err := first.Open(t.Context(), slot)
	must(t, err)
	_, err = m.Write([]byte("first"))
	must(t, err)
	if other, err := second.Open(t.Context(), slot); !errors.Is(err, ErrInUse) {
		t.Errorf("opened while it is written: %v", err)
		if err == nil {
			_, err = other.Write([]byte("sec"))
			must(t, err)
		}
	}
	must(t, m.Complete(5))
	if got, err := os.ReadFile(filepath.Join(dir, slot.FileName())); err != nil || !bytes.Equal(got, []byte("first")) {
		t.Errorf("the volume holds %q, %v", got, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}

// whilePlanning calls fn once, when a set is planned that is not in the catalogue yet.
func whilePlanning(fn func()) func(Progress) {
	return func(p Progress) {
		if call := fn; p.Phase == PhasePlan && call != nil {
			fn = nil
			call()
		}
	}
}

// TestParentExpiresMeanwhile: a set whose parent expires while it is planned is not written: nothing could be restored from it.
func TestParentExpiresMeanwhile(t *testing.T) {
	s, out := newSource(t), t.TempDir()
	files := randomFiles(rand.New(rand.NewPCG(8, 8)), 5)
	o := s.options(out, s.take(files))
	o.KeepUntil = s.now.Add(time.Hour)
	_, err := Create(t.Context(), s.st, o)
	must(t, err)
	files["new"] = []byte("new")
	o = s.options(out, s.take(files))
	o.Progress = whilePlanning(func() {
		gone, err := Expire(t.Context(), s.st, s.now, false)
		if must(t, err); len(gone) != 1 {
			t.Fatalf("%d sets expired", len(gone))
		}
	})
	if _, err := Create(t.Context(), s.st, o); !errors.Is(err, ErrNoParent) {
		t.Errorf("built on a set that has expired: %v", err)
	}
}

// TestNameTakenMeanwhile: of two sets that are given the same name at once one is refused.
func TestNameTakenMeanwhile(t *testing.T) {
	s := newSource(t)
	id := s.take(randomFiles(rand.New(rand.NewPCG(9, 9)), 5))
	first, second := s.options(t.TempDir(), id), s.options(t.TempDir(), id)
	first.Name, second.Name, second.Pool = "weekly", "weekly", "other"
	first.Progress = whilePlanning(func() {
		_, err := Create(t.Context(), s.st, second)
		must(t, err)
	})
	if _, err := Create(t.Context(), s.st, first); !errors.Is(err, ErrSetExists) {
		t.Errorf("two sets of one name: %v", err)
	}
}
