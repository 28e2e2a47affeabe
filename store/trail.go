package store

import "sync"

// trail notices that a volume is read from one end to the other, by several readers at a time maybe, and tells which
// pages lie behind: what a restore has read once it does not read again, and on virtual machines fresh pages for more cost up
// to 3 CPU seconds a GB. Who reads here and there leaves no trail. Safe for concurrent use.
type trail struct {
	mu    sync.Mutex
	start int64 // of what was read in order and not dropped yet
	end   int64 // the furthest read
}

const (
	// trailSlack is how far apart reads may be that belong together.
	trailSlack = 8 << 20
	// trailStep is how much is dropped at a time.
	trailStep = 8 << 20
)

// passed notes a read and returns what lies behind all readers; mostly nothing.
func (t *trail) passed(offset, n int64) (from, to int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if offset < t.end-trailSlack || offset > t.end+trailSlack {
		t.start, t.end = offset, offset+n
		return 0, 0
	}
	t.end = max(t.end, offset+n)
	if to = t.end - trailSlack; to-t.start < trailStep {
		return 0, 0
	}
	from, t.start = t.start, to
	return from, to
}
