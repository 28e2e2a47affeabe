package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"snapfs/snapshot"
	"snapfs/store"
)

// StreamOptions says how to save one stream.
type StreamOptions struct {
	Name          string // the file is SNAP:/NAME
	Dataset       string // "": Name
	Tags          []string
	Host          string
	Time          time.Time
	Program       string
	NewSource     bool
	AllowEmpty    bool
	SkipUnchanged bool
	Wait          bool
	Progress      func(Progress)
	Warn          func(msg string)
}

// RunStream saves r as one file. finish is called at the end of the stream, before the commit; its error (a command
// that failed) commits nothing and is returned. finish may be nil. Errors: ErrEmptyStream, ErrStreamName, ErrNewSource,
// ErrDatasetName, *store.LockedError ...
func RunStream(ctx context.Context, st *store.Store, r io.Reader, finish func() error, o StreamOptions) (*Result, error) {
	return backupStream(ctx, storeRepository{st}, r, finish, &o)
}

func backupStream(ctx context.Context, repo repository, in io.Reader, finish func() error, so *StreamOptions) (*Result, error) {
	name := strings.TrimPrefix(so.Name, "/")
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return nil, fmt.Errorf("%w: %q", ErrStreamName, so.Name)
	}
	dataset := so.Dataset
	if dataset == "" {
		dataset = snapshot.DefaultDataset("/" + name)
	}
	j, err := newJob(ctx, repo, identity{
		dataset: dataset, tags: so.Tags, host: so.Host, time: so.Time, program: so.Program,
		newSource: so.NewSource, skipUnchanged: so.SkipUnchanged, wait: so.Wait, warn: so.Warn,
	}, []string{"/" + name})
	if err != nil {
		return nil, err
	}
	defer j.unlock()
	r := newRun(&Options{Progress: so.Progress, Warn: so.Warn, SkipUnchanged: so.SkipUnchanged}, j, &plan{})
	defer r.links.w.Close()
	r.fs = newFileSystems(tablesOf(r.base))
	got, err := r.stream(ctx, in)
	if err != nil {
		return nil, err
	}
	if finish != nil {
		if err := finish(); err != nil {
			return nil, err
		}
	}
	if got.length == 0 && !so.AllowEmpty {
		return nil, ErrEmptyStream
	}
	return r.commitStream(ctx, name, got)
}

// stream reads in to its end through the workers.
func (r *run) stream(ctx context.Context, in io.Reader) (got stored, err error) {
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, r.gate.abandon)
	defer stop()
	for i := range r.workers {
		r.workers[i] = newWorker(ctx, r)
		g.Go(r.workers[i].loop)
	}
	g.Go(func() error {
		defer close(r.work)
		var err error
		got, err = newReader(ctx, r).all(readerSource{&countingReader{r: in, n: &r.count.bytesRead}})
		return err
	})
	done := make(chan struct{})
	ticks := r.tick(done)
	err = g.Wait()
	close(done)
	return got, errors.Join(err, ticks())
}

// all lists the chunks of a whole source.
func (d *reader) all(src byteSource) (s stored, err error) {
	if s.length, err = d.stream(src, false); err == nil {
		err = d.settle(0)
	}
	if err != nil {
		return s, err
	}
	s.content, err = d.list.Finish(d.ctx)
	return s, err
}

// countingReader counts for the progress.
type countingReader struct {
	r io.Reader
	n interface{ Add(int64) int64 }
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// commitStream makes a snapshot with one file in its root. The file belongs to whoever made the backup.
func (r *run) commitStream(ctx context.Context, name string, got stored) (*Result, error) {
	root, err := r.entryAt("/")
	if err != nil {
		return nil, err
	}
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	at := snapshot.Time{Sec: r.job.start.Unix(), Nsec: uint32(r.job.start.Nanosecond())}
	e := &snapshot.Entry{
		Name: name, Type: snapshot.TypeFile, FS: root.FS, Mode: 0o600, UID: uid, GID: gid,
		User: r.owners.user(uid), Group: r.owners.group(gid), Size: got.length, Mtime: at, Ctime: at, Content: got.content,
	}
	res := r.result()
	res.Entries, res.Bytes = 1, got.length
	had, err := r.formerStream(ctx, name)
	if err != nil {
		return nil, err
	}
	switch {
	case had == nil:
		res.New = 1
	case had.Size == e.Size && sameContent(&had.Content, &e.Content):
		res.Unchanged = 1
		if r.o.SkipUnchanged && r.job.parent == r.job.newest {
			res.Skipped = true
			return res, nil
		}
	default:
		res.Changed = 1
	}
	w := snapshot.NewDirWriter(r.nodes, r.pageKey, root.FS)
	if err := w.Add(ctx, e); err != nil {
		return nil, err
	}
	if root.Dir, root.Totals, err = w.Finish(ctx); err != nil {
		return nil, err
	}
	m := r.job.manifest()
	m.Root, m.Totals, m.FileSystems, m.Found = *root, root.Totals, r.fs.list(), snapshot.FoundByStream
	s, err := r.commit(ctx, m, false)
	if err != nil {
		return nil, err
	}
	res.Snapshot, res.BytesStored, res.Elapsed = s, r.stored(), time.Since(r.job.begun)
	return res, nil
}

// formerStream is the file in the parent, nil if there is none.
func (r *run) formerStream(ctx context.Context, name string) (*snapshot.Entry, error) {
	if r.base == nil {
		return nil, nil
	}
	f, err := r.base.Lookup(ctx, r.base.Root(), name)
	if err != nil {
		return nil, ctx.Err() // not there, or damaged: as if it were new
	}
	return f.Entry, nil
}
