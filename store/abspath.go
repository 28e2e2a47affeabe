package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// AbsolutePath makes a path absolute. A ".." in it is taken as the kernel takes it and never by the text of what stands before it, the working
// directory's name included: both may lead through symlinks, and so would name another place. What comes after the last ".." need not be there.
// Errors are of type *fs.PathError.
func AbsolutePath(path string) (string, error) {
	if !slices.Contains(strings.Split(path, "/"), "..") {
		return filepath.Abs(path)
	}
	whole := path
	if !filepath.IsAbs(path) {
		wd, err := os.Getwd()
		if err != nil {
			return "", &fs.PathError{Op: "open", Path: path, Err: err}
		}
		whole = wd + "/" + path
	}
	real, err := filepath.EvalSymlinks(whole)
	if err == nil {
		return real, nil
	}
	end := strings.LastIndex(whole+"/", "/../") + len("/..")
	if real, err = filepath.EvalSymlinks(whole[:end]); err == nil {
		return filepath.Clean(real + whole[end:]), nil
	}
	var inner *fs.PathError
	if errors.As(err, &inner) {
		err = inner.Err
	}
	return "", &fs.PathError{Op: "open", Path: path, Err: err}
}
