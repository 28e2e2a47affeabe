package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"snapfs/store/volume"
)

// DefaultMaxWaste is how much of a store may be waste, in per cent, before volumes are rewritten.
const DefaultMaxWaste = 5.0

// PruneOptions say how thorough a prune is.
type PruneOptions struct {
	MaxWaste   float64 // per cent of the store that may stay waste
	MaxRewrite int64   // bytes of volumes that are rewritten at most; 0: no limit
	DryRun     bool    // only say what would be done
	Forget     []ID    // only with DryRun: as if these snapshots had been forgotten
}

// Phases of a prune.
const (
	PhaseMark    = "mark"    // Done and Total are snapshots
	PhaseDrop    = "drop"    // volumes
	PhaseRewrite = "rewrite" // volumes
)

// PruneProgress tells how far a prune is.
type PruneProgress struct {
	Phase       string
	Done, Total int64
	Blobs       int64 // marked so far
	Bytes       int64 // of the volumes that are done in this phase
}

// PrunedVolume is a volume that was, or would be, removed.
type PrunedVolume struct {
	ID   volume.ID
	Kind volume.Kind
	Size int64 // bytes
}

// Class says what a volume holds: data or metadata.
func (v PrunedVolume) Class() string {
	if v.Kind == volume.Metadata {
		return "metadata"
	}
	return "data"
}

// PruneResult says what a prune has done, or would do.
type PruneResult struct {
	Removed    []PrunedVolume // nothing in them was wanted
	Rewritten  []PrunedVolume // what was wanted in them lies elsewhere now
	BytesFreed int64          // with DryRun exact for what is removed, and an upper bound for what is rewritten
	Purged     int            // forgotten snapshots that are gone for good
	Bytes      int64          // of the store after it
	Waste      int64          // about so many of them are of no use
	Missing    int64          // blobs that kept snapshots name and no volume holds
	Damaged    []*CorruptError
}

// pruning is one prune under way.
type pruning struct {
	e        *engine
	s        *localSession
	o        PruneOptions
	progress func(PruneProgress)
	res      PruneResult

	marking   *marking
	pinned    *mark           // what sessions were told of or wrote; not walked: a node that is there proves nothing about what it names
	settled   *mark           // what only forgotten snapshots name; nil where that makes no difference
	limit     uint32          // short numbers from here on were given after the mark began
	open      map[uint32]bool // volumes that were written when it began
	version   uint64          // of the numbers that marks rest on
	forgotten []*snapshotRecord
	before    map[ID]bool // the same: forgotten when it began
}

// errStale: volumes or blobs got other numbers while they were marked.
var errStale = errors.New("the index changed again and again meanwhile")

// errMore: there is more to be walked than was known.
var errMore = errors.New("more snapshots")

// pruneAttempts is how often a prune begins again because the index changed under it.
const pruneAttempts = 5

// prune gives space back: what no snapshot, session or unfinished job needs is removed. Backups, mounts and all else go on
// beside it; it can end anywhere and be begun again.
func (e *engine) prune(ctx context.Context, s *localSession, o PruneOptions, progress func(PruneProgress)) (PruneResult, error) {
	if e.references == nil {
		return PruneResult{}, ErrNoReferences
	}
	if !o.DryRun {
		if err := e.mayPrune(s); err != nil {
			return PruneResult{}, err
		}
		e.useSpare()
	}
	if err := lockContext(ctx, &e.maintenance); err != nil {
		return PruneResult{}, err
	}
	defer e.maintenance.Unlock()
	e.lowSpace.Add(1)
	defer e.lowSpace.Add(-1)
	e.buryDead()
	if err := e.sealCurrent(); err != nil {
		return PruneResult{}, err
	}
	for n := 1; ; n++ {
		p := &pruning{e: e, s: s, o: o, progress: progress}
		if p.progress == nil {
			p.progress = func(PruneProgress) {}
		}
		err := p.run(ctx, n == 1)
		if !errors.Is(err, errStale) || n == pruneAttempts {
			return p.res, err
		}
	}
}

// sealCurrent ends the volumes that this process writes; whoever writes goes on with new ones. In a holder that stays for long they
// would otherwise never be looked at.
func (e *engine) sealCurrent() error {
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	return e.flush(true)
}

func (e *engine) mayPrune(s *localSession) error {
	if err := e.mayWrite(); err != nil {
		return err
	}
	return e.mayDrop(s, "prune")
}

// lockContext locks unless ctx ends before.
func lockContext(ctx context.Context, mu *sync.Mutex) error {
	for !mu.TryLock() {
		if err := ctx.Err(); err != nil {
			return err
		}
		pause(ctx, 20*time.Millisecond)
	}
	return nil
}

// run is one attempt. With rescue, what the index lacks is looked for in the volumes before it is believed to be missing, and so is another copy
// of what is damaged: what the index does not lead to is removed.
func (p *pruning) run(ctx context.Context, rescue bool) error {
	p.begin()
	defer p.end()
	err := p.markChain(ctx)
	if err == nil {
		err = p.markLists(ctx)
	}
	if err == nil {
		err = p.markAll(ctx)
	}
	p.res.Missing = p.marking.missing.Load()
	var missing *MissingError
	if rescue && (p.res.Missing > 0 || p.marking.damaged.Load() > 0 || errors.As(err, &missing)) {
		if err := p.e.reindex(); err != nil {
			return err
		}
		return errStale
	}
	if err == nil {
		err = p.markSettled(ctx)
	}
	if err == nil {
		err = p.whenMarked(ctx, func() error { return p.purge(ctx) })
	}
	var plan *plan
	if err == nil {
		err = p.whenMarked(ctx, func() (err error) { plan, err = p.choose(); return err })
	}
	if err == nil {
		err = p.e.execute(ctx, p.s, plan, p.o.DryRun, &p.res, p.progress)
	}
	if err == nil && !p.o.DryRun {
		err = p.e.leftovers()
	}
	if err == nil && !p.o.DryRun {
		_, err = p.e.compactJournal(ctx, p.s, false)
	}
	if err == nil && !p.o.DryRun && p.e.anyGuards() { // whatever was recorded: all is walked anyway
		p.e.tryGuards(ctx, p.e.guardHeld)
	}
	p.e.sizeUp(&p.res, plan, p.o.DryRun)
	return err
}

// whenMarked calls f, again as long as it finds snapshots that have not been walked.
func (p *pruning) whenMarked(ctx context.Context, f func() error) error {
	for {
		err := f()
		if !errors.Is(err, errMore) {
			return err
		}
		if err := p.markAll(ctx); err != nil {
			return err
		}
	}
}

// begin takes down what sessions pin; from now on what they are told of is added.
func (p *pruning) begin() {
	e := p.e
	p.marking, p.pinned = e.newMarking(newMark(), nil), newMark()
	p.open = map[uint32]bool{}
	e.commitMu.Lock()
	_, p.forgotten = e.roots(p.without())
	e.commitMu.Unlock()
	p.before = map[ID]bool{}
	for _, s := range p.forgotten {
		p.before[s.snapshot] = true
	}
	e.flushMu.Lock() // blobs are not being numbered anew
	defer e.flushMu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	p.version, p.limit = e.marks, e.volumes.next
	for _, v := range e.volumes.byID {
		p.open[v.number] = e.writing(v)
	}
	e.everyPins(func(pins *pins) {
		for number, blobs := range pins.blobs {
			p.pinned.union(number, blobs)
		}
	})
	e.pinned = p.pinned
}

func (p *pruning) end() {
	p.e.mu.Lock()
	p.e.pinned = nil
	p.e.mu.Unlock()
	if err := p.marking.close(); err != nil {
		p.e.log.Warn("a scratch file of the prune is left behind", "err", err)
	}
}

func (p *pruning) without() map[ID]bool {
	without := map[ID]bool{}
	for _, id := range p.o.Forget {
		without[id] = p.o.DryRun
	}
	return without
}

// markAll walks all snapshots that are kept and have not been walked.
func (p *pruning) markAll(ctx context.Context) error {
	p.e.commitMu.Lock()
	keep, _ := p.roots()
	p.e.commitMu.Unlock()
	return p.walk(ctx, p.marking, keep)
}

// roots lists what is to be walked and what can be purged: of the forgotten snapshots those that were so when the marking began. What was
// forgotten since goes with the next prune; until then it can be wanted again. Needs commitMu.
func (p *pruning) roots() (keep []root, purge []*snapshotRecord) {
	keep, forgotten := p.e.roots(p.without())
	for _, s := range forgotten {
		if p.before[s.snapshot] {
			purge = append(purge, s)
		} else {
			keep = append(keep, root{id: s.snapshot, name: p.e.fold.refOf(s)})
		}
	}
	return keep, purge
}

// markChain marks the pages of the list of facts.
func (p *pruning) markChain(ctx context.Context) error {
	err := p.e.chainBlobs(ctx, func(kind Kind, id ID) error {
		found, err := p.marking.page(id)
		if err == nil && !found {
			err = &MissingError{Kind: kind, ID: id}
		}
		return err
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return err
}

// markLists marks the pages of the lists that archive sets keep, and nothing that is in the lists. A list that cannot be read costs the next
// set a chunk twice, so it keeps nobody from pruning.
func (p *pruning) markLists(ctx context.Context) error {
	p.e.commitMu.Lock()
	roots := p.e.archiveLists()
	p.e.commitMu.Unlock()
	s := p.e.newSession("lists of archive sets")
	defer s.Close()
	get, done := p.e.pageReader(s)
	for _, root := range roots {
		err := eachIDPage(ctx, root, get, func(id ID) error {
			_, err := p.marking.page(id)
			return err
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			p.e.log.Warn("list of an archive set cannot be read", "list", root, "err", err)
		}
	}
	return done()
}

func (p *pruning) walk(ctx context.Context, k *marking, roots []root) error {
	var mu sync.Mutex
	done := int64(0)
	return k.walk(ctx, roots, func() {
		mu.Lock()
		defer mu.Unlock()
		done++
		p.progress(PruneProgress{Phase: PhaseMark, Done: done, Total: int64(len(roots)), Blobs: k.blobs.Load()})
	})
}

// markSettled finds out, where somebody left unfinished work, what is none: blobs of snapshots that are about to be purged.
func (p *pruning) markSettled(ctx context.Context) error {
	if len(p.forgotten) == 0 || !p.e.anyUnfinished() {
		return nil
	}
	p.settled = newMark()
	k := p.e.newMarking(p.settled, p.marking.mark)
	defer k.close()
	for _, s := range p.forgotten {
		err := p.walk(ctx, k, []root{{id: s.snapshot, name: s.name, gone: true}})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil { // then more stays than must
			p.e.log.Info("a forgotten snapshot cannot be read", "err", err)
		}
	}
	return nil
}

func (e *engine) anyUnfinished() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, v := range e.volumes.byID {
		if kindMoved(v.kind) && e.isUnfinished(v) {
			return true
		}
	}
	return false
}

// isUnfinished reports whether somebody may go on with what lies in a volume and no snapshot names.
func (e *engine) isUnfinished(v *volumeState) bool {
	return v.unfinished != 0 && e.now().Sub(time.Unix(0, v.unfinished)) < unfinishedFor
}

// decided gives the snapshots that nothing keeps, if all others have been walked. Needs commitMu.
func (p *pruning) decided() ([]*snapshotRecord, error) {
	keep, forgotten := p.roots()
	for _, r := range keep {
		if !p.marking.done[r.id] {
			return nil, errMore
		}
	}
	return forgotten, nil
}

// purge commits what has been decided: the forgotten snapshots that were not marked are gone for good. errMore if there is one
// to be kept now that has not been walked.
func (p *pruning) purge(ctx context.Context) error {
	return p.e.appendAs(ctx, p.s, func() ([]FactBody, error) {
		forgotten, err := p.decided()
		if err != nil {
			return nil, err
		}
		fact := &forgetFact{kind: FactPurge}
		for _, s := range forgotten {
			fact.snaps = append(fact.snaps, s.forgottenRow())
		}
		p.res.Purged = len(fact.snaps)
		if p.o.DryRun || len(fact.snaps) == 0 {
			return nil, nil
		}
		return []FactBody{fact}, nil
	})
}

// choose decides which volumes go; from here on what is not wanted in them counts as absent.
func (p *pruning) choose() (*plan, error) {
	e := p.e
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	if _, err := p.decided(); err != nil { // somebody pinned a snapshot while the purge was being signed
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.marks != p.version {
		return nil, errStale
	}
	plan := choose(e.candidates(p.keep), e.bytes(), e.limit, p.o)
	if !p.o.DryRun {
		plan.condemn()
		e.pinned = nil
		e.everyPins(func(pins *pins) {
			if len(pins.whole) > 0 { // what is pinned may be a copy that the index does not lead to, and nothing leads to it when the other one goes
				e.rescued = false
			}
		})
	}
	return plan, nil
}

// keep says what must stay of a volume; ok is false for one that must stay as it is. Needs mu.
func (p *pruning) keep(v *volumeState) (*candidate, bool) {
	pinned := false
	p.e.everyPins(func(pins *pins) {
		_, whole := pins.whole[v.id]
		pinned = pinned || whole
	})
	if v.number >= p.limit || p.open[v.number] || pinned {
		return nil, false
	}
	m := p.marking.mark.of(v.number)
	extra := p.pinned.of(v.number).bits
	c := &candidate{volumeState: v, wanted: &m.bits}
	marked := m.bits.count()
	c.wanted.union(&extra)
	raw, blobs := m.raw, c.wanted.count()
	if v.blobs > 0 {
		raw += (blobs - marked) * (v.raw / v.blobs)
	}
	if p.e.isUnfinished(v) {
		c.wanted = &bitset{}
		c.wanted.fill(v.blobs)
		raw, blobs = v.raw, v.blobs
		if p.settled != nil {
			s := p.settled.of(v.number)
			c.wanted.subtract(&s.bits)
			c.wanted.union(&m.bits)
			raw, blobs = v.raw-s.raw, c.wanted.count()
		}
	}
	c.live = share(c.size, raw, v.raw)
	if v.raw == 0 {
		c.live = share(c.size, blobs, v.blobs)
	}
	return c, true
}

// share is size * part / all, within size.
func share(size, part, all int64) int64 {
	if all <= 0 {
		return size
	}
	return max(0, min(size, int64(float64(size)*float64(part)/float64(all))))
}

// bytes is the size of all volumes. Needs mu.
func (e *engine) bytes() (n int64) {
	for _, v := range e.volumes.byID {
		if !v.missing && !v.dropped {
			n += v.size
		}
	}
	return n
}

// condemn makes volumes offer nothing but what will be copied. Needs mu.
func (p *plan) condemn() {
	for _, c := range slices.Concat(p.drop, p.rewrite) {
		c.leaving = c.wanted
	}
}

// sizeUp says how large the store is now, or would be.
func (e *engine) sizeUp(r *PruneResult, p *plan, dry bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r.Bytes = e.bytes()
	if dry {
		r.Bytes -= r.BytesFreed
	}
	if p != nil {
		r.Waste = p.waste
	}
}
