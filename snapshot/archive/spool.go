package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"snapfs/snapshot"
	"snapfs/store"
	"snapfs/store/volume"
)

// spool keeps frames that came through pipes, sealed as they were, in a file without a name.
type spool struct {
	file *os.File
	size int64
}

// put appends a frame and says where it lies.
func (s *spool) put(stored []byte) (int64, error) {
	at := s.size
	if _, err := s.file.WriteAt(stored, at); err != nil {
		return 0, fmt.Errorf("scratch: %w", err)
	}
	s.size += int64(len(stored))
	return at, nil
}

func (s *spool) close() error { return s.file.Close() }

// readPipes reads what comes through pipes, in the order of the arguments, until it is known what the wanted snapshot needs. Sets come newest
// first: their metadata, which is complete in the first, says that. The chunks are left for Pass.
func (b *Bare) readPipes(ctx context.Context) error {
	p := &pipeReader{b: b, seen: map[volume.ID]string{}, copied: make([]byte, 0, 1<<20)}
	b.pipes = p
	for _, in := range b.inputs {
		if in.pipe != nil {
			p.todo = append(p.todo, in)
		}
	}
	for _, s := range b.sets {
		for _, v := range s.volumes {
			p.seen[v.ID] = v.Name
		}
	}
	if err := p.plan(ctx); err != nil {
		return err
	}
	if !b.hasPipes() || b.o.Resolve == nil || len(b.sets) == 0 {
		return nil
	}
	return p.knowAll(ctx)
}

// pipeReader reads volumes that come one after another: up to where the chunks begin, then the chunks.
type pipeReader struct {
	b      *Bare
	todo   []*input // that have not been begun
	stream *volume.Stream
	seen   map[volume.ID]string // where each volume was first met
	known  bool                 // what the snapshot needs is here, but for chunks
	copied []byte
	from   *openSet     // the set that the snapshot is read from
	first  *sealedFrame // of chunks, if it came before that was known
	passed bool

	in     *input
	volume *Volume // nil: of what comes now nothing can be used

	deliver func(sealedFrame) error // chunks go there; nil: they are not wanted yet
	enough  func() bool             // no more of them
	refused error                   // of a volume that is not needed
	strays  []*Volume               // without a label

	mu      sync.Mutex
	healing *healingPipe // what is read; nil: scratch has no room for it
	lost    int64        // bytes that belonged to nothing, and frames that were damaged or missing
	frames  int64
}

// sealedFrame is a frame as it came.
type sealedFrame struct {
	volume *Volume
	stored *[]byte
}

// plan reads until it is known what is needed.
func (p *pipeReader) plan(ctx context.Context) error {
	for !p.known {
		err := p.next(ctx)
		switch {
		case err == io.EOF:
			return nil
		case errors.Is(err, errEnough):
			if err := p.endInput(ctx); err != nil {
				return err
			}
		case err != nil:
			return err
		}
	}
	return nil
}

// next deals with the next item of the pipes; io.EOF at the end of the last.
func (p *pipeReader) next(ctx context.Context) error {
	for p.stream == nil {
		if len(p.todo) == 0 {
			return io.EOF
		}
		p.in, p.todo, p.volume = p.todo[0], p.todo[1:], nil
		p.stream = volume.NewStream(p.open(p.b.copying(p.in)))
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	it, err := p.stream.Next()
	if err == io.EOF {
		p.stream = nil
		return nil
	}
	if err == nil {
		err = p.item(ctx, it)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", p.in.name, err)
	}
	return nil
}

// open gives a pipe in which damage is healed, if scratch has room for that.
func (p *pipeReader) open(in io.Reader) io.Reader {
	h := p.b.newHealingPipe(in)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.healing = h; h == nil {
		return in
	}
	return h
}

// endInput looks at nothing more of the present pipe.
func (p *pipeReader) endInput(ctx context.Context) error {
	if p.stream == nil {
		return nil
	}
	p.stream = nil
	return p.in.drain(ctx)
}

// drain reads the rest of a pipe: whoever writes it, perhaps a set that is being made, must be able to end. Tapes are left where they are.
func (in *input) drain(ctx context.Context) error {
	if in.tape {
		return nil
	}
	buf := make([]byte, streamPiece)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := in.pipe.Read(buf); err != nil {
			return nil // nothing of it is needed
		}
	}
}

// streamPiece is how much is read at once of what is not looked at.
const streamPiece = 1 << 20

// errEnough ends the reading of a pipe.
var errEnough = errors.New("enough was read")

func (p *pipeReader) item(ctx context.Context, it volume.StreamItem) error {
	switch it.Kind {
	case volume.StreamLabel:
		return p.begin(ctx, it)
	case volume.StreamGap:
		p.damage(p.volume, it.Length, max(it.Missing, 0))
	case volume.StreamEnd:
		if it.Trailer.Size == 0 && p.volume != nil {
			p.b.o.Note(fmt.Sprintf("%s ends without its trailer", p.volume))
		}
	case volume.StreamFrame:
		if it.Damage != nil {
			p.damage(p.volume, int64(it.Header.Length), 1)
			return nil
		}
		return p.frame(ctx, it)
	}
	return nil
}

// damage tells of damage, once a volume. Safe for concurrent use.
func (p *pipeReader) damage(v *Volume, bytes, frames int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost == 0 && p.frames == 0 && (p.deliver != nil || !p.b.everythingKept()) { // once chunks are handed out nothing is read again
		var name string
		if v != nil {
			name = v.String()
		} else { // only who reads the pipe, and may look at it, has no volume
			name = p.in.name
		}
		if p.healing == nil || p.healing.short.Load() {
			p.b.o.Note(fmt.Sprintf("%s is damaged, and scratch has too little room to heal it in passing: %s are enough", name, mebibytes(keptMost*keptShare)))
		} else {
			p.b.o.Note(name + " is damaged, beyond what its parity restores in passing")
		}
	}
	p.b.damaged = true
	p.lost += bytes
	p.frames += frames
}

// begin begins a volume.
func (p *pipeReader) begin(ctx context.Context, it volume.StreamItem) error {
	p.volume = nil
	p.mu.Lock()
	p.lost, p.frames = 0, 0
	p.mu.Unlock()
	v := &Volume{Name: p.in.name, ID: it.Volume, Label: it.Label, named: true}
	if v.Label == nil {
		p.damage(v, 1, 0)
		for _, s := range p.b.sets { // a volume that is met again, behind damage
			if known := s.volume(v.ID); known != nil && known.source == nil {
				p.volume = known
				return nil
			}
		}
		p.volume = v // its set is that whose key opens its frames
		p.strays = append(p.strays, v)
		return nil
	}
	if where, twice := p.seen[v.ID]; twice {
		p.b.o.Note(fmt.Sprintf("%s comes again, it was in %s: skipped", v, where))
		return nil
	}
	p.seen[v.ID] = v.Name
	if err := p.b.addVolume(ctx, v); err != nil {
		return err
	}
	if v.set == nil || v.Parity() {
		return nil
	}
	p.b.number(v)
	p.volume = v
	return nil
}

// frame takes a whole frame.
func (p *pipeReader) frame(ctx context.Context, it volume.StreamItem) error {
	v := p.volume
	if v == nil || v.ID != it.Volume || it.Header.Kind != volume.FrameBlobs && it.Header.Kind != volume.FrameSet {
		return nil
	}
	if it.Header.Kind == volume.FrameBlobs && p.b.stranger(v) {
		return p.unneeded(v)
	}
	if p.deliver != nil && it.Header.Kind == volume.FrameBlobs && (v.set != nil || p.adopts(v, it.Stored)) {
		if p.enough() {
			return nil
		}
		return p.deliver(sealed(v, it.Stored))
	}
	p.copied = append(p.copied[:0], it.Stored...)
	plain, ok := p.unseal(v, it.Stored)
	if !ok {
		p.damage(v, int64(it.Header.Length), 1)
		return nil
	}
	if it.Header.Kind == volume.FrameSet {
		return p.record(ctx, v.set, plain)
	}
	pack, err := volume.ParsePack(plain)
	if err != nil || len(pack.Blobs) == 0 {
		return nil
	}
	return p.blobs(ctx, v, pack.Blobs)
}

// adopts finds the set of a volume without a label.
func (p *pipeReader) adopts(v *Volume, stored []byte) bool {
	_, ok := p.unseal(v, slices.Clone(stored))
	return ok
}

// unseal opens a frame with the key of its volume's set; a volume without a label gets the set whose key fits.
func (p *pipeReader) unseal(v *Volume, stored []byte) (plain []byte, ok bool) {
	sets := []*openSet{v.set}
	if v.set == nil {
		sets = p.b.sets
	}
	for _, s := range sets {
		aead, err := s.aead(v.ID)
		if err != nil {
			return nil, false
		}
		tried := stored
		if v.set == nil {
			tried = slices.Clone(stored)
		}
		if _, plain, err = volume.OpenFrame(tried, v.ID, aead); err != nil {
			continue
		}
		if v.set == nil {
			v.set = s
			s.volumes = append(s.volumes, v)
			p.b.number(v)
		}
		return plain, true
	}
	return nil, false
}

// record takes a record of a set.
func (p *pipeReader) record(ctx context.Context, s *openSet, plain []byte) error {
	again := s.head != nil
	s.take(plain)
	b := p.b
	switch TypeOf(plain) {
	case RecordHead:
		if b.o.Resolve == nil || b.target != nil && again {
			return nil
		}
		return p.head(ctx, s)
	case RecordMetadata:
		if b.o.Resolve == nil {
			return errEnough
		}
		if !p.known && b.target != nil && b.chain[s.id] && b.best(b.target.ID) == s {
			return p.knowAll(ctx)
		}
	}
	return nil
}

// blobs keeps a frame of metadata. The first one of chunks ends the planning.
func (p *pipeReader) blobs(ctx context.Context, v *Volume, blobs []volume.Blob) error {
	b := p.b
	if store.Kind(blobs[0].Kind) == store.KindChunk {
		if b.o.Resolve == nil {
			return errEnough
		}
		if err := p.knowNow(ctx, v.set); err != nil {
			return err
		}
		f := sealed(v, p.copied)
		p.first = &f
		return nil
	}
	if b.spool == nil {
		f, err := snapshot.ScratchFile(b.o.Scratch)
		if err != nil {
			return fmt.Errorf("scratch: %w", err)
		}
		b.spool = &spool{file: f}
	}
	at, err := b.spool.put(p.copied)
	if err != nil {
		return err
	}
	v.set.add(v, &b.index, at, uint32(len(p.copied)), blobs)
	return nil
}

// knowAll notes that all is here that says what the snapshot needs. What was copied until then, in case that the order were wrong, is given up,
// unless damage wants it, or what is still to come does.
func (p *pipeReader) knowAll(ctx context.Context) error {
	b := p.b
	if b.target == nil {
		if err := b.resolve(ctx); err != nil {
			return err
		}
	}
	p.known, p.from = true, b.best(b.target.ID)
	if !b.damaged && !b.wantsAll() {
		b.dropCopies()
	}
	return nil
}

// neededChunks calls visit for every chunk below the wanted path, perhaps more than once. What is damaged is passed over and counted: restoring
// will tell.
func (b *Bare) neededChunks(ctx context.Context, visit func(store.ID)) (damaged int, err error) {
	w := needWalk{b: b, seen: map[uint64]struct{}{}, visit: visit}
	err = w.target(ctx)
	return w.damaged, err
}

func (w *needWalk) target(ctx context.Context) error {
	b, visit := w.b, w.visit
	if b.target.Path == "/" {
		return w.blob(ctx, store.KindManifest, b.target.ID)
	}
	tree, err := snapshot.OpenTree(ctx, b, b.PageKey(), b.target.ID, nil)
	if err != nil {
		return w.passOver(ctx, err)
	}
	found, err := tree.Walk(ctx, b.target.Path)
	if err != nil {
		return w.passOver(ctx, err)
	}
	if links := tree.Manifest().LinkTree; !links.IsZero() {
		if err := w.blob(ctx, store.KindNode, links); err != nil {
			return err
		}
	}
	for _, it := range found.Content.Items {
		if !it.ID.IsZero() {
			visit(it.ID)
		}
	}
	for _, id := range []store.ID{found.Content.List, found.Dir} {
		if !id.IsZero() {
			if err := w.blob(ctx, store.KindNode, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// needWalk goes through all that a blob names.
type needWalk struct {
	b     *Bare
	seen  map[uint64]struct{} // nodes
	visit func(store.ID)

	damaged int
}

func (w *needWalk) blob(ctx context.Context, kind store.Kind, id store.ID) error {
	type named struct {
		kind store.Kind
		id   store.ID
	}
	for open := []named{{kind, id}}; len(open) > 0; {
		at := open[len(open)-1]
		open = open[:len(open)-1]
		if _, before := w.seen[keyOf(at.id)]; before {
			continue
		}
		w.seen[keyOf(at.id)] = struct{}{}
		data, err := w.b.Get(ctx, at.kind, at.id)
		if err == nil {
			err = snapshot.References(at.kind, data, func(kind store.Kind, id store.ID) {
				if kind == store.KindChunk {
					w.visit(id)
				} else if kind == store.KindNode {
					open = append(open, named{kind, id})
				}
			})
		}
		if err := w.passOver(ctx, err); err != nil {
			return err
		}
	}
	return nil
}

// passOver drops errors about stored data.
func (w *needWalk) passOver(ctx context.Context, err error) error {
	var corrupt *store.CorruptError
	var missing *store.MissingError
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.As(err, &corrupt) || errors.As(err, &missing) || errors.Is(err, snapshot.ErrMalformed) {
		w.damaged++
		return nil
	}
	return err
}
