package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestLocate: links, places that are not there yet, "..", names that only look alike.
func TestLocate(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "a", "store")
	for _, d := range []string{filepath.Join(dir, "volumes"), filepath.Join(base, "a", "store2"), filepath.Join(base, "b")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"top": dir, "in": "a/store/volumes", "coming": "a/store/volumes/new", "chain": "coming", "loop": "loop", "away": "b/new"} {
		if err := os.Symlink(target, filepath.Join(base, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(base)
	for path, want := range map[string]Position{
		"a/store": AtTop, "a/store/": AtTop, "top": AtTop, dir: AtTop, "b/../a/store": AtTop, "in/..": AtTop,
		"a/store/volumes": Inside, "in": Inside, "coming": Inside, "chain": Inside, "top/x/y/z": Inside, "in/new/": Inside, "b/../top/new": Inside,
		"a": Above, ".": Above, "/": Above, "in/../..": Above,
		"b": Apart, "away": Apart, "b/new": Apart, "a/store2": Apart, "a/store.snapfs": Apart, "in/../../store2/x": Apart,
	} {
		if got, err := Locate(path, dir); err != nil || got != want {
			t.Errorf("%s: %d, %v, want %d", path, got, err, want)
		}
		if err := CheckOutside("top", path); errors.Is(err, ErrInside) != (want == Inside || want == AtTop) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := Locate("loop", dir); err == nil {
		t.Error("a link to itself is somewhere")
	}
	if err := errors.Join(CheckOutside(filepath.Join(base, "none"), "in"), CheckOutside("", "in"), CheckOutside(dir, "", "loop")); err != nil {
		t.Error(err)
	}
}
