package backup

import (
	"container/list"
	"sync"

	"golang.org/x/sys/unix"
)

// dir is a directory of the source that can be opened at any time: by its name in its parent. Its descriptor may be
// closed while nobody uses it, so that a walk of any depth and width holds a bounded number of them.
type dir struct {
	parent *dir
	name   string // "" : a path that path gives
	path   string // of a root
	follow bool   // it may be a symlink: part of a named PATH

	ino, dev uint64

	// guarded by descriptors.mu
	fd    int
	users int
	gone  bool          // closed for good
	idle  *list.Element // place among the unused
}

// descriptors keeps the directories' descriptors within a limit. Safe for concurrent use.
type descriptors struct {
	limit int

	mu   sync.Mutex
	open int
	idle list.List // of *dir: unused with an open descriptor, longest unused first
}

func newDescriptors(limit int) *descriptors { return &descriptors{limit: limit} }

// adopt takes over a descriptor just opened for d, with one user.
func (t *descriptors) adopt(d *dir, fd int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d.fd, d.users = fd, 1
	t.open++
	t.trim()
}

// acquire returns d's descriptor, valid until release. Errors: unix.ESTALE if another directory has its name now,
// and those of open.
func (t *descriptors) acquire(d *dir) (int, error) {
	if fd, ok := t.use(d); ok {
		return fd, nil
	}
	// Upwards to one that is open, then down again: no recursion, for trees can be 100,000 levels deep.
	chain := []*dir{d}
	at := d
	for at.parent != nil {
		at = at.parent
		if _, ok := t.use(at); ok {
			break
		}
		chain = append(chain, at)
	}
	above := at
	if len(chain) > 0 && chain[len(chain)-1] == at {
		above = nil // not even the root is open
	}
	for i := len(chain) - 1; i >= 0; i-- {
		err := t.reopen(chain[i], above)
		if above != nil {
			t.release(above)
		}
		if err != nil {
			return -1, err
		}
		above = chain[i]
	}
	return d.fd, nil
}

// use takes d's descriptor if it is open.
func (t *descriptors) use(d *dir) (int, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d.fd < 0 {
		return -1, false
	}
	t.take(d)
	return d.fd, true
}

func (t *descriptors) take(d *dir) {
	d.users++
	if d.idle != nil {
		t.idle.Remove(d.idle)
		d.idle = nil
	}
}

// reopen opens d below above, which is in use, or by its path, and takes it.
func (t *descriptors) reopen(d, above *dir) error {
	fd, err := d.openIn(above)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if d.fd >= 0 { // another goroutine was faster
		unix.Close(fd)
		t.take(d)
		return nil
	}
	d.fd, d.users = fd, 1
	t.open++
	t.trim()
	return nil
}

func (d *dir) openIn(above *dir) (int, error) {
	at, name := unix.AT_FDCWD, d.path
	if above != nil {
		at, name = above.fd, d.name
	}
	fd, err := openDirectory(at, appendName(nil, name), d.follow)
	if err != nil {
		return -1, err
	}
	var st unix.Statx_t
	if err = statxFD(fd, &st); err == nil && (st.Ino != d.ino || devOf(&st) != d.dev) {
		err = unix.ESTALE
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// openDirectory opens a directory for reading; what part of a PATH was named may be a symlink, and may be
// passable without being readable.
func openDirectory(at int, name cname, follow bool) (int, error) {
	if !follow {
		return openat(at, name, openDir)
	}
	fd, err := openat(at, name, openDir&^unix.O_NOFOLLOW)
	if err == unix.EACCES {
		fd, err = openatRaw(at, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC)
	}
	return fd, err
}

// release ends a use of d's descriptor.
func (t *descriptors) release(d *dir) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d.users--
	if d.users > 0 {
		return
	}
	if d.gone {
		t.closeFD(d)
		return
	}
	d.idle = t.idle.PushBack(d)
	t.trim()
}

// drop closes d as soon as nobody uses it: its descriptor will not be needed again.
func (t *descriptors) drop(d *dir) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d.gone = true
	if d.users > 0 || d.fd < 0 {
		return
	}
	if d.idle != nil {
		t.idle.Remove(d.idle)
		d.idle = nil
	}
	t.closeFD(d)
}

// trim closes the longest unused beyond the limit.
func (t *descriptors) trim() {
	for t.open > t.limit && t.idle.Len() > 0 {
		d := t.idle.Remove(t.idle.Front()).(*dir)
		d.idle = nil
		t.closeFD(d)
	}
}

func (t *descriptors) closeFD(d *dir) {
	unix.Close(d.fd)
	d.fd = -1
	t.open--
}

// closeAll closes what an ended walk left open.
func (t *descriptors) closeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.idle.Len() > 0 {
		d := t.idle.Remove(t.idle.Front()).(*dir)
		d.idle = nil
		t.closeFD(d)
	}
}
