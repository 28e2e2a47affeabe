package archive

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
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
