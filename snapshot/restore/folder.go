package restore

import (
	"container/list"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

// folder is a directory at the destination. It lives while something below it is unfinished; its descriptor comes
// and goes (folders), its identity stays.
type folder struct {
	parent *folder
	name   string
	source snapshot.Found // the directory it is restored from
	chosen bool           // not only on the way to something that is
	attrs  bool           // its attributes are to be set when everything below is done

	// Settled by look and ensure, before anything below is queued.
	state   state
	made    bool // by this run: nobody else has touched it
	mounted bool // a file system, or a directory of another place, is mounted on it
	marked  bool // by a file that says that an unfinished run made it
	hands   bool // what is made in it inherits an ACL, inode flags or a group
	dev     uint64
	ino     uint64
	flags   uint32       // inode flags met
	mode    uint32       // mode met
	pending atomic.Int64 // the scan of it, and what is queued below it

	prepare sync.Once // makes it writable for this run; altered says that this changed mode or flags
	altered bool

	late uint32 // number in passage.later; notLate: none. Guarded by passage.mu until the folder is finished

	// Guarded by folders.mu.
	fd    int // -1: closed
	users int
	spot  *list.Element
}

// state is what is known of a folder's place at the destination.
type state uint8

const (
	unknown state = iota
	present       // a directory is there
	absent        // nothing is there, or something that may be replaced
	blocked       // something is there that stays; reported
)

func newFolder(parent *folder, name string, source snapshot.Found, chosen bool) *folder {
	f := &folder{parent: parent, name: name, source: source, chosen: chosen, attrs: chosen, fd: -1, late: notLate}
	f.pending.Store(1)
	if parent != nil {
		parent.pending.Add(1)
	}
	return f
}

// rel is the path below the destination directory, "" for that itself.
func (f *folder) rel() string {
	var names []string
	for ; f.parent != nil; f = f.parent {
		names = append(names, f.name)
	}
	slices.Reverse(names)
	return strings.Join(names, "/")
}

// folders keeps a bounded number of descriptors of destination directories open. A closed one is opened again
// from its nearest open ancestor, and must then still be the same directory. Safe for concurrent use.
type folders struct {
	limit    int
	oneByOne bool // no openat2

	mu   sync.Mutex
	open *list.List // of *folder, most recently used first
}

func newFolders(limit int, oneByOne bool) *folders {
	var rl unix.Rlimit
	if limit == 0 && unix.Getrlimit(unix.RLIMIT_NOFILE, &rl) == nil {
		limit = int(min(max(rl.Cur/4, 16), 1024))
	}
	return &folders{limit: max(limit, 1), oneByOne: oneByOne || !hasOpenat2(), open: list.New()}
}

// acquire returns a descriptor of f that stays open until release.
func (c *folders) acquire(f *folder) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.fd >= 0 {
		c.use(f)
		return f.fd, nil
	}
	near, names := nearestOpen(f)
	c.use(near)
	from := near.fd
	c.mu.Unlock()
	fd, err := c.reopen(from, names, f)
	c.mu.Lock()
	c.drop(near)
	if err != nil {
		return -1, err
	}
	c.install(f, fd)
	c.use(f)
	return f.fd, nil
}

func nearestOpen(f *folder) (*folder, []string) {
	var names []string
	for ; f.fd < 0; f = f.parent {
		names = append(names, f.name)
	}
	slices.Reverse(names)
	return f, names
}

func (c *folders) reopen(dir int, names []string, f *folder) (int, error) {
	fd, err := openDown(dir, names, c.oneByOne)
	if err != nil {
		return -1, err
	}
	if !f.is(fd) {
		unix.Close(fd)
		return -1, ErrMoved
	}
	return fd, nil
}

// is reports whether fd is the directory that f was when it was first opened.
func (f *folder) is(fd int) bool {
	st, err := fstat(fd)
	return err == nil && st.Dev == f.dev && st.Ino == f.ino
}

// release ends one acquire.
func (c *folders) release(f *folder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(f)
}

// add gives a descriptor that was just opened into the keeping of c.
func (c *folders) add(f *folder, fd int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.install(f, fd)
}

// close closes f's descriptor, unless someone still uses it (a further name of a linked file, whose first name is in
// f, is no part of what f waits for); then it goes with the least recently used. If that of its parent is closed, it is opened from here by "..", which spares a long way down
// when a deep tree is left again.
func (c *folders) close(f *folder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.fd < 0 || f.users > 0 {
		return
	}
	if p := f.parent; p != nil && p.fd < 0 {
		if fd, err := unix.Openat(f.fd, "..", openDir, 0); err == nil {
			if p.is(fd) {
				c.install(p, fd)
			} else {
				unix.Close(fd)
			}
		}
	}
	c.shut(f)
}

// closeAll closes everything that is open.
func (c *folders) closeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.open.Front(); e != nil; e = c.open.Front() {
		c.shut(e.Value.(*folder))
	}
}

func (c *folders) install(f *folder, fd int) {
	if f.fd >= 0 { // someone else was quicker
		unix.Close(fd)
		return
	}
	f.fd = fd
	f.spot = c.open.PushFront(f)
	for e := c.open.Back(); e != nil && c.open.Len() > c.limit; {
		old := e
		e = e.Prev()
		if g := old.Value.(*folder); g.users == 0 && g.parent != nil && g != f {
			c.shut(g)
		}
	}
}

func (c *folders) use(f *folder) {
	f.users++
	c.open.MoveToFront(f.spot)
}

func (c *folders) drop(f *folder) { f.users-- }

func (c *folders) shut(f *folder) {
	if f.fd >= 0 {
		unix.Close(f.fd)
		c.open.Remove(f.spot)
		f.fd = -1
	}
}
