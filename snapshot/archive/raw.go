package archive

import (
	"io"
	"os"

	"snapfs/snapshot"
)

// rawCopy is a pipe that is read, and everything that comes out of it kept in scratch as long as there is room: so that volumes in the wrong
// order can be read after all, and damaged ones healed.
type rawCopy struct {
	in   *input
	file *os.File // nil: there was no room
	size int64
}

// Read reads the pipe.
func (c *rawCopy) Read(b []byte) (int, error) {
	n, err := c.in.pipe.Read(b)
	if n > 0 && c.file != nil {
		if _, failed := c.file.WriteAt(b[:n], c.size); failed != nil {
			_ = c.file.Close() // gives the room back to what is kept without it
			c.file = nil
		}
		c.size += int64(n)
	}
	return n, err
}

// copying is the pipe to read: with a copy if the caller gave room for it.
func (b *Bare) copying(in *input) io.Reader {
	if !b.o.KeepAll || b.pipes != nil && b.pipes.known {
		return in.pipe
	}
	c, err := b.newCopy(in)
	if err != nil {
		return in.pipe
	}
	return c
}

func (b *Bare) newCopy(in *input) (*rawCopy, error) {
	f, err := snapshot.ScratchFile(b.o.Scratch)
	if err != nil {
		return nil, err
	}
	c := &rawCopy{in: in, file: f}
	b.copies = append(b.copies, c)
	return c, nil
}

// dropCopies gives up what was copied.
func (b *Bare) dropCopies() {
	for _, c := range b.copies {
		if c.file != nil {
			_ = c.file.Close() // nobody reads it
			c.file = nil
		}
	}
}

// everythingKept reports whether all that came out of pipes so far is in scratch.
func (b *Bare) everythingKept() bool {
	for _, c := range b.copies {
		if c.file == nil {
			return false
		}
	}
	return len(b.copies) > 0
}

// readRest empties the pipes, and gives inputs that can be read anywhere in their place; ok is false if there was no room.
func (b *Bare) readRest() (list []*input, ok bool) {
	for _, in := range b.inputs {
		if in.pipe == nil {
			list = append(list, in)
			continue
		}
		var kept *rawCopy
		for _, c := range b.copies {
			if c.in == in {
				kept = c
			}
		}
		if kept == nil {
			var err error
			if kept, err = b.newCopy(in); err != nil {
				return nil, false
			}
		}
		_, _ = io.Copy(io.Discard, kept) // an error of the pipe ends it
		if kept.file == nil {
			return nil, false
		}
		if p, ok := in.pipe.(*lazyPipe); ok {
			_ = p.close() // it was only read
		}
		list = append(list, &input{name: in.name, named: in.named, file: kept.file, size: kept.size})
	}
	return list, true
}
