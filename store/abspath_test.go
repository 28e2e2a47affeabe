package store

import (
	"errors"
	"io/fs"
	"os"
	"testing"
)

// TestAbsolutePath works in a directory that a symlink leads to, as a shell's cd leaves it.
func TestAbsolutePath(t *testing.T) {
	top, err := os.MkdirTemp("/tmp", "")
	must(t, err)
	defer os.RemoveAll(top)
	must(t, os.MkdirAll(top+"/deep/inside", 0o755))
	must(t, os.Symlink(top+"/deep/inside", top+"/link"))
	t.Chdir(top + "/link")
	t.Setenv("PWD", top+"/link")
	for path, want := range map[string]string{
		"x":                  top + "/link/x",
		"../x":               top + "/deep/x",
		"../x/y":             top + "/deep/x/y",
		"..":                 top + "/deep",
		top + "/link/../x":   top + "/deep/x",
		top + "/link/x/..y/": top + "/link/x/..y",
		"/x/y":               "/x/y",
	} {
		if got, err := AbsolutePath(path); err != nil || got != want {
			t.Errorf("%s is %s, not %s: %v", path, got, want, err)
		}
	}
	var at *fs.PathError
	if got, err := AbsolutePath("missing/../x"); !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &at) || at.Path != "missing/../x" {
		t.Errorf("%s: %v", got, err)
	}
}
