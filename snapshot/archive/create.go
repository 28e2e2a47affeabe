package archive

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"snapfs/snapshot"
	"snapfs/store"
	"snapfs/store/seal"
	"snapfs/store/volume"
)

// Create writes a new set. What was completed of a set that failed can be read, and Resume goes on with it. Errors: ErrNoSnapshots,
// ErrNoParent, ErrSetExists, ErrMediumFull, ErrVolumeSize, those of the target and of the store.
func Create(ctx context.Context, st *store.Store, o Options) (Result, error) {
	if err := o.fill(); err != nil {
		return Result{}, err
	}
	unlock, err := st.LockArchives(ctx, o.Pool, o.Wait)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	w, err := newSet(ctx, st, &o)
	if err != nil {
		return Result{}, err
	}
	return w.write(ctx)
}

// newSet chooses the parent, draws the keys and opens the target.
func newSet(ctx context.Context, st *store.Store, o *Options) (*setWriter, error) {
	state, err := st.State(ctx)
	if err != nil {
		return nil, err
	}
	sets := Sets(state.Archives)
	parent, level, err := sets.Parent(o.Pool, o.Level)
	if err != nil {
		return nil, err
	}
	now := o.Now().UTC()
	w := &setWriter{st: st, o: o, set: store.ArchiveSet{Pool: o.Pool, Level: level, Started: now, KeepUntil: o.KeepUntil}}
	if _, err := rand.Read(w.set.ID[:]); err != nil {
		return nil, err
	}
	if parent != nil {
		w.set.Parent = parent.ID
	}
	if w.set.Name, err = sets.newName(o, level, now); err != nil {
		return nil, err
	}
	if err := w.chooseSnapshots(state, o.Snapshots); err != nil {
		return nil, err
	}
	w.state.parity, w.state.parityVolumes = max(o.Parity, 0), o.ParityVolumes
	if w.keys, w.state.keys, err = st.NewSetKeys(w.set.ID, o.Slots); err != nil {
		return nil, err
	}
	if w.state.sealed, err = st.SealSetKeys(w.set.ID, w.keys); err != nil {
		return nil, err
	}
	w.target, err = o.Target(w.permit(sets))
	return w, err
}

// newName is a name that no set has yet.
func (list Sets) newName(o *Options, level volume.SetLevel, now time.Time) (string, error) {
	if o.Name != "" {
		if list.named(o.Name) {
			return "", fmt.Errorf("%s: %w", o.Name, ErrSetExists)
		}
		return o.Name, nil
	}
	base := fmt.Sprintf("%s-%s-%s", o.Pool, now.In(o.Zone).Format("2006-01-02_15-04-05"), level)
	name := base
	for n := 2; list.named(name); n++ {
		name = fmt.Sprintf("%s-%d", base, n)
	}
	return name, CheckName(name)
}

// named reports whether a set has that name.
func (list Sets) named(name string) bool {
	return slices.ContainsFunc(list, func(s store.ArchiveSet) bool { return s.Name == name })
}

// chooseSnapshots notes what the set will hold.
func (w *setWriter) chooseSnapshots(state *store.State, ids []store.ID) error {
	if len(ids) == 0 {
		return ErrNoSnapshots
	}
	for _, id := range ids {
		s := committed(state, id)
		if s == nil {
			return fmt.Errorf("snapshot %s: %w", id, store.ErrNotFound)
		}
		w.set.Snapshots = append(w.set.Snapshots, store.ArchivedSnapshot{ID: s.ID, Dataset: s.Dataset, Name: s.Name, Start: s.Start})
		w.head.Snapshots = append(w.head.Snapshots, HeadSnapshot{
			ID: s.ID, Dataset: s.Dataset, Name: s.Name, Start: s.Start, Slot: s.Slot, Summary: s.Summary, Tags: s.Tags,
			Committed: s.Committed,
		})
		w.state.datasets = appendNew(w.state.datasets, s.Dataset)
		if sum, err := snapshot.ParseSummary(s.Summary); err == nil && sum.Host != "" {
			w.state.hosts = appendNew(w.state.hosts, sum.Host)
		}
	}
	return nil
}

// committed is a snapshot that was committed and has not been pruned, nil if there is none.
func committed(state *store.State, id store.ID) *store.Snapshot {
	i := slices.IndexFunc(state.Snapshots, func(s store.Snapshot) bool { return s.ID == id && !s.Partial })
	if i < 0 {
		return nil
	}
	return &state.Snapshots[i]
}

func appendNew(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// permit lets a volume be overwritten that belongs to an expired set, or that this one did not complete.
func (w *setWriter) permit(sets Sets) Permit {
	return func(l volume.Label) error {
		if l.Set == nil {
			return ErrVolumeExists
		}
		if l.Set.ID == w.set.ID && !slices.ContainsFunc(w.set.Volumes, func(v store.ArchiveVolume) bool { return v.ID == l.Volume }) {
			return nil
		}
		s := sets.byID(l.Set.ID)
		switch {
		case s == nil:
			return fmt.Errorf("%w, of a set that this store does not know", ErrVolumeExists)
		case s.Expired.IsZero():
			return fmt.Errorf("%w, and the set has not expired", ErrVolumeExists)
		case !w.o.Overwrite:
			return fmt.Errorf("%w; the set has expired", ErrVolumeExists)
		}
		return nil
	}
}

// write makes what is left of the set.
func (w *setWriter) write(ctx context.Context) (res Result, err error) {
	res.Reused = len(w.set.Volumes)
	defer func() { err = errors.Join(err, w.abandon(), w.forgetTorn(), w.target.Close(), w.closeParity()) }()
	ids := make([]store.ID, len(w.set.Snapshots))
	for i, s := range w.set.Snapshots {
		ids[i] = s.ID
	}
	if err := w.st.Pin(ctx, ids...); err != nil {
		return res, err
	}
	defer func() {
		_ = w.st.Unpin(context.WithoutCancel(ctx), ids...) // else they are pinned until the session ends
	}()
	p, err := w.plan(ctx, ids)
	if err != nil {
		return res, err
	}
	defer p.close()
	if err := w.openParity(); err != nil {
		return res, err
	}
	if err := w.checkSize(p.largest); err != nil {
		return res, err
	}
	if err := w.target.Check(Slot{Name: w.set.Name, Number: uint32(len(w.set.Volumes)) + 1}); err != nil && !w.state.ended {
		return res, err
	}
	if err := w.enroll(ctx); err != nil {
		return res, err
	}
	now := w.o.Now().UTC()
	if !w.state.ended {
		if err := w.blobs(ctx, p); err != nil {
			return res, err
		}
		if err := w.end(ctx, int64(len(p.lost)), now); err != nil {
			return res, err
		}
		w.state.ended = true
	} else if err := p.loseChunks(); err != nil {
		return res, err
	}
	if err := w.writeParity(ctx); err != nil {
		return res, err
	}
	w.set.Finished, w.set.Lost = now, int64(len(p.lost))
	w.set.Plain, w.set.Chunks = w.written.MetadataBytes+w.written.ChunkBytes, w.written.Chunks
	res.Sheet, res.SheetErr = w.writeSheet(ctx) // first: whoever is killed here goes on with --resume, which writes it anew
	if err := w.save(ctx); err != nil {
		return res, err
	}
	res.Set, res.Written, res.Lost, res.Stored = w.set, w.written, p.lost, w.sealed
	return res, w.finishParity()
}

// enroll makes the set known, as unfinished, if nothing that it relies on has changed since it was planned.
func (w *setWriter) enroll(ctx context.Context) error {
	unlock, err := w.st.LockCatalogue(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	state, err := w.st.State(ctx)
	if err != nil {
		return err
	}
	sets := Sets(state.Archives)
	if sets.byID(w.set.ID) == nil && sets.named(w.set.Name) {
		return fmt.Errorf("%s: %w", w.set.Name, ErrSetExists)
	}
	if _, err := w.chain(sets); err != nil {
		return err
	}
	return w.save(ctx)
}

// chain are the sets that this one builds on, parent first. Errors: ErrNoParent.
func (w *setWriter) chain(sets Sets) ([]*store.ArchiveSet, error) {
	if w.set.Level == volume.Full {
		return nil, nil
	}
	chain, ok := sets.Chain(sets.byID(w.set.Parent))
	if !ok {
		return nil, fmt.Errorf("the parent of %s: %w", w.set.Name, ErrNoParent)
	}
	return chain, nil
}

// checkSize refuses volumes that are too small for the largest frame before anything is written: not in the middle of the set.
func (w *setWriter) checkSize(largest int) error {
	if w.o.VolumeSize == 0 || w.state.ended {
		return nil
	}
	id := volume.ID{1}
	aead, err := w.keys.VolumeAEAD(id)
	if err != nil {
		return err
	}
	v, err := volume.Create(nowhere{}, w.label(id, 1), volume.Options{AEAD: aead, Parity: w.state.parity})
	if err != nil {
		return err
	}
	w.head.Number = 1
	if _, _, err := v.Append(volume.FrameSet, w.head.Encode(), nil); err != nil {
		return err
	}
	need := v.SealedSize(max(0, largest-volume.HeaderSize), 1)
	if need <= w.o.VolumeSize {
		return v.Close()
	}
	more := ""
	if w.parity != nil {
		more = ", and some more for parity volumes"
	}
	return errors.Join(fmt.Errorf("%w: at least %d bytes are needed%s", ErrVolumeSize, need, more), v.Close())
}

// nowhere is a volume.File that keeps nothing.
type nowhere struct{}

// WriteAt implements volume.File.
func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// ReadAt implements volume.File.
func (nowhere) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }

// Sync implements volume.File.
func (nowhere) Sync() error { return nil }

// Truncate implements volume.File.
func (nowhere) Truncate(int64) error { return nil }

// Close implements volume.File.
func (nowhere) Close() error { return nil }

// plan finds what the set will hold, and completes the head.
func (w *setWriter) plan(ctx context.Context, ids []store.ID) (*plan, error) {
	state, err := w.st.State(ctx)
	if err != nil {
		return nil, err
	}
	var without []store.ID
	chain, err := w.chain(Sets(state.Archives))
	if err != nil {
		return nil, err
	}
	for _, s := range chain {
		without = append(without, chunkLists(s)...)
		w.head.Chain = append(w.head.Chain, ChainSet{
			ID: s.ID, Name: s.Name, Level: s.Level, Volumes: len(s.Volumes), Location: s.Location, Created: s.Started,
		})
	}
	pl := &planner{st: w.st, dir: w.o.TempDir, without: append(without, chunkLists(&w.set)...), progress: w.o.progress}
	p, err := pl.make(ctx, ids)
	if err != nil {
		return nil, err
	}
	h := &w.head
	h.Set, h.Name, h.Pool, h.Level, h.Parent = w.set.ID, w.set.Name, w.set.Pool, w.set.Level, w.set.Parent
	h.Created, h.Store, h.ChunkAverage = w.set.Started, w.st.ID(), w.st.ChunkAverage()
	h.KeepUntil, h.Program, h.Parity, h.Planned = w.set.KeepUntil, w.o.Program, w.state.parityVolumes, p.counts
	w.written = w.state.written
	return p, nil
}

func chunkLists(s *store.ArchiveSet) (roots []store.ID) {
	for _, v := range s.Volumes {
		if !v.Chunks.IsZero() {
			roots = append(roots, v.Chunks)
		}
	}
	return roots
}

// blobs writes metadata and chunks.
func (w *setWriter) blobs(ctx context.Context, p *plan) error {
	w.packer = volume.NewPacker(w.o.Level0)
	if !w.state.metadata {
		w.written = Counts{Chunks: w.written.Chunks, ChunkBytes: w.written.ChunkBytes}
		if err := w.section(ctx, p, p.metadata, PhaseMetadata, p.counts.MetadataBytes); err != nil {
			return err
		}
		if err := w.record(ctx, encodeMetadataComplete(w.written)); err != nil {
			return err
		}
		w.state.metadata = true
	}
	return w.section(ctx, p, p.chunks, PhaseChunks, p.counts.ChunkBytes)
}

// section writes the blobs of a sorter in the order in which they lie.
func (w *setWriter) section(ctx context.Context, p *plan, rows *snapshot.Sorter, phase string, total int64) error {
	r := &reading{st: w.st, ranks: p.ranks, level: w.o.Level0}
	done := int64(0)
	err := r.each(ctx, rows.Sorted(), func(ctx context.Context, t *taken) error {
		for _, l := range t.lost {
			p.lose(l)
		}
		for _, f := range t.frames {
			if err := w.frame(ctx, volume.FrameBlobs, f.plain, f.blobs); err != nil {
				return err
			}
			done += w.count(f.blobs)
		}
		for _, b := range t.small {
			if err := w.addSmall(ctx, b); err != nil {
				return err
			}
			done += int64(len(b.data))
		}
		w.o.progress(Progress{Phase: phase, Done: done, Total: total})
		return nil
	})
	if err != nil {
		return err
	}
	return w.flushSmall(ctx)
}

// count adds what was written; it returns the bytes of plaintext.
func (w *setWriter) count(blobs []volume.Blob) (n int64) {
	for _, b := range blobs {
		n += int64(b.Length)
		if store.Kind(b.Kind) == store.KindChunk {
			w.written.Chunks++
			w.written.ChunkBytes += int64(b.Length)
		} else {
			w.written.Metadata++
			w.written.MetadataBytes += int64(b.Length)
		}
	}
	w.state.written = w.written
	return n
}

// addSmall collects blobs that share a frame.
func (w *setWriter) addSmall(ctx context.Context, b blob) error {
	w.small = append(w.small, b)
	w.smallLen += len(b.data)
	if w.smallLen < packTarget {
		return nil
	}
	return w.flushSmall(ctx)
}

func (w *setWriter) flushSmall(ctx context.Context) error {
	if len(w.small) == 0 {
		return nil
	}
	f := pack(w.small, w.packer)
	w.small, w.smallLen = nil, 0
	if err := w.frame(ctx, volume.FrameBlobs, f.plain, f.blobs); err != nil {
		return err
	}
	w.count(f.blobs)
	return nil
}

// resumeState is what an unfinished set needs to go on.
type resumeState struct {
	keys          seal.SetKeys
	sealed        []byte // the set's keys, for this store alone
	parity        int    // per cent
	parityVolumes int
	metadata      bool // all of it lies in complete volumes
	written       Counts
	ended         bool // only parity volumes are missing
	datasets      []string
	hosts         []string
}
