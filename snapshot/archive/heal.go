package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"snapfs/snapshot"
	"snapfs/store/volume"
)

// pageSize is the piece in which healed bytes are kept.
const pageSize = 4096

// overlay is a volume with some of its bytes replaced: those that parity restored. What is as in the volume is not kept, so that healing
// costs as much scratch as there is damage. It is the volume.File that volume.Repair writes.
type overlay struct {
	src     io.ReaderAt
	srcSize int64

	mu    sync.RWMutex
	temp  *os.File // pages that differ, in the order they were written; nil: none yet
	dir   string
	pages map[int64]int64 // place in temp by number
	size  int64
}

func newOverlay(src io.ReaderAt, size int64, dir string) *overlay {
	return &overlay{src: src, srcSize: size, dir: dir, pages: map[int64]int64{}}
}

// ReadAt reads the volume as it is after healing.
func (o *overlay) ReadAt(b []byte, off int64) (int, error) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if off >= o.size {
		return 0, io.EOF
	}
	short := off+int64(len(b)) > o.size
	if short {
		b = b[:o.size-off]
	}
	n := 0
	for n < len(b) {
		m, err := o.readSome(b[n:], off+int64(n))
		n += m
		if err != nil {
			return n, err
		}
	}
	if short {
		return n, io.EOF
	}
	return n, nil
}

// readSome reads from one page that was replaced, or from a run of those that were not. Needs mu.
func (o *overlay) readSome(b []byte, off int64) (int, error) {
	page := off / pageSize
	if at, ok := o.pages[page]; ok {
		in := off % pageSize
		return o.temp.ReadAt(b[:min(int64(len(b)), pageSize-in)], at+in)
	}
	end := page + 1
	for end*pageSize < off+int64(len(b)) {
		if _, ok := o.pages[end]; ok {
			break
		}
		end++
	}
	b = b[:min(int64(len(b)), end*pageSize-off)]
	n, err := o.fromSource(b, off)
	return n, err
}

// fromSource reads the volume as it was; behind its end are zeros.
func (o *overlay) fromSource(b []byte, off int64) (int, error) {
	n := int(min(int64(len(b)), max(0, o.srcSize-off)))
	if n > 0 {
		if m, err := o.src.ReadAt(b[:n], off); m < n {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return m, err
		}
	}
	clear(b[n:])
	return len(b), nil
}

// WriteAt replaces bytes; pages that stay the same are not kept.
func (o *overlay) WriteAt(b []byte, off int64) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.size = max(o.size, off+int64(len(b)))
	for done := 0; done < len(b); {
		at := off + int64(done)
		n := int(min(int64(len(b)-done), pageSize-at%pageSize))
		if err := o.writePage(b[done:done+n], at); err != nil {
			return done, err
		}
		done += n
	}
	return len(b), nil
}

// writePage replaces bytes of one page. Needs mu.
func (o *overlay) writePage(b []byte, off int64) error {
	page, in := off/pageSize, off%pageSize
	var now [pageSize]byte
	at, kept := o.pages[page]
	if kept {
		_, err := o.temp.WriteAt(b, at+in)
		return err
	}
	_, err := o.fromSource(now[:], page*pageSize)
	if err == nil && bytes.Equal(now[in:][:len(b)], b) {
		return nil
	}
	copy(now[in:], b) // what cannot be read beside it stays zero
	if err := o.open(); err != nil {
		return err
	}
	at = int64(len(o.pages)) * pageSize
	if _, err := o.temp.WriteAt(now[:], at); err != nil {
		return err
	}
	o.pages[page] = at
	return nil
}

func (o *overlay) open() (err error) {
	if o.temp == nil {
		if o.temp, err = snapshot.ScratchFile(o.dir); err != nil {
			return fmt.Errorf("scratch: %w", err)
		}
	}
	return nil
}

// Truncate sets the length.
func (o *overlay) Truncate(size int64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.size = size
	return nil
}

// Sync does nothing: what is healed here lives as long as the process.
func (o *overlay) Sync() error { return nil }

// Close gives the scratch back.
func (o *overlay) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.temp == nil {
		return nil
	}
	return o.temp.Close()
}

// heal gives a volume as parity would have it, and what could not be healed. It reads all of it.
func heal(src io.ReaderAt, size int64, id volume.ID, dir string) (*overlay, volume.RepairReport, error) {
	o := newOverlay(src, size, dir)
	report, err := volume.Repair(src, size, o, volume.RepairOptions{Volume: id})
	if err != nil {
		return nil, report, errors.Join(err, o.Close())
	}
	return o, report, nil
}
