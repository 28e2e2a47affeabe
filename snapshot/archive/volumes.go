package archive

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"snapfs/snapshot"
	"snapfs/store"
	"snapfs/store/seal"
	"snapfs/store/volume"
)

// setWriter writes the volumes of a set, one after another. Used by one goroutine.
type setWriter struct {
	st     *store.Store
	o      *Options
	set    store.ArchiveSet // as the catalogue has it: complete volumes
	state  resumeState
	head   Head
	keys   *seal.Bundle
	target Target
	packer *volume.Packer
	parity *parityMaker // nil: no parity volumes

	now      *currentVolume
	before   *tornVolume // the volume before has no trailer
	full     bool        // the last volume ended because its medium was full
	opened   bool        // a medium, in this run: the first one is there already
	small    []blob
	smallLen int
	written  Counts
	sealed   int64 // bytes of the complete volumes
}

// currentVolume is the volume being written.
type currentVolume struct {
	id      volume.ID
	number  uint32
	medium  Medium
	tape    *tape
	w       *volume.Writer
	open    []openFrame      // that may not be on the medium yet, in order
	frames  int              // with what the set is about
	carried *snapshot.Sorter // chunks on the medium
	whole   int64            // bytes on the medium that are whole frames
	most    int64            // bytes over which a parity volume fits on such a medium; 0: not known
}

// openFrame is kept until it is certain to be on the medium.
type openFrame struct {
	kind  volume.FrameKind
	plain []byte
	blobs []volume.Blob
	end   int64
}

// tornVolume is what the next volume carries of one without a trailer.
type tornVolume struct {
	id     volume.ID
	number uint32
	whole  int64
	table  *volume.Table // nil: the run that had it has ended
}

// frame appends a frame with blobs, in the next volume if it does not fit.
func (w *setWriter) frame(ctx context.Context, kind volume.FrameKind, plain []byte, blobs []volume.Blob) error {
	for {
		if w.now == nil {
			if err := w.begin(ctx); err != nil {
				return err
			}
		}
		ok, err := w.fits(len(plain), len(blobs))
		if err != nil {
			return err
		}
		if ok {
			done, err := w.append(ctx, kind, plain, blobs)
			if done || err != nil {
				return err
			}
			continue
		}
		if w.now.frames == 0 {
			return w.tooSmall(len(plain), len(blobs))
		}
		if err := w.finish(ctx); err != nil {
			return err
		}
	}
}

// fits reports whether a frame and the end of the volume fit on the medium.
func (w *setWriter) fits(plain, blobs int) (bool, error) {
	need := w.now.w.SealedSize(plain, blobs)
	w.full = false
	if w.o.VolumeSize > 0 && need > w.o.VolumeSize {
		return false, nil
	}
	if most := w.now.most; most > 0 && need > most {
		w.full = true
		return false, nil
	}
	ok, err := w.now.medium.Reserve(need)
	w.full = !ok
	return ok, err
}

// tooSmall gives up a volume that cannot take one frame.
func (w *setWriter) tooSmall(plain, blobs int) error {
	need, where := w.now.w.SealedSize(plain, blobs), w.now.medium.Where()
	err := w.abandon()
	if w.full {
		return errors.Join(fmt.Errorf("%s: %w: it has no room for a volume of %d bytes", where, ErrMediumFull, need), err)
	}
	return errors.Join(fmt.Errorf("%w: at least %d bytes are needed", ErrVolumeSize, need), err)
}

// append writes a frame. done is false if the medium ended unannounced: then the next volume has everything up to here but this frame.
func (w *setWriter) append(ctx context.Context, kind volume.FrameKind, plain []byte, blobs []volume.Blob) (done bool, err error) {
	v := w.now
	offset, stored, err := v.w.Append(kind, plain, blobs)
	if err == nil {
		v.open = append(v.open, openFrame{kind, plain, blobs, offset + int64(stored)})
		if kind == volume.FrameBlobs {
			v.frames++
		}
		return true, v.settle()
	}
	if !EndOfMedium(v.tape.fault) { // scratch that is full is no full medium
		return false, err
	}
	return false, w.tear(ctx)
}

// settle forgets the frames that are on the medium.
func (v *currentVolume) settle() error {
	settled, n := v.medium.Settled(), 0
	for ; n < len(v.open) && v.open[n].end <= settled; n++ {
		v.whole = v.open[n].end
		for _, b := range v.open[n].blobs {
			if store.Kind(b.Kind) != store.KindChunk {
				continue
			}
			if err := v.carried.Add(b.ID[:]); err != nil {
				return err
			}
		}
	}
	if n == len(v.open) {
		v.open = v.open[:0]
	} else {
		v.open = append(v.open[:0], v.open[n:]...)
	}
	return v.tape.show(v.whole)
}

// begin opens the next volume and writes what every volume begins with.
func (w *setWriter) begin(ctx context.Context) error {
	number := uint32(len(w.set.Volumes)) + 1
	if err := w.change(ctx, number); err != nil {
		return err
	}
	w.o.progress(Progress{Phase: PhaseVolume, Done: int64(number)})
	m, err := w.target.Open(ctx, Slot{Name: w.set.Name, Number: number, Again: w.keepCached()})
	if err != nil {
		return err
	}
	v, err := w.newVolume(number, m)
	if err != nil {
		return errors.Join(err, m.Abandon())
	}
	w.now = v
	err = w.preamble()
	if err != nil {
		where, full := m.Where(), EndOfMedium(v.tape.fault)
		err = errors.Join(err, w.abandon())
		if full {
			return fmt.Errorf("%s: %w: %w", where, ErrMediumFull, err)
		}
	}
	return err
}

// change has the medium changed, if that is needed or wanted.
func (w *setWriter) change(ctx context.Context, number uint32) error {
	asked := w.opened && (w.o.ChangeAlways || w.target.Changes() || w.full)
	w.opened = true
	if w.parity != nil && (asked || !w.parity.again) {
		if err := w.catchUp(ctx); err != nil { // what is read again may go away with its medium
			return err
		}
	}
	if !asked {
		return nil
	}
	if w.o.Change == nil {
		return fmt.Errorf("volume %d of set %s: %w", number, w.set.Name, ErrMediumFull)
	}
	last := w.set.Volumes[len(w.set.Volumes)-1]
	return w.o.Change(ctx, Change{Set: w.set.Name, Number: number, Full: w.full, Last: last.Where})
}

// newVolume writes the label.
func (w *setWriter) newVolume(number uint32, m Medium) (*currentVolume, error) {
	v := &currentVolume{number: number, medium: m, tape: &tape{m: m, span: volume.SpanLength(w.state.parity)}, carried: snapshot.NewSorter(len(store.ID{}), w.o.TempDir)}
	if _, err := rand.Read(v.id[:]); err != nil {
		return nil, err
	}
	if w.parity != nil {
		watcher, err := w.parity.watch(number)
		if err != nil {
			return nil, err
		}
		v.tape.watcher = watcher
		if room := m.Room(); room > 0 {
			v.most = max(1, w.largestCovered(room)) // 1: it has no room for anything
		}
	}
	aead, err := w.keys.VolumeAEAD(v.id)
	if err != nil {
		return nil, err
	}
	v.w, err = volume.Create(v.tape, w.label(v.id, number), volume.Options{
		AEAD: aead, Parity: w.state.parity, Spill: func() (volume.File, error) { return snapshot.ScratchFile(w.o.TempDir) },
	})
	return v, err
}

func (w *setWriter) label(id volume.ID, number uint32) volume.Label {
	return volume.Label{
		Store: w.st.ID(), Volume: id, Kind: volume.Archive, Created: w.o.Now(), Program: w.o.Program,
		Set: &volume.Set{
			ID: w.set.ID, Sequence: number, Level: w.set.Level, Parent: w.set.Parent, Pool: w.set.Pool, Name: w.set.Name,
			Datasets: w.state.datasets, Hosts: w.state.hosts,
			KeySlots: w.state.keys.Slots, Bundle: w.state.keys.Bundle, SetKeys: w.state.keys.Keys,
		},
	}
}

// preamble is the head, and the table of the volume before if that has none.
func (w *setWriter) preamble() error {
	w.head.Number = w.now.number
	if err := w.begins(w.head.Encode()); err != nil {
		return err
	}
	if w.before != nil {
		if err := w.tables(); err != nil {
			return err
		}
	}
	return w.now.settle()
}

// tables are what this volume has of the one before, which has no trailer.
func (w *setWriter) tables() error {
	t := w.before
	r := Table{Volume: t.id, Number: t.number, Whole: t.whole}
	if t.table == nil {
		if err := w.begins(r.Encode()); err != nil {
			return err
		}
		return w.forgetTorn()
	}
	for i := range t.table.Parts() {
		var err error
		if r.Part, err = t.table.Part(i); err != nil {
			return err
		}
		if err := w.begins(r.Encode()); err != nil {
			return err
		}
	}
	return w.forgetTorn()
}

// begins appends a record that the volume begins with.
func (w *setWriter) begins(record []byte) error {
	ok, err := w.fits(len(record), 0)
	if err != nil {
		return err
	}
	if !ok {
		return w.tooSmallFor(len(record))
	}
	_, _, err = w.now.w.Append(volume.FrameSet, record, nil)
	return err
}

// forgetTorn lets go of the table of the volume before.
func (w *setWriter) forgetTorn() error {
	t := w.before
	w.before = nil
	if t == nil || t.table == nil {
		return nil
	}
	return t.table.Close()
}

func (w *setWriter) tooSmallFor(n int) error {
	if w.full {
		return fmt.Errorf("%s: %w", w.now.medium.Where(), ErrMediumFull)
	}
	return fmt.Errorf("%w: at least %d bytes are needed", ErrVolumeSize, w.now.w.SealedSize(n, 0))
}

// finish seals the volume and enters it into the catalogue.
func (w *setWriter) finish(ctx context.Context) error {
	v := w.now
	err := v.w.Seal()
	size, full := v.w.Size(), EndOfMedium(v.tape.fault)
	if err == nil {
		err = v.medium.Complete(size)
		full = EndOfMedium(err)
	}
	if full {
		return w.tear(ctx)
	}
	if err != nil {
		return err
	}
	if err := v.settle(); err != nil { // all of it is on the medium now
		return err
	}
	if err := v.tape.show(size); err != nil {
		return err
	}
	return w.enter(ctx, size, false)
}

// tear ends a volume whose medium is full without a trailer. What is not on the medium comes again in the next volume.
func (w *setWriter) tear(ctx context.Context) error {
	v := w.now
	if err := v.settle(); err != nil {
		return err
	}
	if v.whole == 0 {
		return errors.Join(fmt.Errorf("%s: %w", v.medium.Where(), ErrMediumFull), w.abandon())
	}
	again := v.open
	v.open = nil
	if err := v.medium.Complete(v.whole); err != nil && !EndOfMedium(err) {
		return err
	}
	w.before = &tornVolume{v.id, v.number, v.whole, v.w.Table()}
	w.full = true
	w.state.ended = false // another volume says that this one was torn
	metadata, written := w.state.metadata, w.state.written
	w.withoutAgain(again)
	if err := w.enter(ctx, v.whole, true); err != nil {
		return err
	}
	w.state.metadata, w.state.written = metadata, written
	for _, f := range again {
		if err := w.frame(ctx, f.kind, f.plain, f.blobs); err != nil {
			return err
		}
	}
	return nil
}

// withoutAgain makes the state that of the complete volumes: frames that come again are in none of them.
func (w *setWriter) withoutAgain(again []openFrame) {
	for _, f := range again {
		if f.kind == volume.FrameSet {
			w.state.metadata = false
		}
		for _, b := range f.blobs {
			if store.Kind(b.Kind) == store.KindChunk {
				w.state.written.Chunks--
				w.state.written.ChunkBytes -= int64(b.Length)
			} else {
				w.state.metadata = false
			}
		}
	}
}

// enter records a complete volume with the list of the chunks in it.
func (w *setWriter) enter(ctx context.Context, size int64, torn bool) error {
	v := w.now
	if err := v.w.Close(); err != nil && !torn {
		return err
	}
	entry := store.ArchiveVolume{ID: v.id, Number: v.number, Size: size, Torn: torn, Where: v.medium.Where()}
	var err error
	if entry.Chunks, err = writeList(ctx, w.st.NewWriter(), v.carried); err != nil {
		return err
	}
	if w.parity != nil {
		if entry.Digest, err = w.parity.complete(v.number, size); err != nil {
			return err
		}
	}
	w.set.Volumes = append(w.set.Volumes, entry)
	w.sealed += size
	w.now = nil
	if err := w.save(ctx); err != nil {
		return err
	}
	if w.parity != nil {
		return w.parity.entered(v.number)
	}
	return nil
}

// writeList writes the sorted IDs as a list that stays in the store.
func writeList(ctx context.Context, blobs *store.Writer, ids *snapshot.Sorter) (store.ID, error) {
	defer ids.Close()
	list := store.NewIDList(blobs)
	all := ids.Sorted()
	for {
		record, err := all.Next()
		if err != nil {
			return store.ID{}, err
		}
		if record == nil {
			break
		}
		if err := list.Add(ctx, store.ID(record)); err != nil {
			return store.ID{}, err
		}
	}
	root, _, err := list.Finish(ctx)
	if err != nil {
		return store.ID{}, err
	}
	return root, blobs.Flush(ctx)
}

// save brings the catalogue up to date.
func (w *setWriter) save(ctx context.Context) error {
	w.set.Resume = nil
	if w.set.Finished.IsZero() {
		w.set.Resume = w.state.encode()
	}
	return w.st.SetArchive(ctx, w.set)
}

// abandon gives up the volume being written.
func (w *setWriter) abandon() error {
	v := w.now
	if v == nil {
		return nil
	}
	w.now = nil
	return errors.Join(v.w.Close(), v.medium.Abandon(), v.carried.Close())
}

// record appends a record of the set.
func (w *setWriter) record(ctx context.Context, plain []byte) error {
	return w.frame(ctx, volume.FrameSet, plain, nil)
}

// end writes the record that ends the set, and completes its last volume.
func (w *setWriter) end(ctx context.Context, lost int64, now time.Time) error {
	for {
		if w.now == nil {
			if err := w.begin(ctx); err != nil {
				return err
			}
		}
		record := w.endRecord(lost, now)
		ok, err := w.fits(len(record), 0)
		if err != nil {
			return err
		}
		number := w.now.number
		if ok || w.now.frames == 0 {
			if err := w.record(ctx, record); err != nil {
				return err
			}
			if w.now == nil || w.now.number != number {
				continue // the medium ended: the record names the volumes as they were meant to be
			}
		}
		w.state.ended = ok
		if err := w.finish(ctx); err != nil {
			return err
		}
		if ok && w.now == nil && w.before == nil { // else another volume has the table of the torn one
			return nil
		}
	}
}

func (w *setWriter) endRecord(lost int64, now time.Time) []byte {
	e := End{Set: w.set.ID, Written: w.written, Lost: lost, Finished: now}
	for _, v := range w.set.Volumes {
		e.Volumes = append(e.Volumes, SetVolume{v.ID, v.Number, v.Size})
	}
	e.Volumes = append(e.Volumes, SetVolume{ID: w.now.id, Number: w.now.number})
	return e.Encode()
}
