package restore

import (
	"encoding/binary"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

// waitingFile is a file that waits for chunks. What is known of it beside this is in the snapshot.
type waitingFile struct {
	name   uint32 // position
	folder uint32 // number in passage.later
	left   uint32 // places that are not filled
	flags  uint32
	temp   uint64 // ends its temporary name
	inode  uint64 // of the unfinished file: it is opened again by its name, behind which somebody may have put another
}

const fileRecord = 32 // bytes of a waitingFile

// Flags of a waitingFile.
const (
	fileBegun   = 1 << iota // a part of it is written
	filePatched             // into the old file itself
	fileDone                // finished, or given up and reported
)

func (f waitingFile) encode() []byte {
	b := make([]byte, 0, fileRecord)
	b = binary.LittleEndian.AppendUint32(b, f.name)
	b = binary.LittleEndian.AppendUint32(b, f.folder)
	b = binary.LittleEndian.AppendUint32(b, f.left)
	b = binary.LittleEndian.AppendUint32(b, f.flags)
	b = binary.LittleEndian.AppendUint64(b, f.temp)
	return binary.LittleEndian.AppendUint64(b, f.inode)
}

func parseWaitingFile(b []byte) waitingFile {
	return waitingFile{
		name: binary.LittleEndian.Uint32(b), folder: binary.LittleEndian.Uint32(b[4:]), left: binary.LittleEndian.Uint32(b[8:]),
		flags: binary.LittleEndian.Uint32(b[12:]), temp: binary.LittleEndian.Uint64(b[16:]), inode: binary.LittleEndian.Uint64(b[24:]),
	}
}

func (p *passage) file(number uint32) (waitingFile, error) {
	var b [fileRecord]byte
	if err := p.files.read(number, b[:]); err != nil {
		return waitingFile{}, fmt.Errorf("scratch: %w", err)
	}
	return parseWaitingFile(b[:]), nil
}

func (p *passage) keepFile(number uint32, f waitingFile) error {
	if err := p.files.write(number, f.encode()); err != nil {
		return fmt.Errorf("scratch: %w", err)
	}
	return nil
}

const linkRecord = 12 // bytes of a waitingLink

func (l waitingLink) encode() []byte {
	b := make([]byte, linkRecord)
	binary.LittleEndian.PutUint32(b, l.name)
	binary.LittleEndian.PutUint32(b[4:], l.folder)
	if l.exists {
		b[8] = 1
	}
	return b
}

func parseWaitingLink(b []byte) waitingLink {
	return waitingLink{binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), b[8] != 0}
}

// postpone begins a file as far as that is possible now and notes the places that wait for chunks: then it returns waits. No action: nothing
// of it is to come.
func (p *passage) postpone(dir int, j *job, o *old) (Action, error) {
	w, err := p.survey(j)
	if err != nil || w.coming == 0 {
		return "", err
	}
	if w.file.folder, err = p.late(j.folder); err != nil {
		return "", err
	}
	if w.number, err = p.files.add(w.file.encode()); err != nil {
		return "", fmt.Errorf("scratch: %w", err)
	}
	if o.readable() || w.coming < w.chunks {
		return p.beginFile(dir, j, o, w)
	}
	err = p.tree.Items(p.ctx, j.entry.Entry, 0, func(off int64, it snapshot.Item) bool {
		if !it.ID.IsZero() {
			err = w.add(off, it)
		}
		return err == nil
	})
	return waits, p.noted(w, err)
}

// noted keeps what is known of a file that waits; after an error it waits no more.
func (p *passage) noted(w *beginning, err error) error {
	w.file.left = w.left
	if err != nil {
		w.file.flags |= fileDone
	}
	if failed := p.keepFile(w.number, w.file); err == nil {
		err = failed
	}
	return err
}

// beginning is a file that begins to wait.
type beginning struct {
	passage *passage
	number  uint32
	file    waitingFile
	chunks  int // items that are no holes
	coming  int // of these, those that cannot be read yet

	mu   sync.Mutex
	left uint32
}

// survey counts what a file needs.
func (p *passage) survey(j *job) (*beginning, error) {
	w := &beginning{passage: p, file: waitingFile{name: j.name}}
	var batch []snapshot.Item
	count := func() error {
		here, err := p.here(batch)
		for _, h := range here {
			if !h {
				w.coming++
			}
		}
		w.chunks += len(batch)
		batch = batch[:0]
		return err
	}
	end, err := int64(0), error(nil)
	failed := p.tree.Items(p.ctx, j.entry.Entry, 0, func(off int64, it snapshot.Item) bool {
		if end = off + it.Length; !it.ID.IsZero() {
			batch = append(batch, it)
		}
		if len(batch) == 512 {
			err = count()
		}
		return err == nil
	})
	if err == nil {
		err = count()
	}
	switch {
	case failed != nil:
		return nil, failed
	case err == nil && end != j.entry.Size:
		err = fmt.Errorf("%w: content of %d bytes, not %d", errLength, end, j.entry.Size)
	}
	return w, err
}

// add notes a place.
func (w *beginning) add(off int64, it snapshot.Item) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if it.Length > 1<<32-1 || w.left == 1<<32-1 {
		return fmt.Errorf("%w: a chunk of %d bytes", errLength, it.Length)
	}
	w.left++
	if err := w.passage.places.add(it.ID, place{w.number, off, uint32(it.Length)}); err != nil {
		return fmt.Errorf("scratch: %w", err)
	}
	return nil
}

// lacks is fillOptions.lacks: what cannot be read yet is noted.
func (w *beginning) lacks(off int64, it snapshot.Item) (bool, error) {
	here, err := w.passage.here([]snapshot.Item{it})
	if err != nil || here[0] {
		return false, err
	}
	return true, w.add(off, it)
}

// beginFile writes what is in the old file or can be read; the rest waits.
func (p *passage) beginFile(dir int, j *job, o *old, w *beginning) (Action, error) {
	if o.readable() && p.Patch && o.st.Nlink == 1 {
		if fd, ok := p.openPatched(dir, j.entry.Name, o.st.Dev, o.st.Ino); ok {
			defer unix.Close(fd)
			w.file.flags, w.file.inode = fileBegun|filePatched, o.st.Ino
			return p.fillSome(j, o, w, fd, func() (Action, error) { return ActionWrite, p.settlePatched(j, handle{fd: fd}) })
		}
	}
	temp, fd, _, err := p.create(dir, j.entry.Entry, j.folder.made && !j.folder.hands)
	if err != nil {
		return "", p.noted(w, err)
	}
	defer unix.Close(fd)
	st, err := fstat(fd)
	if err != nil {
		return "", p.noted(w, err)
	}
	w.file.flags, w.file.temp, w.file.inode = fileBegun, randomOf(temp), st.Ino
	action, err := p.fillSome(j, o, w, fd, func() (Action, error) { return p.finishTemp(dir, j, temp, fd) })
	if err != nil {
		_ = p.unlink(dir, temp, 0)
	}
	return action, err
}

// fillSome fills what can be filled; if that is all, end ends the file.
func (p *passage) fillSome(j *job, o *old, w *beginning, fd int, end func() (Action, error)) (Action, error) {
	err := p.fill(fd, j.entry.Entry, o, fillOptions{patch: w.file.flags&filePatched != 0, lacks: w.lacks})
	if err != nil || w.left > 0 {
		return waits, p.noted(w, err)
	}
	w.file.flags |= fileDone
	if err := p.noted(w, nil); err != nil {
		return "", err
	}
	return end()
}

// finishTemp gives a file that is complete its attributes and its name.
func (p *passage) finishTemp(dir int, j *job, temp string, fd int) (Action, error) {
	st, err := fstat(fd)
	if err != nil {
		return "", err
	}
	cur := currentOf(&st)
	cur.bare = j.folder.made && !j.folder.hands
	return p.outcome(p.moveFile(dir, j, temp, fd, cur))
}
