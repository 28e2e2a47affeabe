package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
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

// set returns the set a label belongs to.
func (b *Bare) set(ctx context.Context, l *volume.Label) (*openSet, error) {
	for _, s := range b.sets {
		if s.id == l.Set.ID {
			return s, nil
		}
		if s.label.Store != l.Store {
			return nil, fmt.Errorf("%w: %x, the others to %x", ErrOtherStore, l.Store, s.label.Store)
		}
	}
	bundle, err := b.keys.open(ctx, l)
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

// choose reads the heads, finds the snapshot that is wanted, and indexes the sets it needs.
func (b *Bare) choose(ctx context.Context) error {
	for _, s := range b.sets {
		for _, v := range s.volumes {
			if !v.Parity() && s.readHead(v) {
				break
			}
		}
	}
	if b.o.Resolve == nil {
		return b.indexSets(ctx, b.newestFirst())
	}
	if len(b.sets) == 0 {
		return nil
	}
	for _, s := range b.sets {
		if s.head == nil { // its snapshots are those whose manifests are found
			if err := b.indexSets(ctx, []*openSet{s}); err != nil {
				return err
			}
		}
	}
	err := b.resolve(ctx)
	if err != nil && b.hasPipes() {
		return nil // it may be there
	}
	if err != nil {
		return err
	}
	return b.readChain(ctx)
}

func (b *Bare) hasPipes() bool {
	return slices.ContainsFunc(b.inputs, func(in *input) bool { return in.pipe != nil })
}

// resolve finds the wanted snapshot among those that are known now, and the sets it needs.
func (b *Bare) resolve(ctx context.Context) error {
	target, err := b.find(ctx)
	if err == nil {
		b.want(target)
	}
	return err
}

// find is what is wanted of the snapshots that are known now.
func (b *Bare) find(ctx context.Context) (*snapshot.Target, error) {
	b.mu.Lock()
	b.state = nil
	b.mu.Unlock()
	return b.o.Resolve(ctx, b)
}

// want notes the wanted snapshot, and the sets it needs.
func (b *Bare) want(target *snapshot.Target) {
	b.target = target
	s := b.best(target.ID)
	b.chain = map[[16]byte]bool{s.id: true}
	if s.head != nil {
		for _, c := range s.head.Chain {
			b.chain[c.ID] = true
		}
	}
}

// best is the set to read a snapshot from: one whose chain is here, of those the newest.
func (b *Bare) best(id store.ID) *openSet {
	var best *openSet
	complete := false
	for _, s := range b.newestFirst() {
		if !s.holds(id) {
			continue
		}
		all := s.head != nil && !slices.ContainsFunc(s.head.Chain, func(c ChainSet) bool { return b.setByID(c.ID) == nil })
		if best == nil || all && !complete {
			best, complete = s, all
		}
	}
	return best
}

func (s *openSet) holds(id store.ID) bool {
	if s.head == nil {
		return slices.Contains(s.manifests, id)
	}
	return slices.ContainsFunc(s.head.Snapshots, func(r HeadSnapshot) bool { return r.ID == id })
}

func (b *Bare) setByID(id [16]byte) *openSet {
	for _, s := range b.sets {
		if s.id == id {
			return s
		}
	}
	return nil
}

// newestFirst are the sets in the order in which they are best read.
func (b *Bare) newestFirst() []*openSet {
	list := slices.Clone(b.sets)
	slices.SortStableFunc(list, func(x, y *openSet) int { return y.label.Created.Compare(x.label.Created) })
	return list
}

// readChain indexes the sets that are needed and refuses volumes that were named and are not.
func (b *Bare) readChain(ctx context.Context) error {
	var needed []*openSet
	for _, s := range b.newestFirst() {
		if b.chain[s.id] {
			needed = append(needed, s)
			continue
		}
		for _, v := range s.volumes {
			if v.named && b.stranger(v) {
				return b.notOf(v)
			}
		}
	}
	return b.indexSets(ctx, needed)
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

// Target is what Resolve found.
func (b *Bare) Target() *snapshot.Target { return b.target }

// State says which snapshots the sets hold, as their heads do.
func (b *Bare) State(ctx context.Context) (*store.State, error) {
	b.mu.Lock()
	st := b.state
	b.mu.Unlock()
	if st != nil {
		return st, nil
	}
	st, err := b.makeState(ctx)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state = st
	return st, nil
}

func (b *Bare) makeState(ctx context.Context) (*store.State, error) {
	st := &store.State{Seq: 1}
	seen := map[store.ID]bool{}
	for _, s := range b.newestFirst() {
		for _, r := range b.records(ctx, s) {
			if !seen[r.ID] {
				seen[r.ID] = true
				st.Snapshots = append(st.Snapshots, store.Snapshot{
					ID: r.ID, Slot: r.Slot, Dataset: r.Dataset, Name: r.Name, Start: r.Start, Committed: r.Committed, Tags: r.Tags, Summary: r.Summary,
				})
			}
		}
	}
	slices.SortStableFunc(st.Snapshots, func(x, y store.Snapshot) int {
		return cmp.Or(cmp.Compare(x.Slot, y.Slot), x.Start.Compare(y.Start))
	})
	for i := range st.Snapshots {
		st.Snapshots[i].DatasetNumber = datasetNumber(st, st.Snapshots[i].Dataset)
	}
	return st, nil
}

// datasetNumber numbers the datasets as they are met.
func datasetNumber(st *store.State, name string) uint32 {
	for _, d := range st.Datasets {
		if d.Name == name {
			return d.Number
		}
	}
	n := uint32(len(st.Datasets) + 1)
	st.Datasets = append(st.Datasets, store.Dataset{Number: n, Name: name})
	return n
}

// records are a set's snapshots: its head names them, else their manifests do.
func (b *Bare) records(ctx context.Context, s *openSet) (list []HeadSnapshot) {
	if s.head != nil {
		return s.head.Snapshots
	}
	for _, id := range s.manifests {
		m, err := snapshot.ReadManifest(ctx, b, id)
		if err != nil {
			continue
		}
		list = append(list, HeadSnapshot{ID: id, Dataset: m.Dataset, Name: m.Name, Start: m.Start, Tags: m.Tags, Committed: m.End})
	}
	return list
}

// Get returns a blob's plaintext, which the caller must not change. Errors: *store.MissingError, *store.CorruptError.
func (b *Bare) Get(ctx context.Context, kind store.Kind, id store.ID) ([]byte, error) {
	return b.bare.Get(ctx, kind, id)
}

// GetInto is Get in dst's memory.
func (b *Bare) GetInto(ctx context.Context, kind store.Kind, id store.ID, dst []byte) ([]byte, error) {
	return b.bare.GetInto(ctx, kind, id, dst)
}

// Locate tells where blobs lie, for reading them in the order of store.Place.Compare.
func (b *Bare) Locate(ctx context.Context, ids []store.ID) ([]store.Place, error) {
	return b.bare.Locate(ctx, ids)
}

// BlobID is the ID that data has in the store the sets were written from.
func (b *Bare) BlobID(kind store.Kind, data []byte) store.ID { return b.bare.BlobID(kind, data) }

// Keys are those of a set; they name and cut content as its store does.
func (b *Bare) Keys() *seal.Bundle { return b.sets[0].bundle }

// Secret is what opened the sets; nil if none was needed.
func (b *Bare) Secret() *seal.Secret { return b.keys.secret }

// ChunkAverage is the origin's, in bytes; 0 if that is not known.
func (b *Bare) ChunkAverage() int {
	for _, s := range b.sets {
		if s.head != nil {
			return s.head.ChunkAverage
		}
	}
	return 0
}

// PageKey is that store's.
func (b *Bare) PageKey() [32]byte { return b.bare.PageKey() }

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

// places is a Bare as the index of a store.Bare.
type places Bare

// Locate is store.BareIndex's.
func (p *places) Locate(_ context.Context, ids []store.ID) ([]store.Place, error) {
	list := make([]store.Place, len(ids))
	for i, id := range ids {
		if at, ok := p.index.first(id); ok {
			list[i] = store.Place{Volume: p.volume(at.volume).ID, Offset: at.offset, Stored: at.stored, Start: at.start, Length: at.length}
		}
	}
	return list, nil
}

func (p *places) volume(n uint32) *Volume {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.volumes[n]
}

// Volume is store.BareIndex's.
func (p *places) Volume(id volume.ID) (*store.BareVolume, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range p.volumes {
		if v.ID != id {
			continue
		}
		aead, err := v.set.aead(id)
		if err != nil {
			return nil, err
		}
		if v.source == nil {
			return &store.BareVolume{Source: p.spool.file, AEAD: aead}, nil
		}
		return &store.BareVolume{Source: v.source, AEAD: aead, Pages: v.pages, Base: v.base}, nil
	}
	return nil, fmt.Errorf("volume %s: %w", id, ErrNoVolume)
}

// Damaged is store.BareIndex's: the volume is healed, or another place of the blob tried.
func (p *places) Damaged(_ context.Context, found store.DamagedFrame) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.volumes, func(v *Volume) bool { return v.ID == found.Volume })
	if i < 0 {
		return false
	}
	v := p.volumes[i]
	if v.source != nil && v.healed == nil {
		if err := v.heal(p.o.Scratch); err == nil {
			(*Bare)(p).noteHealed(v)
			return true
		}
	}
	p.index.drop(found.Blob, v.number, found.Offset)
	return len(p.index.find(found.Blob)) > 0
}
