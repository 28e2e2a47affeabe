package restore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/store"
)

// Passing is a Reader some of whose chunks come by once and in an order of their own, as through a pipe. Those have no Place before.
type Passing interface {
	Reader
	// Passes reports whether something is still to come.
	Passes() bool
	// Certain reports whether nothing that may still come can show that another snapshot is wanted. Until then nothing is deleted.
	Certain() bool
	// Pass reads on and gives the chunks for which wanted returns true to take, from several goroutines, some perhaps more than once. It
	// ends when nothing more comes, or all of it has been read since enough returned true, or with take's error.
	Pass(ctx context.Context, wanted func(store.ID) bool, take func(store.ID, []byte) error, enough func() bool) error
}

// passage is what waits for chunks that are still to come. While the snapshot is scanned it is filled, then the chunks come, then what
// had to wait for all of them is done: further names of linked files, and the attributes of directories.
type passage struct {
	*run
	from Passing

	places  *openPlaces
	lacking *positions // ranks of linked files of which not all came
	files   *records   // of waitingFile
	links   *records   // of waitingLink
	later   *records   // of lateFolder; number 0 is the destination directory
	handles *handles
	unswept *positions // of directories

	mu   sync.Mutex
	dirs map[uint32]*folder // some of folders
}

func newPassage(r *run, from Passing) *passage {
	p := &passage{run: r, from: from, dirs: map[uint32]*folder{}, places: newOpenPlaces(r.Scratch), lacking: &positions{}, unswept: &positions{},
		files: newRecords(fileRecord, r.Scratch), links: newRecords(linkRecord, r.Scratch), later: newRecords(folderRecord, r.Scratch)}
	p.handles = newHandles(p, min(r.folders.limit/2+1, mostHandles))
	return p
}

func (p *passage) close() {
	p.places.close()
	for _, list := range []*records{p.files, p.links, p.later} {
		list.close()
	}
}

// finish lets the chunks come, now that the scan has ended, and does what had to wait for them.
func (p *passage) finish() error {
	err := p.cause()
	if err == nil {
		err = p.receive()
	}
	err = errors.Join(err, p.giveUp(err != nil))
	if err != nil {
		return err
	}
	if err := p.makeLinks(); err != nil {
		return err
	}
	if p.doubt && p.from.Certain() {
		p.sweepLate()
	}
	return p.finishFolders()
}

// receive takes chunks until none is missing any more or none comes.
func (p *passage) receive() error {
	if err := p.places.settle(); err != nil {
		return fmt.Errorf("scratch: %w", err)
	}
	flush := make(chan struct{}, 1)
	var g errgroup.Group
	g.Go(func() error {
		for range flush {
			_ = p.flush() // errors come again at the end
		}
		return nil
	})
	f := &flusher{run: p.run, due: flush, done: p.count.bytesWritten.Load()}
	err := p.from.Pass(p.ctx, p.places.wants, func(id store.ID, data []byte) error {
		err := p.take(id, data)
		f.look()
		return err
	}, func() bool { return p.places.left() == 0 })
	close(flush)
	_ = g.Wait()
	return errors.Join(err, p.handles.closeAll(), p.cause())
}

// flusher asks for a flush when enough has been written since the last one.
type flusher struct {
	run *run
	due chan<- struct{}

	mu   sync.Mutex
	done int64
}

func (f *flusher) look() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.run.count.bytesWritten.Load(); n-f.done > f.run.flushEvery {
		f.done = n
		select {
		case f.due <- struct{}{}:
		default: // the disk is busy with the last one
		}
	}
}

// take puts a chunk into all its places.
func (p *passage) take(id store.ID, data []byte) error {
	first, ok, err := p.places.claim(id)
	if err != nil {
		return fmt.Errorf("scratch: %w", err)
	}
	if !ok {
		return nil
	}
	return p.places.each(first, id, func(at place) error {
		if err := p.cause(); err != nil {
			return err
		}
		return p.fillPlace(at, data)
	})
}

// fillPlace writes a chunk to one place; the last one finishes the file. An error ends the run.
func (p *passage) fillPlace(at place, data []byte) error {
	if !p.handles.has(at.file) {
		f, err := p.file(at.file)
		if err != nil {
			return err
		}
		if f.left == 1 && f.flags&fileBegun == 0 {
			return p.wholeFile(at, f, data)
		}
	}
	h, err := p.handles.acquire(at.file)
	if h == nil {
		return err
	}
	if int(at.length) != len(data) {
		err = fmt.Errorf("%w: %d bytes, not %d", errLength, len(data), at.length)
	} else if err = p.write(h.fd, data, at.offset); err == nil {
		h.drop(at.offset, int64(len(data)))
		p.count.bytes.Add(int64(len(data)))
	}
	return p.handles.release(h, err)
}

// wholeFile writes a file whose content is one chunk, at once.
func (p *passage) wholeFile(at place, f waitingFile, data []byte) error {
	if f.flags&fileDone != 0 {
		return nil
	}
	f.left, f.flags = 0, f.flags|fileDone
	if err := p.keepFile(at.file, f); err != nil {
		return err
	}
	j, err := p.job(p.ctx, f.name, f.folder)
	if err != nil {
		return p.lostJob(f.name, err)
	}
	action, err := p.placeWhole(j, at, data)
	p.finished(j, action, err)
	return p.cause()
}

func (p *passage) placeWhole(j *job, at place, data []byte) (Action, error) {
	if int(at.length) != len(data) {
		return "", fmt.Errorf("%w: %d bytes, not %d", errLength, len(data), at.length)
	}
	dir, err := p.folders.acquire(j.folder)
	if err != nil {
		return "", err
	}
	defer p.folders.release(j.folder)
	return p.outcome(p.writeFile(dir, j, nil, data, at.offset))
}

// job is the name at a position, as the scan had it.
func (p *passage) job(ctx context.Context, name, folder uint32) (*job, error) {
	f, err := p.folder(ctx, folder)
	if err != nil {
		return nil, err
	}
	found, err := p.tree.At(ctx, name)
	if err != nil {
		return nil, err
	}
	return &job{folder: f, entry: found, name: name}, nil
}

// lostJob reports a name of which not even the snapshot's entry can be read any more.
func (p *passage) lostJob(name uint32, err error) error {
	if cause := p.cause(); cause != nil {
		return cause
	}
	path, _ := p.tree.PathAt(p.ctx, name)
	p.fail("restore", path, err)
	return nil
}

// giveUp ends files that did not get all their content. If the run ends, their unfinished files are only removed.
func (p *passage) giveUp(ends bool) error {
	err := p.files.each(func(number uint32, b []byte) error {
		f := parseWaitingFile(b)
		if f.flags&fileDone != 0 || ends && f.flags&fileBegun == 0 {
			return nil
		}
		return p.abandon(number, f, !ends)
	})
	if err != nil {
		return fmt.Errorf("scratch: %w", err)
	}
	return nil
}

// abandon removes what there is of a file that cannot be finished.
func (p *passage) abandon(number uint32, f waitingFile, report bool) error {
	j, err := p.job(context.WithoutCancel(p.ctx), f.name, f.folder) // a run that was cancelled still has to remove what it made
	if err != nil {
		if report {
			return p.lostJob(f.name, err)
		}
		return nil
	}
	if f.flags&fileBegun != 0 && f.flags&filePatched == 0 {
		if dir, err := p.folders.acquire(j.folder); err == nil {
			_ = p.unlink(dir, p.owner.tempOf(f.temp), 0)
			p.folders.release(j.folder)
		}
	}
	if report {
		if j.linked() {
			p.lacking.add(j.rank())
		}
		p.account(j, "", ErrNotCome)
	}
	f.flags |= fileDone
	return p.keepFile(number, f)
}

// waitingLink is a further name of a linked file, to be made when the first one is there.
type waitingLink struct {
	name, folder uint32
	exists       bool // something had the name
}

// postponeLink notes a further name.
func (p *passage) postponeLink(j *job) {
	err := p.prepareLink(j)
	if err != nil {
		p.finished(j, "", err)
	}
}

func (p *passage) prepareLink(j *job) error {
	dir, err := p.folders.acquire(j.folder)
	if err != nil {
		return err
	}
	p.openUp(j.folder, dir)
	p.folders.release(j.folder)
	number, err := p.late(j.folder)
	if err != nil {
		return err
	}
	_, err = p.links.add(waitingLink{j.name, number, j.exists}.encode())
	return err
}

// makeLinks gives linked files their further names.
func (p *passage) makeLinks() error {
	alone := &window{} // the first names are found by their positions
	return p.links.each(func(_ uint32, b []byte) error {
		l := parseWaitingLink(b)
		if err := p.cause(); err != nil {
			return err
		}
		j, err := p.job(p.ctx, l.name, l.folder)
		if err != nil {
			return p.lostJob(l.name, err)
		}
		j.exists = l.exists
		action, err := p.linkTo(alone, j)
		if cannotLink(err) {
			action, err = p.copyFirst(j)
		}
		if errors.Is(err, ErrFirstName) && p.lacking.has(j.rank()) {
			err = fmt.Errorf("%w: %w", err, ErrNotCome)
		}
		p.finished(j, action, err)
		return p.cause()
	})
}

// copyFirst makes a name a file of its own where the destination refuses to link it, with the content of the first name: what comes
// through a pipe comes once.
func (p *passage) copyFirst(j *job) (Action, error) {
	from, name, release, err := p.openFirst(&window{}, j)
	if err != nil {
		return "", err
	}
	defer release()
	st, err := statat(from, name)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrFirstName, err)
	}
	fd, err := p.openReading(from, name, &st)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	dir, err := p.folders.acquire(j.folder)
	if err != nil {
		return "", err
	}
	defer p.folders.release(j.folder)
	action, err := p.outcome(p.writeFile(dir, j, &old{handle: handle{fd: fd}, st: st}, nil, 0))
	if err == nil {
		p.firsts.replace(j.rank(), j.name)
	}
	return action, err
}

// here reports which of the items can be read now.
func (p *passage) here(items []snapshot.Item) ([]bool, error) {
	ids := make([]store.ID, len(items))
	for i, it := range items {
		ids[i] = it.ID
	}
	places, err := p.reader.Locate(p.ctx, ids)
	if err != nil {
		return nil, err
	}
	list := make([]bool, len(items))
	for i := range list {
		list[i] = !places[i].IsZero()
	}
	return list, nil
}
