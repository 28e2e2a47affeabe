package restore

import (
	"container/list"
	"errors"
	"sync"

	"golang.org/x/sys/unix"
)

// mostHandles bounds the unfinished files that are open at a time: chunks come about in the order of the tree, so few files are open at once.
const mostHandles = 128

// handles keeps a bounded number of unfinished files open. Safe for concurrent use.
type handles struct {
	p     *passage
	limit int

	mu       sync.Mutex
	byNumber map[uint32]*unfinished
	recent   *list.List // of *unfinished, most recently used first
}

// unfinished is a file of which a part is written, open.
type unfinished struct {
	filler
	number uint32

	opening sync.Once
	failure error // of opening
	job     *job
	temp    string // "": patched

	// Guarded by handles.mu.
	file  waitingFile
	users int
	spot  *list.Element
	err   error // the first one: it is given up when nobody uses it any more
}

func newHandles(p *passage, limit int) *handles {
	return &handles{p: p, limit: limit, byNumber: map[uint32]*unfinished{}, recent: list.New()}
}

// has reports whether a file is open.
func (c *handles) has(number uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byNumber[number] != nil
}

// acquire opens a file, making it if need be. nil without an error: it is not to be written any more.
func (c *handles) acquire(number uint32) (*unfinished, error) {
	c.mu.Lock()
	u := c.byNumber[number]
	if u == nil {
		f, err := c.p.file(number)
		if err != nil || f.flags&fileDone != 0 {
			c.mu.Unlock()
			return nil, err
		}
		u = &unfinished{number: number, file: f, filler: filler{run: c.p.run, fd: -1}}
		u.spot = c.recent.PushFront(u)
		c.byNumber[number] = u
	}
	u.users++
	c.recent.MoveToFront(u.spot)
	closed, err := c.shrink()
	c.mu.Unlock()
	for _, fd := range closed {
		unix.Close(fd)
	}
	if err != nil {
		return nil, err
	}
	u.opening.Do(func() { u.failure = c.open(u) })
	if u.failure != nil {
		return nil, c.release(u, u.failure)
	}
	return u, nil
}

// shrink takes out files that are too many and notes how far they are. Needs mu.
func (c *handles) shrink() (closed []int, err error) {
	for e := c.recent.Back(); e != nil && c.recent.Len() > c.limit; {
		u := e.Value.(*unfinished)
		e = e.Prev()
		if u.users == 0 {
			c.remove(u)
			closed = append(closed, u.fd)
			err = errors.Join(err, c.p.keepFile(u.number, u.file))
		}
	}
	return closed, err
}

func (c *handles) remove(u *unfinished) {
	c.recent.Remove(u.spot)
	delete(c.byNumber, u.number)
}

// open opens the file again if it was begun, else makes it.
func (c *handles) open(u *unfinished) error {
	j, err := c.p.job(c.p.ctx, u.file.name, u.file.folder)
	if err != nil {
		return err
	}
	u.job = j
	dir, err := c.p.folders.acquire(j.folder)
	if err != nil {
		return err
	}
	defer c.p.folders.release(j.folder)
	if u.file.flags&fileBegun == 0 {
		return c.make(u, dir)
	}
	if u.file.flags&filePatched != 0 {
		fd, ok := c.p.openPatched(dir, j.entry.Name, j.folder.dev, u.file.inode)
		if !ok {
			return ErrMoved
		}
		u.fd = fd
		return nil
	}
	u.temp = c.p.owner.tempOf(u.file.temp)
	fd, err := openat(dir, u.temp, unix.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	if !soleFile(fd, j.folder.dev, u.file.inode) {
		unix.Close(fd)
		return ErrMoved
	}
	u.fd = fd
	return nil
}

// make makes the file at its full length: what is not written is a hole.
func (c *handles) make(u *unfinished, dir int) error {
	e := u.job.entry.Entry
	temp, fd, _, err := c.p.create(dir, e, u.job.folder.made && !u.job.folder.hands)
	if err != nil {
		return err
	}
	u.fd, u.temp = fd, temp
	st, err := fstat(fd)
	if err != nil {
		return err
	}
	c.mu.Lock()
	u.file.flags |= fileBegun
	u.file.temp, u.file.inode = randomOf(temp), st.Ino
	c.mu.Unlock()
	return again(func() error { return unix.Ftruncate(fd, e.Size) })
}

// release ends an acquire. err is nil if a place was filled; else the file is given up. An error ends the run.
func (c *handles) release(u *unfinished, err error) error {
	c.mu.Lock()
	u.users--
	if err == nil {
		u.file.left--
	} else if u.err == nil {
		u.err = err
	}
	ends := u.users == 0 && (u.err != nil || u.file.left == 0)
	if ends {
		c.remove(u)
		u.file.flags |= fileDone
		err = c.p.keepFile(u.number, u.file)
	} else {
		err = nil
	}
	c.mu.Unlock()
	if err != nil || !ends {
		return err
	}
	return c.end(u)
}

// end finishes a file, or removes what there is of it.
func (c *handles) end(u *unfinished) error {
	if u.fd >= 0 {
		defer unix.Close(u.fd)
	}
	if u.job == nil {
		return c.p.lostJob(u.file.name, u.err)
	}
	action, err := c.endOpen(u)
	if cause := c.p.cause(); cause != nil {
		return cause
	}
	c.p.account(u.job, action, err)
	return nil
}

func (c *handles) endOpen(u *unfinished) (Action, error) {
	dir, err := c.p.folders.acquire(u.job.folder)
	if err != nil {
		return "", errors.Join(u.err, err)
	}
	defer c.p.folders.release(u.job.folder)
	action, err := ActionWrite, u.err
	switch {
	case err != nil:
	case u.temp == "":
		err = c.p.settlePatched(u.job, handle{fd: u.fd})
	default:
		action, err = c.p.finishTemp(dir, u.job, u.temp, u.fd)
	}
	if u.temp != "" && (err != nil || action == ActionSkip) {
		_ = c.p.unlink(dir, u.temp, 0)
	}
	return action, err
}

// closeAll closes what is open and notes how far it is.
func (c *handles) closeAll() (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.recent.Front(); e != nil; e = c.recent.Front() {
		u := e.Value.(*unfinished)
		c.remove(u)
		err = errors.Join(err, c.p.keepFile(u.number, u.file))
		if u.fd >= 0 {
			unix.Close(u.fd)
		}
	}
	return err
}
