package snapshot

import (
	"errors"
	"os"
)

// ScratchFile makes a temporary file without a name, of which nothing is left however the process ends; the caller closes it. dir is where, ""
// the system's directory for such. Errors name the file.
func ScratchFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".snapfs-scratch-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
