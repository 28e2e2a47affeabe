package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"snapfs/snapshot"
	"snapfs/store"
	"snapfs/store/seal"
	"snapfs/store/volume"
)

// OpenOptions say how volumes are read. The zero value of each field is the recommendation.
type OpenOptions struct {
	Unlock seal.Unlocker
	Stdin  io.Reader // what the argument "-" means

	// Resolve finds the one snapshot that is wanted: then only what it needs is read, and volumes that were named and are not
	// needed are refused; of a pipe its metadata is read, chunks come by Pass. nil: everything that was given; of a pipe only metadata.
	Resolve func(ctx context.Context, st snapshot.Store) (*snapshot.Target, error)
	// All reads everything out of pipes, through Scratch, although no snapshot is wanted in particular.
	All bool
	// Incomplete goes on where whole sets are missing; what they hold is then damaged.
	Incomplete bool
	// Scratch is a directory for what comes through pipes and for healed bytes; "": the system's for temporary files.
	Scratch string
	// KeepAll keeps what comes through pipes in Scratch, as long as there is room, until it is certain that the order is right; if it is wrong or
	// metadata are damaged, what Resolve found is not Exact, or the set has parity volumes, all of it.
	KeepAll bool
	Cache   int64             // bytes of decoded frames; 0: 32 MiB
	Note    func(note string) // what people should know
}

// Bare is volumes of archive sets opened for reading without a store: a snapshot.Store, and a Reader for package restore. Safe for
// concurrent use.
type Bare struct {
	o       OpenOptions
	inputs  []*input
	keys    keyring
	sets    []*openSet
	target  *snapshot.Target  // of Resolve
	chain   map[[16]byte]bool // sets that are read; nil: all
	index   blobIndex
	bare    *store.Bare
	state   *store.State
	spool   *spool
	pipes   *pipeReader
	healing []*healingPipe

	damaged bool // something that came through a pipe was

	mu      sync.Mutex
	volumes []*Volume // by number; only those that are indexed
	unread  error     // of a pipe
}

// Open opens volumes: files, directories of them, devices, FIFOs, or "-". Errors: those of unlocking, ErrNoVolume, ErrOtherSet,
// ErrOtherStore, ErrOrder, ErrNothing, *ParentError, what Resolve returns.
func Open(ctx context.Context, args []string, o OpenOptions) (b *Bare, err error) {
	if o.Note == nil {
		o.Note = func(string) {}
	}
	b = &Bare{o: o, keys: keyring{unlock: o.Unlock}}
	defer func() {
		if err != nil {
			if unread := b.Unread(); unread != nil { // which may be the reason
				err = fmt.Errorf("%w; %w", unread, err)
			}
			_ = b.Close()
			b = nil
		}
	}()
	if b.inputs, err = openInputs(args, o.Stdin); err != nil {
		return b, err
	}
	watchPipes(b.inputs, b.broken)
	err = b.readAll(ctx)
	if b.everythingKept() && (errors.Is(err, ErrOrder) || b.damaged || err == nil && b.wantsAll()) {
		return b.openKept(ctx, err)
	}
	return b, err
}

// readAll reads files, then pipes.
func (b *Bare) readAll(ctx context.Context) error {
	if b.o.All && b.hasPipes() {
		b.o.KeepAll = true
		list, err := b.keepRest(ctx, 0)
		if err != nil {
			return b.tooSmall(ctx, err)
		}
		b.inputs = list
	}
	if err := b.openFiles(ctx); err != nil {
		return err
	}
	if err := b.readPipes(ctx); err != nil {
		return err
	}
	if len(b.sets) == 0 {
		return ErrNoVolume
	}
	return b.checkChain(ctx)
}

// openFiles reads what can be read anywhere.
func (b *Bare) openFiles(ctx context.Context) error {
	var nameless []*Volume // their set is found by its key
	for _, in := range b.inputs {
		if in.pipe != nil {
			continue
		}
		list, err := findVolumes(in, b.o.Scratch)
		if err != nil && (in.named || !errors.Is(err, ErrNoVolume)) {
			return err
		}
		if err != nil {
			b.o.Note(fmt.Sprintf("%s: nothing in it can be read", in.name))
		}
		for _, v := range list {
			if v.Label == nil {
				nameless = append(nameless, v)
			} else if err := b.addVolume(ctx, v); err != nil {
				return err
			}
		}
	}
	for _, v := range nameless {
		if err := b.adopt(v); err != nil {
			return err
		}
	}
	return b.choose(ctx)
}

// addVolume puts a volume to its set, unlocking that.
func (b *Bare) addVolume(ctx context.Context, v *Volume) error {
	if v.Label.Kind != volume.Archive || v.Label.Set == nil {
		return fmt.Errorf("%s: a volume of kind %s of store %x: %w", v.Name, v.Label.Kind, v.Label.Store, ErrNoVolume)
	}
	s, err := b.set(ctx, v.Label)
	if err != nil {
		return fmt.Errorf("%s: %w", v, err)
	}
	if twin := s.volume(v.ID); twin != nil {
		b.o.Note(fmt.Sprintf("%s is the same volume as %s: skipped", v.Name, twin.Name))
		return nil
	}
	v.set = s
	s.volumes = append(s.volumes, v)
	return nil
}

func (s *openSet) volume(id volume.ID) *Volume {
	for _, v := range s.volumes {
		if v.ID == id {
			return v
		}
	}
	return nil
}

// set returns the set a label belongs to. Sets of two stores go together if these name content by the same keys: one was made by importing
// sets of the other, and what it archives goes on from those.
func (b *Bare) set(ctx context.Context, l *volume.Label) (*openSet, error) {
	for _, s := range b.sets {
		if s.id == l.Set.ID {
			return s, nil
		}
	}
	bundle, err := b.keys.open(ctx, l)
	if len(b.sets) > 0 && b.sets[0].label.Store != l.Store && ctx.Err() == nil {
		first := b.sets[0]
		switch {
		case err != nil:
			return nil, fmt.Errorf("%w: %x, the others to %x, and is not unlocked: %v", ErrOtherStore, l.Store, first.label.Store, err)
		case !namesAlike(bundle, first.bundle):
			return nil, fmt.Errorf("%w: %x, the others to %x", ErrOtherStore, l.Store, first.label.Store)
		}
	}
	if err != nil {
		return nil, err
	}
	s := &openSet{id: l.Set.ID, label: l, bundle: bundle}
	b.sets = append(b.sets, s)
	if b.bare == nil {
		b.bare = store.NewBare(bundle, (*places)(b), b.o.Cache)
	}
	return s, nil
}

// namesAlike reports whether two bundles give the same content the same names.
func namesAlike(a, b *seal.Bundle) bool {
	return a.BlobIDKey(uint8(store.KindChunk)) == b.BlobIDKey(uint8(store.KindChunk))
}

// adopt finds the set of a volume without a label: the one whose key opens its frames.
func (b *Bare) adopt(v *Volume) error {
	for _, s := range b.sets {
		aead, err := s.aead(v.ID)
		if err != nil {
			return err
		}
		opened := false
		_, _, err = volume.ScanPayloads(v.source, 0, v.Size, v.ID, func(_ int64, h volume.Header, stored []byte, damage error) error {
			if damage != nil || !h.Kind.Sealed() {
				return nil
			}
			_, _, err := volume.OpenFrame(stored, v.ID, aead)
			opened = err == nil
			return io.EOF
		})
		if err != nil && err != io.EOF {
			return err
		}
		if opened && s.volume(v.ID) == nil {
			v.set = s
			s.volumes = append(s.volumes, v)
			return nil
		}
	}
	b.o.Note(fmt.Sprintf("%s: its label is damaged, and none of the sets' keys opens it: skipped", v))
	return nil
}

// indexSets indexes all volumes of sets that are not indexed yet; those that are lost are made anew from parity volumes, if there are any.
func (b *Bare) indexSets(ctx context.Context, sets []*openSet) error {
	for _, s := range sets {
		if err := b.replaceLost(ctx, s); err != nil {
			return err
		}
		for _, v := range s.volumes {
			if err := ctx.Err(); err != nil {
				return err
			}
			if v.source == nil || v.Parity() || b.indexed(v) {
				continue
			}
			b.number(v)
			if err := s.index(v, &b.index, b.o.Scratch); err != nil {
				return err
			}
			b.noteHealed(v)
		}
	}
	return nil
}

func (b *Bare) indexed(v *Volume) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int(v.number) < len(b.volumes) && b.volumes[v.number] == v
}

func (b *Bare) number(v *Volume) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v.number = uint32(len(b.volumes))
	b.volumes = append(b.volumes, v)
}

// noteHealed tells of a volume that was damaged.
func (b *Bare) noteHealed(v *Volume) {
	if v.healed == nil || v.report.Copy.Whole() && len(v.report.Healed) == 0 && v.report.Moved == 0 {
		return
	}
	healed := int64(0)
	for _, r := range v.report.Healed {
		healed += r.Length
	}
	lost := int64(0)
	for _, r := range v.report.Lost {
		lost += r.Length
	}
	text := fmt.Sprintf("%s is damaged: %d bytes were restored from its parity", v, healed)
	if lost > 0 {
		text += fmt.Sprintf(", %d bytes are lost", lost)
	}
	b.o.Note(text)
}

// broken notes that a pipe cannot be read any further.
func (b *Bare) broken(in *input, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unread = errors.Join(b.unread, &UnreadError{in.name, err})
}

// Unread is an error if pipes could not be read to their ends: what came before that is as good as ever. Errors: *UnreadError.
func (b *Bare) Unread() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.unread
}

// Close gives up files and scratch.
func (b *Bare) Close() error {
	var errs []error
	if b.bare != nil {
		errs = append(errs, b.bare.Close())
	}
	for _, s := range b.sets {
		for _, v := range s.volumes {
			errs = append(errs, v.close())
		}
	}
	if b.spool != nil {
		errs = append(errs, b.spool.close())
	}
	for _, h := range b.healing {
		errs = append(errs, h.close())
	}
	closeInputs(b.inputs)
	return errors.Join(errs...)
}
