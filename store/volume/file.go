package volume

import "io/fs"

// FileOptions refine CreateFile; the zero value is for data volumes.
type FileOptions struct {
	Perm       fs.FileMode // 0 means 0600
	KeepCached bool        // leave what was written in the page cache: for volumes that are soon read again
}

// CreateFile makes a new file for a volume (fs.ErrExist if there is one). Writing is behind: full windows are handed
// to the device early and dropped from the page cache, so that Sync finds little to do.
func CreateFile(path string, o FileOptions) (File, error) { panic("soon") }
