package store

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A disk that others have filled to the last byte leaves no room even for the fact that would lead to more. So a little is set
// aside beforehand, in a file beside the index that may be deleted at any time.
const (
	spareName = "spare"
	spareSize = 1 << 20
)

func (e *engine) sparePath() string { return filepath.Join(e.dir, indexName, spareName) }

// keepSpare sets space aside if none is and there is plenty. Without it a full disk has to be relieved by other means.
func (e *engine) keepSpare() {
	if e.frozen || e.idx.inMemory() || e.atLeast(e.reserve.volumes()+spareSize) != nil {
		return
	}
	file, err := os.OpenFile(e.sparePath(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return
	}
	defer file.Close()
	if err := unix.Fallocate(int(file.Fd()), 0, 0, spareSize); err != nil {
		_ = os.Remove(e.sparePath()) // a file system without: then there is none
		return
	}
	if err := e.ownIndex(); err != nil {
		e.log.Warn("space set aside in the index has the wrong owner", "err", err)
	}
}

// useSpare gives up what was set aside when it is needed.
func (e *engine) useSpare() {
	if !e.frozen && e.atLeast(spareSize/2) != nil {
		_ = os.Remove(e.sparePath()) // it may be gone, or never have been there
	}
}
