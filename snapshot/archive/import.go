package archive

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"snapfs/snapshot"
	"snapfs/store"
)

// ErrOtherSource: the store has a dataset of that name with another host or other paths.
var ErrOtherSource = errors.New("the store has other snapshots under that name")

// ErrDamagedSnapshot: a snapshot was not imported because a part of it is damaged or missing in the volumes.
var ErrDamagedSnapshot = errors.New("a part of it is damaged or missing in the volumes")

// ErrSnapshotName: a snapshot in the volumes has a name that none can have.
var ErrSnapshotName = errors.New("not a snapshot's name")

// ImportOptions say how snapshots are taken over.
type ImportOptions struct {
	Dataset   string // only snapshots of this dataset; "": all
	NewSource bool   // a dataset of the store may go on with another host or other paths
	Scratch   string
	Program   string
	Wait      bool
	Progress  func(ImportProgress)
	Done      func(Imported)
}

// ImportProgress tells how far an import is.
type ImportProgress struct {
	Snapshots, SnapshotsTotal int
	Bytes                     int64 // of chunks read
}

// Imported is a snapshot that was dealt with.
type Imported struct {
	Snapshot store.Snapshot // in the store; without ID if Err is set
	Origin   store.ID
	There    bool  // it was there before
	Err      error // ErrDamagedSnapshot; others end the import
}

// ImportResult is a finished import.
type ImportResult struct {
	Snapshots int // taken over
	There     int
	Damaged   int
	Sets      int   // entered into the catalogue
	Stored    int64 // growth of the store, bytes
	Anew      bool  // the store has other keys: everything was named, cut and encoded anew
}

// Import takes the snapshots of the volumes over into a store, oldest first. If the store names content by the same keys, snapshots keep
// their IDs; else every blob is named anew, chunks are cut anew and nodes encoded anew, and manifest and summary say where the snapshot
// comes from. With the same keys, sets that were read completely are entered into the catalogue. Interrupted, it goes on when it is run again. Errors, before anything is written: ErrNothing, ErrOtherSource, ErrSnapshotName,
// *snapshot.NameError.
func Import(ctx context.Context, st *store.Store, b *Bare, o ImportOptions) (*ImportResult, error) {
	state, err := b.State(ctx)
	if err != nil {
		return nil, err
	}
	if len(state.Snapshots) == 0 {
		return nil, ErrNothing
	}
	i := &importer{st: st, b: b, o: o, result: &ImportResult{}, ids: map[store.ID]store.ID{}}
	i.result.Anew = st.BlobID(store.KindChunk, []byte("x")) != b.BlobID(store.KindChunk, []byte("x"))
	if err := i.know(ctx); err != nil {
		return nil, err
	}
	list := slices.DeleteFunc(slices.Clone(state.Snapshots), func(s store.Snapshot) bool { return o.Dataset != "" && s.Dataset != o.Dataset })
	for _, s := range list {
		if err := checkNames(s); err != nil {
			return nil, err
		}
	}
	if err := i.checkSources(list); err != nil {
		return nil, err
	}
	for n, s := range list {
		i.progress.Snapshots, i.progress.SnapshotsTotal = n, len(list)
		if err := i.snapshot(ctx, s); err != nil {
			return i.result, fmt.Errorf("snapshot %s@%s: %w", s.Dataset, s.Name, err)
		}
	}
	return i.result, i.enterSets(ctx)
}

// checkNames refuses what no backup gives, and the mount cannot show: whoever can write sets can give any names.
func checkNames(s store.Snapshot) error {
	if err := snapshot.DatasetName(s.Dataset); err != nil {
		return err
	}
	if !snapshot.IsSnapshotName(s.Name) {
		return fmt.Errorf("snapshot %s: %w: %q", s.ID, ErrSnapshotName, s.Name)
	}
	return nil
}

// importer is one Import.
type importer struct {
	st     *store.Store
	b      *Bare
	o      ImportOptions
	result *ImportResult

	mu       sync.Mutex            // guards result.Stored and progress.Bytes
	ids      map[store.ID]store.ID // of snapshots that are in the store, by their ID at the origin
	known    []store.Snapshot      // in the store
	named    []store.Snapshot      // likewise, with forgotten ones
	progress ImportProgress
	anew     *recoder // made when first needed
}

// know finds out which snapshots were imported before, or came from here.
func (i *importer) know(ctx context.Context) error {
	state, err := i.st.State(ctx)
	if err != nil {
		return err
	}
	for _, s := range state.Snapshots {
		if s.Partial {
			continue
		}
		i.named = append(i.named, s)
		if s.Forgotten {
			continue
		}
		i.known = append(i.known, s)
		i.ids[s.ID] = s.ID
		if sum, err := snapshot.ParseSummary(s.Summary); err == nil && !sum.OriginSnapshot.IsZero() {
			i.ids[sum.OriginSnapshot] = s.ID
		}
	}
	return nil
}

// checkSources refuses to mix sources in one timeline, as a backup does: what a dataset has here beside snapshots from this origin must
// have the host and the paths of the newest one that would come. The origin itself takes its own back without asking.
func (i *importer) checkSources(list []store.Snapshot) error {
	origin := i.b.OriginStore()
	if i.o.NewSource || fmt.Sprintf("%x", i.st.ID()) == origin {
		return nil
	}
	archived, coming := map[store.ID]bool{}, map[string]store.Snapshot{}
	for _, s := range list {
		archived[s.ID] = true
		if _, there := i.ids[s.ID]; there {
			continue
		}
		if n, ok := coming[s.Dataset]; !ok || later(s, n) {
			coming[s.Dataset] = s
		}
	}
	here := map[string]store.Snapshot{}
	for _, s := range i.known {
		sum, err := snapshot.ParseSummary(s.Summary)
		if err != nil || archived[s.ID] || sum.OriginStore == origin {
			continue
		}
		if n, ok := here[s.Dataset]; !ok || later(s, n) {
			here[s.Dataset] = s
		}
	}
	for _, s := range list {
		if h, ok := here[s.Dataset]; ok && coming[s.Dataset].ID == s.ID {
			if err := sameSource(h, s); err != nil {
				return err
			}
		}
	}
	return nil
}

func sameSource(here, coming store.Snapshot) error {
	a, err := snapshot.ParseSummary(here.Summary)
	b, problem := snapshot.ParseSummary(coming.Summary)
	switch {
	case err != nil || problem != nil:
		return nil // nobody can tell
	case a.Host != b.Host:
		return fmt.Errorf("dataset %s: %w (of host %s, the volumes are of %s)", here.Dataset, ErrOtherSource, a.Host, b.Host)
	case !slices.Equal(a.Paths, b.Paths):
		return fmt.Errorf("dataset %s: %w (of %q, the volumes are of %q)", here.Dataset, ErrOtherSource, a.Paths, b.Paths)
	}
	return nil
}

// snapshot takes one over, unless it is there.
func (i *importer) snapshot(ctx context.Context, s store.Snapshot) error {
	done := Imported{Origin: s.ID}
	if id, there := i.ids[s.ID]; there {
		done.There, done.Snapshot = true, s
		done.Snapshot.ID = id
		i.result.There++
		return i.report(done)
	}
	unlock, err := i.st.LockDataset(ctx, s.Dataset, i.o.Wait)
	if err != nil {
		return err
	}
	defer unlock()
	commit, err := i.copy(ctx, s)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case isStoredDamage(err):
		i.result.Damaged++
		done.Err = fmt.Errorf("%w: %w", ErrDamagedSnapshot, err)
		done.Snapshot = s
		done.Snapshot.ID = store.ID{}
		return i.report(done)
	case err != nil:
		return err
	}
	if done.Snapshot, err = i.st.Commit(ctx, commit); err != nil {
		return err
	}
	i.ids[s.ID] = done.Snapshot.ID
	i.known, i.named = append(i.known, done.Snapshot), append(i.named, done.Snapshot)
	i.result.Snapshots++
	return i.report(done)
}

func (i *importer) report(done Imported) error {
	if i.o.Done != nil {
		i.o.Done(done)
	}
	return nil
}

// isStoredDamage reports whether an error is about what the volumes hold.
func isStoredDamage(err error) bool {
	var corrupt *store.CorruptError
	var missing *store.MissingError
	return errors.As(err, &corrupt) || errors.As(err, &missing) || errors.Is(err, snapshot.ErrMalformed)
}

// copy stores all that a snapshot needs and says how to commit it.
func (i *importer) copy(ctx context.Context, s store.Snapshot) (c store.Commit, err error) {
	c = store.Commit{Dataset: s.Dataset, Snapshot: s.ID, Name: s.Name, Start: s.Start, Tags: s.Tags, Summary: s.Summary}
	if len(c.Summary) == 0 { // its set's head was lost
		if c.Summary, err = i.summary(ctx, s.ID); err != nil {
			return c, err
		}
	}
	c.Name = i.freeName(s)
	if !i.result.Anew {
		if err = i.copyBlobs(ctx, s.ID); err != nil || c.Name == s.Name {
			return c, err
		}
		c.Snapshot, err = i.rename(ctx, s.ID, c.Name)
	} else {
		if i.anew == nil {
			i.anew = newRecoder(i)
		}
		c.Snapshot, err = i.anew.snapshot(ctx, s.ID, c.Name)
	}
	if err != nil {
		return c, err
	}
	sum, err := snapshot.ParseSummary(c.Summary)
	if err != nil {
		return c, err
	}
	sum.Parent = i.parent(sum.Parent)
	if sum.OriginSnapshot.IsZero() {
		sum.OriginStore, sum.OriginSnapshot = i.b.OriginStore(), s.ID
	}
	c.Summary = sum.Encode()
	return c, nil
}

// rename stores a manifest with another name, since a name means one snapshot of a dataset. What the manifest names stays as it is.
func (i *importer) rename(ctx context.Context, id store.ID, name string) (store.ID, error) {
	m, err := snapshot.ReadManifest(ctx, i.b, id)
	if err != nil {
		return id, err
	}
	w := i.st.NewWriter()
	i.comesFrom(m, id)
	m.Name, m.Parent = name, i.parent(m.Parent)
	made, err := snapshot.WriteManifest(ctx, w, m)
	err = errors.Join(err, w.Flush(context.WithoutCancel(ctx)))
	i.addStored(w)
	return made, err
}

// comesFrom notes in a manifest where it was made.
func (i *importer) comesFrom(m *snapshot.Manifest, id store.ID) {
	if m.OriginSnapshot.IsZero() {
		m.OriginStore, m.OriginSnapshot = i.b.OriginStore(), id
	}
}

// parent is the ID that a parent has in the store; the one at the origin if it is not there and has the same name for content.
func (i *importer) parent(id store.ID) store.ID {
	if here, ok := i.ids[id]; ok || i.result.Anew {
		return here
	}
	return id
}

// summary makes a summary from a manifest.
func (i *importer) summary(ctx context.Context, id store.ID) ([]byte, error) {
	m, err := snapshot.ReadManifest(ctx, i.b, id)
	if err != nil {
		return nil, err
	}
	s := snapshot.Summary{
		Host: m.Host, User: m.User, Paths: m.Paths, Parent: m.Parent, End: m.End, Offset: m.Offset, Entries: m.Totals.Entries, Bytes: m.Totals.Bytes,
		Errors: m.ErrorCount, Single: m.Single, HasXattrs: true, Program: m.Program, OriginStore: m.OriginStore, OriginSnapshot: m.OriginSnapshot,
	}
	return s.Encode(), nil
}

// freeName is the snapshot's name, with another number if another one of the dataset has it, forgotten or not.
func (i *importer) freeName(s store.Snapshot) string {
	return snapshot.FreeName(s.Name, func(name string) bool {
		return slices.ContainsFunc(i.named, func(k store.Snapshot) bool { return k.Dataset == s.Dataset && k.Name == name && !i.same(k, s.ID) })
	})
}

// same reports whether a snapshot of the store is the one with that ID at the origin.
func (i *importer) same(k store.Snapshot, id store.ID) bool {
	if k.ID == id {
		return true
	}
	sum, err := snapshot.ParseSummary(k.Summary)
	return err == nil && sum.OriginSnapshot == id
}

// addStored counts what a Writer stored.
func (i *importer) addStored(w *store.Writer) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.result.Stored += w.Stats().StoredBytes
}

// read counts what was read, and tells.
func (i *importer) read(n int64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.progress.Bytes += n
	if i.o.Progress != nil {
		i.o.Progress(i.progress)
	}
}

// OriginStore is the id of the store the sets were written from, as 'snapfs stats' shows it.
func (b *Bare) OriginStore() string {
	if len(b.sets) == 0 {
		return ""
	}
	return hex.EncodeToString(b.sets[0].label.Store[:])
}

// copyBlobs stores all blobs below a manifest that the store lacks, under their names.
func (i *importer) copyBlobs(ctx context.Context, manifest store.ID) error {
	chunks := make(chan []store.ID, 4)
	g, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error { return i.copyChunks(ctx, chunks) })
	}
	g.Go(func() error {
		defer close(chunks)
		return i.copyMetadata(ctx, manifest, chunks)
	})
	return g.Wait()
}

// chunkBatch is how many chunks are asked for at once.
const chunkBatch = 64

// copyMetadata stores nodes, and hands the chunks they name on.
func (i *importer) copyMetadata(ctx context.Context, manifest store.ID, chunks chan<- []store.ID) (err error) {
	w := i.st.NewWriter()
	defer func() {
		err = errors.Join(err, w.Flush(context.WithoutCancel(ctx))) // blobs on their way are waited for by others, whatever happened
		i.addStored(w)
	}()
	seen, passed := map[uint64]struct{}{}, map[uint64]struct{}{}
	type named struct {
		kind store.Kind
		id   store.ID
	}
	var batch []store.ID
	for open := []named{{store.KindManifest, manifest}}; len(open) > 0; {
		at := open[len(open)-1]
		open = open[:len(open)-1]
		if _, before := seen[keyOf(at.id)]; before {
			continue
		}
		seen[keyOf(at.id)] = struct{}{}
		data, err := i.b.Get(ctx, at.kind, at.id)
		if err != nil {
			return err
		}
		if _, err := w.Put(ctx, at.kind, data); err != nil {
			return err
		}
		err = snapshot.References(at.kind, data, func(kind store.Kind, id store.ID) {
			if kind != store.KindChunk {
				open = append(open, named{kind, id})
			} else if _, before := passed[keyOf(id)]; !before {
				passed[keyOf(id)] = struct{}{}
				batch = append(batch, id)
			}
		})
		if err != nil {
			return err
		}
		for len(batch) >= chunkBatch || len(open) == 0 && len(batch) > 0 {
			n := min(len(batch), chunkBatch)
			select {
			case chunks <- slices.Clone(batch[:n]):
			case <-ctx.Done():
				return ctx.Err()
			}
			batch = batch[n:]
		}
	}
	return nil
}

// copyChunks stores chunks that the store lacks.
func (i *importer) copyChunks(ctx context.Context, chunks <-chan []store.ID) (err error) {
	w := i.st.NewWriter()
	defer func() {
		err = errors.Join(err, w.Flush(context.WithoutCancel(ctx))) // blobs on their way are waited for by others, whatever happened
		i.addStored(w)
	}()
	var buf []byte
	for batch := range chunks {
		have, err := i.st.Have(ctx, batch)
		if err != nil {
			return err
		}
		for n, id := range batch {
			if have[n] {
				continue
			}
			if buf, err = i.b.GetInto(ctx, store.KindChunk, id, buf); err != nil {
				return err
			}
			if _, err := w.Put(ctx, store.KindChunk, buf); err != nil {
				return err
			}
			i.read(int64(len(buf)))
		}
	}
	return nil
}
