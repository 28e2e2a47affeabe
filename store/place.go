package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Position is where a path lies, seen from a store's directory.
type Position int

// Positions.
const (
	Apart  Position = iota
	Inside          // below the store's directory
	AtTop           // it is the store's directory
	Above           // the store's directory is below it
)

// Locate says where path lies, seen from the store's directory dir. Directories are compared by identity, so that no other name for one of
// them (a link, a bind mount) slips through. A path need not be there yet; the store must.
func Locate(path, dir string) (Position, error) {
	path, there, err := nearest(path)
	if err != nil {
		return Apart, err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return Apart, err
	}
	if dir, err = AbsolutePath(dir); err != nil {
		return Apart, err
	}
	inside, err := isBelow(path, dir)
	if err != nil {
		return Apart, err
	}
	above, err := isBelow(dir, path)
	switch {
	case err != nil:
		return Apart, err
	case inside && above && there:
		return AtTop, nil
	case inside:
		return Inside, nil
	case above && there:
		return Above, nil
	}
	return Apart, nil
}

// CheckOutside refuses to write to places in the store's directory dir (ErrInside), where nobody writes but the store. What cannot be
// looked at is left to whoever is about to use it; "" is no place, and no store.
func CheckOutside(dir string, paths ...string) error {
	for _, path := range paths {
		if path == "" || dir == "" {
			continue
		}
		if at, err := Locate(path, dir); err == nil && (at == Inside || at == AtTop) {
			return fmt.Errorf("%s: %w", path, ErrInside)
		}
	}
	return nil
}

// nearest is the absolute path, without symbolic links, of what is there of a path: itself, or the directory above it in which it would be made.
func nearest(path string) (at string, there bool, err error) {
	there = true
	for links := 0; ; {
		real, err := filepath.EvalSymlinks(path)
		if err == nil {
			at, err = AbsolutePath(real)
			return at, there, err
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", false, err
		}
		there = false
		above, _ := filepath.Split(strings.TrimRight(path, "/")) // not cleaned: ".." behind a link is above where that leads
		if above == "" {
			above = "."
		}
		target, err := os.Readlink(path)
		switch {
		case err != nil:
			path = above
		case links > 40:
			return "", false, fmt.Errorf("%s: too many links", path)
		case filepath.IsAbs(target):
			path = target
		default:
			path = above + "/" + target
		}
		if err == nil {
			links++
		}
	}
}

// isBelow reports whether path is dir or below it.
func isBelow(path, dir string) (bool, error) {
	want, err := os.Stat(dir)
	if err != nil {
		return false, err
	}
	for {
		have, err := os.Stat(path)
		if err != nil {
			return false, err
		}
		if os.SameFile(have, want) {
			return true, nil
		}
		if path == "/" {
			return false, nil
		}
		path = filepath.Dir(path)
	}
}
