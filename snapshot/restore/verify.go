package restore

import (
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

// verify reads back everything that was written, after it has reached the disk and its pages have been dropped, and compares type,
// size, content and link targets with the snapshot.
func (r *run) verify() {
	written := make(chan uint32, r.Workers)
	var g errgroup.Group
	for range r.Workers {
		g.Go(func() error {
			for position := range written {
				r.verifyAt(position)
			}
			return nil
		})
	}
	r.written.each(func(position uint32) bool {
		written <- position
		return r.ctx.Err() == nil
	})
	close(written)
	_ = g.Wait()
}

// verifyAt reports a name that does not read back as it should.
func (r *run) verifyAt(position uint32) {
	found, err := r.tree.At(r.ctx, position)
	if err == nil {
		err = r.readBack(position, found.Entry)
	}
	if err != nil {
		path, _ := r.tree.PathAt(r.ctx, position)
		names := splitPath(path)
		r.fail("verify", r.path(r.dest.top, strings.Join(names[min(len(names), len(splitPath(r.dest.path))):], "/")), err)
	}
}

func (r *run) readBack(position uint32, e *snapshot.Entry) error {
	dir, name, release, err := r.openAt(position)
	if err != nil {
		return err
	}
	defer release()
	st, err := statat(dir, name)
	if err != nil {
		return err
	}
	o := &old{handle: handle{fd: -1, ref: true}, st: st}
	if st.Mode&unix.S_IFMT != modeOf(e.Type) {
		return ErrDiffers
	}
	if e.Type == snapshot.TypeFile {
		fd, err := r.openReading(dir, name, &st)
		if err != nil {
			return err
		}
		o.handle = handle{fd: fd}
		_ = unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)
	} else if o.handle, err = openRef(dir, name); err != nil {
		return err
	}
	defer o.close()
	same, err := r.sameContent(e, o, false)
	if err == nil && !same {
		err = ErrDiffers
	}
	return err
}
