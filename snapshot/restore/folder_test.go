package restore

import (
	"testing"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

// TestCloseWhileUsed closes a folder that a further name of a linked file still needs.
func TestCloseWhileUsed(t *testing.T) {
	c := newFolders(4, false)
	defer c.closeAll()
	root := newFolder(nil, "", snapshot.Found{}, false)
	f := newFolder(root, "f", snapshot.Found{}, false)
	dir := t.TempDir()
	ok(t, unix.Mkdir(dir+"/f", 0o755))
	for folder, path := range map[*folder]string{root: dir, f: dir + "/f"} {
		fd, err := unix.Open(path, openDir, 0)
		ok(t, err)
		st, err := fstat(fd)
		ok(t, err)
		folder.dev, folder.ino = st.Dev, st.Ino
		c.add(folder, fd)
	}
	fd, err := c.acquire(f)
	ok(t, err)
	c.close(f)
	if !f.is(fd) {
		t.Error("closed while in use")
	}
	c.release(f)
	c.close(f)
	if f.fd >= 0 {
		t.Error("left open")
	}
}
