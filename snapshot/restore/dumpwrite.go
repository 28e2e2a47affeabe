package restore

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strconv"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

// writeAll writes the members in order. It ends at the first error of the stream.
func (d *dump) writeAll() error {
	for m := range d.members {
		err := d.write(m)
		d.drain(m)
		if err != nil {
			return err
		}
	}
	if err := d.ctx.Err(); err != nil {
		return err
	}
	return d.tar.close()
}

// fail counts and reports a member that is not as it should be.
func (d *dump) fail(m *member, err error) {
	d.out.Errors++
	if damaged(err) {
		d.out.Damaged++
	}
	if m.entry.Entry != nil && m.entry.Position&snapshot.LinkBit != 0 && m.link == "" {
		d.firsts.replace(m.entry.Position&^snapshot.LinkBit, lostFirst)
	}
	if d.OnError != nil {
		d.OnError(&snapshot.PathError{Op: "dump", Path: m.path, Err: err})
	}
}

// write writes one member; the error is one of the stream.
func (d *dump) write(m *member) error {
	if m.entry.Entry != nil && m.path != d.top {
		d.out.Entries++
	}
	if m.err != nil {
		d.fail(m, m.err)
		return nil
	}
	if m.link != "" && d.firsts.of(m.entry.Position&^snapshot.LinkBit) == lostFirst {
		d.fail(m, ErrFirstName)
		return nil
	}
	if m.entry.Type == snapshot.TypeSocket {
		d.out.SkippedSockets++
		if d.OnSkip != nil {
			d.OnSkip(m.path)
		}
		return nil
	}
	h, err := d.headerOf(m)
	if err != nil {
		d.fail(m, err)
		return nil
	}
	d.out.Written++
	if h.kind != tarFile {
		return d.tar.header(h)
	}
	return d.writeFile(m, h)
}

// headerOf fills in everything but what is particular to sparse files.
func (d *dump) headerOf(m *member) (*tarHeader, error) {
	e := m.entry.Entry
	h := &tarHeader{name: m.name, mode: e.Mode, uid: e.UID, gid: e.GID, user: e.User, group: e.Group, mtime: e.Mtime}
	if m.link != "" {
		h.kind, h.link = tarLink, m.link
		return h, nil
	}
	xattrs, err := d.tree.Xattrs(d.ctx, e)
	if err != nil {
		return nil, err
	}
	h.extra = xattrRecords(xattrs)
	switch e.Type {
	case snapshot.TypeDir:
		h.kind = tarDir
	case snapshot.TypeSymlink:
		h.kind, h.link = tarSymlink, e.Target
	case snapshot.TypeFIFO:
		h.kind = tarFIFO
	case snapshot.TypeChar, snapshot.TypeBlock:
		h.kind = tarChar
		if e.Type == snapshot.TypeBlock {
			h.kind = tarBlockD
		}
		h.major, h.minor = unix.Major(e.Rdev), unix.Minor(e.Rdev)
	case snapshot.TypeFile:
		h.kind, h.size = tarFile, e.Size
	default:
		return nil, fmt.Errorf("entry of unknown type %d", e.Type)
	}
	return h, nil
}

// writeFile writes header and content of a regular file.
func (d *dump) writeFile(m *member, h *tarHeader) error {
	if m.pieces == nil { // empty
		return d.tar.header(h)
	}
	extents, err := d.sparseMap(m, h)
	if err != nil {
		d.fail(m, err)
		d.out.Written--
		return nil
	}
	held, err := d.hold(m)
	if err != nil {
		d.fail(m, err)
		d.out.Written--
		return nil
	}
	size := h.size
	if err := d.tar.header(h); err != nil {
		return err
	}
	if extents != nil {
		if err := extents(); err != nil {
			return err
		}
	}
	return d.content(m, held, size)
}

// hold waits for all content of a small file, so that damage is known before the header is written.
func (d *dump) hold(m *member) (held []*piece, err error) {
	if m.entry.Size > dumpHeld {
		return nil, nil
	}
	for p := range m.pieces {
		<-p.ready
		held = append(held, p)
		err = errors.Join(err, p.err)
	}
	if err != nil {
		for _, p := range held {
			d.ahead.Release(p.held)
		}
	}
	return held, err
}

// content writes a member's data up to a size, zeros in place of what cannot be read.
func (d *dump) content(m *member, held []*piece, size int64) error {
	var lost error
	write := func(p *piece) error {
		<-p.ready
		defer d.ahead.Release(p.held)
		if p.err != nil {
			lost = p.err
			return d.tar.zeros(p.n)
		}
		d.out.BytesWritten += p.n
		return d.tar.data(p.data)
	}
	for _, p := range held {
		if err := write(p); err != nil {
			return err
		}
	}
	for p := range m.pieces {
		if err := write(p); err != nil {
			return err
		}
	}
	if d.tar.wrote < size && lost == nil {
		lost = fmt.Errorf("%w: content ends at %d of %d bytes", errLength, d.tar.wrote, size)
	}
	if lost != nil {
		d.fail(m, lost)
	}
	if err := d.tar.zeros(size - d.tar.wrote); err != nil {
		return err
	}
	return d.tar.pad()
}

// sparseMap changes the header into that of a sparse file, GNU's PAX format 1.0, if the file has holes: its data begins with a map
// of the stretches that are stored, which the returned function writes. The map is made from the list of chunks twice, first only
// to learn its size, so that it is never in memory.
func (d *dump) sparseMap(m *member, h *tarHeader) (write func() error, err error) {
	e := m.entry.Entry
	var count, length, stored int64
	holes := false
	err = d.extents(e, func(off, n int64) error {
		count++
		length += int64(len(strconv.FormatInt(off, 10)) + len(strconv.FormatInt(n, 10)) + 2)
		stored += n
		return nil
	}, &holes)
	if err != nil || !holes {
		return nil, err
	}
	length += int64(len(strconv.FormatInt(count, 10)) + 1)
	length = (length + tarBlock - 1) / tarBlock * tarBlock
	h.extra = append(h.extra, paxRecord{"GNU.sparse.major", "1"}, paxRecord{"GNU.sparse.minor", "0"},
		paxRecord{"GNU.sparse.name", h.name}, paxRecord{"GNU.sparse.realsize", strconv.FormatInt(e.Size, 10)})
	h.name = ascii("GNUSparseFile.0/"+path.Base(h.name), 100)
	h.size = length + stored
	return func() error {
		if err := d.tar.data(strconv.AppendInt(nil, count, 10)); err != nil {
			return err
		}
		if err := d.tar.data([]byte("\n")); err != nil {
			return err
		}
		var buf bytes.Buffer
		err := d.extents(e, func(off, n int64) error {
			fmt.Fprintf(&buf, "%d\n%d\n", off, n)
			if buf.Len() < 64<<10 {
				return nil
			}
			defer buf.Reset()
			return d.tar.data(buf.Bytes())
		}, &holes)
		if err != nil {
			return err
		}
		if err := d.tar.data(buf.Bytes()); err != nil {
			return err
		}
		return d.tar.zeros(length - d.tar.wrote)
	}, nil
}

// extents calls fn for each stretch of data of a file, and for the empty one at its end if it ends in a hole.
func (d *dump) extents(e *snapshot.Entry, fn func(off, n int64) error, holes *bool) error {
	var from, to int64
	var failed error
	err := d.tree.Items(d.ctx, e, 0, func(off int64, it snapshot.Item) bool {
		if !it.ID.IsZero() {
			if to != off {
				if to > from {
					failed = fn(from, to-from)
				}
				from = off
			}
			to = off + it.Length
		} else {
			*holes = true
		}
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	if err == nil && to > from {
		err = fn(from, to-from)
	}
	if err == nil && to < e.Size {
		err = fn(e.Size, 0)
	}
	return err
}
