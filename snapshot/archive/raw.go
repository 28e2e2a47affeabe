package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

// rawCopy is a pipe that is read, and everything that comes out of it kept in scratch as long as there is room: so that volumes in the wrong
// order can be read after all, and damaged ones healed. What was copied ahead and then not used comes out of Read all the same.
type rawCopy struct {
	pipe  io.Reader
	file  *os.File // nil: nothing is kept
	size  int64    // of what is in file
	read  int64    // of that, by Read
	rest  []byte   // came and found no room, to be read behind it
	came  int64    // through the pipe
	fault error    // why not all of that is in file; nil: it is
}

// Errors of a rawCopy.
var (
	errNoRoom    = errors.New("there is no room for it")
	errNotNeeded = errors.New("given up")
)

// Read gives what was copied ahead, then reads the pipe.
func (c *rawCopy) Read(b []byte) (int, error) {
	if c.read < c.size {
		n, err := c.file.ReadAt(b[:min(int64(len(b)), c.size-c.read)], c.read)
		c.read += int64(n)
		if n > 0 {
			err = nil
		}
		if c.read == c.size && c.fault != nil {
			c.drop() // gives the room back to what is kept without it
		}
		return n, err
	}
	if len(c.rest) > 0 {
		n := copy(b, c.rest)
		c.rest = c.rest[n:]
		return n, nil
	}
	n, err := c.pipe.Read(b)
	c.came += int64(n)
	if c.keep(b[:n]) {
		c.read = c.size
	} else {
		c.drop()
	}
	return n, err
}

// keep appends to the copy; false if it is none any more.
func (c *rawCopy) keep(b []byte) bool {
	if c.fault != nil {
		return false
	}
	if _, err := c.file.WriteAt(b, c.size); err != nil {
		c.fault = err
		return false
	}
	c.size += int64(len(b))
	return true
}

// drop gives the copy up.
func (c *rawCopy) drop() {
	if c.file != nil {
		_ = c.file.Close() // nobody reads it
		c.file = nil
	}
	if c.fault == nil {
		c.fault = errNotNeeded
	}
	c.size, c.read = 0, 0
}

// fill copies the rest of the pipe, so many bytes of it at most. An error of the pipe ends it.
func (c *rawCopy) fill(ctx context.Context, most int64) error {
	buf := make([]byte, streamPiece)
	for c.fault == nil {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := c.pipe.Read(buf)
		c.came += int64(n)
		if most -= int64(n); most < 0 {
			c.fault = errNoRoom
		}
		if !c.keep(buf[:n]) {
			c.rest = bytes.Clone(buf[:n])
		} else if err != nil {
			return nil
		}
	}
	return c.fault
}

// copying is the pipe to read: with a copy if the caller gave room for it.
func (b *Bare) copying(in *input) io.Reader {
	if in.kept == nil {
		if !b.o.KeepAll || b.pipes != nil && b.pipes.known {
			return in.pipe
		}
		b.newCopy(in)
	}
	return in.kept
}

func (b *Bare) newCopy(in *input) {
	in.kept = &rawCopy{pipe: in.pipe}
	in.kept.file, in.kept.fault = snapshot.ScratchFile(b.o.Scratch)
}

// dropCopies gives up what was copied.
func (b *Bare) dropCopies() {
	for _, in := range b.inputs {
		if in.kept != nil {
			in.kept.drop()
		}
	}
}

// everythingKept reports whether all that came out of pipes so far is in scratch.
func (b *Bare) everythingKept() bool {
	copies := 0
	for _, in := range b.inputs {
		if in.kept == nil {
			continue
		}
		if copies++; in.kept.fault != nil {
			return false
		}
	}
	return copies > 0
}

// keepRest empties the pipes, and gives inputs that can be read anywhere in their place. If there is no room in scratch, or there would be less than
// spare left, the pipes go on where they were.
func (b *Bare) keepRest(ctx context.Context, spare int64) (list []*input, err error) {
	most := int64(math.MaxInt64)
	if spare > 0 {
		most = max(0, freeIn(b.o.Scratch)-spare)
	}
	for _, in := range b.inputs {
		if in.pipe == nil {
			list = append(list, in)
			continue
		}
		if in.kept == nil {
			b.newCopy(in)
		}
		had := in.kept.size
		if err := in.kept.fill(ctx, most); err != nil {
			return nil, err
		}
		most -= in.kept.size - had
		list = append(list, &input{name: in.name, named: in.named, piped: !in.tape, file: in.kept.file, size: in.kept.size})
	}
	for _, in := range b.inputs {
		in.kept = nil // its file is in the list
		if p, ok := in.pipe.(*lazyPipe); ok {
			_ = p.close() // it was only read
		}
	}
	return list, nil
}

// openKept opens anew, with copies of what came through pipes. If there is no room for them failed stands, or, if that is nil, it goes on as it is.
func (b *Bare) openKept(ctx context.Context, failed error) (*Bare, error) {
	spare := int64(0)
	if failed == nil {
		spare = min(freeIn(b.o.Scratch)/2, 2*keptMost)
	}
	list, err := b.keepRest(ctx, spare)
	switch {
	case ctx.Err() != nil:
		return b, ctx.Err()
	case err != nil && failed != nil:
		if err = b.tooSmall(ctx, err); ctx.Err() != nil {
			return b, ctx.Err()
		}
		return b, fmt.Errorf("%w; %w", failed, err)
	case err != nil:
		b.o.Note(b.goesOn(err))
		return b, nil
	}
	for _, in := range list {
		if !slices.Contains(b.inputs, in) {
			in.named = false // what came and is not needed is passed over, as in a directory
		}
	}
	again := &Bare{o: b.o, keys: b.keys, inputs: list, unread: b.Unread()}
	b.inputs = nil
	if err := b.Close(); err != nil {
		return again, err
	}
	return again, again.readAll(ctx)
}

// tooSmall reads the pipes to their ends, and says in how much room all of it could have been kept beside what else lies in scratch.
func (b *Bare) tooSmall(ctx context.Context, err error) error {
	size := int64(0)
	for _, in := range b.inputs {
		if in.pipe == nil {
			continue
		}
		came := int64(0)
		if in.kept != nil {
			came = in.kept.came
		}
		n, _ := io.Copy(io.Discard, cancelled{ctx, in.pipe}) // an error of the pipe ends it
		if ctx.Err() != nil {
			return ctx.Err()
		}
		size += came + n + 3*min(came+n, keptMost)
	}
	if b.spool != nil {
		size += b.spool.size
	}
	return fmt.Errorf("scratch cannot hold all that comes, %s are enough: %w", mebibytes(size), err)
}

// cancelled reads until the context is.
type cancelled struct {
	ctx context.Context
	io.Reader
}

func (c cancelled) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.Reader.Read(b)
}

// goesOn says what follows from scratch being full.
func (b *Bare) goesOn(err error) string {
	came := int64(0)
	for _, in := range b.inputs {
		if in.kept != nil {
			came += in.kept.came
		}
	}
	text := fmt.Sprintf("scratch cannot hold all that comes, which is more than %s: %v; ", mebibytes(came), err)
	if b.damaged {
		return text + "so what is damaged is not healed out of it"
	}
	return text + "so it is read as it comes"
}

// mebibytes rounds up.
func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20) }

// freeIn is the room in a directory for scratch.
func freeIn(dir string) int64 {
	if dir == "" {
		dir = os.TempDir()
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0
	}
	return int64(st.Bavail) * st.Bsize
}
