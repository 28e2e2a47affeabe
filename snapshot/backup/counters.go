package backup

import "sync/atomic"

// counters are what a run has done so far. Safe for concurrent use.
type counters struct {
	entries, files            atomic.Int64
	bytes, bytesRead          atomic.Int64
	added, changed, unchanged atomic.Int64
	removed, unstable, errors atomic.Int64
	stored                    atomic.Int64  // growth of the volumes
	dirs                      atomic.Int64  // directories that differ from the parent's
	xattrs                    atomic.Uint32 // snapshot.XattrKinds of the entries

	at atomic.Pointer[dir] // where the walk is
}

func (c *counters) progress() Progress {
	current := ""
	if d := c.at.Load(); d != nil {
		current = d.fullPath()
	}
	return Progress{
		Entries: c.entries.Load(), Files: c.files.Load(),
		Bytes: c.bytes.Load(), BytesRead: c.bytesRead.Load(), BytesStored: c.stored.Load(),
		Errors: c.errors.Load(), Current: current,
	}
}

// differs reports whether anything is not as in the parent.
func (c *counters) differs() bool {
	return c.added.Load()+c.changed.Load()+c.removed.Load()+c.dirs.Load() > 0
}
