package main

import (
	"context"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"snapfs/snapshot"
	"snapfs/store"
)

func (p *program) catCommand() *cli.Command {
	return &cli.Command{
		Name: "cat", ArgsUsage: "SNAP:PATH", Usage: "write a file of a snapshot to stdout",
		Description: about("The file that 'find' and 'versions' name can be given as it stands there.",
			"snapfs cat etc:fstab", "snapfs cat etc@-3d:/fstab | diff - /etc/fstab"),
		Action: action(1, 1, func(c *cli.Context, args []string) error {
			return p.runCat(c.Context, args[0])
		}),
	}
}

func (p *program) runCat(ctx context.Context, ref string) error {
	return p.withStore(ctx, "cat "+ref, func(st *store.Store) error {
		t, tree, f, err := p.openEntry(ctx, st, ref)
		if err != nil {
			return err
		}
		name := t.Listed.Ref() + ":" + t.Path
		if f.Type != snapshot.TypeFile {
			return fmt.Errorf("%s: not a regular file but a %s", name, typeName(f.Type))
		}
		r := p.newReporter()
		defer r.clear()
		if err := copyContent(ctx, st, tree, f.Entry, r.meter(f.Size)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

// readAhead is how many chunks are on their way while one is written.
const readAhead = 8

// copyContent writes a file's content in order.
func copyContent(ctx context.Context, st *store.Store, tree *snapshot.Tree, e *snapshot.Entry, w io.Writer) (err error) {
	c := contentCopier{st: st, w: w}
	listed := tree.Items(ctx, e, 0, func(_ int64, it snapshot.Item) bool {
		if it.ID != (store.ID{}) {
			st.Prefetch(store.KindChunk, it.ID)
		}
		if c.queue = append(c.queue, it); len(c.queue) > readAhead {
			err = c.next(ctx)
		}
		return err == nil
	})
	if err == nil {
		err = listed
	}
	for err == nil && len(c.queue) > 0 {
		err = c.next(ctx)
	}
	return err
}

type contentCopier struct {
	st    *store.Store
	w     io.Writer
	queue []snapshot.Item
}

// next writes the first item of the queue.
func (c *contentCopier) next(ctx context.Context) error {
	it := c.queue[0]
	c.queue = c.queue[1:]
	if it.ID == (store.ID{}) {
		_, err := io.CopyN(c.w, contextReader{ctx, zeros{}}, it.Length)
		return err
	}
	data, err := c.st.Get(ctx, store.KindChunk, it.ID)
	if err != nil {
		return err
	}
	if int64(len(data)) != it.Length {
		return &damagedError{incompleteError{1, fmt.Sprintf("chunk %s has %d bytes and not %d", it.ID, len(data), it.Length)}}
	}
	_, err = c.w.Write(data)
	return err
}

// zeros reads as what a hole holds.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// contextReader ends with ctx: holes may be larger than anybody's patience.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
